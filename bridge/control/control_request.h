/*
 * A control request that another thread serves: put off on the listener's loop, left in an inbox,
 * answered there.
 *
 * Threads: control_request_new() and control_inbox_push() on the listener's loop, all else on the
 * thread that serves.
 */
#ifndef BRIDGE_CONTROL_CONTROL_REQUEST_H
#define BRIDGE_CONTROL_CONTROL_REQUEST_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "bridge/base/buf.h"
#include "bridge/base/mailbox.h"
#include "bridge/http/http_server.h"

/* First member of the struct of a request. */
struct control_request {
    struct http_deferred deferred; /* private */
    struct mailbox_node node;      /* private */
    int status;                    /* set by whoever serves it, with ... */
    struct buf answer;             /* ... the answer: released once it is sent */
};

/* Where requests wait for the thread. */
struct control_inbox {
    struct mailbox requests;
    pthread_mutex_t lock;
    bool is_closed; /* lock: lock; nobody takes requests any more */
};

/* Borrows `wakeup`, which need not be initialised yet. */
void control_inbox_init(struct control_inbox *inbox, struct wakeup *wakeup);
void control_inbox_release(struct control_inbox *inbox);

/* Puts the request off and returns `size` zeroed bytes that begin with a struct control_request,
 * for what the thread needs to know, copied from the request: it may be gone by then. Followed by
 * control_inbox_push(). */
void *control_request_new(struct http_request *http, size_t size);

/* Hands it over; refuses it once the inbox is closed. */
void control_inbox_push(struct control_inbox *inbox, struct control_request *request);

/* Calls `serve` for each that waits, which ends with control_request_finish(). */
void control_inbox_serve(struct control_inbox *inbox,
                         void (*serve)(void *context, struct control_request *request),
                         void *context);

/* From now on requests are refused where they come in; those that wait have to be served still. */
void control_inbox_close(struct control_inbox *inbox);

/* Sets an answer of the form of http_respond_error(). */
void control_request_fail(struct control_request *request, int status, const char *code,
                          const char *message);

/* Sends the answer. `request` is gone then. */
void control_request_finish(struct control_request *request);

/* Appends {"error":code,"message":message}; `code` is plain ASCII. */
void control_append_error(struct buf *json, const char *code, const char *message);

#endif
