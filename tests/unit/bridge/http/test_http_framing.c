#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "bridge/http/http_server.h"
#include "tests/support/http_probe.h"
#include "tests/unit/bridge/http/http_fixture.h"

static void a_hundred_pipelined_requests_get_a_hundred_answers(void **state)
{
    struct http_server_options options = fixture_defaults();
    int fd = probe_connect(fixture_start(&options));
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
    fixture_stop();
}

static void requests_may_come_in_any_pieces(void **state)
{
    static const char request[] =
        "POST /p HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n4;x=y\r\nwiki\r\n"
        "6\r\npedia!\r\n0\r\nTrailer: x\r\n\r\n";
    struct http_server_options options = fixture_defaults();
    uint16_t port = fixture_start(&options);
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
    fixture_stop();
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
    struct http_server_options options = fixture_defaults();
    uint16_t port = fixture_start(&options);

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
    fixture_stop();
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
    struct http_server_options options = fixture_defaults();
    uint16_t port = fixture_start(&options);

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
    fixture_stop();
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
    struct http_server_options options = fixture_defaults();
    uint16_t port = fixture_start(&options);

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
    fixture_stop();
}

static void what_h2o_refuses_is_answered_in_json_and_told_with_its_reason(void **state)
{
    static const struct {
        const char *request;
        int status;
        const char *code;
        const char *why;
    } cases[] = {
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 999999999\r\n\r\n", 413,
         "{\"error\":\"body_too_large\"", "too_large"},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nExpect: magic\r\n\r\n", 417,
         "{\"error\":\"expectation_failed\"", "expectation"},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400,
         "{\"error\":\"bad_request\"", "unreadable_body"},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: x\r\n\r\n", 400, "{\"error\":\"bad_request\"",
         "unreadable_body"},
    };
    struct http_server_options options = fixture_defaults();
    uint16_t port = fixture_start(&options);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct probe_answer answer;
        int fd = probe_connect(port);

        probe_ask(fd, cases[i].request, &answer);
        assert_int_equal(answer.status, cases[i].status);
        assert_int_equal(strncmp(answer.body, cases[i].code, strlen(cases[i].code)), 0);
        assert_string_equal(atomic_load(&fixture.why), cases[i].why);
        assert_non_null(strstr(answer.head, "\r\ncontent-type: application/json\r\n"));
        assert_true(answer.closes);
        assert_true(probe_is_closed(fd));
        close(fd);
    }
    assert_int_equal(atomic_load(&fixture.refused), 4);
    fixture_stop();
}

static void expecting_100_continue_works(void **state)
{
    struct http_server_options options = fixture_defaults();
    int fd = probe_connect(fixture_start(&options));
    struct probe_answer answer;

    (void)state;
    probe_ask(fd, "POST /e HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
              &answer);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body, "POST /e q=- body=2 probes=0");
    close(fd);
    fixture_stop();
}

static void large_heads_are_refused(void **state)
{
    struct http_server_options options = fixture_defaults();
    uint16_t port = fixture_start(&options);
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
    fixture_stop();
}

static void no_way_leads_to_http2(void **state)
{
    struct http_server_options options = fixture_defaults();
    int fd = probe_connect(fixture_start(&options));
    struct probe_answer answer;

    (void)state;
    probe_ask(fd,
              "GET /u HTTP/1.1\r\n" HOST "Connection: Upgrade, HTTP2-Settings, keep-alive\r\n"
              "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
              &answer);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body, "GET /u q=- body=0 probes=0");
    close(fd);
    fixture_stop();
}

/*
 * Sends on a connection that has room for it. False: the other side has ended it. Its end is waited
 * for, not a failing send: with the window shut, a send would wait for the kernel's probes for
 * minutes after that end.
 */
static bool press(int fd, const char *bytes, size_t size)
{
    struct pollfd poller = {.fd = fd, .events = POLLOUT | POLLRDHUP};

    assert_int_equal(poll(&poller, 1, PROBE_WAIT_MS), 1);
    if (poller.revents & (POLLRDHUP | POLLHUP | POLLERR))
        return false;
    return send(fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

/* Chunk extensions and trailers do not count for h2o; without our limit this never ends. */
static void a_flood_of_chunk_lines_is_cut_off(void **state)
{
    struct http_server_options options = fixture_defaults();
    int fd = probe_connect(fixture_start(&options));
    char lines[65536];
    bool is_cut = false;

    (void)state;
    memset(lines, 'x', sizeof(lines));
    probe_send_string(fd, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1;");
    for (int i = 0; i < 100000 && !is_cut; i++)
        is_cut = !press(fd, lines, sizeof(lines));
    assert_true(is_cut);
    close(fd);
    fixture_stop();
}

static void a_chunked_body_hides_no_more_than_its_share(void **state)
{
    struct http_server_options options = fixture_defaults();
    uint16_t port = fixture_start(&options);
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
    fixture_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hundred_pipelined_requests_get_a_hundred_answers),
        cmocka_unit_test(requests_may_come_in_any_pieces),
        cmocka_unit_test(ambiguous_framing_never_gets_a_second_answer),
        cmocka_unit_test(nothing_follows_a_chunked_request),
        cmocka_unit_test(bodies_are_limited_to_the_byte),
        cmocka_unit_test(what_h2o_refuses_is_answered_in_json_and_told_with_its_reason),
        cmocka_unit_test(expecting_100_continue_works),
        cmocka_unit_test(large_heads_are_refused),
        cmocka_unit_test(no_way_leads_to_http2),
        cmocka_unit_test(a_flood_of_chunk_lines_is_cut_off),
        cmocka_unit_test(a_chunked_body_hides_no_more_than_its_share),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
