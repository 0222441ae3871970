/* The state file of the fake driver, what is ordered in it, and the cards found by it. */
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

typedef struct { unsigned pid; long long used; int computes, draws; } process_t;
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
        char type[8] = "";
        sscanf(value, "%u %lld %7s", &process->pid, &process->used, type);
        process->computes = strchr(type, 'C') != NULL;
        process->draws = strchr(type, 'G') != NULL;
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
