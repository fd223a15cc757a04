/*
 * What the parts of the HTTP server share: http_server.c (life), http_listener.c (sockets),
 * http_tls.c, http_loop.c (threads and connections), http_reaper.c (deadlines), http_request.c.
 *
 * The only header that includes h2o's, and included by those files only.
 */
#ifndef BRIDGE_HTTP_HTTP_INTERNAL_H
#define BRIDGE_HTTP_HTTP_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include <h2o.h>
#include <h2o/http1.h>

#include "bridge/base/mailbox.h"
#include "bridge/base/pulse.h"
#include "bridge/http/http_server.h"

_Static_assert(H2O_USE_LIBUV == 0, "h2o's sockets must be those of its own event loop (TRAPS H1)");

enum {
    HTTP_TURN_MS = 200, /* how long a loop sleeps at most, and how often it looks at deadlines */
    HTTP_ADDRESS_BUCKETS = 1024,
};

/* How many connections an address has. */
struct http_address {
    struct http_address *next;
    unsigned char key[16];
    unsigned count;
};

struct http_address_table {
    pthread_mutex_t lock;
    struct http_address *buckets[HTTP_ADDRESS_BUCKETS]; /* lock: lock */
};

enum http_phase {
    HTTP_READING, /* a request, or waiting for one */
    HTTP_PENDING, /* a handler has it */
    HTTP_WRITING, /* the answer */
};

struct http_connection {
    struct http_connection *next;
    struct http_connection **slot; /* of the list it is in */
    struct http_loop *loop;
    h2o_socket_t *sock;
    struct http_address *address; /* NULL when addresses are not counted */
    enum http_phase phase;
    bool is_shut;        /* on its way to being closed */
    bool answer_is_ours; /* not one that h2o makes itself */
    int64_t since_ms;    /* when the phase began */
    uint64_t finished;   /* bytes of the requests that were complete */
};

struct http_request {
    h2o_req_t *req;
    struct http_connection *connection;
    int64_t started_us;
    size_t path_size;
    bool has_length;
    bool is_chunked;
    struct http_deferred *deferred; /* NULL: not put off */
};

/* One thread. */
struct http_loop {
    struct http_server *server;
    unsigned number;
    pthread_t thread;
    bool is_started;
    h2o_globalconf_t config; /* of its own, so that its thread may change a limit */
    uint64_t max_body;
    h2o_evloop_t *evloop;
    h2o_context_t context;
    h2o_accept_ctx_t accept;
    h2o_socket_t *listener; /* NULL once closed */
    int listener_fd;        /* until the thread takes it */
    int wakeup_fd;          /* a copy, until the thread takes it */
    bool is_paused;         /* does not accept for now */
    int64_t paused_until_ms;
    int64_t warned_ms;
    int64_t warned_of_address_ms;
    int reserve_fd; /* given up to shed a connection when there is no other descriptor */
    struct wakeup wakeup;
    h2o_socket_t *wakeup_socket;
    struct mailbox resumed;
    atomic_bool is_asleep; /* or may be soon: whoever resumes a request has to wake it */
    struct http_connection *connections;
    size_t deferred; /* not resumed yet */
    int64_t now_ms;
    int64_t swept_ms;
    struct pulse pulse; /* begins with a sweep, so that it is at most about HTTP_TURN_MS old */
    _Atomic uint64_t sweeps;
    _Atomic size_t busy; /* requests without a written answer, as of the last sweep */
};

struct http_tls; /* http_tls.c */

struct http_server {
    struct http_server_options options; /* with copies of the strings */
    _Atomic uint64_t max_body;
    struct http_loop *loops;
    struct http_tls *tls;
    struct http_address_table addresses;
    uint16_t port;
    bool is_unix;
    _Atomic unsigned connections;
    atomic_bool is_draining; /* listeners are to be closed */
    atomic_bool is_stopping; /* connections too */
};

/* http_listener.c: a bound, listening socket, or -1. `port` is set to what was bound. */
int http_listen(const struct http_server_options *options, bool is_first, uint16_t *port,
                struct error *err);

/* http_tls.c: without credentials it stands for plain HTTP. */
struct http_tls *http_tls_new(const struct clock *clock);
void http_tls_free(struct http_tls *tls);
/* True when the certificate is not the one before. */
bool http_tls_use(struct http_tls *tls, struct http_credentials *credentials);
/* The context for a new connection, valid for at least a minute after it was replaced; NULL: plain
 * HTTP. */
SSL_CTX *http_tls_current(struct http_tls *tls);
int64_t http_tls_expiry(struct http_tls *tls);

/* http_loop.c */
void http_loop_blank(struct http_loop *loop);
int http_loop_init(struct http_loop *loop, struct http_server *server, unsigned number,
                   struct error *err);
void *http_loop_run(void *argument); /* a struct http_loop */
void http_loop_release(struct http_loop *loop);
struct http_connection *http_connection_of(const h2o_req_t *req);
void http_connection_enter(struct http_connection *connection, enum http_phase phase);

/* http_addresses.c: false when the address has its fill. */
bool http_address_enter(struct http_server *server, const struct sockaddr *peer,
                        struct http_address **out_address);
void http_address_leave(struct http_server *server, struct http_address *address);

/* http_reaper.c: shuts the connections whose time is over. */
void http_reaper_sweep(struct http_loop *loop);
void http_connection_shut(struct http_connection *connection);
/* Whether the request being read took more bytes on the wire than its size explains. */
bool http_connection_is_flooding(const struct http_connection *connection);

/* http_request.c */
void http_config_init(struct http_loop *loop);
/* Takes over a limit that was changed. */
void http_config_refresh(struct http_loop *loop);
void http_deferred_run(struct http_loop *loop);

#endif
