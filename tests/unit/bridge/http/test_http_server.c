#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/http/http_server.h"
#include "tests/support/http_probe.h"
#include "tests/unit/bridge/http/http_fixture.h"

static void requests_are_described_to_the_handler(void **state)
{
    struct http_server_options options = fixture_defaults();
    uint16_t port = fixture_start(&options);
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
    fixture_stop();
}

static void a_deferred_request_is_answered_from_another_thread(void **state)
{
    struct http_server_options options = fixture_defaults();
    int fd = probe_connect(fixture_start(&options));
    struct probe_answer answer;

    (void)state;
    probe_send_string(fd, "GET /defer HTTP/1.1\r\n" HOST "\r\n" GET_ECHO);
    assert_true(probe_until(fixture_one_is_waiting, NULL));
    assert_int_equal(atomic_load(&fixture.handled), 1);
    http_resume(atomic_load(&fixture.waiting));
    assert_true(probe_read(fd, &answer));
    assert_string_equal(answer.body, "late");
    assert_true(probe_read(fd, &answer)); /* the one behind it */
    assert_string_equal(answer.body, "GET /echo q=- body=0 probes=0");
    close(fd);
    assert_true(probe_until(fixture_has_no_connections, NULL));
    fixture_stop();
}

/* The loop does not sleep on what is left to do behind an answer. */
static void a_late_answer_of_a_loop_that_is_awake_holds_up_nothing(void **state)
{
    struct http_server_options options = fixture_defaults();
    int64_t fastest_ms = INT64_MAX;
    struct probe_answer answer;
    uint16_t port;
    int waiting;
    int other;

    (void)state;
    options.threads = 1;
    port = fixture_start(&options);
    waiting = probe_connect(port);
    other = probe_connect(port);
    for (int i = 0; i < 20; i++) {
        int64_t begin_ms;
        int64_t took_ms;

        atomic_store(&fixture.waiting, NULL);
        probe_send_string(waiting, "GET /defer HTTP/1.1\r\n" HOST "\r\n" GET_ECHO);
        assert_true(probe_until(fixture_one_is_waiting, NULL));
        begin_ms = clock_monotonic_ms(&clock_system);
        probe_ask(other, "GET /resume HTTP/1.1\r\n" HOST "\r\n", &answer);
        assert_true(probe_read(waiting, &answer));
        assert_string_equal(answer.body, "late");
        assert_true(probe_read(waiting, &answer)); /* the one behind it */
        assert_string_equal(answer.body, "GET /echo q=- body=0 probes=0");
        took_ms = clock_monotonic_ms(&clock_system) - begin_ms;
        if (took_ms < fastest_ms)
            fastest_ms = took_ms;
    }
    assert_true(fastest_ms < 100); /* not a turn of 200 ms, however busy the machine is */
    close(waiting);
    close(other);
    fixture_stop();
}

/* What comes meanwhile stays in the kernel or makes the connection's buffer move. */
static void what_comes_before_a_late_answer_is_read_after_it(void **state)
{
    static char more[MAX_BODY];
    struct http_server_options options = fixture_defaults();
    int fd = probe_connect(fixture_start(&options));
    struct probe_answer answer;
    char head[128];
    char expected[64];

    (void)state;
    memset(more, 'x', sizeof(more));
    snprintf(head, sizeof(head), "POST /more HTTP/1.1\r\n" HOST "Content-Length: %zu\r\n\r\n",
             sizeof(more));
    for (unsigned i = 0; i < 3; i++) {
        probe_send_string(fd, POST_DEFER);
        assert_true(probe_until(fixture_one_is_waiting, NULL));
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
    assert_true(probe_until(fixture_has_no_connections, NULL));
    fixture_stop();
}

static void an_answer_to_a_sender_that_has_gone_is_harmless(void **state)
{
    struct http_server_options options = fixture_defaults();
    uint16_t port = fixture_start(&options);

    (void)state;
    for (int i = 0; i < 4; i++) {
        struct linger linger = {1, 0};
        bool with_reset = i % 2;
        int fd = probe_connect(port);

        probe_send_string(fd, i < 2 ? "GET /defer HTTP/1.1\r\n" HOST "\r\n" : POST_DEFER);
        assert_true(probe_until(fixture_one_is_waiting, NULL));
        if (with_reset)
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
        close(fd);
        http_resume(atomic_load(&fixture.waiting));
        atomic_store(&fixture.waiting, NULL);
        assert_true(probe_until(fixture_one_was_resumed, NULL));
        atomic_store(&fixture.resumed, 0);
        assert_true(probe_until(fixture_has_no_connections, NULL));
    }
    fixture_stop();
}

static void a_sender_may_leave_at_any_byte(void **state)
{
    static const char request[] =
        "POST /p HTTP/1.1\r\n" HOST "Content-Length: 12\r\n\r\nhello, world";
    struct http_server_options options = fixture_defaults();
    struct probe_answer answer;
    uint16_t port;
    int last;

    (void)state;
    options.threads = 1;
    port = fixture_start(&options);
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
    assert_true(probe_until(fixture_has_no_connections, NULL));
    assert_int_equal(atomic_load(&fixture.handled), 1);
    fixture_stop();
}

static void stopping_answers_what_was_begun(void **state)
{
    struct http_server_options options = fixture_defaults();
    uint16_t port = fixture_start(&options);
    int waiting = probe_connect(port);
    int idle = probe_connect(port);
    struct probe_answer answer;

    (void)state;
    probe_ask(idle, GET_ECHO, &answer);
    probe_send_string(waiting, "GET /defer HTTP/1.1\r\n" HOST "\r\n");
    assert_true(probe_until(fixture_one_is_waiting, NULL));
    http_server_stop_accepting(fixture.server);
    assert_false(http_server_wait_idle(fixture.server, 300));
    probe_ask(idle, GET_ECHO, &answer);
    assert_true(answer.closes);
    assert_true(probe_is_closed(idle));
    http_resume(atomic_load(&fixture.waiting));
    assert_true(probe_read(waiting, &answer));
    assert_string_equal(answer.body, "late");
    assert_true(http_server_wait_idle(fixture.server, PROBE_WAIT_MS));
    fixture_stop();
    close(idle);
    close(waiting);
}

static void a_unix_socket_is_private_and_replaces_a_dead_one(void **state)
{
    char path[] = "/tmp/http-server-XXXXXX";
    struct http_server_options options = fixture_defaults();
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
    fixture_start(&options);
    assert_null(http_server_start(&options, &err));
    assert_non_null(strstr(err.message, "another process does"));
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    fd = probe_connect_unix(path);
    probe_ask(fd, GET_ECHO, &answer);
    assert_int_equal(answer.status, 200);
    close(fd);
    fixture_stop();
    assert_int_not_equal(stat(path, &status), 0);
}

static void errors_name_the_address(void **state)
{
    struct http_server_options options = fixture_defaults();
    struct error err = {0};

    (void)state;
    options.threads = 1;
    options.port = fixture_start(&options);
    assert_null(http_server_start(&options, &err));
    assert_non_null(strstr(err.message, "test: cannot listen on 127.0.0.1:"));
    fixture_stop();
    options.host = "not an address";
    assert_null(http_server_start(&options, &err));
    assert_non_null(strstr(err.message, "cannot listen on not an address:"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_described_to_the_handler),
        cmocka_unit_test(a_deferred_request_is_answered_from_another_thread),
        cmocka_unit_test(a_late_answer_of_a_loop_that_is_awake_holds_up_nothing),
        cmocka_unit_test(what_comes_before_a_late_answer_is_read_after_it),
        cmocka_unit_test(an_answer_to_a_sender_that_has_gone_is_harmless),
        cmocka_unit_test(a_sender_may_leave_at_any_byte),
        cmocka_unit_test(stopping_answers_what_was_begun),
        cmocka_unit_test(a_unix_socket_is_private_and_replaces_a_dead_one),
        cmocka_unit_test(errors_name_the_address),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
