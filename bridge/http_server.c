/*
 * Listeners, loops, connections and their deadlines.
 */
#include "bridge/http_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/tcp.h> /* with tcpi_bytes_received, which netinet/tcp.h lacks */
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/base/thread.h"
#include "bridge/http_internal.h"

enum {
    TICK_MS = 200,
    ACCEPTS_PER_TURN = 16,
    BACKLOG = 1024,
    HEAD_ALLOWANCE = 64 * 1024, /* of bytes on the wire beside the body */
    NEVER_MS = 1000 * 60 * 60 *
               24, /* h2o's own timers go by the wall clock (TRAPS H9): ours do the work */
};

static int64_t now_ms(const struct http_loop *loop)
{
    return clock_monotonic_ms(loop->server->options.clock);
}

/* ---- connections ---- */

static bool is_full(struct http_server *server)
{
    return atomic_load(&server->connection_count) >= server->options.max_connections;
}

static void forget_connection(void *data)
{
    struct http_connection *connection = data;
    struct http_loop *loop = connection->loop;

    if (connection->next)
        connection->next->previous = connection->previous;
    if (connection->previous)
        connection->previous->next = connection->next;
    else
        loop->connections = connection->next;
    if (connection->request)
        connection->request->connection = NULL;
    loop->connection_count--;
    atomic_fetch_sub(&loop->server->connection_count, 1);
    free(connection);
}

static void watch_connection(struct http_loop *loop, h2o_socket_t *sock)
{
    struct http_connection *connection = alloc_zeroed(1, sizeof(*connection));
    int timeout_ms = (int)loop->server->options.request_timeout_ms;

    /* A peer that is gone while it should read does not keep the connection. */
    setsockopt(h2o_socket_get_fd(sock), IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms,
               sizeof(timeout_ms));
    connection->loop = loop;
    connection->sock = sock;
    connection->since_ms = now_ms(loop);
    connection->next = loop->connections;
    if (connection->next)
        connection->next->previous = connection;
    loop->connections = connection;
    loop->connection_count++;
    atomic_fetch_add(&loop->server->connection_count, 1);
    sock->on_close.cb = forget_connection;
    sock->on_close.data = connection;
}

static void on_accept(h2o_socket_t *listener, const char *err)
{
    struct http_loop *loop = listener->data;

    if (err)
        return;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        h2o_socket_t *sock;

        if (is_full(loop->server))
            break;
        errno = 0;
        sock = h2o_evloop_socket_accept(listener);
        if (!sock && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
            return;
        if (!sock)
            break; /* no descriptors: the listener would be ready for ever (TRAPS H8) */
        watch_connection(loop, sock);
        h2o_accept(&loop->accept, sock);
    }
    if (is_full(loop->server) || errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
        errno == ENOMEM) {
        h2o_socket_read_stop(listener);
        loop->is_paused = true; /* until the next tick with room */
    }
}

/* Ends a connection through h2o: it sees the end of the stream and cleans up. */
static void cut(struct http_connection *connection)
{
    shutdown(h2o_socket_get_fd(connection->sock), SHUT_RDWR);
}

static void answer_late(struct http_connection *connection)
{
    struct http_request *request = connection->request;

    if (!request)
        return;
    if (request->deferred)
        request->deferred->request = NULL;
    request->deferred = NULL;
    http_add_header(request, "retry-after", "10");
    http_respond_error(request, 503, "timeout", "the event could not be made durable in time");
}

/* Chunk extensions and trailers do not count as body: the bytes on the wire do (TRAPS H13). */
static bool sends_too_much(struct http_connection *connection)
{
    const struct http_server_options *options = &connection->loop->server->options;
    struct tcp_info info = {0};
    socklen_t size = sizeof(info);

    if (getsockopt(h2o_socket_get_fd(connection->sock), IPPROTO_TCP, TCP_INFO, &info, &size) < 0)
        return false;
    if (connection->requests != connection->requests_seen) {
        connection->requests_seen = connection->requests;
        connection->bytes_seen = info.tcpi_bytes_received;
    }
    return info.tcpi_bytes_received - connection->bytes_seen >
           options->max_body + options->max_body / 4 + HEAD_ALLOWANCE;
}

static void check_connection(struct http_connection *connection, int64_t now)
{
    const struct http_server_options *options = &connection->loop->server->options;

    switch (connection->state) {
    case CONNECTION_READING:
        if (now - connection->since_ms > options->request_timeout_ms ||
            (connection->sock->input->size > 0 && sends_too_much(connection)))
            cut(connection);
        break;
    case CONNECTION_HANDLING:
        if (now - connection->since_ms > options->answer_timeout_ms)
            answer_late(connection);
        break;
    case CONNECTION_WRITING:
        if (now - connection->since_ms > options->request_timeout_ms)
            cut(connection);
        break;
    }
}

static void check_connections(struct http_loop *loop, int64_t now)
{
    struct http_connection *connection = loop->connections;

    while (connection) {
        struct http_connection *next = connection->next;

        check_connection(connection, now);
        connection = next;
    }
}

/* ---- listening ---- */

static int bind_tcp(const struct http_server *server, struct error *err)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found;
    const int on = 1;
    char port[8];
    int fd = -1;
    int rc;

    snprintf(port, sizeof(port), "%u", server->options.port);
    rc = getaddrinfo(server->options.host, port, &hints, &found);
    if (rc != 0)
        return error_set(err, ERROR_CONFIG, "cannot resolve %s: %s", server->options.host,
                         gai_strerror(rc));
    fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        if (bind(fd, found->ai_addr, found->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
            rc = errno;
            close(fd);
            fd = -1;
            errno = rc;
        }
    }
    freeaddrinfo(found);
    return fd >= 0 ? fd
                   : error_set(err, ERROR_CONFIG, "cannot listen on %s:%s: %s",
                               server->options.host, port, strerror(errno));
}

static int bind_unix(const struct http_server *server, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = server->options.socket_path;
    int fd;

    if (strlen(path) >= sizeof(address.sun_path))
        return error_set(err, ERROR_CONFIG, "the socket's path %s is too long", path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* A live bridge would hold the journal's lock: what is left here is an old one's. */
    unlink(path);
    if (fd < 0 || fchmod(fd, 0600) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || chmod(path, 0600) < 0 ||
        listen(fd, BACKLOG) < 0) {
        error_set(err, ERROR_CONFIG, "cannot listen on unix:%s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return fd;
}

/* Says where it listens, and keeps the port that "any" became for the other loops. */
static void note_address(struct http_server *server, int fd)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof(address);
    char host[64] = "";
    char port[8] = "";

    if (server->options.socket_path) {
        snprintf(server->address, sizeof(server->address), "unix:%s", server->options.socket_path);
        return;
    }
    getsockname(fd, (struct sockaddr *)&address, &size);
    getnameinfo((struct sockaddr *)&address, size, host, sizeof(host), port, sizeof(port),
                NI_NUMERICHOST | NI_NUMERICSERV);
    server->options.port = (uint16_t)strtoul(port, NULL, 10);
    snprintf(server->address, sizeof(server->address), strchr(host, ':') ? "[%s]:%s" : "%s:%s",
             host, port);
}

/* ---- TLS ---- */

static int tls_error(struct error *err, const char *what, const char *file)
{
    char reason[160];

    ERR_error_string_n(ERR_peek_last_error(), reason, sizeof(reason));
    ERR_clear_error();
    return error_set(err, ERROR_CONFIG, "%s %s: %s", what, file ? file : "", reason);
}

static int start_tls(struct http_server *server, struct error *err)
{
    const struct http_server_options *options = &server->options;

    if (!options->certificate)
        return 0;
    server->ssl = SSL_CTX_new(TLS_server_method());
    if (!server->ssl)
        return tls_error(err, "TLS", NULL);
    SSL_CTX_set_min_proto_version(server->ssl, TLS1_2_VERSION);
    SSL_CTX_set_options(server->ssl, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION |
                                         SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_session_cache_mode(server->ssl, SSL_SESS_CACHE_OFF);
    if (SSL_CTX_use_certificate_chain_file(server->ssl, options->certificate) != 1)
        return tls_error(err, "the certificate", options->certificate);
    if (SSL_CTX_use_PrivateKey_file(server->ssl, options->key, SSL_FILETYPE_PEM) != 1)
        return tls_error(err, "the key", options->key);
    if (SSL_CTX_check_private_key(server->ssl) != 1)
        return tls_error(err, "the key does not belong to the certificate:", options->key);
    return 0;
}

/* ---- loops ---- */

static void on_wakeup(h2o_socket_t *sock, const char *err)
{
    struct http_loop *loop = sock->data;

    (void)err;
    wakeup_clear(&loop->wakeup);
    http_take_answers(loop);
}

static void close_listener(struct http_loop *loop)
{
    if (loop->listener)
        h2o_socket_close(loop->listener);
    loop->listener = NULL;
}

static bool is_busy(const struct http_loop *loop)
{
    for (const struct http_connection *c = loop->connections; c; c = c->next) {
        if (c->state != CONNECTION_READING)
            return true;
    }
    return false;
}

static void tick(struct http_loop *loop, int64_t now)
{
    check_connections(loop, now);
    if (!atomic_load(&loop->server->is_accepting)) {
        close_listener(loop);
    } else if (loop->is_paused && loop->listener && !is_full(loop->server)) {
        loop->is_paused = false;
        h2o_socket_read_start(loop->listener, on_accept);
    }
}

/* True when the loop has nothing left to do after the server was stopped. */
static bool is_over(struct http_loop *loop, int64_t now)
{
    if (!atomic_load(&loop->server->is_stopping))
        return false;
    if (is_busy(loop) && now < atomic_load(&loop->server->stop_at_ms))
        return false;
    for (struct http_connection *c = loop->connections; c; c = c->next)
        cut(c);
    return loop->connection_count == 0 || now >= atomic_load(&loop->server->stop_at_ms) + TICK_MS;
}

static void *run_loop(void *argument)
{
    struct http_loop *loop = argument;

    for (;;) {
        int64_t now = now_ms(loop);

        if (now >= loop->next_tick_ms) {
            tick(loop, now);
            loop->next_tick_ms = now + TICK_MS;
        }
        if (is_over(loop, now))
            return NULL;
        h2o_evloop_run(loop->evloop, atomic_load(&loop->server->is_stopping) ? 10 : TICK_MS);
    }
}

static void configure(struct http_loop *loop)
{
    h2o_globalconf_t *config = &loop->config;
    h2o_hostconf_t *host;

    h2o_config_init(config);
    config->server_name = h2o_iovec_init(H2O_STRLIT("close-bridge"));
    config->max_request_entity_size = loop->server->options.max_body;
    config->http1.upgrade_to_http2 = 0; /* TRAPS H5 */
    config->http1.req_timeout = NEVER_MS;
    host = h2o_config_register_host(config, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    http_register_handler(loop, host);
    loop->evloop = h2o_evloop_create();
    h2o_context_init(&loop->context, loop->evloop, config);
    loop->accept = (h2o_accept_ctx_t){
        .ctx = &loop->context, .hosts = config->hosts, .ssl_ctx = loop->server->ssl};
}

static int open_loop(struct http_server *server, unsigned number, struct error *err)
{
    struct http_loop *loop = &server->loops[number];

    loop->server = server;
    loop->number = number;
    loop->wakeup.fd = -1;
    loop->listen_fd = server->options.socket_path ? bind_unix(server, err) : bind_tcp(server, err);
    if (loop->listen_fd < 0 || wakeup_init(&loop->wakeup, err) < 0)
        return -1;
    if (number == 0)
        note_address(server, loop->listen_fd);
    mailbox_init(&loop->answers, &loop->wakeup);
    configure(loop);
    loop->wakeup_socket =
        h2o_evloop_socket_create(loop->evloop, loop->wakeup.fd, H2O_SOCKET_FLAG_DONT_READ);
    loop->wakeup_socket->data = loop;
    h2o_socket_read_start(loop->wakeup_socket, on_wakeup);
    loop->listener =
        h2o_evloop_socket_create(loop->evloop, loop->listen_fd, H2O_SOCKET_FLAG_DONT_READ);
    loop->listener->data = loop;
    h2o_socket_read_start(loop->listener, on_accept);
    return 0;
}

struct http_server *http_server_start(const struct http_server_options *options, struct error *err)
{
    struct http_server *server = alloc_zeroed(1, sizeof(*server));

    server->options = *options;
    atomic_init(&server->is_accepting, true);
    server->loops = alloc_zeroed(options->threads, sizeof(*server->loops));
    if (start_tls(server, err) < 0)
        goto fail;
    for (unsigned i = 0; i < options->threads; i++) {
        if (open_loop(server, i, err) < 0)
            goto fail;
    }
    for (unsigned i = 0; i < options->threads; i++) {
        struct http_loop *loop = &server->loops[i];

        if (thread_start(&loop->thread, options->name, run_loop, loop, err) < 0)
            goto fail;
        loop->has_thread = true;
    }
    return server;

fail:
    error_context(err, "%s listener", options->name);
    http_server_stop(server, 0);
    return NULL;
}

const char *http_server_address(const struct http_server *server)
{
    return server->address;
}

static void wake_loops(struct http_server *server)
{
    for (unsigned i = 0; i < server->options.threads; i++) {
        if (server->loops[i].has_thread)
            wakeup_signal(&server->loops[i].wakeup);
    }
}

void http_server_stop_accepting(struct http_server *server)
{
    if (!server)
        return;
    atomic_store(&server->is_accepting, false);
    wake_loops(server);
    if (server->options.socket_path)
        unlink(server->options.socket_path);
}

void http_server_stop(struct http_server *server, int64_t timeout_ms)
{
    static struct http_server *kept[8] __attribute__((used)); /* reachable for leak checkers */
    static size_t kept_count;

    if (!server)
        return;
    atomic_store(&server->stop_at_ms, clock_monotonic_ms(server->options.clock) + timeout_ms);
    http_server_stop_accepting(server);
    atomic_store(&server->is_stopping, true);
    wake_loops(server);
    for (unsigned i = 0; i < server->options.threads; i++) {
        if (server->loops[i].has_thread)
            pthread_join(server->loops[i].thread, NULL);
    }
    kept[kept_count++ % 8] = server;
}
