#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "bridge/base/buf.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/control/control.h"
#include "bridge/http/http_server.h"
#include "bridge/runtime/metrics.h"
#include "tests/support/http_probe.h"

#define TOKEN "0123456789abcdef0123456789abcdef"

static struct control *control;
static struct http_server *server;
static struct metrics *metrics;
static bool is_ready;

static bool readiness(void *context, struct buf *json)
{
    (void)context;
    buf_printf(json, "{\"ready\":%s}", is_ready ? "true" : "false");
    return is_ready;
}

static void handle_sync(void *context, struct http_request *request)
{
    http_respond(request, &(struct http_response){.status = 200, .body = text_of(context)});
}

static void start(const char *token)
{
    struct control_options options = {token, NULL, readiness, NULL};
    struct http_server_options server_options = {
        .name = "control",
        .host = "127.0.0.1",
        .threads = 1,
        .max_body = 1024,
        .clock = &clock_system,
        .handle = control_handle,
    };
    struct error err = {0};

    metrics = metrics_new();
    options.metrics = metrics;
    metric_add(metrics_get(metrics, METRIC_COUNTER, "x_total", "X.", ""), 7);
    control = control_new(&options);
    control_add(control, &(struct control_route){"POST", "/control/sync", handle_sync, "synced"});
    control_add(control,
                &(struct control_route){"DELETE", "/control/sync", handle_sync, "removed"});
    server_options.context = control;
    server = http_server_start(&server_options, &err);
    assert_non_null(server);
}

static void stop(void)
{
    http_server_free(server);
    control_free(control);
    metrics_free(metrics);
}

static void ask(const char *line, const char *headers, struct probe_answer *answer)
{
    int fd = probe_connect(http_server_port(server));
    char request[512];

    snprintf(request, sizeof(request), "%s HTTP/1.1\r\nHost: a\r\n%s\r\n", line, headers);
    probe_ask(fd, request, answer);
    close(fd);
}

static void open_paths_need_no_token(void **state)
{
    struct probe_answer answer;

    (void)state;
    start(TOKEN);
    ask("GET /healthz", "", &answer);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body, "{\"status\":\"ok\"}");
    is_ready = false;
    ask("GET /readyz", "", &answer);
    assert_int_equal(answer.status, 503);
    assert_string_equal(answer.body, "{\"ready\":false}");
    is_ready = true;
    ask("GET /readyz?verbose", "", &answer);
    assert_int_equal(answer.status, 200);
    ask("GET /metrics", "", &answer);
    assert_int_equal(answer.status, 200);
    assert_non_null(strstr(answer.head, "content-type: text/plain; version=0.0.4"));
    assert_non_null(strstr(answer.body, "closebridge_x_total 7\n"));
    ask("POST /metrics", "", &answer);
    assert_int_equal(answer.status, 405);
    assert_non_null(strstr(answer.head, "\r\nallow: GET, HEAD\r\n"));
    stop();
}

static void all_else_needs_the_token(void **state)
{
    static const struct {
        const char *headers;
        int status;
    } cases[] = {
        {"", 401},
        {"Authorization: Bearer " TOKEN "\r\n", 200},
        {"authorization: Bearer " TOKEN "\r\n", 200},
        {"Authorization: Bearer " TOKEN "0\r\n", 401},
        {"Authorization: Bearer 0123456789abcdef0123456789abcde\r\n", 401},
        {"Authorization: Bearer 1123456789abcdef0123456789abcdef\r\n", 401},
        {"Authorization: Bearer \r\n", 401},
        {"Authorization: Bearer\r\n", 401},
        {"Authorization: Basic " TOKEN "\r\n", 401},
        {"Authorization: Bearer " TOKEN "\r\nAuthorization: Bearer " TOKEN "\r\n", 401},
    };
    struct probe_answer answer;

    (void)state;
    start(TOKEN);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ask("POST /control/sync", cases[i].headers, &answer);
        assert_int_equal(answer.status, cases[i].status);
        ask("POST /control/nothing", cases[i].headers, &answer);
        assert_int_equal(answer.status, cases[i].status == 200 ? 404 : 401);
    }
    stop();
}

static void routes_are_found_by_method_and_path(void **state)
{
    struct probe_answer answer;

    (void)state;
    start(NULL);
    ask("POST /control/sync?dry_run=true", "", &answer);
    assert_string_equal(answer.body, "synced");
    ask("DELETE /control/sync", "", &answer);
    assert_string_equal(answer.body, "removed");
    ask("GET /control/sync", "", &answer);
    assert_int_equal(answer.status, 405);
    assert_non_null(strstr(answer.head, "\r\nallow: POST, DELETE\r\n"));
    ask("POST /control/sync/", "", &answer);
    assert_int_equal(answer.status, 404);
    ask("POST /webhooks/main", "", &answer);
    assert_int_equal(answer.status, 404);
    stop();
}

static void web_pages_are_refused_everywhere(void **state)
{
    static const char *const lines[] = {"GET /healthz", "GET /metrics", "GET /readyz",
                                        "POST /control/sync", "GET /nothing"};
    struct probe_answer answer;

    (void)state;
    start(TOKEN);
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        ask(lines[i], "Origin: http://localhost\r\nAuthorization: Bearer " TOKEN "\r\n", &answer);
        assert_int_equal(answer.status, 403);
        ask(lines[i], "origin: null\r\nOrigin: x\r\nAuthorization: Bearer " TOKEN "\r\n", &answer);
        assert_int_equal(answer.status, 403);
    }
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open_paths_need_no_token),
        cmocka_unit_test(all_else_needs_the_token),
        cmocka_unit_test(routes_are_found_by_method_and_path),
        cmocka_unit_test(web_pages_are_refused_everywhere),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
