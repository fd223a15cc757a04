/*
 * One thread of the server: its event loop, its listener and its connections.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/http/http_internal.h"

enum {
    ACCEPTS_A_TURN = 64,
    PAUSE_MS = 100, /* without descriptors, or at the limit of connections */
    WARN_EVERY_MS = 10000,
    LAST_TURNS_MS = 10000, /* for connections to end and deferred requests to be resumed at stop */
    KEPT_BUFFERS = 256,    /* of 8 KiB, for what comes in */
};

static int open_reserve(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void pause_listener(struct http_loop *loop)
{
    if (!loop->listener || loop->is_paused)
        return;
    h2o_socket_read_stop(loop->listener);
    loop->is_paused = true;
    loop->paused_until_ms = loop->now_ms + PAUSE_MS;
}

/* Without a free descriptor the listener stays readable and the loop would spin (TRAPS H8): one
 * connection is taken and closed with the reserve, then there is a pause. */
static void shed_one(struct http_loop *loop)
{
    int fd;

    close(loop->reserve_fd);
    fd = accept4(h2o_socket_get_fd(loop->listener), NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0)
        close(fd);
    loop->reserve_fd = open_reserve();
    pause_listener(loop);
    if (loop->warned_ms && loop->now_ms - loop->warned_ms < WARN_EVERY_MS)
        return;
    loop->warned_ms = loop->now_ms;
    log_warn("http.no_descriptors", log_str("listener", loop->server->options.name),
             log_i64("connections", atomic_load(&loop->server->connections)));
}

static bool is_full(const struct http_server *server)
{
    return atomic_load(&server->connections) >= server->options.max_connections;
}

static void on_close(void *data)
{
    struct http_connection *connection = data;
    struct http_server *server = connection->loop->server;

    *connection->slot = connection->next;
    if (connection->next)
        connection->next->slot = connection->slot;
    if (connection->address)
        http_address_leave(server, connection->address);
    atomic_fetch_sub(&server->connections, 1);
    free(connection);
}

static void add_connection(struct http_loop *loop, h2o_socket_t *sock, struct http_address *address)
{
    struct http_connection *connection = alloc_zeroed(1, sizeof(*connection));

    connection->loop = loop;
    connection->sock = sock;
    connection->address = address;
    connection->next = loop->connections;
    connection->slot = &loop->connections;
    if (connection->next)
        connection->next->slot = &connection->next;
    loop->connections = connection;
    http_connection_enter(connection, HTTP_READING);
    atomic_fetch_add(&loop->server->connections, 1);
    sock->on_close.cb = on_close;
    sock->on_close.data = connection;
}

static void warn_of_address(struct http_loop *loop, const struct sockaddr_storage *peer)
{
    char address[INET6_ADDRSTRLEN] = "";

    if (loop->warned_of_address_ms && loop->now_ms - loop->warned_of_address_ms < WARN_EVERY_MS)
        return;
    loop->warned_of_address_ms = loop->now_ms;
    getnameinfo((const struct sockaddr *)peer, sizeof(*peer), address, sizeof(address), NULL, 0,
                NI_NUMERICHOST);
    log_warn("http.address_full", log_str("listener", loop->server->options.name),
             log_str("address", address),
             log_i64("limit", loop->server->options.max_connections_per_address),
             log_str("action", "more of its connections are closed at once"));
}

static void welcome(struct http_loop *loop, h2o_socket_t *sock)
{
    struct http_server *server = loop->server;
    struct http_address *address = NULL;
    struct sockaddr_storage peer = {0};

    if (!server->is_unix && server->options.max_connections_per_address) {
        h2o_socket_getpeername(sock, (struct sockaddr *)&peer);
        if (!http_address_enter(server, (struct sockaddr *)&peer, &address)) {
            h2o_socket_close(sock);
            warn_of_address(loop, &peer);
            return;
        }
    }
    add_connection(loop, sock, address);
    loop->accept.ssl_ctx = http_tls_current(server->tls);
    h2o_accept(&loop->accept, sock);
}

static void on_accept(h2o_socket_t *listener, const char *error)
{
    struct http_loop *loop = listener->data;

    if (error)
        return;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        h2o_socket_t *sock;

        if (is_full(loop->server)) {
            pause_listener(loop);
            return;
        }
        sock = h2o_evloop_socket_accept(listener);
        if (sock) {
            welcome(loop, sock);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE)
            shed_one(loop);
        else if (errno == ENOBUFS || errno == ENOMEM)
            pause_listener(loop);
        return;
    }
}

static void resume_listener(struct http_loop *loop)
{
    if (!loop->listener || !loop->is_paused || loop->now_ms < loop->paused_until_ms ||
        is_full(loop->server))
        return;
    loop->is_paused = false;
    h2o_socket_read_start(loop->listener, on_accept);
}

static void on_wakeup(h2o_socket_t *sock, const char *error)
{
    struct http_loop *loop = sock->data;

    (void)error;
    wakeup_clear(&loop->wakeup);
    http_deferred_run(loop);
}

struct http_connection *http_connection_of(const h2o_req_t *req)
{
    return req->conn->callbacks->get_socket(req->conn)->on_close.data;
}

void http_connection_enter(struct http_connection *connection, enum http_phase phase)
{
    connection->phase = phase;
    connection->since_ms = connection->loop->now_ms;
}

void http_loop_blank(struct http_loop *loop)
{
    loop->listener_fd = loop->wakeup_fd = loop->reserve_fd = loop->wakeup.fd = -1;
}

int http_loop_init(struct http_loop *loop, struct http_server *server, unsigned number,
                   struct error *err)
{
    loop->server = server;
    loop->number = number;
    http_config_init(loop);
    loop->reserve_fd = open_reserve();
    if (loop->reserve_fd < 0)
        return error_set(err, ERROR_FATAL, "cannot open /dev/null");
    if (wakeup_init(&loop->wakeup, err) != 0)
        return -1;
    loop->wakeup_fd = fcntl(loop->wakeup.fd, F_DUPFD_CLOEXEC, 0);
    if (loop->wakeup_fd < 0)
        return error_set(err, ERROR_FATAL, "eventfd: %s", strerror(errno));
    mailbox_init(&loop->resumed, &loop->wakeup);
    loop->listener_fd = http_listen(&server->options, loop->number == 0, &server->port, err);
    return loop->listener_fd < 0 ? -1 : 0;
}

void http_loop_release(struct http_loop *loop)
{
    if (loop->listener_fd >= 0)
        close(loop->listener_fd);
    if (loop->reserve_fd >= 0)
        close(loop->reserve_fd);
    if (loop->wakeup_fd >= 0)
        close(loop->wakeup_fd);
    wakeup_release(&loop->wakeup);
    if (loop->server)
        h2o_config_dispose(&loop->config);
}

/* On the loop's own thread, because h2o keeps memory for each thread. */
static void set_up(struct http_loop *loop)
{
    /* A connection has a buffer until its request is answered: more than the 16 that h2o keeps. */
    h2o_socket_buffer_prototype.allocator.max = KEPT_BUFFERS;
    loop->evloop = h2o_evloop_create();
    h2o_context_init(&loop->context, loop->evloop, &loop->config);
    loop->accept.ctx = &loop->context;
    loop->accept.hosts = loop->config.hosts;
    loop->listener =
        h2o_evloop_socket_create(loop->evloop, loop->listener_fd, H2O_SOCKET_FLAG_DONT_READ);
    loop->listener_fd = -1;
    loop->listener->data = loop;
    h2o_socket_read_start(loop->listener, on_accept);
    loop->wakeup_socket =
        h2o_evloop_socket_create(loop->evloop, loop->wakeup_fd, H2O_SOCKET_FLAG_DONT_READ);
    loop->wakeup_fd = -1;
    loop->wakeup_socket->data = loop;
    h2o_socket_read_start(loop->wakeup_socket, on_wakeup);
}

static void close_listener(struct http_loop *loop)
{
    if (!loop->listener)
        return;
    if (!loop->is_paused)
        h2o_socket_read_stop(loop->listener);
    h2o_socket_close(loop->listener);
    loop->listener = NULL;
}

/* Answers what was resumed while the loop was awake, else announces its sleep. True: it must not
 * sleep, because h2o finishes in its next turn what was written outside of one, and does not count
 * that as something to do. */
static bool answer_resumed(struct http_loop *loop)
{
    atomic_store(&loop->is_asleep, true);
    if (mailbox_is_empty(&loop->resumed))
        return false;
    atomic_store_explicit(&loop->is_asleep, false, memory_order_relaxed);
    http_deferred_run(loop);
    return true;
}

static void turn(struct http_loop *loop, int32_t wait_ms)
{
    struct http_server *server = loop->server;
    bool is_draining = atomic_load(&server->is_draining);

    http_config_refresh(loop);
    if (answer_resumed(loop))
        wait_ms = 0;
    /* -1 is an interrupted wait (TRAPS H19): nothing is lost. */
    (void)h2o_evloop_run(loop->evloop, wait_ms);
    atomic_store_explicit(&loop->is_asleep, false, memory_order_relaxed);
    loop->now_ms = clock_monotonic_ms(server->options.clock);
    if (is_draining)
        close_listener(loop);
    if (!is_draining && loop->now_ms - loop->swept_ms < HTTP_TURN_MS) {
        resume_listener(loop);
        return;
    }
    http_reaper_sweep(loop);
    resume_listener(loop);
    if (server->options.tick)
        server->options.tick(server->options.context, loop->number);
}

/* h2o leaves its message queue and its epoll descriptor behind; the first is freed here, the second
 * goes with the process, which makes its loops once. */
static void tear_down(struct http_loop *loop)
{
    h2o_multithread_queue_t *queue = loop->context.queue;

    close_listener(loop);
    h2o_socket_read_stop(loop->wakeup_socket);
    h2o_socket_close(loop->wakeup_socket);
    h2o_context_dispose(&loop->context);
    (void)h2o_evloop_run(loop->evloop, 0);
    h2o_evloop_destroy(loop->evloop);
    free(queue);
}

void *http_loop_run(void *argument)
{
    struct http_loop *loop = argument;
    struct http_server *server = loop->server;
    int64_t last_ms;

    loop->now_ms = clock_monotonic_ms(server->options.clock);
    set_up(loop);
    while (!atomic_load(&server->is_stopping))
        turn(loop, HTTP_TURN_MS);
    last_ms = clock_monotonic_ms(server->options.clock) + LAST_TURNS_MS;
    while ((loop->connections || loop->deferred) && loop->now_ms < last_ms)
        turn(loop, HTTP_TURN_MS / 10);
    if (loop->connections || loop->deferred) {
        log_error("http.not_stopped", log_str("listener", server->options.name),
                  log_i64("deferred", (int64_t)loop->deferred));
        return loop; /* abandoned: whoever still holds a deferred request may touch it */
    }
    tear_down(loop);
    return NULL;
}
