/*
 * What the parts of the HTTP server know of each other. Nobody else includes this.
 */
#ifndef BRIDGE_HTTP_INTERNAL_H
#define BRIDGE_HTTP_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <h2o.h>

#include "bridge/base/mailbox.h"
#include "bridge/http_server.h"

_Static_assert(H2O_USE_LIBUV == 0, "h2o's headers must be told that this is the evloop library");

struct http_loop;

enum connection_state {
    CONNECTION_READING,  /* waits for a request, or reads one */
    CONNECTION_HANDLING, /* its answer was deferred */
    CONNECTION_WRITING,  /* an answer is on its way */
};

/* What h2o does not watch of a connection: kept beside it, found by its socket. */
struct http_connection {
    struct http_connection *next;
    struct http_connection *previous;
    struct http_loop *loop;
    h2o_socket_t *sock;
    enum connection_state state;
    int64_t since_ms;             /* monotonic: of the state */
    uint32_t requests;            /* that were complete */
    uint32_t requests_seen;       /* at the last look at its bytes */
    uint64_t bytes_seen;          /* received until then */
    struct http_request *request; /* in CONNECTION_HANDLING */
};

struct http_loop {
    struct http_server *server;
    unsigned number;
    pthread_t thread;
    bool has_thread;
    h2o_globalconf_t config;
    h2o_context_t context;
    h2o_accept_ctx_t accept;
    h2o_evloop_t *evloop;
    h2o_socket_t *listener; /* NULL once closed */
    int listen_fd;
    bool is_paused; /* the listener, because of too many connections or descriptors */
    struct wakeup wakeup;
    struct mailbox answers; /* deferred */
    h2o_socket_t *wakeup_socket;
    struct http_connection *connections;
    size_t connection_count;
    int64_t next_tick_ms;
};

struct http_server {
    struct http_server_options options;
    char address[160];
    struct http_loop *loops;
    SSL_CTX *ssl;
    atomic_uint connection_count; /* of all loops */
    atomic_bool is_accepting;
    atomic_bool is_stopping;
    _Atomic int64_t stop_at_ms; /* monotonic: when connections are cut */
};

/* Lives in the request's pool; `req` is NULL once h2o has disposed of it. */
struct http_request {
    h2o_req_t *req;
    struct http_connection *connection;
    struct http_deferred *deferred; /* NULL: answered, or not deferred */
};

/* http_request.c */
void http_register_handler(struct http_loop *loop, h2o_hostconf_t *host);
void http_take_answers(struct http_loop *loop);

#endif
