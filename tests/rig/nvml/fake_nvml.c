/*
 * A libnvidia-ml.so.1 without a GPU: answers from the text file named by GPUCTL_FAKE_NVML, looked
 * at anew on each call, so that a test can change the hardware under a running process.
 *
 * Lines are `word value`: `driver`, `init` (an NVML return code), `call NAME SECONDS|hang`, `gpu`
 * (which opens a card), and of a card `uuid name total reserved major minor pci temperature power
 * limit clock utilization reasons processes error process`, `error` being the NVML return
 * code that each call on it gives. -1 is "not supported" throughout.
 * Signatures and return codes are those of nvml.h.
 */
#include <errno.h>
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
    VERSION_MISMATCH = 25, GPU_NOT_FOUND = 28, UNKNOWN = 999
};
#define MAX_GPUS 64
#define MAX_PROCESSES 128
#define MAX_CALLS 32

typedef struct { unsigned pid; long long used; } process_t;
typedef struct {
    char uuid[96], name[96], pci[32];
    long long total, reserved, temperature, power, limit, clock, utilization, reasons;
    int major, minor, error, reports_processes, count;
    process_t processes[MAX_PROCESSES];
} gpu_t;
typedef struct { char name[80]; double seconds; int hang; } call_t;

static struct { char driver[80]; int init, gpus, calls; gpu_t gpu[MAX_GPUS]; call_t call[MAX_CALLS]; } state;
static struct stat seen;
static int initialised;
/* A handle names a card for good, wherever it is enumerated later. */
static char handles[MAX_GPUS][96];

static void read_gpu_line(gpu_t *gpu, const char *word, const char *value) {
    if (!strcmp(word, "uuid")) snprintf(gpu->uuid, sizeof gpu->uuid, "%s", value);
    else if (!strcmp(word, "name")) snprintf(gpu->name, sizeof gpu->name, "%s", value);
    else if (!strcmp(word, "pci")) snprintf(gpu->pci, sizeof gpu->pci, "%s", value);
    else if (!strcmp(word, "total")) gpu->total = atoll(value);
    else if (!strcmp(word, "reserved")) gpu->reserved = atoll(value);
    else if (!strcmp(word, "major")) gpu->major = atoi(value);
    else if (!strcmp(word, "minor")) gpu->minor = atoi(value);
    else if (!strcmp(word, "temperature")) gpu->temperature = atoll(value);
    else if (!strcmp(word, "power")) gpu->power = atoll(value);
    else if (!strcmp(word, "limit")) gpu->limit = atoll(value);
    else if (!strcmp(word, "clock")) gpu->clock = atoll(value);
    else if (!strcmp(word, "utilization")) gpu->utilization = atoll(value);
    else if (!strcmp(word, "reasons")) gpu->reasons = atoll(value);
    else if (!strcmp(word, "processes")) gpu->reports_processes = atoi(value);
    else if (!strcmp(word, "error")) gpu->error = atoi(value);
    else if (!strcmp(word, "process") && gpu->count < MAX_PROCESSES) {
        process_t *process = &gpu->processes[gpu->count++];
        sscanf(value, "%u %lld", &process->pid, &process->used);
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
        if (!strcmp(word, "driver")) snprintf(state.driver, sizeof state.driver, "%s", value);
        else if (!strcmp(word, "init")) state.init = atoi(value);
        else if (!strcmp(word, "call") && state.calls < MAX_CALLS) {
            call_t *call = &state.call[state.calls++];
            char how[32] = "";
            sscanf(value, "%79s %31s", call->name, how);
            call->hang = !strcmp(how, "hang");
            call->seconds = atof(how);
        } else if (!strcmp(word, "gpu") && state.gpus < MAX_GPUS) gpu = &state.gpu[state.gpus++];
        else if (gpu) read_gpu_line(gpu, word, value);
    }
    fclose(file);
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
    const call_t *call = ordered(function);
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
            return (*gpu)->error;
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
        if (gpu->processes[i].used > 0 && lives(gpu->processes[i].pid))
            sum += (unsigned long long)gpu->processes[i].used;
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
#define FIELD(name) offsetof(gpu_t, name)

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
int nvmlDeviceGetCount_v2(unsigned *count) {
    int code = enter(__func__);
    if (!code) *count = (unsigned)state.gpus;
    return code;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    int code = enter(__func__);
    if (code) return code;
    if (index >= (unsigned)state.gpus) return INVALID_ARGUMENT;
    if (state.gpu[index].error) return state.gpu[index].error;
    for (int i = 0; i < MAX_GPUS; i++) {
        if (!handles[i][0]) strcpy(handles[i], state.gpu[index].uuid);
        if (!strcmp(handles[i], state.gpu[index].uuid)) {
            *device = handles[i];
            return OK;
        }
    }
    return UNKNOWN;
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
    *major = gpu->major;
    *minor = gpu->minor;
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
    utilization->memory = 0;
    return number(__func__, device, FIELD(utilization), &utilization->gpu);
}
int nvmlDeviceGetTemperature(void *device, unsigned sensor, unsigned *celsius) {
    if (sensor != 0) return INVALID_ARGUMENT;
    return number(__func__, device, FIELD(temperature), celsius);
}
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) {
    return number(__func__, device, FIELD(power), milliwatts);
}
int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned *milliwatts) {
    return number(__func__, device, FIELD(limit), milliwatts);
}
int nvmlDeviceGetClockInfo(void *device, unsigned kind, unsigned *megahertz) {
    if (kind != 1) return NOT_SUPPORTED;  /* NVML_CLOCK_SM only */
    return number(__func__, device, FIELD(clock), megahertz);
}
int nvmlDeviceGetCurrentClocksEventReasons(void *device, unsigned long long *reasons) {
    unsigned bits = 0;
    int code = number(__func__, device, FIELD(reasons), &bits);
    *reasons = bits;
    return code;
}
typedef struct { unsigned pid; unsigned long long used; unsigned instance, compute_instance; } info_t;
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, info_t *infos) {
    gpu_t *gpu;
    int code = find(__func__, device, &gpu);
    if (code) return code;
    if (!gpu->reports_processes) return NOT_SUPPORTED;
    unsigned room = infos ? *count : 0, found = 0;
    for (int i = 0; i < gpu->count; i++) {
        const process_t *process = &gpu->processes[i];
        if (!lives(process->pid)) continue;
        if (found < room)
            infos[found] = (info_t){process->pid, (unsigned long long)process->used, ~0u, ~0u};
        found++;
    }
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : OK;
}
