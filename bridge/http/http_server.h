/*
 * A small HTTP/1 server over h2o, used for the webhook listener and the control listener.
 *
 * Each thread has its own event loop and its own listener (SO_REUSEPORT). A handler answers at once
 * or defers the request and answers later. HTTP/2 is off (TRAPS H2-H6). Time is measured on the
 * monotonic clock: h2o's own timers follow the wall clock and would kill or keep connections when
 * that is set (TRAPS H9).
 *
 * What the server answers itself, in JSON: 400 framing, 413 body, 431 head, 417 expectation; and in
 * plain text 400 for what is not HTTP at all or has more than 100 headers. All of these close the
 * connection.
 *
 * Threads: handlers, ticks and the functions on requests run on the loop's thread, of which
 * `thread` is the number; http_resume() may be called from any. The rest is for the owner.
 */
#ifndef BRIDGE_HTTP_HTTP_SERVER_H
#define BRIDGE_HTTP_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/mailbox.h"
#include "bridge/base/text.h"

struct clock;
struct error;
struct http_credentials; /* opaque: OpenSSL's context */
struct http_loop;        /* opaque: defined in http_internal.h */
struct http_request;     /* opaque: defined in http_internal.h */
struct http_server;      /* opaque: defined in http_internal.h */

/* PEM files. */
struct http_tls_files {
    const char *certificate; /* with its chain; NULL: plain HTTP */
    const char *key;
    const char
        *client_ca; /* clients must show a certificate of one of these; NULL: they need none */
};

struct http_server_options {
    const char *name;        /* of the threads and in errors, such as "webhooks" */
    const char *host;        /* an address; NULL with a socket_path */
    uint16_t port;           /* 0: any free one */
    const char *socket_path; /* a Unix socket, mode 0600; NULL with a host */
    struct http_tls_files tls;
    unsigned threads;
    uint64_t max_body;
    size_t max_head;                      /* 0: 32 KiB */
    unsigned max_connections;             /* 0: 4096, or fewer where descriptors are scarce */
    unsigned max_connections_per_address; /* 0: no limit of its own; an IPv6 /64 is one address */
    size_t
        max_buffered; /* bytes of unfinished requests in all; 0: 512 MiB. Over it the largest go */
    int64_t request_timeout_ms;  /* for a whole request to come in, and for an idle connection;
                                    0: 30 s */
    int64_t response_timeout_ms; /* for the sender to read its answer; 0: 15 s */
    const struct clock *clock;   /* borrowed */
    void *context;
    void (*handle)(void *context, unsigned thread, struct http_request *request);
    /* May be NULL. Told of what the server refused itself; the answer is on its way. `why` is a
     * word for logs and metrics. */
    void (*refused)(void *context, unsigned thread, const struct http_request *request, int status,
                    const char *why);
    /* May be NULL. At least every 200 ms. */
    void (*tick)(void *context, unsigned thread);
};

/* Copies the options, strings included. Returns owned (http_server_free) a server that listens,
 * NULL on failure. */
struct http_server *http_server_start(const struct http_server_options *options, struct error *err);

/* The port that is listened on; 0 with a Unix socket. */
uint16_t http_server_port(const struct http_server *server);

/* How long the slowest thread has not come round; it does several times a second. Any thread. */
int64_t http_server_busy_ms(const struct http_server *server);

/* Open connections, from any thread. */
unsigned http_server_connections(const struct http_server *server);

/* A larger or smaller limit, in force with the next request of each connection. Any thread. */
void http_server_set_max_body(struct http_server *server, uint64_t max_body);

/* Reads the files and checks that they belong together. Returns owned (http_server_use(), else
 * http_credentials_free); NULL on failure. */
struct http_credentials *http_credentials_read(const struct http_tls_files *files,
                                               struct error *err);
void http_credentials_free(struct http_credentials *credentials);

/* Takes the credentials for new connections; those that exist keep what they have. NULL: plain
 * HTTP. True when the certificate is not the one before. Any thread. */
bool http_server_use(struct http_server *server, struct http_credentials *credentials);

/* When the certificate ends, in seconds since 1970; 0 without TLS. Any thread. */
int64_t http_server_certificate_expiry(const struct http_server *server);

/* Closes the listeners. Connections that exist may still send requests; their answers close them.
 */
void http_server_stop_accepting(struct http_server *server);

/* Waits until every request has been answered and every answer written. False: not in time. */
bool http_server_wait_idle(struct http_server *server, int64_t timeout_ms);

/*
 * Closes every connection and joins the threads. Whatever calls http_resume() must have stopped
 * before, with every deferred request resumed (a loop waits some seconds for one that was not, then
 * is abandoned with its memory). NULL is a no-op.
 */
void http_server_free(struct http_server *server);

/* The request, as long as the handler runs or until a deferred one is answered, by when its body is
 * gone (empty). Texts point into the connection's buffer. */
struct text http_request_method(const struct http_request *request);
struct text http_request_path(const struct http_request *request); /* as sent, without the query */
struct text http_request_body(const struct http_request *request);
bool http_request_has_length(const struct http_request *request); /* a length or chunks */
/* The time it was complete. */
int64_t http_request_started_us(const struct http_request *request);

/* The value of the header, absent (data NULL) unless it is there exactly once; `name` in lower
 * case. `out_count` may be NULL. */
struct text http_request_header(const struct http_request *request, const char *name,
                                size_t *out_count);

/* The decoded value of a query parameter, the first of that name, in memory of the request. False:
 * not there, or its escapes are broken. */
bool http_request_query(struct http_request *request, const char *name, struct text *out_value);

/* The name of the i-th query parameter, as sent. False: there are not so many. */
bool http_request_query_name(const struct http_request *request, size_t i, struct text *out_name);

/* The address of the peer without port, or "unix". At most 46 bytes with the terminator. */
void http_request_peer(const struct http_request *request, char *out_address, size_t capacity);

struct http_header {
    const char *name; /* lower case */
    const char *value;
};

struct http_response {
    int status;
    const char *content_type; /* NULL: application/json */
    struct text body;
    bool body_is_static; /* it outlives the server, so it is not copied */
    bool close;          /* the connection, after the answer */
    struct http_header headers[2];
};

/* Answers. Once for each request. */
void http_respond(struct http_request *request, const struct http_response *response);

/* {"error": code, "message": message}; both plain ASCII without quotes. */
void http_respond_error(struct http_request *request, int status, const char *code,
                        const char *message);

/* A request that is to be answered later. First member of the handler's own struct. */
struct http_deferred {
    struct mailbox_node node; /* private */
    struct http_loop *loop;   /* private */
    /* NULL once the sender has gone or has its answer. Loop's thread only. */
    struct http_request *request;
    void (*resumed)(struct http_deferred *self);
};

/*
 * Puts the request off. Returns `size` zeroed bytes (h2o's memory, which ends the process when
 * there is none) that live until `resumed` has run, which happens on the loop's thread after
 * http_resume(). Until then the request may be answered by anything on that thread.
 */
struct http_deferred *http_defer(struct http_request *request, size_t size,
                                 void (*resumed)(struct http_deferred *self));

/* From any thread, exactly once. Never blocks. */
void http_resume(struct http_deferred *deferred);

#endif
