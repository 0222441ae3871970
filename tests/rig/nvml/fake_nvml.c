/*
 * A libnvidia-ml.so.1 without a GPU: answers from the text file named by GPUCTL_FAKE_NVML, looked
 * at anew on each call, so that a test can change the hardware under a running process. The name of
 * each function called goes into a file beside it, `.calls`, one a line.
 *
 * Lines are `word value`: `driver`, `cuda`, `init` (an NVML return code), `call NAME
 * SECONDS|hang|missing`, `xid NUMBER UUID` (reported to whoever waits, once, in this order), `gpu`
 * (which opens a card), and of a card its strings, the words of NUMBERS, `process PID BYTES
 * C|G|C+G` and `peer UUID LEVEL NVLINK P2P`, `error` being the NVML return code that each call on it
 * gives.
 * -1 is "not supported" throughout. Signatures and return codes are those of nvml.h.
 */
#include "fake_state.h"

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
static int running(const char *function, void *device, unsigned *count, info_t *infos,
                   int drawing) {
    gpu_t *gpu;
    int code = find(function, device, &gpu);
    if (code) return code;
    if (!gpu->processes) return NOT_SUPPORTED;
    unsigned room = infos ? *count : 0, found = 0;
    for (int i = 0; i < gpu->count; i++) {
        const process_t *process = &gpu->held[i];
        if (!(drawing ? process->draws : process->computes) || !lives(process->pid)) continue;
        if (found < room)
            infos[found] = (info_t){process->pid, (unsigned long long)process->used, ~0u, ~0u};
        found++;
    }
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : OK;
}
#define RUNNING(function, drawing) \
    int function(void *device, unsigned *count, info_t *infos) { \
        return running(__func__, device, count, infos, drawing); \
    }
RUNNING(nvmlDeviceGetComputeRunningProcesses_v3, 0)
RUNNING(nvmlDeviceGetComputeRunningProcesses_v2, 0)
RUNNING(nvmlDeviceGetGraphicsRunningProcesses_v3, 1)
RUNNING(nvmlDeviceGetGraphicsRunningProcesses_v2, 1)

#include "fake_events.h"
