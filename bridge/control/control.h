/*
 * The control listener's handler: liveness, readiness, metrics, and a table of routes that the
 * parts of the daemon add to.
 *
 * /healthz, /readyz and /metrics need no token; all else does, when one is configured. A request
 * with an Origin header comes from a web page and is refused (CSRF).
 *
 * Threads: control_add() before the server starts; control_set_token() from any; handlers run on
 * the listener's thread and must not block: they defer.
 */
#ifndef BRIDGE_CONTROL_CONTROL_H
#define BRIDGE_CONTROL_CONTROL_H

#include <stdbool.h>

struct buf;
struct control; /* opaque: defined in control.c */
struct http_request;
struct metrics;

struct control_options {
    const char *token;       /* copied; NULL: none is needed */
    struct metrics *metrics; /* borrowed */
    /* Appends a JSON object that says what is ready; true when events can be accepted. */
    bool (*readiness)(void *context, struct buf *json);
    void *readiness_context;
};

struct control_route {
    const char *method; /* borrowed, as is the path */
    const char *path;   /* exact, without the query */
    void (*handle)(void *context, struct http_request *request);
    void *context;
};

/* Returns owned (control_free), after the server has been freed. */
struct control *control_new(const struct control_options *options);
void control_free(struct control *control);

void control_add(struct control *control, const struct control_route *route);

/* Another token, from the next request on: copied; NULL: none is needed. Any thread. */
void control_set_token(struct control *control, const char *token);

/* For http_server_options: the struct control is the context. */
void control_handle(void *context, unsigned thread, struct http_request *request);

#endif
