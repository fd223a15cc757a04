/*
 * What the tests of the HTTP server share: a server whose handler echoes, puts off, answers large
 * and counts. Failures assert.
 */
#ifndef TESTS_UNIT_BRIDGE_HTTP_FIXTURE_H
#define TESTS_UNIT_BRIDGE_HTTP_FIXTURE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/http/http_server.h"

enum { MAX_BODY = 100000, BIG_ANSWER = 64 << 20 };

#define HOST "Host: a\r\n"
#define POST_DEFER "POST /defer HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello"
#define GET_ECHO "GET /echo HTTP/1.1\r\n" HOST "\r\n"

/* What the handler of these tests has seen and does. */
struct fixture {
    struct http_server *server;
    atomic_int handled;
    atomic_int smuggled;
    atomic_int refused;
    const char *_Atomic why; /* the last one was */
    atomic_int resumed;
    atomic_int answered_late;
    atomic_size_t late_body;               /* size of the body when the last one was resumed */
    struct http_deferred *_Atomic waiting; /* the last one put off */
};

extern struct fixture fixture;

struct http_server_options fixture_defaults(void);

uint16_t fixture_start(const struct http_server_options *options);

void fixture_stop(void);

bool fixture_has_no_connections(void *context);

bool fixture_one_was_handled(void *context);

bool fixture_one_is_waiting(void *context);

bool fixture_one_was_resumed(void *context);

#endif
