/*
 * A client that speaks raw bytes, for tests of the HTTP server: it can say anything, stop anywhere
 * and not read. Failures end the test through cmocka; waits have a deadline.
 */
#ifndef TESTS_SUPPORT_HTTP_PROBE_H
#define TESTS_SUPPORT_HTTP_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PROBE_WAIT_MS = 20000 };

struct probe_answer {
    int status;
    bool closes; /* Connection: close */
    char head[2048];
    char body[4096];
    size_t body_size; /* may be more than what is kept in `body` */
};

int probe_connect(uint16_t port);
int probe_connect_unix(const char *path);

/* A peer that has gone is no failure here. */
void probe_send(int fd, const void *bytes, size_t size);
void probe_send_string(int fd, const char *string);

/* False when the connection ended, or nothing came in time, before a whole answer. */
bool probe_read(int fd, struct probe_answer *answer);

/* Sends and reads one answer, which must come. */
void probe_ask(int fd, const char *request, struct probe_answer *answer);

/* True once the peer has closed without sending more; false when bytes came or nothing happened. */
bool probe_is_closed(int fd);

/* Polls `condition` until it holds. */
bool probe_until(bool (*condition)(void *context), void *context);

#endif
