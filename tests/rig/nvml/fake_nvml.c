/*
 * A libnvidia-ml.so.1 without a GPU: answers from the text file named by GPUCTL_FAKE_NVML, looked
 * at anew on each call, so that a test can change the hardware under a running process. The name of
 * each function called goes into a file beside it, `.calls`, one a line.
 *
 * Lines are `word value`: `driver`, `cuda`, `init` (an NVML return code), `call NAME
 * SECONDS|hang|missing`, `xid NUMBER UUID` (reported to whoever waits, once, in this order), `gpu`
 * (which opens a card), and of a card its strings, the words of NUMBERS, `process PID BYTES` and
 * `peer UUID LEVEL NVLINK P2P`, `error` being the NVML return code that each call on it gives.
 * -1 is "not supported" throughout. Signatures and return codes are those of nvml.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

enum {
    OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7,
    TIMEOUT = 10, FUNCTION_NOT_FOUND = 13, VERSION_MISMATCH = 25, GPU_NOT_FOUND = 28, UNKNOWN = 999
};
#define MAX_GPUS 32
#define MAX_PROCESSES 128
#define MAX_CALLS 32
#define MAX_XIDS 512

/* What of a card is a number: in the file's words, which are the fields' names. */
#define NUMBERS(X) \
    X(total) X(reserved) X(major) X(minor) X(temperature) X(power) X(limit) X(sm_clock) \
    X(memory_clock) X(utilization) X(memory_utilization) X(memory_temperature) X(fan) X(pstate) \
    X(reasons) X(processes) X(error) X(architecture) X(minor_number) X(numa_node) X(mig) X(ecc) \
    X(sm_clock_max) X(memory_clock_max) X(pcie_generation_max) X(pcie_width_max) \
    X(limit_default) X(limit_min) X(limit_max) X(shutdown) X(slowdown) X(memory_max) X(gpu_max) \
    X(tlimit) X(ecc_corrected_volatile) X(ecc_uncorrected_volatile) X(ecc_corrected_aggregate) \
    X(ecc_uncorrected_aggregate) X(rows_correctable) X(rows_uncorrectable) X(rows_pending) \
    X(rows_failure) X(pages_pending) X(pcie_generation) X(pcie_width) X(pcie_replays) X(recovery) \
    X(energy) X(reports_events)

typedef struct { unsigned pid; long long used; } process_t;
typedef struct { char uuid[96]; int level, nvlink, p2p; } peer_t;
typedef struct {
    char uuid[96], name[96], pci[32], serial[96];
#define X(word) long long word;
    NUMBERS(X)
#undef X
    int count, peers;
    process_t held[MAX_PROCESSES];
    peer_t peer[MAX_GPUS];
} gpu_t;
#define FIELD(name) offsetof(gpu_t, name)
static const struct { const char *word; size_t at; } numbers[] = {
#define X(word) {#word, FIELD(word)},
    NUMBERS(X)
#undef X
};
typedef struct { char name[80]; double seconds; int hang, missing; } call_t;
typedef struct { unsigned number; char uuid[96]; } xid_t;

/* Each thread has the file as it last saw it. */
static __thread struct {
    char driver[80];
    int cuda, init, gpus, calls, xids;
    gpu_t gpu[MAX_GPUS];
    call_t call[MAX_CALLS];
    xid_t xid[MAX_XIDS];
} state;
static __thread struct stat seen;
static int initialised;
/* A handle names a card for good, wherever it is enumerated later. */
static char handles[MAX_GPUS][96];

static void read_gpu_line(gpu_t *gpu, const char *word, const char *value) {
    if (!strcmp(word, "uuid")) snprintf(gpu->uuid, sizeof gpu->uuid, "%s", value);
    else if (!strcmp(word, "name")) snprintf(gpu->name, sizeof gpu->name, "%s", value);
    else if (!strcmp(word, "pci")) snprintf(gpu->pci, sizeof gpu->pci, "%s", value);
    else if (!strcmp(word, "serial")) snprintf(gpu->serial, sizeof gpu->serial, "%s", value);
    else if (!strcmp(word, "process") && gpu->count < MAX_PROCESSES) {
        process_t *process = &gpu->held[gpu->count++];
        sscanf(value, "%u %lld", &process->pid, &process->used);
    } else if (!strcmp(word, "peer") && gpu->peers < MAX_GPUS) {
        peer_t *peer = &gpu->peer[gpu->peers++];
        sscanf(value, "%95s %d %d %d", peer->uuid, &peer->level, &peer->nvlink, &peer->p2p);
    }
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!strcmp(word, numbers[i].word))
            *(long long *)((char *)gpu + numbers[i].at) = atoll(value);
}

static void read_host_line(const char *word, const char *value) {
    if (!strcmp(word, "driver")) snprintf(state.driver, sizeof state.driver, "%s", value);
    else if (!strcmp(word, "cuda")) state.cuda = atoi(value);
    else if (!strcmp(word, "init")) state.init = atoi(value);
    else if (!strcmp(word, "call") && state.calls < MAX_CALLS) {
        call_t *call = &state.call[state.calls++];
        char how[32] = "";
        sscanf(value, "%79s %31s", call->name, how);
        call->hang = !strcmp(how, "hang");
        call->missing = !strcmp(how, "missing");
        call->seconds = atof(how);
    } else if (!strcmp(word, "xid") && state.xids < MAX_XIDS) {
        xid_t *xid = &state.xid[state.xids++];
        sscanf(value, "%u %95s", &xid->number, xid->uuid);
    }
}

static void load(void) {
    const char *path = getenv("GPUCTL_FAKE_NVML");
    struct stat now;
    if (!path || stat(path, &now)) return;
    if (now.st_ino == seen.st_ino && now.st_size == seen.st_size
        && now.st_mtim.tv_sec == seen.st_mtim.tv_sec && now.st_mtim.tv_nsec == seen.st_mtim.tv_nsec)
        return;
    FILE *file = fopen(path, "r");
    if (!file) return;
    fstat(fileno(file), &seen);
    memset(&state, 0, sizeof state);
    char line[512], word[32];
    gpu_t *gpu = NULL;
    while (fgets(line, sizeof line, file)) {
        int at = 0;
        line[strcspn(line, "\n")] = 0;
        if (sscanf(line, "%31s %n", word, &at) != 1) continue;
        const char *value = line + at;
        if (!strcmp(word, "gpu") && state.gpus < MAX_GPUS) gpu = &state.gpu[state.gpus++];
        else if (gpu) read_gpu_line(gpu, word, value);
        else read_host_line(word, value);
    }
    fclose(file);
}

static void note(const char *function) {
    char line[128], path[4096];
    const char *state_path = getenv("GPUCTL_FAKE_NVML");
    if (!state_path) return;
    snprintf(path, sizeof path, "%s.calls", state_path);
    int file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (file < 0) return;
    int length = snprintf(line, sizeof line, "%s\n", function);
    if (write(file, line, (size_t)length) != length) abort();
    close(file);
}

static void sleep_seconds(double seconds) {
    struct timespec left = {(time_t)seconds, (long)((seconds - (time_t)seconds) * 1e9)};
    while (nanosleep(&left, &left) && errno == EINTR) {}
}

/* `nvmlDeviceGetMemoryInfo` in the file means every version of it. */
static const call_t *ordered(const char *function) {
    for (int i = 0; i < state.calls; i++) {
        size_t length = strlen(state.call[i].name);
        const char *rest = function + length;
        if (!strncmp(function, state.call[i].name, length)
            && (!*rest || (rest[0] == '_' && rest[1] == 'v')))
            return &state.call[i];
    }
    return NULL;
}

/* Every function begins here: newest state, then what was ordered for this call. */
static int enter(const char *function) {
    load();
    note(function);
    const call_t *call = ordered(function);
    if (call && call->missing) return FUNCTION_NOT_FOUND;
    if (call && call->seconds > 0) sleep_seconds(call->seconds);
    while (call && call->hang) {  /* returns only when the state file no longer says so */
        sleep_seconds(0.02);
        load();
        call = ordered(function);
    }
    return initialised ? OK : UNINITIALIZED;
}

static int find(const char *function, void *device, gpu_t **gpu) {
    int code = enter(function);
    if (code) return code;
    for (int i = 0; i < state.gpus; i++)
        if (!strcmp(state.gpu[i].uuid, (char *)device)) {
            *gpu = &state.gpu[i];
            return (int)(*gpu)->error;
        }
    return GPU_NOT_FOUND;
}

/* A process that has ended, reaped or not, holds no memory. */
static int lives(unsigned pid) {
    char path[64], line[512];
    if (kill((pid_t)pid, 0) && errno == ESRCH) return 0;
    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    char *end = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
    fclose(file);
    return end && end[2] != 'Z' && end[2] != 'X';
}

static unsigned long long held(const gpu_t *gpu) {
    unsigned long long sum = 0;
    for (int i = 0; i < gpu->count; i++)
        if (gpu->held[i].used > 0 && lives(gpu->held[i].pid))
            sum += (unsigned long long)gpu->held[i].used;
    return sum;
}

static int number(const char *function, void *device, size_t field, unsigned *value) {
    gpu_t *gpu;
    int code = find(function, device, &gpu);
    if (code) return code;
    long long found = *(long long *)((char *)gpu + field);
    if (found < 0) return NOT_SUPPORTED;
    *value = (unsigned)found;
    return OK;
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    enter(__func__);
    if (state.init) return state.init;
    initialised = 1;
    return OK;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { initialised = 0; return OK; }
const char *nvmlErrorString(int code) {
    static char text[32];
    snprintf(text, sizeof text, "fake error %d", code);
    return text;
}
int nvmlSystemGetDriverVersion(char *version, unsigned length) {
    int code = enter(__func__);
    if (!code) snprintf(version, length, "%s", state.driver);
    return code;
}
int nvmlSystemGetCudaDriverVersion_v2(int *version) {
    int code = enter(__func__);
    if (!code && !state.cuda) return FUNCTION_NOT_FOUND;
    if (!code) *version = state.cuda;
    return code;
}
int nvmlDeviceGetCount_v2(unsigned *count) {
    int code = enter(__func__);
    if (!code) *count = (unsigned)state.gpus;
    return code;
}
static void *handle_of(const char *uuid) {
    for (int i = 0; i < MAX_GPUS; i++) {
        if (!handles[i][0]) strcpy(handles[i], uuid);
        if (!strcmp(handles[i], uuid)) return handles[i];
    }
    return NULL;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    int code = enter(__func__);
    if (code) return code;
    if (index >= (unsigned)state.gpus) return INVALID_ARGUMENT;
    if (state.gpu[index].error) return (int)state.gpu[index].error;
    *device = handle_of(state.gpu[index].uuid);
    return *device ? OK : UNKNOWN;
}
int nvmlDeviceGetName(void *device, char *name, unsigned length) {
    gpu_t *gpu;
    int code = find(__func__, device, &gpu);
    if (!code) snprintf(name, length, "%s", gpu->name);
    return code;
}
int nvmlDeviceGetUUID(void *device, char *uuid, unsigned length) {
    gpu_t *gpu;
    int code = find(__func__, device, &gpu);
    if (!code) snprintf(uuid, length, "%s", gpu->uuid);
    return code;
}
typedef struct {
    char legacy[16];
    unsigned domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
} pci_t;
int nvmlDeviceGetPciInfo_v3(void *device, pci_t *pci) {
    gpu_t *gpu;
    int code = find(__func__, device, &gpu);
    if (code) return code;
    if (!gpu->pci[0]) return NOT_SUPPORTED;
    memset(pci, 0, sizeof *pci);
    snprintf(pci->bus_id, sizeof pci->bus_id, "%s", gpu->pci);
    snprintf(pci->legacy, sizeof pci->legacy, "%s", gpu->pci + 4);
    sscanf(gpu->pci, "%x:%x:%x", &pci->domain, &pci->bus, &pci->device);
    return OK;
}
int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
    gpu_t *gpu;
    int code = find(__func__, device, &gpu);
    if (code) return code;
    if (gpu->major < 0) return NOT_SUPPORTED;
    *major = (int)gpu->major;
    *minor = (int)gpu->minor;
    return OK;
}
typedef struct { unsigned long long total, free, used; } memory_t;
int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
    gpu_t *gpu;
    int code = find(__func__, device, &gpu);
    if (code) return code;
    if (gpu->total < 0) return NOT_SUPPORTED;
    memory->total = (unsigned long long)gpu->total;
    memory->used = held(gpu) + (gpu->reserved > 0 ? (unsigned long long)gpu->reserved : 0);
    memory->free = memory->total - memory->used;
    return OK;
}
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2_t;
int nvmlDeviceGetMemoryInfo_v2(void *device, memory_v2_t *memory) {
    gpu_t *gpu;
    int code = find(__func__, device, &gpu);
    if (code) return code;
    if (gpu->reserved < 0 || memory->version != 0x02000028) return VERSION_MISMATCH;
    if (gpu->total < 0) return NOT_SUPPORTED;
    memory->total = (unsigned long long)gpu->total;
    memory->reserved = (unsigned long long)gpu->reserved;
    memory->used = held(gpu);
    memory->free = memory->total - memory->reserved - memory->used;
    return OK;
}
typedef struct { unsigned gpu, memory; } utilization_t;
int nvmlDeviceGetUtilizationRates(void *device, utilization_t *utilization) {
    gpu_t *gpu;
    int code = find(__func__, device, &gpu);
    if (code) return code;
    if (gpu->utilization < 0) return NOT_SUPPORTED;
    utilization->gpu = (unsigned)gpu->utilization;
    utilization->memory = gpu->memory_utilization < 0 ? 0 : (unsigned)gpu->memory_utilization;
    return OK;
}
int nvmlDeviceGetTemperature(void *device, unsigned sensor, unsigned *celsius) {
    if (sensor != 0) return INVALID_ARGUMENT;
    return number(__func__, device, FIELD(temperature), celsius);
}
/* A card that tells its limits as a distance to its temperature lacks the older call. */
int nvmlDeviceGetTemperatureThreshold(void *device, unsigned which, unsigned *celsius) {
    const size_t fields[] = {FIELD(shutdown), FIELD(slowdown), FIELD(memory_max), FIELD(gpu_max)};
    gpu_t *gpu;
    int code = find(__func__, device, &gpu);
    if (code) return code;
    if (which > 3) return INVALID_ARGUMENT;
    if (gpu->tlimit) return NOT_SUPPORTED;
    long long found = *(long long *)((char *)gpu + fields[which]);
    if (found < 0) return NOT_SUPPORTED;
    *celsius = (unsigned)found;
    return OK;
}
typedef struct { unsigned version; int margin; } margin_t;
int nvmlDeviceGetMarginTemperature(void *device, margin_t *margin) {
    gpu_t *gpu;
    int code = find(__func__, device, &gpu);
    if (code) return code;
    if (!gpu->tlimit || gpu->gpu_max < 0) return NOT_SUPPORTED;
    margin->margin = (int)(gpu->gpu_max - gpu->temperature);
    return OK;
}
#define NUMBER(function, field) \
    int function(void *device, unsigned *value) { \
        return number(__func__, device, FIELD(field), value); \
    }
NUMBER(nvmlDeviceGetPowerUsage, power)
NUMBER(nvmlDeviceGetEnforcedPowerLimit, limit)
NUMBER(nvmlDeviceGetPowerManagementDefaultLimit, limit_default)
NUMBER(nvmlDeviceGetFanSpeed, fan)
NUMBER(nvmlDeviceGetPerformanceState, pstate)
NUMBER(nvmlDeviceGetArchitecture, architecture)
NUMBER(nvmlDeviceGetMinorNumber, minor_number)
NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, pcie_generation_max)
NUMBER(nvmlDeviceGetMaxPcieLinkWidth, pcie_width_max)
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, pcie_generation)
NUMBER(nvmlDeviceGetCurrPcieLinkWidth, pcie_width)
NUMBER(nvmlDeviceGetPcieReplayCounter, pcie_replays)
NUMBER(nvmlDeviceGetRetiredPagesPendingStatus, pages_pending)

static int two(const char *function, void *device, size_t field, unsigned *one, size_t other,
               unsigned *second) {
    gpu_t *gpu;
    int code = find(function, device, &gpu);
    if (code) return code;
    long long found = *(long long *)((char *)gpu + field);
    long long beside = *(long long *)((char *)gpu + other);
    if (found < 0 || beside < 0) return NOT_SUPPORTED;
    *one = (unsigned)found;
    *second = (unsigned)beside;
    return OK;
}
int nvmlDeviceGetPowerManagementLimitConstraints(void *device, unsigned *min, unsigned *max) {
    return two(__func__, device, FIELD(limit_min), min, FIELD(limit_max), max);
}
int nvmlDeviceGetMigMode(void *device, unsigned *now, unsigned *pending) {
    return two(__func__, device, FIELD(mig), now, FIELD(mig), pending);
}
int nvmlDeviceGetEccMode(void *device, unsigned *now, unsigned *pending) {
    return two(__func__, device, FIELD(ecc), now, FIELD(ecc), pending);
}
int nvmlDeviceGetClockInfo(void *device, unsigned kind, unsigned *megahertz) {
    if (kind != 1 && kind != 2) return INVALID_ARGUMENT;  /* NVML_CLOCK_SM, NVML_CLOCK_MEM */
    size_t field = kind == 1 ? FIELD(sm_clock) : FIELD(memory_clock);
    return number(__func__, device, field, megahertz);
}
int nvmlDeviceGetMaxClockInfo(void *device, unsigned kind, unsigned *megahertz) {
    if (kind != 1 && kind != 2) return INVALID_ARGUMENT;
    size_t field = kind == 1 ? FIELD(sm_clock_max) : FIELD(memory_clock_max);
    return number(__func__, device, field, megahertz);
}
int nvmlDeviceGetCurrentClocksEventReasons(void *device, unsigned long long *reasons) {
    unsigned bits = 0;
    int code = number(__func__, device, FIELD(reasons), &bits);
    *reasons = bits;
    return code;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons) {
    unsigned bits = 0;
    int code = number(__func__, device, FIELD(reasons), &bits);
    *reasons = bits;
    return code;
}
int nvmlDeviceGetSerial(void *device, char *serial, unsigned length) {
    gpu_t *gpu;
    int code = find(__func__, device, &gpu);
    if (code) return code;
    if (!gpu->serial[0]) return NOT_SUPPORTED;
    snprintf(serial, length, "%s", gpu->serial);
    return OK;
}
int nvmlDeviceGetMemoryAffinity(void *device, unsigned size, unsigned long *nodes, unsigned scope) {
    unsigned node = 0;
    int code = number(__func__, device, FIELD(numa_node), &node);
    if (code) return code;
    if (scope > 1 || node >= size * 8 * sizeof *nodes) return INVALID_ARGUMENT;
    memset(nodes, 0, size * sizeof *nodes);
    nodes[node / (8 * sizeof *nodes)] |= 1ul << node % (8 * sizeof *nodes);
    return OK;
}
int nvmlDeviceGetTotalEccErrors(void *device, unsigned uncorrected, unsigned aggregate,
                                unsigned long long *count) {
    gpu_t *gpu;
    int code = find(__func__, device, &gpu);
    if (code) return code;
    long long found = uncorrected
        ? (aggregate ? gpu->ecc_uncorrected_aggregate : gpu->ecc_uncorrected_volatile)
        : (aggregate ? gpu->ecc_corrected_aggregate : gpu->ecc_corrected_volatile);
    if (found < 0) return NOT_SUPPORTED;
    *count = (unsigned long long)found;
    return OK;
}
int nvmlDeviceGetRemappedRows(void *device, unsigned *correctable, unsigned *uncorrectable,
                              unsigned *pending, unsigned *failure) {
    gpu_t *gpu;
    int code = find(__func__, device, &gpu);
    if (code) return code;
    if (gpu->rows_correctable < 0) return NOT_SUPPORTED;
    *correctable = (unsigned)gpu->rows_correctable;
    *uncorrectable = (unsigned)gpu->rows_uncorrectable;
    *pending = gpu->rows_pending > 0;
    *failure = gpu->rows_failure > 0;
    return OK;
}
typedef struct {
    unsigned id, scope;
    long long at, latency;
    unsigned type;
    int code;
    union { unsigned whole; int negative; unsigned long long large; } value;
} field_t;
static void one_field(const gpu_t *gpu, field_t *field) {
    enum { WHOLE = 1, LARGE = 3, SIGNED = 5 };  /* nvmlValueType_t */
    const long long limits[] = {gpu->shutdown, gpu->slowdown, -1, gpu->gpu_max};
    long long found = -1;
    if (field->id == 82) found = gpu->memory_temperature;
    else if (field->id == 230) found = gpu->recovery;
    else if (field->id == 83) {
        field->code = gpu->energy < 0 ? NOT_SUPPORTED : OK;
        field->type = LARGE;
        field->value.large = (unsigned long long)gpu->energy;
        return;
    } else if (field->id >= 193 && field->id <= 196) {  /* *_TLIMIT: below the hottest it may be */
        found = gpu->tlimit ? limits[field->id - 193] : -1;
        field->code = found < 0 ? NOT_SUPPORTED : OK;
        field->type = SIGNED;
        field->value.negative = (int)(gpu->gpu_max - found);
        return;
    }
    field->code = found < 0 ? NOT_SUPPORTED : OK;
    field->type = WHOLE;
    field->value.whole = (unsigned)found;
}
int nvmlDeviceGetFieldValues(void *device, int count, field_t *fields) {
    gpu_t *gpu;
    int code = find(__func__, device, &gpu);
    if (code) return code;
    for (int i = 0; i < count; i++) one_field(gpu, &fields[i]);
    return OK;
}
static int reach(const char *function, void *device, void *other, const peer_t **peer) {
    gpu_t *gpu;
    int code = find(function, device, &gpu);
    if (code) return code;
    for (int i = 0; i < gpu->peers; i++)
        if (!strcmp(gpu->peer[i].uuid, (char *)other)) {
            *peer = &gpu->peer[i];
            return OK;
        }
    return NOT_SUPPORTED;
}
int nvmlDeviceGetTopologyCommonAncestor(void *device, void *other, unsigned *level) {
    const peer_t *peer;
    int code = reach(__func__, device, other, &peer);
    if (!code) *level = (unsigned)peer->level;
    return code;
}
int nvmlDeviceGetP2PStatus(void *device, void *other, unsigned what, unsigned *status) {
    enum { READ = 0, WRITE = 1, NVLINK = 2, NO = 5 };
    const peer_t *peer;
    int code = reach(__func__, device, other, &peer);
    if (code) return code;
    if (what != READ && what != WRITE && what != NVLINK) return INVALID_ARGUMENT;
    if (what != NVLINK && peer->p2p < 0) return NOT_SUPPORTED;
    *status = (what == NVLINK ? peer->nvlink : peer->p2p) ? OK : NO;
    return OK;
}
typedef struct { unsigned pid; unsigned long long used; unsigned instance, compute_instance; } info_t;
static int running(const char *function, void *device, unsigned *count, info_t *infos) {
    gpu_t *gpu;
    int code = find(function, device, &gpu);
    if (code) return code;
    if (!gpu->processes) return NOT_SUPPORTED;
    unsigned room = infos ? *count : 0, found = 0;
    for (int i = 0; i < gpu->count; i++) {
        const process_t *process = &gpu->held[i];
        if (!lives(process->pid)) continue;
        if (found < room)
            infos[found] = (info_t){process->pid, (unsigned long long)process->used, ~0u, ~0u};
        found++;
    }
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : OK;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, info_t *infos) {
    return running(__func__, device, count, infos);
}
int nvmlDeviceGetComputeRunningProcesses_v2(void *device, unsigned *count, info_t *infos) {
    return running(__func__, device, count, infos);
}

/* Told what was reported after it was made, of the cards registered in it. */
typedef struct { int told, cards; char uuid[MAX_GPUS][96]; } set_t;
typedef struct {
    void *device;
    unsigned long long type, data;
    unsigned instance, compute_instance;
} event_t;
static set_t sets[8];
static int made;
int nvmlEventSetCreate(void **set) {
    int code = enter(__func__);
    if (code) return code;
    if (made == (int)(sizeof sets / sizeof *sets)) return UNKNOWN;
    sets[made].told = state.xids;
    *set = &sets[made++];
    return OK;
}
int nvmlDeviceGetSupportedEventTypes(void *device, unsigned long long *types) {
    gpu_t *gpu;
    int code = find(__func__, device, &gpu);
    if (code) return code;
    if (!gpu->reports_events) return NOT_SUPPORTED;
    *types = 8;  /* nvmlEventTypeXidCriticalError */
    return OK;
}
int nvmlDeviceRegisterEvents(void *device, unsigned long long types, void *set) {
    gpu_t *gpu;
    int code = find(__func__, device, &gpu);
    if (code) return code;
    if (!gpu->reports_events || types != 8) return NOT_SUPPORTED;
    set_t *own = set;
    if (own->cards == MAX_GPUS) return UNKNOWN;
    strcpy(own->uuid[own->cards++], gpu->uuid);
    return OK;
}
int nvmlEventSetWait_v2(void *set, event_t *event, unsigned milliseconds) {
    int code = enter(__func__);
    if (code) return code;
    set_t *own = set;
    for (unsigned waited = 0;; waited += 20) {
        load();
        while (own->told < state.xids) {
            const xid_t *xid = &state.xid[own->told++];
            for (int i = 0; i < own->cards; i++)
                if (!strcmp(own->uuid[i], xid->uuid)) {
                    *event = (event_t){handle_of(xid->uuid), 8, xid->number, ~0u, ~0u};
                    return OK;
                }
        }
        if (waited >= milliseconds) return TIMEOUT;
        sleep_seconds(0.02);
    }
}
