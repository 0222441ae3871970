/*
 * Clients that stream, as many as are told, each one answer after the other on a connection kept.
 *
 *   cc -O2 -o streams streams.c && ./streams PORT CLIENTS MILLISECONDS MAX_TOKENS KEY
 *
 * Begins no new stream after that time, waits for those that run, and prints one JSON line: streams
 * that were whole, chunks (events with data) in them, errors, and the median and 99th percentile of
 * the time from a request to the first byte of its first event, in microseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* A stream of the mock is 14 KB, and three times that where a proxy writes its events anew. */
enum { ROOM = 1 << 18, MOST_TIMES = 1 << 20, PATIENCE_MS = 10000 };

struct client {
    int fd, seen; /* seen: the first event was */
    double since;
    size_t length;
    char answer[ROOM + 1];
};

static int port;
static char request[2048];
static size_t request_length;
static double times[MOST_TIMES];
static long streams, chunks, errors, timed;

static double now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void ask(struct client *one) {
    one->length = 0;
    one->seen = 0;
    one->since = now_us();
    if (send(one->fd, request, request_length, MSG_NOSIGNAL) != (ssize_t)request_length) {
        perror("streams");
        exit(1);
    }
}

static void connect_to(struct client *one, int epoll) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = one};
    int on = 1;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    one->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(one->fd, (struct sockaddr *)&at, sizeof at)) {
        perror("streams");
        exit(1);
    }
    setsockopt(one->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    epoll_ctl(epoll, EPOLL_CTL_ADD, one->fd, &event);
}

static int whole(const struct client *one) {
    static const char end[] = "\r\n0\r\n\r\n";
    size_t length = sizeof end - 1;
    return one->length > length && !memcmp(one->answer + one->length - length, end, length);
}

static void count(const struct client *one) {
    if (strncmp(one->answer, "HTTP/1.1 200", 12) || !strstr(one->answer, "data: [DONE]")) {
        if (!errors++) fprintf(stderr, "streams: %.300s\n", one->answer);
        return;
    }
    streams++;
    for (const char *at = one->answer; (at = strstr(at, "data: {")); at++) chunks++;
}

/* Returns whether its stream is over. */
static int take(struct client *one, int epoll) {
    ssize_t got = recv(one->fd, one->answer + one->length, ROOM - one->length, 0);
    if (got <= 0) {
        if (!errors++) fprintf(stderr, "streams: the connection was closed\n");
        close(one->fd);
        connect_to(one, epoll);
        return 1;
    }
    one->length += (size_t)got;
    one->answer[one->length] = 0;
    if (!one->seen && strstr(one->answer, "data: ")) {
        one->seen = 1;
        if (timed < MOST_TIMES) times[timed++] = now_us() - one->since;
    }
    /* An error has a Content-Length, and its body comes with its head. */
    if (!whole(one) && (one->length < 12 || !strncmp(one->answer, "HTTP/1.1 200", 12))) return 0;
    count(one);
    return 1;
}

static int by_size(const void *left, const void *right) {
    double one = *(const double *)left, other = *(const double *)right;
    return (one > other) - (one < other);
}

static double percentile(int percent) {
    return timed ? times[(timed - 1) * percent / 100] : 0;
}

int main(int count, char **arguments) {
    if (count != 6) {
        fprintf(stderr, "usage: streams PORT CLIENTS MILLISECONDS MAX_TOKENS KEY\n");
        return 2;
    }
    port = atoi(arguments[1]);
    int clients = atoi(arguments[2]), running = clients, epoll = epoll_create1(0);
    char body[512];
    snprintf(body, sizeof body, "{\"model\":\"mock\",\"max_tokens\":%d,\"stream\":true,\"messages\":"
             "[{\"role\":\"user\",\"content\":\"What is the capital of France?\"}]}",
             atoi(arguments[4]));
    request_length = (size_t)snprintf(request, sizeof request,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer %s\r\n"
        "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
        port, arguments[5], strlen(body), body);
    struct client *all = calloc((size_t)clients, sizeof *all);
    double end = now_us() + atof(arguments[3]) * 1000;
    for (int i = 0; i < clients; i++) {
        connect_to(&all[i], epoll);
        ask(&all[i]);
    }
    while (running) {
        struct epoll_event event;
        if (epoll_wait(epoll, &event, 1, PATIENCE_MS) != 1) {
            errors += running;
            break;
        }
        if (!take(event.data.ptr, epoll)) continue;
        if (now_us() < end) {
            ask(event.data.ptr);
        } else {
            close(((struct client *)event.data.ptr)->fd);
            running--;
        }
    }
    qsort(times, (size_t)timed, sizeof *times, by_size);
    printf("{\"streams\": %ld, \"chunks\": %ld, \"errors\": %ld, \"first_p50_us\": %.1f,"
           " \"first_p99_us\": %.1f}\n", streams, chunks, errors, percentile(50), percentile(99));
    return 0;
}
