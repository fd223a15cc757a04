/*
 * An HTTP/1.1 server over h2o's event loops, used for the webhook listener and for the control
 * listener.
 *
 * HTTP/2 is off (TRAPS H2-H6). Connections are bounded and have deadlines on monotonic time of
 * their own; when descriptors run out the listener pauses instead of spinning (H8-H11). Framing
 * that two parsers could read differently is answered 400 and the connection closed before the
 * handler is asked (H12).
 *
 * Threads: every loop is a thread; a request is handled on its loop. http_deferred_wake() may be
 * called from any thread.
 */
#ifndef BRIDGE_HTTP_SERVER_H
#define BRIDGE_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/mailbox.h"
#include "bridge/base/text.h"

struct clock;
struct error;
struct http_request; /* opaque: defined in http_internal.h */
struct http_server;  /* opaque: defined in http_internal.h */

struct http_server_options {
    const char *name;        /* for threads and the log */
    const char *host;        /* NULL with a socket */
    uint16_t port;           /* 0: any free one */
    const char *socket_path; /* a unix socket, mode 0600; NULL with host and port */
    const char *certificate; /* NULL: no TLS */
    const char *key;
    uint64_t max_body; /* larger: 413 */
    uint32_t threads;
    uint32_t max_connections;
    int64_t request_timeout_ms; /* to send a request, and to read its answer */
    int64_t answer_timeout_ms;  /* for an answer that was deferred: then 503 */
    const struct clock *clock;
    /* Handles a request: responds to it now or defers it. `loop` counts from 0. */
    void (*handle)(void *context, struct http_request *request, unsigned loop);
    /* The answer to what h2o or the server itself refuses was sent with `status`. Any loop. May be
     * NULL. */
    void (*refused)(void *context, int status);
    void *context;
};

/* Binds and starts the loops. Copies `options`, borrows what it points to. Returns owned; see
 * http_server_stop(). */
struct http_server *http_server_start(const struct http_server_options *options, struct error *err);

/* "127.0.0.1:8080" or "unix:/path": where it listens. Lives as long as the server. */
const char *http_server_address(const struct http_server *server);

/* Closes the listeners. What is in flight goes on; further requests on open connections still reach
 * the handler. */
void http_server_stop_accepting(struct http_server *server);

/*
 * Waits at most `timeout_ms` until every answer was sent, closes the connections and ends the
 * loops. h2o's contexts cannot be disposed of safely (TRAPS H15), so their memory stays until the
 * process ends. NULL is a no-op.
 */
void http_server_stop(struct http_server *server, int64_t timeout_ms);

/* ---- a request, on its loop ---- */

struct text http_method(const struct http_request *request);
struct text http_path(const struct http_request *request); /* without the query */
struct text http_body(const struct http_request *request);

/* The value of a header by its lower-case name; absent when there is none. Sets how often it occurs
 * (may be NULL). */
struct text http_header(const struct http_request *request, const char *name, size_t *out_count);

/* True while answers to further requests make no sense: the connection is closed after this one. */
void http_close_after(struct http_request *request);

/* Adds a header to the answer. The texts are copied. */
void http_add_header(struct http_request *request, const char *name, const char *value);

/* Answers. The body is copied; content_type is a literal. */
void http_respond(struct http_request *request, int status, const char *content_type,
                  struct text body);

/* Answers {"error":"code","message":"sentence"}. */
void http_respond_error(struct http_request *request, int status, const char *code,
                        const char *message);

/* ---- answering later ---- */

/* Embedded in whatever waits for the answer; owned by the caller until `answer` was called. */
struct http_deferred {
    struct mailbox_node node;
    struct http_request *request; /* the server's */
    struct mailbox *loop;         /* the server's */
    /* On the loop, once, after http_deferred_wake(). `request` is NULL when the peer is gone or was
     * answered 503. */
    void (*answer)(struct http_deferred *self, struct http_request *request);
};

/* The handler returns without an answer; `deferred` brings it later. */
void http_defer(struct http_request *request, struct http_deferred *deferred);

/* Any thread, once. */
void http_deferred_wake(struct http_deferred *deferred);

#endif
