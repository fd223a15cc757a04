#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/buf.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/thread.h"
#include "bridge/close/close_api.h"
#include "bridge/http/http_server.h"
#include "bridge/runtime/metrics.h"

#define API_KEY "api_0123456789.canary"

/* What the server answers to one request after the other; the last is repeated. */
struct scripted {
    int status; /* 0: never */
    const char *body;
    struct http_header headers[2];
};

enum {
    SEEN_MAX = 32,
    ANSWER_MS = 10000, /* nothing is to end by it on a busy machine */
    SHORT_MS = 400,
};

static struct http_server *server;
static struct metrics *metrics;
static struct close_api *api;
static struct close_access access;
static char url[64];
static const struct scripted *script;
static size_t script_size;
static struct http_deferred *hanging[SEEN_MAX];
static _Atomic size_t hanging_count;
static char seen[SEEN_MAX][512]; /* "METHOD PATH authorization body" */
static _Atomic size_t seen_count;

static void answer_at_last(struct http_deferred *deferred)
{
    if (deferred->request)
        http_respond(deferred->request, &(struct http_response){.status = 200});
}

static void handle(void *context, unsigned thread, struct http_request *request)
{
    size_t count = seen_count;
    const struct scripted *answer = &script[count < script_size ? count : script_size - 1];
    struct text method = http_request_method(request);
    struct text path = http_request_path(request);
    struct text authorization = http_request_header(request, "authorization", NULL);
    struct text body = http_request_body(request);

    (void)context;
    (void)thread;
    assert_true(count < SEEN_MAX);
    snprintf(seen[count], sizeof(seen[count]), "%.*s %.*s %.*s %.*s", (int)method.size, method.data,
             (int)path.size, path.data, (int)authorization.size, authorization.data, (int)body.size,
             body.data);
    if (answer->status == 0) {
        hanging[hanging_count] = http_defer(request, sizeof(struct http_deferred), answer_at_last);
        hanging_count++;
    }
    seen_count = count + 1; /* before the answer: who has it may look */
    if (answer->status != 0)
        http_respond(request,
                     &(struct http_response){.status = answer->status,
                                             .body = text_of(answer->body),
                                             .headers = {answer->headers[0], answer->headers[1]}});
}

static void start_with(const struct scripted *answers, size_t count, int64_t answer_timeout_ms)
{
    struct error err = {0};

    script = answers;
    script_size = count;
    seen_count = 0;
    hanging_count = 0;
    metrics = metrics_new();
    server = http_server_start(&(struct http_server_options){.name = "close",
                                                             .host = "127.0.0.1",
                                                             .threads = 1,
                                                             .max_body = 65536,
                                                             .clock = &clock_system,
                                                             .handle = handle},
                               &err);
    assert_non_null(server);
    api = close_api_new(&(struct close_api_options){.clock = &clock_system,
                                                    .metrics = metrics,
                                                    .answer_timeout_ms = answer_timeout_ms,
                                                    .call_timeout_ms = 3 * ANSWER_MS,
                                                    .first_pause_ms = 2,
                                                    .max_body = 100000},
                        &err);
    assert_non_null(api);
    snprintf(url, sizeof(url), "http://127.0.0.1:%u/api/v1", http_server_port(server));
    access = (struct close_access){.url = url, .api_key = API_KEY};
}

static void start(const struct scripted *answers, size_t count)
{
    start_with(answers, count, ANSWER_MS);
}

#define START(answers) start(answers, sizeof(answers) / sizeof((answers)[0]))

static void stop(void)
{
    close_api_free(api);
    for (size_t i = 0; i < hanging_count; i++)
        http_resume(hanging[i]);
    http_server_free(server);
    metrics_free(metrics);
}

static int ask(enum close_method method, const char *body, struct close_answer *answer,
               struct error *err)
{
    struct close_request request = {method, "/webhook/", text_of(body)};
    int rc;

    *err = (struct error){0};
    rc = close_api_ask(api, &access, &request, answer, err);
    assert_null(strstr(err->message, "canary"));
    return rc;
}

static void expect_metric(const char *line)
{
    struct buf page = {0};

    metrics_render(metrics, &page);
    assert_non_null(strstr(page.data, line));
    buf_release(&page);
}

static void an_answer_comes_with_its_body(void **state)
{
    static const struct scripted answers[] = {
        {201, "{\"id\":\"whsub_1\"}", {{"date", "Sun, 06 Nov 1994 08:49:37 GMT"}}}};
    struct close_answer answer;
    struct error err;
    int64_t skew_ms;

    (void)state;
    START(answers);
    assert_false(close_api_clock_skew_ms(api, &skew_ms));
    assert_int_equal(ask(CLOSE_POST, "{\"url\":\"x\"}", &answer, &err), 0);
    assert_int_equal(answer.status, 201);
    assert_string_equal(answer.body.data, "{\"id\":\"whsub_1\"}");
    for (size_t i = 0; i < 64; i++)
        assert_int_equal(answer.body.data[answer.body.size + i], 0);
    close_answer_release(&answer);
    /* "api_0123456789.canary:" in base64 */
    assert_string_equal(seen[0], "POST /api/v1/webhook/ Basic YXBpXzAxMjM0NTY3ODkuY2FuYXJ5Og== "
                                 "{\"url\":\"x\"}");
    assert_true(close_api_clock_skew_ms(api, &skew_ms));
    assert_true(skew_ms > INT64_C(1000) * 86400 * 365 * 29);
    expect_metric("closebridge_close_api_requests_total{status=\"201\"} 1\n");
    expect_metric("closebridge_clock_skew_seconds ");
    access = (struct close_access){.url = url, .oauth_token = "token.canary"};
    assert_int_equal(ask(CLOSE_DELETE, NULL, &answer, &err), 0);
    assert_string_equal(seen[1], "DELETE /api/v1/webhook/ Bearer token.canary ");
    close_answer_release(&answer);
    stop();
}

static void refusals_say_what_to_do(void **state)
{
    static const struct {
        struct scripted answer;
        enum error_kind kind;
        const char *says;
    } cases[] = {
        {{401, "{\"error\":\"Invalid key\"}", {{NULL}}}, ERROR_CONFIG, "check api_key"},
        {{402, "{\"error\":\"Upgrade\"}", {{NULL}}},
         ERROR_CONFIG,
         "(402): Upgrade: change the plan"},
        {{403, "{}", {{NULL}}}, ERROR_CONFIG, "key of an administrator"},
        {{403, "{\"error\":\"you sent " API_KEY "\"}", {{NULL}}},
         ERROR_CONFIG,
         "(403 to GET /webhook/): use"},
        {{404, "", {{NULL}}}, ERROR_INPUT, "has nothing at /webhook/ (404)"},
        {{400,
          "{\"errors\":[\"a\\nb\",{\"c\":1}],\"field-errors\":{\"url\":\"No.\",\"events\":[1]}}",
          {{NULL}}},
         ERROR_INPUT,
         "(400): a b; {\"c\":1}; url: No.; events: [1]"},
        {{400, "<html>", {{NULL}}}, ERROR_INPUT, "Close refuses GET /webhook/ (400)"},
        {{302, "", {{"location", "http://169.254.169.254/latest/"}}}, ERROR_CONFIG, "redirect"},
        {{301, "", {{"location", "file:///etc/passwd"}}},
         ERROR_CONFIG,
         "redirect (301) to file:///etc/passwd, which is not followed"},
        {{429, "", {{"retry-after", "600"}}}, ERROR_TRANSIENT, "asks for a pause of 600 s"},
    };
    struct close_answer answer;
    struct error err;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        start(&cases[i].answer, 1);
        assert_int_equal(ask(CLOSE_GET, NULL, &answer, &err), -1);
        assert_int_equal(answer.status, cases[i].answer.status);
        close_answer_release(&answer);
        if (!strstr(err.message, cases[i].says))
            fail_msg("%s: not in: %s", cases[i].says, err.message);
        assert_int_equal(err.kind, cases[i].kind);
        assert_int_equal(seen_count, 1);
        stop();
    }
}

static void what_may_be_sent_twice_is_tried_again(void **state)
{
    static const struct {
        enum close_method method;
        struct scripted answers[3];
        int rc;
        size_t requests;
    } cases[] = {
        {CLOSE_GET, {{503, "", {{NULL}}}, {500, "", {{NULL}}}, {200, "{}", {{NULL}}}}, 0, 3},
        {CLOSE_PUT, {{502, "", {{NULL}}}, {200, "{}", {{NULL}}}}, 0, 2},
        {CLOSE_DELETE, {{504, "", {{NULL}}}, {404, "{}", {{NULL}}}, {404, "{}", {{NULL}}}}, -1, 2},
        {CLOSE_POST, {{503, "", {{NULL}}}, {200, "{}", {{NULL}}}, {200, "{}", {{NULL}}}}, -1, 1},
        {CLOSE_POST,
         {{429, "", {{"ratelimit", "limit=9; remaining=0; reset=0.02"}}}, {200, "{}", {{NULL}}}},
         0,
         2},
        {CLOSE_GET, {{500, "", {{NULL}}}, {500, "", {{NULL}}}, {500, "", {{NULL}}}}, -1, 5},
        {CLOSE_GET, {{400, "", {{NULL}}}, {200, "", {{NULL}}}, {200, "", {{NULL}}}}, -1, 1},
    };
    struct close_answer answer;
    struct error err;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *body =
            cases[i].method == CLOSE_POST || cases[i].method == CLOSE_PUT ? "{}" : NULL;

        start(cases[i].answers, cases[i].answers[2].status ? 3 : 2);
        if (ask(cases[i].method, body, &answer, &err) != cases[i].rc)
            fail_msg("case %zu: %s", i, err.message);
        close_answer_release(&answer);
        assert_int_equal(seen_count, cases[i].requests);
        stop();
    }
}

static void an_exhausted_rate_limit_delays_the_next_request(void **state)
{
    static const struct scripted answers[] = {
        {200, "{}", {{"ratelimit", "limit=1, remaining=0, reset=0.2"}}},
        {200, "{}", {{"ratelimit", "limit=1, remaining=0, reset=3600"}}}};
    struct close_answer answer;
    struct error err;
    int64_t start_ms;

    (void)state;
    START(answers);
    start_ms = clock_monotonic_ms(&clock_system);
    assert_int_equal(ask(CLOSE_GET, NULL, &answer, &err), 0);
    close_answer_release(&answer);
    assert_int_equal(ask(CLOSE_GET, NULL, &answer, &err), 0);
    close_answer_release(&answer);
    assert_true(clock_monotonic_ms(&clock_system) - start_ms >= 200);
    assert_int_equal(ask(CLOSE_GET, NULL, &answer, &err), -1);
    close_answer_release(&answer);
    assert_non_null(strstr(err.message, "pause of 3600 s"));
    assert_int_equal(seen_count, 2);
    stop();
}

static void an_answer_that_does_not_come_ends_in_time(void **state)
{
    static const struct scripted answers[] = {{0, "", {{NULL}}}};
    struct close_answer answer;
    struct error err;
    int64_t start_ms = clock_monotonic_ms(&clock_system);

    (void)state;
    start_with(answers, 1, SHORT_MS);
    assert_int_equal(ask(CLOSE_POST, "{}", &answer, &err), -1);
    assert_int_equal(answer.status, 0);
    assert_int_equal(err.kind, ERROR_TRANSIENT);
    assert_non_null(strstr(err.message, "no answer from http://127.0.0.1"));
    close_answer_release(&answer);
    assert_true(clock_monotonic_ms(&clock_system) - start_ms >= SHORT_MS);
    expect_metric("closebridge_close_api_requests_total{status=\"none\"} 1\n");
    stop();
}

static void an_answer_that_is_too_large_is_cut(void **state)
{
    static char large[200001];
    const struct scripted answers[] = {{200, large, {{NULL}}}};
    struct close_answer answer;
    struct error err;

    (void)state;
    memset(large, ' ', sizeof(large) - 1);
    START(answers);
    assert_int_equal(ask(CLOSE_GET, NULL, &answer, &err), -1);
    assert_true(answer.body.size <= 100000);
    assert_non_null(strstr(err.message, "larger than 100000 bytes"));
    assert_int_equal(seen_count, 1);
    close_answer_release(&answer);
    stop();
}

/* 0.0.0.0 reaches this machine, and yet is no loopback address. */
static void plain_http_stays_on_this_machine(void **state)
{
    static const struct scripted answers[] = {{200, "{}", {{NULL}}}};
    struct close_answer answer;
    char other[64];
    struct error err;

    (void)state;
    START(answers);
    snprintf(other, sizeof(other), "http://0.0.0.0:%u", http_server_port(server));
    access.url = other;
    assert_int_equal(ask(CLOSE_GET, NULL, &answer, &err), -1);
    assert_int_equal(answer.status, 0);
    close_answer_release(&answer);
    assert_int_equal(seen_count, 0);
    snprintf(other, sizeof(other), "http://localhost:%u", http_server_port(server));
    assert_int_equal(ask(CLOSE_GET, NULL, &answer, &err), 0);
    close_answer_release(&answer);
    stop();
}

static void *interrupt_soon(void *argument)
{
    while (seen_count == 0)
        ;
    close_api_interrupt(argument);
    return NULL;
}

static void an_interruption_ends_a_call_at_once(void **state)
{
    static const struct scripted hangs[] = {{0, "", {{NULL}}}};
    static const struct scripted pauses[] = {{503, "", {{"retry-after", "20"}}}};
    const struct scripted *const scripts[] = {hangs, pauses};
    struct close_answer answer;
    struct error err;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        int64_t start_ms = clock_monotonic_ms(&clock_system);
        pthread_t thread;

        start(scripts[i], 1);
        assert_int_equal(thread_start(&thread, "interrupter", interrupt_soon, api, &err), 0);
        assert_int_equal(ask(CLOSE_GET, NULL, &answer, &err), -1);
        pthread_join(thread, NULL);
        close_answer_release(&answer);
        assert_string_equal(err.message, "the bridge stops before Close has answered");
        assert_int_equal(ask(CLOSE_GET, NULL, &answer, &err), -1);
        close_answer_release(&answer);
        assert_int_equal(seen_count, 1);
        /* Last calls are possible until their time is over. */
        access.not_before_ms = 0;
        close_api_finish_by(api, clock_monotonic_ms(&clock_system) + 1000);
        assert_int_equal(ask(CLOSE_GET, NULL, &answer, &err), -1);
        close_answer_release(&answer);
        assert_int_equal(seen_count, 2);
        assert_true(clock_monotonic_ms(&clock_system) - start_ms < ANSWER_MS);
        stop();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_comes_with_its_body),
        cmocka_unit_test(refusals_say_what_to_do),
        cmocka_unit_test(what_may_be_sent_twice_is_tried_again),
        cmocka_unit_test(an_exhausted_rate_limit_delays_the_next_request),
        cmocka_unit_test(an_answer_that_does_not_come_ends_in_time),
        cmocka_unit_test(an_answer_that_is_too_large_is_cut),
        cmocka_unit_test(plain_http_stays_on_this_machine),
        cmocka_unit_test(an_interruption_ends_a_call_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
