#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "bridge/base/clock.h"
#include "bridge/http/http_server.h"
#include "tests/support/http_probe.h"
#include "tests/unit/bridge/http/http_fixture.h"

static void connections_above_the_limit_wait(void **state)
{
    struct http_server_options options = fixture_defaults();
    struct probe_answer answer;
    int fds[4];
    uint16_t port;

    (void)state;
    options.threads = 1;
    options.max_connections = 3;
    port = fixture_start(&options);
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
    fixture_stop();
}

static void one_address_cannot_take_all_connections(void **state)
{
    struct http_server_options options = fixture_defaults();
    struct probe_answer answer;
    int first;
    int second;
    uint16_t port;

    (void)state;
    options.max_connections_per_address = 1;
    port = fixture_start(&options);
    first = probe_connect(port);
    probe_ask(first, GET_ECHO, &answer);
    second = probe_connect(port);
    assert_true(probe_is_closed(second));
    probe_ask(first, GET_ECHO, &answer);
    close(first);
    close(second);
    assert_true(probe_until(fixture_has_no_connections, NULL));
    second = probe_connect(port);
    probe_ask(second, GET_ECHO, &answer);
    assert_int_equal(answer.status, 200);
    close(second);
    fixture_stop();
}

static double cpu_seconds(void)
{
    struct timespec used;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

static void running_out_of_descriptors_does_not_spin(void **state)
{
    struct http_server_options options = fixture_defaults();
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
    fd = probe_connect(fixture_start(&options));
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
    fixture_stop();
}

static void who_does_not_read_is_closed(void **state)
{
    struct http_server_options options = fixture_defaults();
    int fd;

    (void)state;
    options.response_timeout_ms = 300;
    fd = probe_connect(fixture_start(&options));
    probe_send_string(fd, "GET /big HTTP/1.1\r\n" HOST "\r\n");
    assert_true(probe_until(fixture_one_was_handled, NULL));
    assert_true(probe_until(fixture_has_no_connections, NULL));
    close(fd);
    fixture_stop();
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
    enum { COUNT = sizeof(beginnings) / sizeof(beginnings[0]) };
    struct http_server_options options = fixture_defaults();
    struct probe_answer answer;
    int fds[COUNT];
    uint16_t port;

    (void)state;
    options.request_timeout_ms = 3000; /* enough to be answered on a busy machine */
    port = fixture_start(&options);
    for (size_t i = 0; i < COUNT; i++) {
        fds[i] = probe_connect(port);
        probe_send_string(fds[i], beginnings[i]);
    }
    assert_true(probe_read(fds[COUNT - 1], &answer));
    for (size_t i = 0; i < COUNT; i++) {
        assert_true(probe_is_closed(fds[i]));
        close(fds[i]);
    }
    assert_true(probe_until(fixture_has_no_connections, NULL));
    fixture_stop();
}

static void unfinished_bodies_cannot_fill_the_memory(void **state)
{
    struct http_server_options options = fixture_defaults();
    char half[MAX_BODY / 2];
    int fds[8];
    int closed = 0;
    uint16_t port;

    (void)state;
    options.threads = 1;
    options.max_buffered = MAX_BODY;
    port = fixture_start(&options);
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
    fixture_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connections_above_the_limit_wait),
        cmocka_unit_test(one_address_cannot_take_all_connections),
        cmocka_unit_test(running_out_of_descriptors_does_not_spin),
        cmocka_unit_test(who_does_not_read_is_closed),
        cmocka_unit_test(who_does_not_finish_a_request_is_closed),
        cmocka_unit_test(unfinished_bodies_cannot_fill_the_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
