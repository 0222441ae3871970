/* Xids: each told once to every event set that was there when the file first had it. */
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
