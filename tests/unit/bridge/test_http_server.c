#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/http_server.h"
#include "tests/support/http_probe.h"

enum { MAX_BODY = 100000, BIG_ANSWER = 64 << 20 };

#define HOST "Host: a\r\n"
#define POST_DEFER "POST /defer HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello"
#define GET_ECHO "GET /echo HTTP/1.1\r\n" HOST "\r\n"

/* What the handler of these tests has seen and does. */
struct fixture {
    struct http_server *server;
    atomic_int handled;
    atomic_int smuggled;
    atomic_int refused;
    atomic_int resumed;
    atomic_int answered_late;
    atomic_size_t late_body;               /* size of the body when the last one was resumed */
    struct http_deferred *_Atomic waiting; /* the last one put off */
};

static struct fixture fixture;

static void on_resumed(struct http_deferred *deferred)
{
    if (deferred->request) {
        atomic_store(&fixture.late_body, http_request_body(deferred->request).size);
        http_respond(deferred->request,
                     &(struct http_response){.status = 200, .body = {"late", 4}});
        atomic_fetch_add(&fixture.answered_late, 1);
    }
    atomic_fetch_add(&fixture.resumed, 1);
}

static void echo(struct http_request *request)
{
    char body[256];
    struct text path = http_request_path(request);
    struct text value = {"-", 1};
    size_t count;

    http_request_query(request, "q", &value);
    http_request_header(request, "x-probe", &count);
    snprintf(body, sizeof(body), "%.*s %.*s q=%.*s body=%zu probes=%zu",
             (int)http_request_method(request).size, http_request_method(request).data,
             (int)path.size, path.data, (int)value.size, value.data,
             http_request_body(request).size, count);
    http_respond(request, &(struct http_response){.status = 200,
                                                  .content_type = "text/plain",
                                                  .body = text_of(body),
                                                  .headers = {{"x-more", "1"}}});
}

static void handle(void *context, unsigned thread, struct http_request *request)
{
    static char big[BIG_ANSWER];
    struct text path = http_request_path(request);

    (void)context;
    (void)thread;
    atomic_fetch_add(&fixture.handled, 1);
    if (text_equal_string(path, "/smuggled"))
        atomic_fetch_add(&fixture.smuggled, 1);
    if (text_equal_string(path, "/defer"))
        atomic_store(&fixture.waiting,
                     http_defer(request, sizeof(struct http_deferred), on_resumed));
    else if (text_equal_string(path, "/big"))
        http_respond(request, &(struct http_response){.status = 200,
                                                      .body = {big, sizeof(big)},
                                                      .body_is_static = true});
    else
        echo(request);
}

static void refused(void *context, unsigned thread, const struct http_request *request, int status,
                    const char *why)
{
    (void)context;
    (void)thread;
    (void)request;
    (void)status;
    (void)why;
    atomic_fetch_add(&fixture.refused, 1);
}

static struct http_server_options defaults(void)
{
    return (struct http_server_options){
        .name = "test",
        .host = "127.0.0.1",
        .threads = 2,
        .max_body = MAX_BODY,
        .clock = &clock_system,
        .handle = handle,
        .refused = refused,
    };
}

static uint16_t start(const struct http_server_options *options)
{
    struct error err = {0};

    memset(&fixture, 0, sizeof(fixture));
    fixture.server = http_server_start(options, &err);
    if (!fixture.server)
        fail_msg("%s", err.message);
    return http_server_port(fixture.server);
}

static void stop(void)
{
    http_server_free(fixture.server);
}

static bool has_no_connections(void *context)
{
    (void)context;
    return http_server_connections(fixture.server) == 0;
}

static bool one_was_handled(void *context)
{
    (void)context;
    return atomic_load(&fixture.handled) == 1;
}

static bool one_is_waiting(void *context)
{
    (void)context;
    return atomic_load(&fixture.waiting) != NULL;
}

static bool one_was_resumed(void *context)
{
    (void)context;
    return atomic_load(&fixture.resumed) > 0;
}

static void requests_are_described_to_the_handler(void **state)
{
    struct http_server_options options = defaults();
    uint16_t port = start(&options);
    int fd = probe_connect(port);
    struct probe_answer answer;

    (void)state;
    probe_ask(fd,
              "POST /a/b?x=1&q=%41+%2f&q=2 HTTP/1.1\r\nHost: a\r\nX-Probe: 1\r\nx-PROBE: 2\r\n"
              "Content-Length: 3\r\n\r\nabc",
              &answer);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body, "POST /a/b q=A / body=3 probes=2");
    assert_non_null(strstr(answer.head, "\r\ncontent-type: text/plain\r\n"));
    assert_non_null(strstr(answer.head, "\r\nx-more: 1\r\n"));
    assert_null(strcasestr(answer.head, "\r\nserver:"));
    assert_false(answer.closes);
    probe_ask(fd, "GET /z?q HTTP/1.1\r\nHost: a\r\n\r\n", &answer);
    assert_string_equal(answer.body, "GET /z q= body=0 probes=0");
    probe_ask(fd, "GET /z?qq=1&q=%4 HTTP/1.1\r\nHost: a\r\n\r\n", &answer);
    assert_string_equal(answer.body, "GET /z q=- body=0 probes=0");
    probe_send_string(fd, "HEAD /z HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_false(probe_read(fd, &answer)); /* a length, but no body */
    assert_int_equal(answer.status, 200);
    close(fd);
    stop();
}

static void a_hundred_pipelined_requests_get_a_hundred_answers(void **state)
{
    struct http_server_options options = defaults();
    int fd = probe_connect(start(&options));
    struct probe_answer answer;
    char expected[64];
    char request[128];

    (void)state;
    for (int i = 0; i < 100; i++) {
        snprintf(request, sizeof(request),
                 "POST /%d HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nhi", i);
        probe_send_string(fd, request);
    }
    for (int i = 0; i < 100; i++) {
        assert_true(probe_read(fd, &answer));
        snprintf(expected, sizeof(expected), "POST /%d q=- body=2 probes=0", i);
        assert_string_equal(answer.body, expected);
    }
    close(fd);
    stop();
}

static void requests_may_come_in_any_pieces(void **state)
{
    static const char request[] =
        "POST /p HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n4;x=y\r\nwiki\r\n"
        "6\r\npedia!\r\n0\r\nTrailer: x\r\n\r\n";
    struct http_server_options options = defaults();
    uint16_t port = start(&options);
    struct probe_answer answer;

    (void)state;
    for (size_t cut = 1; cut < sizeof(request) - 1; cut++) {
        int fd = probe_connect(port);

        probe_send(fd, request, cut);
        probe_send(fd, request + cut, sizeof(request) - 1 - cut);
        assert_true(probe_read(fd, &answer));
        assert_string_equal(answer.body, "POST /p q=- body=10 probes=0");
        assert_true(answer.closes);
        assert_true(probe_is_closed(fd));
        close(fd);
    }
    stop();
}

/* What two parsers could read differently: one answer, 400, and the connection ends. */
static void ambiguous_framing_never_gets_a_second_answer(void **state)
{
    static const char *const heads[] = {
        "POST / HTTP/1.1\r\n" HOST "Content-Length: 0\r\nContent-Length: 33\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST
        "Content-Length: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Content-Length: +0\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Content-Length: 0,0\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Content-Length: 00\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Content-Length : 0\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Content-Length: 18446744073709551616\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: identity\r\n"
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: identity\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\n" HOST "X: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\n" HOST "Host: b\r\n\r\n",
        "GET / HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc",
        "GET / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.7\r\n" HOST "\r\n",
        "GET http://a/ HTTP/1.1\r\n" HOST "\r\n",
        "\nGET / HTTP/1.1\r\n" HOST "\r\n",
        "GET  / HTTP/1.1\r\n" HOST "\r\n",
        "GET / HTTP/1.1\r\n" HOST "X\x01: a\r\n\r\n",
        "GET / HTTP/1.1\r\n" HOST "X: a\x01\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01\x02\x01\x01\r\n\r\n",
    };
    struct http_server_options options = defaults();
    uint16_t port = start(&options);

    (void)state;
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        int fd = probe_connect(port);
        struct probe_answer answer;

        probe_send_string(fd, heads[i]);
        probe_send_string(fd, "GET /smuggled HTTP/1.1\r\n" HOST "\r\n");
        if (probe_read(fd, &answer)) {
            assert_int_equal(answer.status, 400);
            assert_true(answer.closes);
            assert_true(probe_is_closed(fd));
        } else {
            /* The peer resets what it closes with bytes unread; then the answer may be lost. */
            assert_int_equal(answer.status == 0 || answer.status == 400, 1);
        }
        close(fd);
    }
    assert_int_equal(atomic_load(&fixture.handled), 0);
    assert_true(atomic_load(&fixture.refused) > 15);
    stop();
}

/* Chunk lines are read leniently by h2o, so nothing after a chunked request is believed. */
static void nothing_follows_a_chunked_request(void **state)
{
    static const char *const bodies[] = {
        "0\r\n\r\n",
        "1xyz\r\na\r\n0\r\n\r\n",
        "1\na\n0\n\n",
        "1\r\na\r\r\r\n0\r\n\r\n",
        "0\r\nContent-Length: 44\r\n\r\n",
    };
    struct http_server_options options = defaults();
    uint16_t port = start(&options);

    (void)state;
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        int fd = probe_connect(port);
        char request[512];
        struct probe_answer answer;

        snprintf(request, sizeof(request),
                 "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n%s"
                 "GET /smuggled HTTP/1.1\r\n" HOST "\r\n",
                 bodies[i]);
        probe_send_string(fd, request);
        if (probe_read(fd, &answer))
            assert_true(answer.closes);
        assert_true(probe_is_closed(fd));
        close(fd);
    }
    assert_int_equal(atomic_load(&fixture.smuggled), 0);
    stop();
}

static int send_body(uint16_t port, size_t size, bool is_chunked, const char *extra)
{
    char *body = calloc(1, size + 1);
    char head[300];
    int fd = probe_connect(port);

    assert_non_null(body);
    memset(body, 'x', size);
    if (is_chunked)
        snprintf(head, sizeof(head),
                 "POST / HTTP/1.1\r\n" HOST "%sTransfer-Encoding: chunked\r\n\r\n%zx\r\n", extra,
                 size);
    else
        snprintf(head, sizeof(head), "POST / HTTP/1.1\r\n" HOST "%sContent-Length: %zu\r\n\r\n",
                 extra, size);
    probe_send_string(fd, head);
    probe_send(fd, body, size);
    if (is_chunked)
        probe_send_string(fd, "\r\n0\r\n\r\n");
    free(body);
    return fd;
}

static void bodies_are_limited_to_the_byte(void **state)
{
    static const struct {
        size_t size;
        bool is_chunked;
        int status;
    } cases[] = {
        {0, false, 200},
        {MAX_BODY, false, 200},
        {MAX_BODY + 1, false, 413},
        {MAX_BODY + 2, false, 413},
        {MAX_BODY, true, 200},
        {MAX_BODY + 1, true, 413},
        {MAX_BODY + 2, true, 413},
    };
    struct http_server_options options = defaults();
    uint16_t port = start(&options);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct probe_answer answer;
        int fd = send_body(port, cases[i].size, cases[i].is_chunked, "");

        if (probe_read(fd, &answer))
            assert_int_equal(answer.status, cases[i].status);
        else
            assert_int_equal(cases[i].status, 413); /* reset with the body unread */
        close(fd);
    }
    stop();
}

static void what_h2o_refuses_is_answered_in_json(void **state)
{
    static const struct {
        const char *request;
        int status;
        const char *code;
    } cases[] = {
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 999999999\r\n\r\n", 413,
         "{\"error\":\"body_too_large\""},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nExpect: magic\r\n\r\n", 417,
         "{\"error\":\"expectation_failed\""},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400,
         "{\"error\":\"bad_request\""},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: x\r\n\r\n", 400, "{\"error\":\"bad_request\""},
    };
    struct http_server_options options = defaults();
    uint16_t port = start(&options);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct probe_answer answer;
        int fd = probe_connect(port);

        probe_ask(fd, cases[i].request, &answer);
        assert_int_equal(answer.status, cases[i].status);
        assert_int_equal(strncmp(answer.body, cases[i].code, strlen(cases[i].code)), 0);
        assert_non_null(strstr(answer.head, "\r\ncontent-type: application/json\r\n"));
        assert_true(answer.closes);
        assert_true(probe_is_closed(fd));
        close(fd);
    }
    assert_int_equal(atomic_load(&fixture.refused), 4);
    stop();
}

static void expecting_100_continue_works(void **state)
{
    struct http_server_options options = defaults();
    int fd = probe_connect(start(&options));
    struct probe_answer answer;

    (void)state;
    probe_ask(fd, "POST /e HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
              &answer);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body, "POST /e q=- body=2 probes=0");
    close(fd);
    stop();
}

static void large_heads_are_refused(void **state)
{
    struct http_server_options options = defaults();
    uint16_t port = start(&options);
    struct probe_answer answer;
    char filler[40000];
    int fd = probe_connect(port);

    (void)state;
    memset(filler, 'x', sizeof(filler));
    probe_send_string(fd, "GET / HTTP/1.1\r\n" HOST "X: ");
    probe_send(fd, filler, 30000);
    probe_ask(fd, "\r\n\r\n", &answer);
    assert_int_equal(answer.status, 200);
    probe_send_string(fd, "GET / HTTP/1.1\r\n" HOST "X: ");
    probe_send(fd, filler, sizeof(filler));
    probe_ask(fd, "\r\n\r\n", &answer);
    assert_int_equal(answer.status, 431);
    assert_true(probe_is_closed(fd));
    close(fd);
    stop();
}

static void no_way_leads_to_http2(void **state)
{
    struct http_server_options options = defaults();
    int fd = probe_connect(start(&options));
    struct probe_answer answer;

    (void)state;
    probe_ask(fd,
              "GET /u HTTP/1.1\r\n" HOST "Connection: Upgrade, HTTP2-Settings, keep-alive\r\n"
              "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
              &answer);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body, "GET /u q=- body=0 probes=0");
    close(fd);
    stop();
}

static void a_deferred_request_is_answered_from_another_thread(void **state)
{
    struct http_server_options options = defaults();
    int fd = probe_connect(start(&options));
    struct probe_answer answer;

    (void)state;
    probe_send_string(fd, "GET /defer HTTP/1.1\r\n" HOST "\r\n" GET_ECHO);
    assert_true(probe_until(one_is_waiting, NULL));
    assert_int_equal(atomic_load(&fixture.handled), 1);
    http_resume(atomic_load(&fixture.waiting));
    assert_true(probe_read(fd, &answer));
    assert_string_equal(answer.body, "late");
    assert_true(probe_read(fd, &answer)); /* the one behind it */
    assert_string_equal(answer.body, "GET /echo q=- body=0 probes=0");
    close(fd);
    assert_true(probe_until(has_no_connections, NULL));
    stop();
}

/* What comes meanwhile stays in the kernel or makes the connection's buffer move. */
static void what_comes_before_a_late_answer_is_read_after_it(void **state)
{
    static char more[MAX_BODY];
    struct http_server_options options = defaults();
    int fd = probe_connect(start(&options));
    struct probe_answer answer;
    char head[128];
    char expected[64];

    (void)state;
    memset(more, 'x', sizeof(more));
    snprintf(head, sizeof(head), "POST /more HTTP/1.1\r\n" HOST "Content-Length: %zu\r\n\r\n",
             sizeof(more));
    for (unsigned i = 0; i < 3; i++) {
        probe_send_string(fd, POST_DEFER);
        assert_true(probe_until(one_is_waiting, NULL));
        probe_send_string(fd, head);
        probe_send(fd, more, sizeof(more) / 2);
        usleep(i * 20000); /* whether it has been read by then makes no difference */
        http_resume(atomic_exchange(&fixture.waiting, NULL));
        assert_true(probe_read(fd, &answer));
        assert_string_equal(answer.body, "late");
        assert_int_equal(atomic_load(&fixture.late_body), 0); /* its place may have moved */
        probe_send(fd, more, sizeof(more) - sizeof(more) / 2);
        assert_true(probe_read(fd, &answer));
        snprintf(expected, sizeof(expected), "POST /more q=- body=%zu probes=0", sizeof(more));
        assert_string_equal(answer.body, expected);
    }
    close(fd);
    assert_true(probe_until(has_no_connections, NULL));
    stop();
}

static void an_answer_to_a_sender_that_has_gone_is_harmless(void **state)
{
    struct http_server_options options = defaults();
    uint16_t port = start(&options);

    (void)state;
    for (int i = 0; i < 4; i++) {
        struct linger linger = {1, 0};
        bool with_reset = i % 2;
        int fd = probe_connect(port);

        probe_send_string(fd, i < 2 ? "GET /defer HTTP/1.1\r\n" HOST "\r\n" : POST_DEFER);
        assert_true(probe_until(one_is_waiting, NULL));
        if (with_reset)
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
        close(fd);
        http_resume(atomic_load(&fixture.waiting));
        atomic_store(&fixture.waiting, NULL);
        assert_true(probe_until(one_was_resumed, NULL));
        atomic_store(&fixture.resumed, 0);
        assert_true(probe_until(has_no_connections, NULL));
    }
    stop();
}

static void a_sender_may_leave_at_any_byte(void **state)
{
    static const char request[] =
        "POST /p HTTP/1.1\r\n" HOST "Content-Length: 12\r\n\r\nhello, world";
    struct http_server_options options = defaults();
    struct probe_answer answer;
    uint16_t port;
    int last;

    (void)state;
    options.threads = 1;
    port = start(&options);
    for (size_t cut = 0; cut < sizeof(request) - 1; cut++) {
        struct linger linger = {1, 0};
        int fd = probe_connect(port);

        probe_send(fd, request, cut);
        if (cut % 2)
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
        close(fd);
    }
    last = probe_connect(port); /* taken after all of them */
    probe_ask(last, GET_ECHO, &answer);
    close(last);
    assert_true(probe_until(has_no_connections, NULL));
    assert_int_equal(atomic_load(&fixture.handled), 1);
    stop();
}

static void connections_above_the_limit_wait(void **state)
{
    struct http_server_options options = defaults();
    struct probe_answer answer;
    int fds[4];
    uint16_t port;

    (void)state;
    options.threads = 1;
    options.max_connections = 3;
    port = start(&options);
    for (int i = 0; i < 3; i++) {
        fds[i] = probe_connect(port);
        probe_ask(fds[i], GET_ECHO, &answer);
    }
    fds[3] = probe_connect(port); /* in the kernel's queue */
    probe_send_string(fds[3], GET_ECHO);
    probe_ask(fds[0], GET_ECHO, &answer);
    assert_int_equal(http_server_connections(fixture.server), 3);
    assert_int_equal(recv(fds[3], &answer, 1, MSG_DONTWAIT), -1);
    close(fds[0]);
    assert_true(probe_read(fds[3], &answer));
    assert_int_equal(answer.status, 200);
    for (int i = 1; i < 4; i++)
        close(fds[i]);
    stop();
}

static void one_address_cannot_take_all_connections(void **state)
{
    struct http_server_options options = defaults();
    struct probe_answer answer;
    int first;
    int second;
    uint16_t port;

    (void)state;
    options.max_connections_per_address = 1;
    port = start(&options);
    first = probe_connect(port);
    probe_ask(first, GET_ECHO, &answer);
    second = probe_connect(port);
    assert_true(probe_is_closed(second));
    probe_ask(first, GET_ECHO, &answer);
    close(first);
    close(second);
    assert_true(probe_until(has_no_connections, NULL));
    second = probe_connect(port);
    probe_ask(second, GET_ECHO, &answer);
    assert_int_equal(answer.status, 200);
    close(second);
    stop();
}

static double cpu_seconds(void)
{
    struct timespec used;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

static void running_out_of_descriptors_does_not_spin(void **state)
{
    struct http_server_options options = defaults();
    struct rlimit before;
    struct rlimit small;
    struct probe_answer answer;
    const struct timespec measured = {1, 0};
    int fds[256];
    int filled = 0;
    int fd;
    double used;

    (void)state;
    options.threads = 1;
    fd = probe_connect(start(&options));
    probe_ask(fd, GET_ECHO, &answer);
    for (int i = 0; i < 4; i++)
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
    getrlimit(RLIMIT_NOFILE, &before);
    small = before;
    small.rlim_cur = (rlim_t)fds[3] + 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &small), 0);
    while (filled < 256 && (fds[filled + 4 < 256 ? filled + 4 : 255] = dup(fd)) >= 0)
        filled++;
    for (int i = 0; i < 4; i++) {
        struct sockaddr_storage address;
        socklen_t size = sizeof(address);

        getpeername(fd, (struct sockaddr *)&address, &size);
        connect(fds[i], (struct sockaddr *)&address, size);
    }
    used = cpu_seconds();
    nanosleep(&measured, NULL);
    used = cpu_seconds() - used;
    assert_true(used < 0.2);
    probe_ask(fd, GET_ECHO, &answer); /* who is in is served */
    assert_int_equal(answer.status, 200);
    setrlimit(RLIMIT_NOFILE, &before);
    for (int i = 0; i < filled + 4 && i < 256; i++)
        close(fds[i]);
    close(fd);
    fd = probe_connect(http_server_port(fixture.server));
    probe_ask(fd, GET_ECHO, &answer);
    assert_int_equal(answer.status, 200);
    close(fd);
    stop();
}

static void who_does_not_read_is_closed(void **state)
{
    struct http_server_options options = defaults();
    int fd;

    (void)state;
    options.response_timeout_ms = 300;
    fd = probe_connect(start(&options));
    probe_send_string(fd, "GET /big HTTP/1.1\r\n" HOST "\r\n");
    assert_true(probe_until(one_was_handled, NULL));
    assert_true(probe_until(has_no_connections, NULL));
    close(fd);
    stop();
}

static void who_does_not_finish_a_request_is_closed(void **state)
{
    static const char *const beginnings[] = {
        "",
        "G",
        "POST / HTTP/1.1\r\n",
        "POST / HTTP/1.1\r\n" HOST "Content-Length: 9\r\n\r\nhalf",
        GET_ECHO, /* and then idle */
    };
    struct http_server_options options = defaults();
    uint16_t port;

    (void)state;
    options.request_timeout_ms = 300;
    port = start(&options);
    for (size_t i = 0; i < sizeof(beginnings) / sizeof(beginnings[0]); i++) {
        int fd = probe_connect(port);

        probe_send_string(fd, beginnings[i]);
        if (i == 4) {
            struct probe_answer answer;

            assert_true(probe_read(fd, &answer));
        }
        assert_true(probe_is_closed(fd));
        close(fd);
    }
    assert_true(probe_until(has_no_connections, NULL));
    stop();
}

/* Chunk extensions and trailers do not count for h2o; without our limit this never ends. */
static void a_flood_of_chunk_lines_is_cut_off(void **state)
{
    struct http_server_options options = defaults();
    int fd = probe_connect(start(&options));
    char lines[65536];
    bool is_cut = false;

    (void)state;
    memset(lines, 'x', sizeof(lines));
    probe_send_string(fd, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1;");
    for (int i = 0; i < 100000 && !is_cut; i++)
        is_cut = send(fd, lines, sizeof(lines), MSG_NOSIGNAL) < 0;
    assert_true(is_cut);
    close(fd);
    stop();
}

static void a_chunked_body_hides_no_more_than_its_share(void **state)
{
    struct http_server_options options = defaults();
    uint16_t port = start(&options);
    int fd = probe_connect(port);
    struct probe_answer answer;
    char extension[300000];

    (void)state;
    memset(extension, 'x', sizeof(extension));
    probe_send_string(fd, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1;");
    probe_send(fd, extension, sizeof(extension));
    probe_send_string(fd, "\r\na\r\n0\r\n\r\n");
    if (probe_read(fd, &answer))
        assert_int_equal(answer.status, 413);
    assert_true(probe_is_closed(fd));
    assert_int_equal(atomic_load(&fixture.handled), 0);
    close(fd);
    stop();
}

static void unfinished_bodies_cannot_fill_the_memory(void **state)
{
    struct http_server_options options = defaults();
    char half[MAX_BODY / 2];
    int fds[8];
    int closed = 0;
    uint16_t port;

    (void)state;
    options.threads = 1;
    options.max_buffered = MAX_BODY;
    port = start(&options);
    memset(half, 'x', sizeof(half));
    for (int i = 0; i < 8; i++) {
        fds[i] = probe_connect(port);
        probe_send_string(fds[i], "POST / HTTP/1.1\r\n" HOST "Content-Length: 100000\r\n\r\n");
        probe_send(fds[i], half, sizeof(half));
    }
    for (int64_t end = clock_monotonic_ms(&clock_system) + PROBE_WAIT_MS;
         closed < 7 && clock_monotonic_ms(&clock_system) < end;
         closed = 8 - (int)http_server_connections(fixture.server))
        ;
    assert_true(closed >= 6);
    for (int i = 0; i < 8; i++)
        close(fds[i]);
    stop();
}

static void stopping_answers_what_was_begun(void **state)
{
    struct http_server_options options = defaults();
    uint16_t port = start(&options);
    int waiting = probe_connect(port);
    int idle = probe_connect(port);
    struct probe_answer answer;

    (void)state;
    probe_ask(idle, GET_ECHO, &answer);
    probe_send_string(waiting, "GET /defer HTTP/1.1\r\n" HOST "\r\n");
    assert_true(probe_until(one_is_waiting, NULL));
    http_server_stop_accepting(fixture.server);
    assert_false(http_server_wait_idle(fixture.server, 300));
    probe_ask(idle, GET_ECHO, &answer);
    assert_true(answer.closes);
    assert_true(probe_is_closed(idle));
    http_resume(atomic_load(&fixture.waiting));
    assert_true(probe_read(waiting, &answer));
    assert_string_equal(answer.body, "late");
    assert_true(http_server_wait_idle(fixture.server, PROBE_WAIT_MS));
    stop();
    close(idle);
    close(waiting);
}

static void a_unix_socket_is_private_and_replaces_a_dead_one(void **state)
{
    char path[] = "/tmp/http-server-XXXXXX";
    struct http_server_options options = defaults();
    struct error err = {0};
    struct probe_answer answer;
    struct stat status;
    int fd;

    (void)state;
    fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    options.host = NULL;
    options.socket_path = path;
    assert_null(http_server_start(&options, &err)); /* a plain file is left alone */
    assert_non_null(strstr(err.message, "a file of another kind"));
    assert_int_equal(unlink(path), 0);
    start(&options);
    assert_null(http_server_start(&options, &err));
    assert_non_null(strstr(err.message, "another process does"));
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    fd = probe_connect_unix(path);
    probe_ask(fd, GET_ECHO, &answer);
    assert_int_equal(answer.status, 200);
    close(fd);
    stop();
    assert_int_not_equal(stat(path, &status), 0);
}

static void errors_name_the_address(void **state)
{
    struct http_server_options options = defaults();
    struct error err = {0};

    (void)state;
    options.threads = 1;
    options.port = start(&options);
    assert_null(http_server_start(&options, &err));
    assert_non_null(strstr(err.message, "test: cannot listen on 127.0.0.1:"));
    stop();
    options.host = "not an address";
    assert_null(http_server_start(&options, &err));
    assert_non_null(strstr(err.message, "cannot listen on not an address:"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_described_to_the_handler),
        cmocka_unit_test(a_hundred_pipelined_requests_get_a_hundred_answers),
        cmocka_unit_test(requests_may_come_in_any_pieces),
        cmocka_unit_test(ambiguous_framing_never_gets_a_second_answer),
        cmocka_unit_test(nothing_follows_a_chunked_request),
        cmocka_unit_test(bodies_are_limited_to_the_byte),
        cmocka_unit_test(what_h2o_refuses_is_answered_in_json),
        cmocka_unit_test(expecting_100_continue_works),
        cmocka_unit_test(large_heads_are_refused),
        cmocka_unit_test(no_way_leads_to_http2),
        cmocka_unit_test(a_deferred_request_is_answered_from_another_thread),
        cmocka_unit_test(what_comes_before_a_late_answer_is_read_after_it),
        cmocka_unit_test(an_answer_to_a_sender_that_has_gone_is_harmless),
        cmocka_unit_test(a_sender_may_leave_at_any_byte),
        cmocka_unit_test(connections_above_the_limit_wait),
        cmocka_unit_test(one_address_cannot_take_all_connections),
        cmocka_unit_test(running_out_of_descriptors_does_not_spin),
        cmocka_unit_test(who_does_not_read_is_closed),
        cmocka_unit_test(who_does_not_finish_a_request_is_closed),
        cmocka_unit_test(a_flood_of_chunk_lines_is_cut_off),
        cmocka_unit_test(a_chunked_body_hides_no_more_than_its_share),
        cmocka_unit_test(unfinished_bodies_cannot_fill_the_memory),
        cmocka_unit_test(stopping_answers_what_was_begun),
        cmocka_unit_test(a_unix_socket_is_private_and_replaces_a_dead_one),
        cmocka_unit_test(errors_name_the_address),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
