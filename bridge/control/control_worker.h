/*
 * Control requests that read the journal or wait for it: they run on a thread of their own, one
 * after another, so that liveness and metrics answer meanwhile.
 *
 * Threads: control_worker_defer() and control_worker_submit() on the listener's loop; `run` on the
 * worker.
 */
#ifndef BRIDGE_CONTROL_CONTROL_WORKER_H
#define BRIDGE_CONTROL_CONTROL_WORKER_H

#include <stdbool.h>
#include <stddef.h>

#include "bridge/base/buf.h"
#include "bridge/http/http_server.h"

struct control_worker; /* opaque: defined in control_worker.c */
struct error;

/* First member of the struct of a request. */
struct control_job {
    struct http_deferred deferred; /* private */
    struct control_job *next;      /* private */
    struct control_worker *worker; /* private */
    void (*run)(struct control_job *self);
    int status;      /* set by run, with ... */
    struct buf json; /* ... the answer: released by the worker */
};

/* Returns owned (control_worker_free), NULL on failure. */
struct control_worker *control_worker_start(struct error *err);

/* Refuses what comes from now on and waits until what came before is answered. Before the server is
 * freed, which lasts as long as its requests. NULL is a no-op. */
void control_worker_stop(struct control_worker *worker);

/* After the server is freed. NULL is a no-op. */
void control_worker_free(struct control_worker *worker);

/*
 * Puts the request off and returns `size` zeroed bytes for what `run` needs to know, copied from
 * the request: it may be gone by then. Followed by control_worker_submit(). NULL: too many wait,
 * and it is answered 503.
 */
void *control_worker_defer(struct control_worker *worker, struct http_request *request, size_t size,
                           void (*run)(struct control_job *self));
void control_worker_submit(struct control_job *job);

/* True once the bridge stops: a long search ends early. Any thread. */
bool control_job_is_cancelled(const struct control_job *job);

/* Sets an answer of the form of http_respond_error(). */
void control_job_fail(struct control_job *job, int status, const char *code, const char *message);

#endif
