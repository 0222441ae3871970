/*
 * An engine that takes no time: what a proxy in front of it costs is all there is to measure.
 *
 *   cc -O2 -o mock mock.c && ./mock PORT [COUNT]
 *
 * Listens on COUNT ports of 127.0.0.1 from PORT on. A POST whose body says "stream":true is answered
 * with 64 server-sent events and [DONE], each sent by itself, and one of usage for who asks for it;
 * "max_tokens":65 sets 10 ms between them. Any other POST gets a JSON answer of 591 bytes, a GET "ok".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { LISTENER, CONNECTION, TIMER };
enum { MOST_BYTES = 1 << 17, EVENTS = 64, CHUNKS = 64, CADENCE_NS = 10000000 };

struct watched {
    int kind, fd;
    size_t length;            /* of what was received and not answered yet */
    int chunk;                /* the next to be sent; 0: none is */
    int usage;                /* the client wants to be told at the end what was used */
    struct watched *peer;     /* of a connection its timer, of a timer its connection */
    char data[];
};

static int epoll;
static char answer[1024], chunk[512], usage[512];
static size_t answer_length, chunk_length, usage_length;

static const char stream_head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                                  "Transfer-Encoding: chunked\r\n\r\n";
static const char stream_end[] = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
static const char plain[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";

static struct watched *watch(int kind, int fd, size_t room) {
    struct watched *made = calloc(1, sizeof *made + room + 1);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = made};
    made->kind = kind;
    made->fd = fd;
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    return made;
}

static void forget(struct watched *one) {
    if (one->peer) {
        close(one->peer->fd);
        free(one->peer);
    }
    close(one->fd);
    free(one);
}

/* A client that does not read is waited for: the sockets block. */
static int put(int fd, const char *data, size_t length) {
    while (length) {
        ssize_t sent = send(fd, data, length, MSG_NOSIGNAL);
        if (sent < 0) return 0;
        data += sent;
        length -= (size_t)sent;
    }
    return 1;
}

static int next_chunk(struct watched *to) {
    if (to->chunk++ < CHUNKS) return put(to->fd, chunk, chunk_length);
    if (to->usage) {
        to->usage = 0;
        return put(to->fd, usage, usage_length);
    }
    to->chunk = 0;
    return put(to->fd, stream_end, sizeof stream_end - 1);
}

static int respond(struct watched *to, const char *body) {
    if (!body) return put(to->fd, plain, sizeof plain - 1);
    if (!memmem(body, strlen(body), "\"stream\":true", 13)
        && !memmem(body, strlen(body), "\"stream\": true", 14))
        return put(to->fd, answer, answer_length);
    if (!put(to->fd, stream_head, sizeof stream_head - 1)) return 0;
    to->usage = strstr(body, "\"include_usage\":true") != NULL;
    if (strstr(body, "\"max_tokens\":65") || strstr(body, "\"max_tokens\": 65")) {
        struct itimerspec every = {{0, CADENCE_NS}, {0, CADENCE_NS}};
        to->peer = watch(TIMER, timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), 0);
        to->peer->peer = to;
        timerfd_settime(to->peer->fd, 0, &every, NULL);
        return next_chunk(to);
    }
    do
        if (!next_chunk(to)) return 0;
    while (to->chunk);
    return 1;
}

/* Answer the request at the beginning of what was received, if it is whole. */
static int answer_one(struct watched *from) {
    char *end = memmem(from->data, from->length, "\r\n\r\n", 4);
    if (!end) return from->length < MOST_BYTES;
    size_t head = (size_t)(end - from->data) + 4, body = 0;
    char saved = end[2];
    end[2] = 0;
    char *length = strcasestr(from->data, "\r\ncontent-length:");
    if (length) body = strtoul(length + 17, NULL, 10);
    end[2] = saved;
    if (head + body > MOST_BYTES) return 0;
    if (from->length < head + body) return 1;
    from->data[head + body] = 0;
    if (!respond(from, *from->data == 'P' ? from->data + head : NULL)) return 0;
    from->length = 0; /* nobody sends ahead */
    return 1;
}

static void ready(struct watched *one) {
    if (one->kind == LISTENER) {
        int fd = accept(one->fd, NULL, NULL), on = 1;
        if (fd < 0) return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        watch(CONNECTION, fd, MOST_BYTES);
    } else if (one->kind == TIMER) {
        unsigned long long due;
        struct watched *to = one->peer;
        if (read(one->fd, &due, sizeof due) != sizeof due) return;
        int good = next_chunk(to);
        if (good && to->chunk) return;
        close(one->fd);
        free(one);
        to->peer = NULL;
        if (!good) shutdown(to->fd, SHUT_RDWR); /* ends at its next event */
    } else {
        ssize_t got = recv(one->fd, one->data + one->length, MOST_BYTES - one->length, 0);
        if (got > 0) one->length += (size_t)got;
        if (got <= 0 || !answer_one(one)) forget(one);
    }
}

static void listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 1024)) {
        perror("mock");
        exit(1);
    }
    watch(LISTENER, fd, 0);
}

static void write_answers(void) {
    char body[592];
    const char *shape = "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1760000000,"
                        "\"model\":\"mock\",\"choices\":[{\"index\":0,\"message\":{\"role\":"
                        "\"assistant\",\"content\":\"%0*d\"},\"finish_reason\":\"stop\"}],\"usage\":"
                        "{\"prompt_tokens\":42,\"completion_tokens\":64,\"total_tokens\":106}}";
    int rest = (int)sizeof body - 1 - ((int)strlen(shape) - (int)strlen("%0*d"));
    snprintf(body, sizeof body, shape, rest, 0);
    answer_length = (size_t)snprintf(answer, sizeof answer,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
        strlen(body), body);
    char event[300];
    int length = snprintf(event, sizeof event,
        "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,"
        "\"model\":\"mock\",\"system_fingerprint\":\"fp_0123456789\",\"choices\":[{\"index\":0,"
        "\"delta\":{\"content\":\" tokens\"},\"finish_reason\":null}]}\n\n");
    chunk_length = (size_t)snprintf(chunk, sizeof chunk, "%x\r\n%s\r\n", length, event);
    length = snprintf(event, sizeof event,
        "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,"
        "\"model\":\"mock\",\"choices\":[],\"usage\":{\"prompt_tokens\":42,\"completion_tokens\":64,"
        "\"total_tokens\":106}}\n\n");
    usage_length = (size_t)snprintf(usage, sizeof usage, "%x\r\n%s\r\n", length, event);
}

int main(int count, char **arguments) {
    int first = count > 1 ? atoi(arguments[1]) : 0, ports = count > 2 ? atoi(arguments[2]) : 4;
    if (first <= 0) {
        fprintf(stderr, "usage: mock PORT [COUNT]\n");
        return 2;
    }
    epoll = epoll_create1(0);
    write_answers();
    for (int port = first; port < first + ports; port++) listen_on(port);
    for (;;) {
        struct epoll_event events[EVENTS];
        int found = epoll_wait(epoll, events, EVENTS, -1);
        /* A timer and its connection may be in one batch, and either may free the other: one only. */
        if (found > 0) ready(events[0].data.ptr);
        if (found < 0 && errno != EINTR) return 1;
    }
}
