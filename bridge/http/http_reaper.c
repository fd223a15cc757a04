/*
 * Deadlines of connections, on the monotonic clock, and their hunger for memory and bandwidth.
 *
 * A connection is never closed from here: its socket is shut, and h2o closes it when it reads the
 * end or fails to write. That is right in every state h2o can be in.
 */
#include <string.h>
#include <sys/socket.h>

#include <netinet/in.h>
/* For tcpi_bytes_received, which the C library's own tcp.h lacks. */
#include <linux/tcp.h>

#include "bridge/http/http_internal.h"

/* TLS records, chunk lines and trailers may take a quarter of a body's size and this much more. */
enum { WIRE_SLACK = 64 * 1024 };

void http_connection_shut(struct http_connection *connection)
{
    if (connection->is_shut)
        return;
    connection->is_shut = true;
    shutdown(h2o_socket_get_fd(connection->sock), SHUT_RDWR);
}

/* Bytes that came in on the connection, 0 when the kernel does not say (Unix sockets). */
static uint64_t received_on_wire(const struct http_connection *connection)
{
    struct tcp_info info;
    socklen_t size = sizeof(info);
    int fd = h2o_socket_get_fd(connection->sock);

    memset(&info, 0, sizeof(info));
    if (connection->loop->server->is_unix ||
        getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0)
        return 0;
    return info.tcpi_bytes_received;
}

bool http_connection_is_flooding(const struct http_connection *connection)
{
    const struct http_server_options *options = &connection->loop->server->options;
    uint64_t received = received_on_wire(connection);
    uint64_t max_body = connection->loop->max_body;
    uint64_t allowed = max_body + max_body / 4 + options->max_head + WIRE_SLACK;

    return received > connection->finished + connection->finished / 4 + allowed;
}

static bool is_overdue(const struct http_connection *connection)
{
    const struct http_server_options *options = &connection->loop->server->options;
    int64_t age_ms = connection->loop->now_ms - connection->since_ms;

    if (connection->phase == HTTP_READING)
        return age_ms > options->request_timeout_ms;
    return connection->phase == HTTP_WRITING && age_ms > options->response_timeout_ms;
}

static size_t buffered(const struct http_connection *connection)
{
    return connection->phase == HTTP_READING && !connection->is_shut ? connection->sock->input->size
                                                                     : 0;
}

/* Shuts the connections with the largest unfinished requests until what is left fits. */
static void shed_memory(struct http_loop *loop, size_t total)
{
    size_t limit = loop->server->options.max_buffered / loop->server->options.threads;

    while (total > limit) {
        struct http_connection *largest = NULL;

        for (struct http_connection *c = loop->connections; c; c = c->next) {
            if (!largest || buffered(c) > buffered(largest))
                largest = c;
        }
        if (!largest || buffered(largest) == 0)
            return;
        total -= buffered(largest);
        http_connection_shut(largest);
    }
}

static void look_at(struct http_connection *connection)
{
    if (connection->phase == HTTP_WRITING && !h2o_socket_is_writing(connection->sock))
        http_connection_enter(connection, HTTP_READING);
    if (is_overdue(connection))
        http_connection_shut(connection);
    else if (connection->phase == HTTP_READING && connection->sock->input->size &&
             http_connection_is_flooding(connection))
        http_connection_shut(connection);
}

void http_reaper_sweep(struct http_loop *loop)
{
    bool is_stopping = atomic_load(&loop->server->is_stopping);
    size_t busy = loop->deferred;
    size_t total = 0;

    for (struct http_connection *c = loop->connections; c; c = c->next) {
        look_at(c);
        if (is_stopping)
            http_connection_shut(c);
        busy += c->phase == HTTP_WRITING;
        total += buffered(c);
    }
    shed_memory(loop, total);
    loop->swept_ms = loop->now_ms;
    pulse_begin(&loop->pulse, loop->server->options.clock);
    atomic_store(&loop->busy, busy);
    atomic_fetch_add(&loop->sweeps, 1);
}
