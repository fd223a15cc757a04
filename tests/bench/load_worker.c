#include "tests/bench/load_worker.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include "tests/bench/requests.h"

enum { EVENTS = 256, ANSWER_MAX = 2048, PATIENCE_MS = 20000, TURN_NS = 50000000 };

struct connection {
    int fd;
    bool is_busy;
    int64_t due_ns;
    char *rest; /* of the request, when the socket did not take it at once */
    size_t rest_size;
    size_t rest_sent;
    size_t answer_size;
    char answer[ANSWER_MAX];
};

struct session {
    struct load_worker *worker;
    int epoll_fd;
    struct connection *connections;
    struct connection **idle; /* a stack */
    size_t idle_count;
    size_t busy_count;
    uint64_t issued;
};

static _Noreturn void give_up(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(EX_UNAVAILABLE);
}

static void open_connection(struct session *session, struct connection *connection)
{
    struct epoll_event interest = {.events = EPOLLIN, .data.ptr = connection};
    int one = 1;

    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->fd < 0 ||
        connect(connection->fd, (const struct sockaddr *)&session->worker->address,
                sizeof(session->worker->address)) < 0)
        give_up("cannot connect");
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (epoll_ctl(session->epoll_fd, EPOLL_CTL_ADD, connection->fd, &interest) < 0)
        give_up("epoll_ctl");
    connection->answer_size = 0;
    connection->is_busy = false;
    session->idle[session->idle_count++] = connection;
}

static void watch_for(struct session *session, struct connection *connection, unsigned events)
{
    struct epoll_event interest = {.events = events, .data.ptr = connection};

    if (epoll_ctl(session->epoll_fd, EPOLL_CTL_MOD, connection->fd, &interest) < 0)
        give_up("epoll_ctl");
}

static void reopen(struct session *session, struct connection *connection)
{
    if (connection->is_busy) {
        session->worker->broken++;
        session->busy_count--;
    } else {
        session->idle_count--; /* it stays where it is: found by the caller's turn */
        for (size_t i = 0; i <= session->idle_count; i++) {
            if (session->idle[i] == connection)
                session->idle[i] = session->idle[session->idle_count];
        }
    }
    close(connection->fd);
    free(connection->rest);
    connection->rest = NULL;
    open_connection(session, connection);
}

/* ---- requests ---- */

static void keep_rest(struct session *session, struct connection *connection, const char *bytes,
                      size_t size)
{
    connection->rest = malloc(size);
    if (!connection->rest)
        give_up("malloc");
    memcpy(connection->rest, bytes, size);
    connection->rest_size = size;
    connection->rest_sent = 0;
    watch_for(session, connection, EPOLLIN | EPOLLOUT);
}

static void issue(struct session *session, struct connection *connection, int64_t due_ns)
{
    size_t size;
    const char *bytes = requests_next(session->worker->requests, due_ns, &size);
    ssize_t sent = send(connection->fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);

    connection->due_ns = due_ns;
    connection->is_busy = true;
    connection->answer_size = 0;
    session->busy_count++;
    session->issued++;
    session->worker->bytes += size;
    if (sent < 0 && errno != EAGAIN)
        sent = (ssize_t)size; /* the connection is gone: reading it says so */
    if (sent < 0)
        sent = 0;
    if ((size_t)sent < size)
        keep_rest(session, connection, bytes + sent, size - (size_t)sent);
}

static void send_rest(struct session *session, struct connection *connection)
{
    ssize_t sent = send(connection->fd, connection->rest + connection->rest_sent,
                        connection->rest_size - connection->rest_sent, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (sent > 0)
        connection->rest_sent += (size_t)sent;
    if (connection->rest_sent < connection->rest_size && (sent > 0 || errno == EAGAIN))
        return;
    free(connection->rest);
    connection->rest = NULL;
    watch_for(session, connection, EPOLLIN);
}

static bool may_issue(const struct session *session, int64_t due_ns)
{
    return due_ns < session->worker->end_ns && session->issued < session->worker->budget;
}

static int64_t next_due_ns(const struct session *session)
{
    return session->worker->first_due_ns +
           (int64_t)((double)session->issued * session->worker->interval_ns);
}

/* Sends what is due on the connections that are free. */
static void issue_due(struct session *session)
{
    bool is_closed_loop = session->worker->interval_ns == 0;

    while (session->idle_count > 0) {
        int64_t now_ns = requests_now_ns();
        int64_t due_ns = is_closed_loop ? now_ns : next_due_ns(session);

        if (due_ns > now_ns || !may_issue(session, due_ns))
            return;
        issue(session, session->idle[--session->idle_count], due_ns);
    }
}

/* ---- answers ---- */

/* 0: not all of it is there yet. */
static size_t answer_length(const struct connection *connection)
{
    static const char name[] = "content-length:";
    const char *end = memmem(connection->answer, connection->answer_size, "\r\n\r\n", 4);
    const char *length;
    size_t size;

    if (!end)
        return 0;
    length = strcasestr(connection->answer, name);
    size = (size_t)(end - connection->answer) + 4;
    if (length && length < end)
        size += strtoul(length + sizeof(name) - 1, NULL, 10);
    return size <= connection->answer_size ? size : 0;
}

static void take_answer(struct session *session, struct connection *connection)
{
    struct load_worker *worker = session->worker;
    long status = strtol(connection->answer + strlen("HTTP/1.1 "), NULL, 10);

    worker->last_ns = requests_now_ns();
    histogram_add(&worker->latency, worker->last_ns - connection->due_ns);
    worker->statuses[status > 0 && status < LOAD_STATUSES ? status : 0]++;
    atomic_fetch_add_explicit(&worker->answered, 1, memory_order_relaxed);
    connection->is_busy = false;
    session->busy_count--;
    session->idle[session->idle_count++] = connection;
}

static void read_answer(struct session *session, struct connection *connection)
{
    size_t room = sizeof(connection->answer) - 1 - connection->answer_size;
    ssize_t n =
        recv(connection->fd, connection->answer + connection->answer_size, room, MSG_DONTWAIT);

    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0 || !connection->is_busy || (size_t)n == room) {
        reopen(session, connection);
        return;
    }
    connection->answer_size += (size_t)n;
    connection->answer[connection->answer_size] = '\0';
    if (answer_length(connection) > 0)
        take_answer(session, connection);
}

/* ---- the loop ---- */

static void wait_and_read(struct session *session)
{
    struct epoll_event events[EVENTS];
    struct timespec timeout = {0, TURN_NS};
    int count;

    if (session->idle_count > 0 && session->worker->interval_ns > 0) {
        int64_t left_ns = next_due_ns(session) - requests_now_ns();

        if (left_ns < TURN_NS)
            timeout.tv_nsec = left_ns > 0 ? (long)left_ns : 0;
    }
    count = epoll_pwait2(session->epoll_fd, events, EVENTS, &timeout, NULL);
    for (int i = 0; i < count; i++) {
        struct connection *connection = events[i].data.ptr;

        if (connection->rest && (events[i].events & EPOLLOUT))
            send_rest(session, connection);
        if (events[i].events & ~(unsigned)EPOLLOUT)
            read_answer(session, connection);
        if (session->worker->interval_ns == 0)
            issue_due(session);
    }
    issue_due(session);
}

static void open_session(struct session *session, struct load_worker *worker)
{
    session->worker = worker;
    session->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    session->connections = calloc(worker->connection_count, sizeof(*session->connections));
    session->idle = calloc(worker->connection_count, sizeof(struct connection *));
    if (session->epoll_fd < 0 || !session->connections || !session->idle)
        give_up("cannot start");
    for (unsigned i = 0; i < worker->connection_count; i++)
        open_connection(session, &session->connections[i]);
}

static void close_session(struct session *session)
{
    session->worker->unanswered = session->busy_count;
    for (unsigned i = 0; i < session->worker->connection_count; i++) {
        close(session->connections[i].fd);
        free(session->connections[i].rest);
    }
    close(session->epoll_fd);
    free(session->connections);
    free(session->idle);
}

void *load_worker_run(void *argument)
{
    struct load_worker *worker = argument;
    struct session session = {0};
    int64_t now_ns;

    prctl(PR_SET_TIMERSLACK, 1000);
    open_session(&session, worker);
    while ((now_ns = requests_now_ns()) < worker->start_ns)
        usleep((useconds_t)((worker->start_ns - now_ns) / 1000));
    issue_due(&session);
    while (
        session.busy_count > 0 ||
        may_issue(&session, worker->interval_ns == 0 ? requests_now_ns() : next_due_ns(&session))) {
        if (requests_now_ns() > worker->end_ns && worker->last_ns > 0 &&
            requests_now_ns() - worker->last_ns > (int64_t)PATIENCE_MS * 1000000)
            break;
        wait_and_read(&session);
    }
    close_session(&session);
    return NULL;
}
