#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "bridge/base/error.h"
#include "bridge/http/http_internal.h"

enum { BACKLOG = 1024 };

static int fail_and_close(int fd, struct error *err, const char *what, const char *where)
{
    error_set(err, errno == EADDRINUSE ? ERROR_IN_USE : ERROR_CONFIG, "cannot %s %s: %s", what,
              where, strerror(errno));
    close(fd);
    return -1;
}

static void set_tcp_options(int fd, const struct http_server_options *options)
{
    int on = 1;
    /* The kernel gives up a peer that acknowledges nothing; the reaper handles one that does not
     * read. Accepted sockets inherit it. */
    unsigned user_timeout_ms = (unsigned)options->response_timeout_ms;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    /* Not with one thread: a second process on the same port is to fail. */
    if (options->threads > 1)
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms, sizeof(user_timeout_ms));
}

static int bind_tcp(const struct http_server_options *options, const struct addrinfo *address,
                    uint16_t *port, const char *where, struct error *err)
{
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_storage bound = {0};
    socklen_t size = sizeof(bound);

    if (fd < 0)
        return error_set(err, ERROR_CONFIG, "cannot make a socket for %s: %s", where,
                         strerror(errno));
    set_tcp_options(fd, options);
    if (bind(fd, address->ai_addr, address->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0)
        return fail_and_close(fd, err, "listen on", where);
    if (getsockname(fd, (struct sockaddr *)&bound, &size) != 0)
        return fail_and_close(fd, err, "read the port of", where);
    /* The analyzer does not know that getsockname() fills what `bound` is cast to.
     * NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage) */
    *port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
                                              : ((struct sockaddr_in *)&bound)->sin_port);
    return fd;
}

/* SO_REUSEPORT lets our threads share the port, and another bridge of the same user, too: so the
 * first one binds without it for a moment. */
static int check_free(const struct addrinfo *address, const char *where, struct error *err)
{
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, address->ai_addr, address->ai_addrlen) != 0)
        return fail_and_close(fd, err, "listen on", where);
    close(fd);
    return 0;
}

static int listen_tcp(const struct http_server_options *options, bool is_first, uint16_t *port,
                      struct error *err)
{
    const struct addrinfo hints = {
        .ai_flags = AI_PASSIVE | AI_NUMERICSERV,
        .ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
    };
    struct addrinfo *addresses = NULL;
    char service[8];
    char where[300];
    int rc;
    int fd;

    snprintf(service, sizeof(service), "%u", (unsigned)*port);
    snprintf(where, sizeof(where), strchr(options->host, ':') ? "[%s]:%s" : "%s:%s", options->host,
             service);
    rc = getaddrinfo(options->host, service, &hints, &addresses);
    if (rc != 0)
        return error_set(err, ERROR_CONFIG, "cannot listen on %s: %s", where, gai_strerror(rc));
    fd = is_first ? check_free(addresses, where, err) : 0;
    if (fd == 0)
        fd = bind_tcp(options, addresses, port, where, err);
    freeaddrinfo(addresses);
    return fd;
}

/* Removes a socket that nobody listens on any more; anything else at its place is left alone. */
static int remove_stale(const struct sockaddr_un *address, struct error *err)
{
    struct stat status;
    int fd;
    int rc;

    if (lstat(address->sun_path, &status) != 0)
        return 0;
    if (!S_ISSOCK(status.st_mode))
        return error_set(err, ERROR_CONFIG, "cannot listen on %s: a file of another kind is there",
                         address->sun_path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_set(err, ERROR_CONFIG, "cannot make a socket for %s: %s", address->sun_path,
                         strerror(errno));
    rc = connect(fd, (const struct sockaddr *)address, sizeof(*address));
    close(fd);
    if (rc == 0)
        return error_set(err, ERROR_IN_USE, "cannot listen on %s: another process does",
                         address->sun_path);
    unlink(address->sun_path);
    return 0;
}

static int listen_unix(const char *path, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd;

    if (strlen(path) >= sizeof(address.sun_path))
        return error_set(err, ERROR_CONFIG,
                         "cannot listen on %s: the path of a socket has at most %zu bytes", path,
                         sizeof(address.sun_path) - 1);
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (remove_stale(&address, err) != 0)
        return -1;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_set(err, ERROR_CONFIG, "cannot make a socket for %s: %s", path,
                         strerror(errno));
    /* The mode of the descriptor becomes that of the file, so that it is never open to others. */
    if (fchmod(fd, 0600) != 0)
        return fail_and_close(fd, err, "set the mode of", path);
    if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(fd, BACKLOG) != 0)
        return fail_and_close(fd, err, "listen on", path);
    return fd;
}

int http_listen(const struct http_server_options *options, bool is_first, uint16_t *port,
                struct error *err)
{
    if (options->socket_path) {
        *port = 0;
        return listen_unix(options->socket_path, err);
    }
    return listen_tcp(options, is_first, port, err);
}
