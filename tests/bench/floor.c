/*
 * The floor: a bare h2o server that answers 200 to every request and looks at nothing. What the
 * bridge costs is told as a multiple of it.
 *
 *   bench-floor THREADS     listens on a free port of 127.0.0.1 and prints it
 */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include <h2o.h>
#include <h2o/http1.h>

#include "bridge/base/error.h"
#include "bridge/base/thread.h"

enum { BACKLOG = 4096, ACCEPTS_A_TURN = 64, MAX_THREADS = 64 };

#define MAX_BODY ((size_t)8 * 1024 * 1024)
#define FAR_AWAY_MS (UINT64_C(20) * 365 * 24 * 3600 * 1000)

struct loop {
    h2o_globalconf_t *config;
    h2o_context_t context;
    h2o_accept_ctx_t accept;
    int listener_fd;
};

static int on_request(h2o_handler_t *self, h2o_req_t *req)
{
    static h2o_generator_t generator;
    static const char answer[] = "{\"status\":\"accepted\"}";
    h2o_iovec_t body = {(char *)(uintptr_t)answer, sizeof(answer) - 1};

    (void)self;
    req->res.status = 200;
    req->res.reason = "OK";
    req->res.content_length = body.len;
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL,
                   H2O_STRLIT("application/json"));
    h2o_start_response(req, &generator);
    h2o_send(req, &body, 1, H2O_SEND_STATE_FINAL);
    return 0;
}

/* The same settings as the bridge's. */
static void configure(h2o_globalconf_t *config)
{
    h2o_hostconf_t *host;
    h2o_handler_t *handler;

    h2o_config_init(config);
    config->server_name = (h2o_iovec_t){NULL, 0};
    config->http1.upgrade_to_http2 = 0;
    config->http1.req_timeout = FAR_AWAY_MS;
    config->max_request_entity_size = MAX_BODY;
    h2o_socket_buffer_mmap_settings.threshold = SIZE_MAX;
    host = h2o_config_register_host(config, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    handler = h2o_create_handler(&host->fallback_path, sizeof(*handler));
    handler->on_req = on_request;
}

static int listen_on(uint16_t *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(*port)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int one = 1;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, BACKLOG) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) < 0) {
        perror("bench-floor: cannot listen");
        exit(EX_UNAVAILABLE);
    }
    *port = ntohs(address.sin_port);
    return fd;
}

static void on_accept(h2o_socket_t *listener, const char *error)
{
    struct loop *loop = listener->data;

    for (int i = 0; !error && i < ACCEPTS_A_TURN; i++) {
        h2o_socket_t *sock = h2o_evloop_socket_accept(listener);

        if (!sock)
            return;
        h2o_accept(&loop->accept, sock);
    }
}

static void *run(void *argument)
{
    struct loop *loop = argument;
    h2o_socket_t *listener;

    h2o_context_init(&loop->context, h2o_evloop_create(), loop->config);
    loop->accept.ctx = &loop->context;
    loop->accept.hosts = loop->config->hosts;
    listener =
        h2o_evloop_socket_create(loop->context.loop, loop->listener_fd, H2O_SOCKET_FLAG_DONT_READ);
    listener->data = loop;
    h2o_socket_read_start(listener, on_accept);
    for (;;)
        (void)h2o_evloop_run(loop->context.loop, INT32_MAX);
    return NULL;
}

int main(int argc, char **argv)
{
    static h2o_globalconf_t config;
    static struct loop loops[MAX_THREADS];
    int count = argc == 2 ? atoi(argv[1]) : 0;
    uint16_t port = 0;
    struct error err;

    if (count < 1 || count > MAX_THREADS) {
        fprintf(stderr, "usage: bench-floor THREADS\n");
        return EX_USAGE;
    }
    signal(SIGPIPE, SIG_IGN);
    configure(&config);
    for (int i = 0; i < count; i++) {
        pthread_t thread;

        loops[i] = (struct loop){.config = &config, .listener_fd = listen_on(&port)};
        if (thread_start(&thread, "floor", run, &loops[i], &err) < 0) {
            fprintf(stderr, "bench-floor: %s\n", err.message);
            return EX_OSERR;
        }
    }
    printf("%u\n", port);
    fflush(stdout);
    for (;;)
        pause();
}
