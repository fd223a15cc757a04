#include "bridge/http/http_server.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/thread.h"
#include "bridge/http/http_internal.h"

enum {
    DEFAULT_MAX_HEAD = 32 * 1024,
    DEFAULT_MAX_CONNECTIONS = 4096,
    RESERVED_DESCRIPTORS = 160, /* for brokers, the journal, Close's API, the control listener */
    DEFAULT_MAX_BUFFERED = 512 * 1024 * 1024,
    DEFAULT_REQUEST_TIMEOUT_MS = 30000,
    DEFAULT_RESPONSE_TIMEOUT_MS = 15000,
    IDLE_POLL_MS = 5,
};

static char *copy_of(const char *string)
{
    return string ? alloc_string(string) : NULL;
}

/* Connections never take the descriptors that the rest of the process needs to go on. */
static unsigned default_max_connections(void)
{
    struct rlimit limit;
    rlim_t room = DEFAULT_MAX_CONNECTIONS;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        room = limit.rlim_cur > 2 * RESERVED_DESCRIPTORS ? limit.rlim_cur - RESERVED_DESCRIPTORS
                                                         : limit.rlim_cur / 2;
    return room < DEFAULT_MAX_CONNECTIONS ? (unsigned)room : DEFAULT_MAX_CONNECTIONS;
}

static void take_options(struct http_server *server, const struct http_server_options *options)
{
    struct http_server_options *own = &server->options;

    *own = *options;
    own->name = alloc_string(options->name);
    own->host = copy_of(options->host);
    own->socket_path = copy_of(options->socket_path);
    own->tls = (struct http_tls_files){NULL, NULL, NULL}; /* read at the start only */
    atomic_init(&server->max_body, options->max_body);
    if (!own->max_head)
        own->max_head = DEFAULT_MAX_HEAD;
    if (!own->max_connections)
        own->max_connections = default_max_connections();
    if (!own->max_buffered)
        own->max_buffered = DEFAULT_MAX_BUFFERED;
    if (!own->request_timeout_ms)
        own->request_timeout_ms = DEFAULT_REQUEST_TIMEOUT_MS;
    if (!own->response_timeout_ms)
        own->response_timeout_ms = DEFAULT_RESPONSE_TIMEOUT_MS;
    server->is_unix = options->socket_path != NULL;
    if (server->is_unix || own->threads == 0)
        own->threads = 1;
    server->port = options->port;
}

static void free_options(struct http_server_options *own)
{
    free((char *)(uintptr_t)own->name);
    free((char *)(uintptr_t)own->host);
    free((char *)(uintptr_t)own->socket_path);
}

static int start_threads(struct http_server *server, struct error *err)
{
    for (unsigned i = 0; i < server->options.threads; i++) {
        struct http_loop *loop = &server->loops[i];

        if (thread_start(&loop->thread, server->options.name, http_loop_run, loop, err) != 0)
            return -1;
        loop->is_started = true;
    }
    return 0;
}

static int open_listeners(struct http_server *server, struct error *err)
{
    for (unsigned i = 0; i < server->options.threads; i++) {
        if (http_loop_init(&server->loops[i], server, i, err) != 0)
            return -1;
    }
    return 0;
}

struct http_server *http_server_start(const struct http_server_options *options, struct error *err)
{
    struct http_server *server = alloc_zeroed(1, sizeof(*server));

    /* h2o writes to sockets whose peer has gone. */
    signal(SIGPIPE, SIG_IGN);
    take_options(server, options);
    pthread_mutex_init(&server->addresses.lock, NULL);
    server->loops = alloc_zeroed(server->options.threads, sizeof(*server->loops));
    for (unsigned i = 0; i < server->options.threads; i++)
        http_loop_blank(&server->loops[i]);
    server->tls = http_tls_new(options->clock);
    if (options->tls.certificate) {
        struct http_credentials *credentials = http_credentials_read(&options->tls, err);

        if (!credentials)
            goto fail;
        http_tls_use(server->tls, credentials);
    }
    if (open_listeners(server, err) != 0 || start_threads(server, err) != 0)
        goto fail;
    return server;

fail:
    http_server_free(server);
    error_context(err, "%s", options->name);
    return NULL;
}

uint16_t http_server_port(const struct http_server *server)
{
    return server->port;
}

int64_t http_server_busy_ms(const struct http_server *server)
{
    int64_t longest_ms = 0;

    for (unsigned i = 0; i < server->options.threads; i++) {
        int64_t ms = pulse_busy_ms(&server->loops[i].pulse, server->options.clock);

        longest_ms = ms > longest_ms ? ms : longest_ms;
    }
    return longest_ms;
}

unsigned http_server_connections(const struct http_server *server)
{
    return atomic_load(&server->connections);
}

void http_server_set_max_body(struct http_server *server, uint64_t max_body)
{
    atomic_store(&server->max_body, max_body);
}

bool http_server_use(struct http_server *server, struct http_credentials *credentials)
{
    return http_tls_use(server->tls, credentials);
}

int64_t http_server_certificate_expiry(const struct http_server *server)
{
    return http_tls_expiry(server->tls);
}

static void wake_all(struct http_server *server)
{
    for (unsigned i = 0; i < server->options.threads; i++)
        wakeup_signal(&server->loops[i].wakeup);
}

void http_server_stop_accepting(struct http_server *server)
{
    if (server->is_unix && !atomic_load(&server->is_draining))
        unlink(server->options.socket_path);
    atomic_store(&server->is_draining, true);
    wake_all(server);
}

/* True when every loop has swept twice since and found nothing: the first sweep may have been under
 * way already. */
static bool is_idle_since(const struct http_server *server, const uint64_t *sweeps)
{
    for (unsigned i = 0; i < server->options.threads; i++) {
        if (atomic_load(&server->loops[i].sweeps) < sweeps[i] + 2 ||
            atomic_load(&server->loops[i].busy) > 0)
            return false;
    }
    return true;
}

bool http_server_wait_idle(struct http_server *server, int64_t timeout_ms)
{
    const struct clock *clock = server->options.clock;
    const struct timespec poll = {0, IDLE_POLL_MS * 1000000L};
    int64_t end_ms = clock_monotonic_ms(clock) + timeout_ms;
    uint64_t *sweeps = alloc_zeroed(server->options.threads, sizeof(*sweeps));
    bool is_idle = false;

    for (unsigned i = 0; i < server->options.threads; i++)
        sweeps[i] = atomic_load(&server->loops[i].sweeps);
    while (!is_idle && clock_monotonic_ms(clock) < end_ms) {
        wake_all(server);
        nanosleep(&poll, NULL);
        is_idle = is_idle_since(server, sweeps);
    }
    free(sweeps);
    return is_idle;
}

/* False when a loop had to be abandoned. */
static bool join_loops(struct http_server *server)
{
    bool are_done = true;

    for (unsigned i = 0; i < server->options.threads; i++) {
        void *abandoned = NULL;

        if (server->loops[i].is_started) {
            pthread_join(server->loops[i].thread, &abandoned);
            are_done = are_done && !abandoned;
        }
    }
    return are_done;
}

void http_server_free(struct http_server *server)
{
    if (!server)
        return;
    atomic_store(&server->is_stopping, true);
    if (server->loops[0].is_started)
        http_server_stop_accepting(server);
    if (!join_loops(server))
        return;
    for (unsigned i = 0; i < server->options.threads; i++)
        http_loop_release(&server->loops[i]);
    free(server->loops);
    http_tls_free(server->tls);
    pthread_mutex_destroy(&server->addresses.lock);
    free_options(&server->options);
    free(server);
}
