#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "bridge/base/buf.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/http/http_server.h"
#include "bridge/journal/delivery.h"
#include "bridge/runtime/metrics.h"
#include "bridge/webhook/signature.h"
#include "bridge/webhook/webhook.h"
#include "schemas/event.h"
#include "tests/support/http_probe.h"

#define LEAD_EVENT                                                                                 \
    "{\"subscription_id\":\"whsub_1\",\"event\":{\"id\":\"ev_1\",\"object_type\":\"lead\","        \
    "\"action\":\"created\",\"date_updated\":\"2025-09-04T07:27:17.674000\",\"data\":{}}}"

enum { MAX_BODY = 65536 };

static unsigned char main_key[1][SIGNATURE_KEY_SIZE] = {"0123456789abcdef0123456789abcde"};
static unsigned char new_key[1][SIGNATURE_KEY_SIZE] = {"another key, of a subscription.."};

/* An intake that answers as it is told, at once or when the test says so. */
struct fake_intake {
    struct intake intake;
    atomic_int accepted;
    atomic_int identified;
    enum delivery_outcome outcome;
    bool holds;
    struct delivery *_Atomic held;
    unsigned flags;
    char id[64];
    char account[64];
    char traceparent[128];
    char tracestate[600];
    char body[256];
};

static struct {
    struct config config;
    struct config_account accounts[2];
    struct config_entry entries[1];
    struct fake_intake intake;
    struct metrics *metrics;
    struct webhook *webhook;
    struct http_server *server;
    atomic_bool is_ready;
    _Atomic int64_t wall_ms;
    _Atomic int64_t skipped_us; /* added to monotonic time */
} daemon_under_test;

#define T daemon_under_test

static int64_t fake_monotonic_us(const struct clock *self)
{
    (void)self;
    return clock_monotonic_us(&clock_system) + atomic_load(&T.skipped_us);
}

static int64_t fake_wall_ms(const struct clock *self)
{
    (void)self;
    return atomic_load(&T.wall_ms);
}

static const struct clock fake_clock = {fake_monotonic_us, fake_wall_ms};

static void copy_field(char *out, size_t capacity, const struct event *event,
                       enum event_field field)
{
    struct text text = event_text(event, field);

    snprintf(out, capacity, "%.*s", (int)text.size, text.data);
}

static void fake_accept(struct intake *self, struct delivery *delivery)
{
    struct fake_intake *intake = (struct fake_intake *)self;
    const struct event *event = delivery->event;

    copy_field(intake->id, sizeof(intake->id), event, EVENT_ID);
    copy_field(intake->account, sizeof(intake->account), event, EVENT_ACCOUNT);
    copy_field(intake->traceparent, sizeof(intake->traceparent), event, EVENT_TRACEPARENT);
    copy_field(intake->tracestate, sizeof(intake->tracestate), event, EVENT_TRACESTATE);
    copy_field(intake->body, sizeof(intake->body), event, EVENT_BODY);
    intake->flags = event->record->flags;
    delivery->outcome = event_has(event, EVENT_IS_OPAQUE) && intake->outcome == DELIVERY_ACCEPTED
                            ? DELIVERY_DEAD_LETTERED
                            : intake->outcome;
    if (delivery->outcome == DELIVERY_UNAVAILABLE)
        delivery->reason = "The journal is full.";
    atomic_fetch_add(&intake->accepted, 1);
    if (intake->holds)
        atomic_store(&intake->held, delivery);
    else
        delivery->done(delivery);
}

static void fake_identify(struct intake *self, struct event *event)
{
    (void)event;
    atomic_fetch_add(&((struct fake_intake *)self)->identified, 1);
}

static bool is_ready(void *context)
{
    (void)context;
    return atomic_load(&T.is_ready);
}

static void configure(void)
{
    static char *created[] = {"created"};

    atomic_init(&T.config.references, 1);
    T.accounts[0] = (struct config_account){
        .name = "main",
        .signature_keys = main_key,
        .signature_key_count = 1,
        .replay_window_ms = 3600000,
    };
    T.accounts[1] = (struct config_account){.name = "keyless"};
    T.entries[0] =
        (struct config_entry){.object_type = "lead", .actions = created, .action_count = 1};
    T.entries[0].kafka.is_configured = true;
    T.entries[0].kafka.topic = topic_template_compile(text_of("t"), TOPIC_KAFKA, NULL);
    assert_non_null(T.entries[0].kafka.topic);
    T.config.listen.max_body = MAX_BODY;
    T.config.listen.health_path = "/health";
    T.config.accounts = T.accounts;
    T.config.account_count = 2;
    T.config.entries = T.entries;
    T.config.entry_count = 1;
}

static int set_up(void **state)
{
    struct webhook_options options;
    struct http_server_options server = {
        .name = "webhooks",
        .host = "127.0.0.1",
        .threads = 2,
        .max_body = MAX_BODY,
        .clock = &fake_clock,
        .handle = webhook_handle,
        .refused = webhook_refused,
        .tick = webhook_tick,
    };
    struct error err = {0};

    (void)state;
    memset(&T, 0, sizeof(T));
    configure();
    T.intake.intake = (struct intake){fake_accept, fake_identify};
    T.metrics = metrics_new();
    atomic_store(&T.is_ready, true);
    atomic_store(&T.wall_ms, INT64_C(1700000000000));
    options = (struct webhook_options){&T.config,   2,        T.metrics, &T.intake.intake,
                                       &fake_clock, is_ready, NULL};
    T.webhook = webhook_new(&options, &err);
    if (!T.webhook)
        return -1;
    server.context = T.webhook;
    T.server = http_server_start(&server, &err);
    return T.server ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    http_server_free(T.server);
    webhook_free(T.webhook);
    metrics_free(T.metrics);
    topic_template_free(T.entries[0].kafka.topic);
    return 0;
}

/* Sends a POST, signed with `key` unless that is NULL, and reads the answer. */
static void post(const char *path, const unsigned char *key, const char *headers, const char *body,
                 struct probe_answer *answer)
{
    int fd = probe_connect(http_server_port(T.server));
    struct buf request = {0};
    char hash[65];

    buf_printf(&request, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n%s", path,
               strlen(body), headers);
    if (key) {
        assert_int_equal(signature_sign(key, text_of("1700000000"), text_of(body), hash, NULL), 0);
        buf_printf(&request, "Close-Sig-Timestamp: 1700000000\r\nClose-Sig-Hash: %s\r\n", hash);
    }
    buf_printf(&request, "\r\n%s", body);
    probe_send(fd, request.data, request.size);
    buf_release(&request);
    assert_true(probe_read(fd, answer));
    close(fd);
}

static void assert_metric(const char *line)
{
    struct buf out = {0};

    metrics_render(T.metrics, &out);
    if (!strstr(out.data, line))
        print_error("%s not in\n%s\n", line, out.data);
    assert_non_null(strstr(out.data, line));
    buf_release(&out);
}

#define ASSERT_RESULT(account, result, times)                                                      \
    assert_metric("closebridge_webhooks_total{account=\"" account "\",result=\"" result            \
                  "\"} " times "\n")

static void authentic_events_go_to_the_intake(void **state)
{
    struct probe_answer answer;

    (void)state;
    post("/webhooks/main?x=1", main_key[0], "", LEAD_EVENT, &answer);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body, "{\"status\":\"accepted\"}");
    assert_non_null(strstr(answer.head, "\r\ncontent-type: application/json\r\n"));
    assert_string_equal(T.intake.id, "ev_1");
    assert_string_equal(T.intake.account, "main");
    assert_string_equal(T.intake.body, LEAD_EVENT);
    assert_int_equal(T.intake.flags, 0);
    assert_int_equal(atomic_load(&T.intake.identified), 1);
    ASSERT_RESULT("main", "accepted", "1");
    assert_metric("closebridge_events_received_total{account=\"main\",object_type=\"lead\","
                  "action=\"created\"} 1\n");
    assert_metric("closebridge_last_event_timestamp_seconds{account=\"main\"} 1700000000\n");
    assert_metric("closebridge_webhook_duration_seconds_count 1\n");
}

static void the_outcome_decides_the_answer(void **state)
{
    struct probe_answer answer;

    (void)state;
    T.intake.outcome = DELIVERY_DUPLICATE;
    post("/webhooks/main", main_key[0], "", LEAD_EVENT, &answer);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body, "{\"status\":\"duplicate\"}");
    T.intake.outcome = DELIVERY_UNAVAILABLE;
    post("/webhooks/main", main_key[0], "", LEAD_EVENT, &answer);
    assert_int_equal(answer.status, 503);
    assert_string_equal(answer.body,
                        "{\"error\":\"unavailable\",\"message\":\"The journal is full.\"}");
    assert_non_null(strstr(answer.head, "\r\nretry-after: 10\r\n"));
    ASSERT_RESULT("main", "duplicate", "1");
    ASSERT_RESULT("main", "unavailable", "1");
}

static void authentic_bodies_that_are_no_events_are_kept(void **state)
{
    static const char *const bodies[] = {"{", "[]", "{\"event\":{\"id\":\"ev_1\"}}", "\xff", ""};
    struct probe_answer answer;

    (void)state;
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        post("/webhooks/main", main_key[0], "", bodies[i], &answer);
        assert_int_equal(answer.status, 200);
        assert_string_equal(answer.body, "{\"status\":\"dead_lettered\"}");
        assert_int_equal(T.intake.flags, EVENT_IS_OPAQUE);
        assert_string_equal(T.intake.body, bodies[i]);
    }
    assert_int_equal(atomic_load(&T.intake.identified), 0);
    ASSERT_RESULT("main", "dead_lettered", "5");
}

static void events_that_no_entry_takes_are_ignored(void **state)
{
    static const char body[] = "{\"event\":{\"id\":\"ev_2\",\"object_type\":\"nonsense\","
                               "\"action\":\"done\"},\"subscription_id\":\"w\"}";
    struct probe_answer answer;

    (void)state;
    post("/webhooks/main", main_key[0], "", body, &answer);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body, "{\"status\":\"ignored\"}");
    assert_int_equal(atomic_load(&T.intake.accepted), 0);
    ASSERT_RESULT("main", "ignored", "1");
    assert_metric("closebridge_events_received_total{account=\"main\",object_type=\"other\","
                  "action=\"other\"} 1\n");
}

/* Every cause gives the same bytes, the Date header aside. */
static void refusals_say_nothing_of_their_cause(void **state)
{
    static const struct {
        const char *path;
        const char *headers;
        const char *metric;
    } cases[] = {
        {"/webhooks/main", "", "{account=\"main\",result=\"bad_signature\"} 1\n"},
        {"/webhooks/main", "close-sig-hash: 12\r\nclose-sig-timestamp: 1700000000\r\n",
         "{account=\"main\",result=\"bad_signature\"} 2\n"},
        {"/webhooks/main",
         "close-sig-hash: 0000000000000000000000000000000000000000000000000000000000000000\r\n"
         "close-sig-timestamp: 1700000000\r\n",
         "{account=\"main\",result=\"bad_signature\"} 3\n"},
        {"/webhooks/keyless",
         "close-sig-hash: 0000000000000000000000000000000000000000000000000000000000000000\r\n"
         "close-sig-timestamp: 1700000000\r\n",
         "{account=\"keyless\",result=\"no_keys\"} 1\n"},
        {"/webhooks/main",
         "close-sig-hash: 0000000000000000000000000000000000000000000000000000000000000000\r\n"
         "close-sig-hash: 0000000000000000000000000000000000000000000000000000000000000000\r\n"
         "close-sig-timestamp: 1700000000\r\n",
         "{account=\"main\",result=\"bad_signature\"} 4\n"},
    };
    struct probe_answer answer;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        post(cases[i].path, NULL, cases[i].headers, LEAD_EVENT, &answer);
        assert_int_equal(answer.status, 401);
        assert_string_equal(answer.body, "{\"error\":\"unauthorized\",\"message\":\"The signature "
                                         "of the request does not verify.\"}");
        assert_false(answer.closes);
        assert_metric(cases[i].metric);
    }
    assert_int_equal(atomic_load(&T.intake.accepted), 0);
}

static void old_signatures_are_stale(void **state)
{
    struct probe_answer answer;

    (void)state;
    atomic_store(&T.wall_ms, INT64_C(1700000000000) + 3600001);
    post("/webhooks/main", main_key[0], "", LEAD_EVENT, &answer);
    assert_int_equal(answer.status, 401);
    ASSERT_RESULT("main", "stale", "1");
    atomic_store(&T.wall_ms, INT64_C(1700000000000) + 3600000);
    post("/webhooks/main", main_key[0], "", LEAD_EVENT, &answer);
    assert_int_equal(answer.status, 200);
}

static void requests_are_refused_in_order(void **state)
{
    static const char gzip[] = "Content-Encoding: gzip\r\n";
    struct probe_answer answer;
    int fd = probe_connect(http_server_port(T.server));

    (void)state;
    probe_ask(fd, "GET /webhooks/main HTTP/1.1\r\nHost: a\r\n\r\n", &answer);
    assert_int_equal(answer.status, 405);
    assert_non_null(strstr(answer.head, "\r\nallow: POST\r\n"));
    probe_ask(fd, "GET /webhooks/other HTTP/1.1\r\nHost: a\r\n\r\n", &answer);
    assert_int_equal(answer.status, 404);
    assert_int_equal(strncmp(answer.body, "{\"error\":\"not_found\"", 20), 0);
    probe_ask(fd, "POST /webhooks/main HTTP/1.1\r\nHost: a\r\n\r\n", &answer);
    assert_int_equal(answer.status, 400);
    close(fd);
    post("/webhooks/", main_key[0], "", LEAD_EVENT, &answer);
    assert_int_equal(answer.status, 404);
    post("/webhooks/main/", main_key[0], "", LEAD_EVENT, &answer);
    assert_int_equal(answer.status, 404);
    post("/webhooks/x/../main", main_key[0], "", LEAD_EVENT, &answer);
    assert_int_equal(answer.status, 404);
    post("/control/sync", main_key[0], "", LEAD_EVENT, &answer);
    assert_int_equal(answer.status, 404);
    post("/metrics", NULL, "", "", &answer);
    assert_int_equal(answer.status, 404);
    post("/webhooks/main", main_key[0], gzip, LEAD_EVENT, &answer);
    assert_int_equal(answer.status, 415);
    post("/webhooks/main", main_key[0], "Content-Encoding: identity\r\n", LEAD_EVENT, &answer);
    assert_int_equal(answer.status, 200);
    post("/webhooks/main", main_key[0], "Host: b\r\n", LEAD_EVENT, &answer);
    assert_int_equal(answer.status, 400);
    ASSERT_RESULT("", "not_found", "6");
    ASSERT_RESULT("main", "unsupported_encoding", "1");
    ASSERT_RESULT("main", "method_not_allowed", "1");
    ASSERT_RESULT("main", "malformed", "2");
}

static void large_bodies_are_counted_for_their_account(void **state)
{
    int fd = probe_connect(http_server_port(T.server));
    struct probe_answer answer;

    (void)state;
    probe_ask(fd, "POST /webhooks/main HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n",
              &answer);
    assert_int_equal(answer.status, 413);
    close(fd);
    ASSERT_RESULT("main", "too_large", "1");
}

static void headers_travel_with_the_event(void **state)
{
    static const char trace[] =
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
        "tracestate: a=b,c=d\r\nClose-Bridge-Test: true\r\n";
    static const char bad[] = "traceparent: 00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01"
                              "\r\ntracestate: a=b\r\nclose-bridge-test: 1\r\n";
    struct probe_answer answer;

    (void)state;
    post("/webhooks/main", main_key[0], trace, LEAD_EVENT, &answer);
    assert_string_equal(T.intake.traceparent,
                        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    assert_string_equal(T.intake.tracestate, "a=b,c=d");
    assert_int_equal(T.intake.flags, EVENT_IS_TEST);
    post("/webhooks/main", main_key[0], bad, LEAD_EVENT, &answer);
    assert_int_equal(answer.status, 200);
    assert_string_equal(T.intake.traceparent, "");
    assert_string_equal(T.intake.tracestate, "");
    assert_int_equal(T.intake.flags, 0);
}

static bool is_held(void *context)
{
    (void)context;
    return atomic_load(&T.intake.held) != NULL;
}

static int send_signed(void)
{
    char request[1024];
    char hash[65];
    int fd = probe_connect(http_server_port(T.server));

    signature_sign(main_key[0], text_of("1700000000"), text_of(LEAD_EVENT), hash, NULL);
    snprintf(request, sizeof(request),
             "POST /webhooks/main HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n"
             "Close-Sig-Timestamp: 1700000000\r\nClose-Sig-Hash: %s\r\n\r\n%s",
             sizeof(LEAD_EVENT) - 1, hash, LEAD_EVENT);
    probe_send_string(fd, request);
    return fd;
}

static void the_answer_waits_for_the_intake_but_not_for_ever(void **state)
{
    struct probe_answer answer;
    struct delivery *held;
    int fd;

    (void)state;
    T.intake.holds = true;
    fd = send_signed();
    assert_true(probe_until(is_held, NULL));
    assert_int_equal(recv(fd, &answer, 1, MSG_DONTWAIT), -1);
    atomic_store(&T.skipped_us, 12100000);
    assert_true(probe_read(fd, &answer));
    assert_int_equal(answer.status, 503);
    assert_non_null(strstr(answer.head, "\r\nretry-after: 10\r\n"));
    ASSERT_RESULT("main", "unavailable", "1");
    held = atomic_load(&T.intake.held);
    held->done(held); /* too late: counted once, answered once */
    T.intake.holds = false;
    close(fd);
    post("/webhooks/main", main_key[0], "", LEAD_EVENT, &answer);
    assert_int_equal(answer.status, 200);
    ASSERT_RESULT("main", "unavailable", "1");
    ASSERT_RESULT("main", "accepted", "1");
}

static void a_sender_may_leave_while_it_waits(void **state)
{
    struct delivery *held;
    int fd;

    (void)state;
    T.intake.holds = true;
    fd = send_signed();
    assert_true(probe_until(is_held, NULL));
    close(fd);
    held = atomic_load(&T.intake.held);
    held->done(held);
    http_server_stop_accepting(T.server);
    assert_true(http_server_wait_idle(T.server, PROBE_WAIT_MS));
    ASSERT_RESULT("main", "accepted", "1");
}

static void draining_refuses_and_closes(void **state)
{
    struct probe_answer answer;
    int fd = probe_connect(http_server_port(T.server));

    (void)state;
    probe_ask(fd, "GET /health HTTP/1.1\r\nHost: a\r\n\r\n", &answer);
    assert_int_equal(answer.status, 200);
    webhook_drain(T.webhook);
    probe_ask(fd, "GET /health HTTP/1.1\r\nHost: a\r\n\r\n", &answer);
    assert_int_equal(answer.status, 503);
    close(fd);
    post("/webhooks/main", main_key[0], "", LEAD_EVENT, &answer);
    assert_int_equal(answer.status, 503);
    assert_true(answer.closes);
    assert_non_null(strstr(answer.head, "\r\nretry-after: 10\r\n"));
    assert_int_equal(atomic_load(&T.intake.accepted), 0);
}

static void the_health_path_follows_readiness(void **state)
{
    struct probe_answer answer;
    int fd = probe_connect(http_server_port(T.server));

    (void)state;
    probe_ask(fd, "GET /health HTTP/1.1\r\nHost: a\r\n\r\n", &answer);
    assert_int_equal(answer.status, 200);
    atomic_store(&T.is_ready, false);
    probe_ask(fd, "GET /health HTTP/1.1\r\nHost: a\r\n\r\n", &answer);
    assert_int_equal(answer.status, 503);
    probe_ask(fd, "POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", &answer);
    assert_int_equal(answer.status, 405);
    close(fd);
}

static void keys_of_subscriptions_can_come_later(void **state)
{
    struct probe_answer answer;
    struct error err = {0};

    (void)state;
    post("/webhooks/keyless", new_key[0], "", LEAD_EVENT, &answer);
    assert_int_equal(answer.status, 401);
    assert_int_equal(webhook_set_keys(T.webhook, "keyless",
                                      (const unsigned char(*)[SIGNATURE_KEY_SIZE])new_key, 1, &err),
                     0);
    post("/webhooks/keyless", new_key[0], "", LEAD_EVENT, &answer);
    assert_int_equal(answer.status, 200);
    assert_int_equal(webhook_set_keys(T.webhook, "main",
                                      (const unsigned char(*)[SIGNATURE_KEY_SIZE])new_key, 1, &err),
                     0);
    post("/webhooks/main", new_key[0], "", LEAD_EVENT, &answer);
    assert_int_equal(answer.status, 200);
    post("/webhooks/main", main_key[0], "", LEAD_EVENT, &answer);
    assert_int_equal(answer.status, 200);
    assert_int_equal(webhook_set_keys(T.webhook, "keyless", NULL, 0, &err), 0);
    post("/webhooks/keyless", new_key[0], "", LEAD_EVENT, &answer);
    assert_int_equal(answer.status, 401);
}

/* A loop says that it has taken a configuration over, then lets go of the one before. */
static void wait_for_references(struct config *config, unsigned count)
{
    const struct timespec pause = {0, 1000000};
    int64_t end_ms = clock_monotonic_ms(&clock_system) + 10000;

    while (atomic_load(&config->references) != count && clock_monotonic_ms(&clock_system) < end_ms)
        nanosleep(&pause, NULL);
    assert_int_equal(atomic_load(&config->references), count);
}

static void another_configuration_takes_over(void **state)
{
    struct config *next = malloc(sizeof(*next));
    struct probe_answer answer;
    struct error err = {0};

    (void)state;
    assert_non_null(next);
    *next = T.config;
    atomic_init(&next->references, 1);
    next->account_count = 1;
    next->listen.health_path = NULL;
    assert_int_equal(webhook_reconfigure(T.webhook, next, &err), 0);
    post("/webhooks/keyless", NULL, "", LEAD_EVENT, &answer);
    assert_int_equal(answer.status, 404);
    post("/webhooks/main", main_key[0], "", LEAD_EVENT, &answer);
    assert_int_equal(answer.status, 200);
    assert_int_equal(webhook_reconfigure(T.webhook, &T.config, &err), 0);
    wait_for_references(next, 1); /* nobody looks at it any more */
    free(next);
    post("/webhooks/keyless", NULL, "", LEAD_EVENT, &answer);
    assert_int_equal(answer.status, 401);
}

static void refusals_are_remembered_for_the_operator(void **state)
{
    struct probe_answer answer;
    struct buf out = {0};

    (void)state;
    post("/webhooks/main", NULL, "", LEAD_EVENT, &answer);
    post("/webhooks/main", NULL, "", LEAD_EVENT, &answer);
    post("/nothing", NULL, "", LEAD_EVENT, &answer);
    webhook_render_refusals(T.webhook, &out);
    assert_string_equal(
        out.data,
        "{\"refusals\":[{\"time\":\"2023-11-14T22:13:20.000Z\",\"account\":\"\",\"reason\":"
        "\"not_found\",\"address\":\"127.0.0.1\",\"count\":1},{\"time\":\"2023-11-14T22:13:20.000Z"
        "\",\"account\":\"main\",\"reason\":\"missing_signature\",\"address\":\"127.0.0.1\","
        "\"count\":2}]}");
    buf_release(&out);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(authentic_events_go_to_the_intake),
        TEST(the_outcome_decides_the_answer),
        TEST(authentic_bodies_that_are_no_events_are_kept),
        TEST(events_that_no_entry_takes_are_ignored),
        TEST(refusals_say_nothing_of_their_cause),
        TEST(old_signatures_are_stale),
        TEST(requests_are_refused_in_order),
        TEST(large_bodies_are_counted_for_their_account),
        TEST(headers_travel_with_the_event),
        TEST(the_answer_waits_for_the_intake_but_not_for_ever),
        TEST(a_sender_may_leave_while_it_waits),
        TEST(draining_refuses_and_closes),
        TEST(the_health_path_follows_readiness),
        TEST(keys_of_subscriptions_can_come_later),
        TEST(another_configuration_takes_over),
        TEST(refusals_are_remembered_for_the_operator),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
