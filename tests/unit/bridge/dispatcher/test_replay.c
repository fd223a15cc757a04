#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/error.h"
#include "bridge/base/mailbox.h"
#include "bridge/config/config.h"
#include "bridge/config/topic_map.h"
#include "bridge/dispatcher/carrier.h"
#include "bridge/dispatcher/lane.h"
#include "bridge/dispatcher/replay.h"
#include "bridge/runtime/metrics.h"
#include "publishers/topic_template.h"
#include "schemas/event.h"
#include "tests/unit/bridge/journal/journal_fixture.h"

enum { RECORDS = 5000, TURNS = 20000, AT_MOST = 256 };

static const int64_t begin_ms = INT64_C(1700000000000);

/* Takes records, and settles them when the test says so. */
struct fake_publisher {
    struct publisher base;
    struct record *records[RECORDS];
    size_t count;
    bool is_busy;
};

static struct {
    struct fixture *fixture;
    struct wakeup wakeup;
    struct metrics *metrics;
    struct config config;
    struct config_entry entry;
    struct router *router;
    struct lane *lanes[PUBLISHER_COUNT];
    struct fake_publisher *publisher;
    struct replay *replay;
    uint64_t settled;
    bool is_stopped_in_the_turn; /* somebody stops the replay while it runs for the first time */
} bench;

/* ---- the publisher ---- */

static struct publisher *create(const void *options, const struct clock *clock,
                                struct publisher_events events, struct error *err)
{
    struct fake_publisher *fake = calloc(1, sizeof(*fake));

    (void)options;
    (void)clock;
    (void)err;
    assert_non_null(fake);
    fake->base.events = events;
    fake->base.fd = -1;
    bench.publisher = fake;
    return &fake->base;
}

static enum submit_result submit(struct publisher *self, struct record *record)
{
    struct fake_publisher *fake = (struct fake_publisher *)self;

    if (fake->is_busy)
        return SUBMIT_BUSY;
    assert_true(fake->count < RECORDS);
    fake->records[fake->count++] = record;
    return SUBMIT_ACCEPTED;
}

static bool destroy(struct publisher *self, int64_t timeout_ms)
{
    (void)timeout_ms;
    free(self);
    bench.publisher = NULL;
    return true;
}

static const struct publisher_ops fake_ops = {
    .name = "kafka", .create = create, .submit = submit, .destroy = destroy};

static void settle(size_t count, enum settled_as as, const char *reason)
{
    struct fake_publisher *fake = bench.publisher;

    assert_true(count <= fake->count);
    for (size_t i = 0; i < count; i++) {
        fake->records[i]->outcome.as = as;
        fake->records[i]->outcome.reason = reason;
        fake->base.events.on_settled(fake->base.events.context, fake->records[i]);
    }
    memmove(fake->records, fake->records + count, (fake->count - count) * sizeof(struct record *));
    fake->count -= count;
}

/* ---- the bench ---- */

static uint64_t settled_up_to(void *context, enum publisher_index publisher)
{
    (void)context;
    if (bench.is_stopped_in_the_turn)
        assert_true(replay_stop(bench.replay));
    bench.is_stopped_in_the_turn = false;
    return publisher == PUBLISHER_KAFKA ? bench.settled : 0;
}

static void open_map(const char *topic)
{
    bench.entry.object_type = (char *)(uintptr_t) "*";
    bench.entry.kafka.is_configured = true;
    bench.entry.kafka.key = KEY_EVENT_ID;
    bench.entry.kafka.retain = true;
    bench.entry.kafka.topic = topic_template_compile(text_of(topic), TOPIC_KAFKA, NULL);
    assert_non_null(bench.entry.kafka.topic);
    bench.config.entries = &bench.entry;
    bench.config.entry_count = 1;
    atomic_init(&bench.config.references, 1);
    bench.router = router_new(&bench.config, NULL);
    assert_non_null(bench.router);
}

static void open_bench(void **state, const char *topic)
{
    struct carrier_options options = {&bench.config, &bench};
    struct replay_options replay_options = {.settled_up_to = settled_up_to};

    memset(&bench, 0, sizeof(bench));
    bench.fixture = *state;
    bench.settled = UINT64_MAX;
    assert_int_equal(wakeup_init(&bench.wakeup, NULL), 0);
    bench.metrics = metrics_new();
    open_map(topic);
    fixture_open(bench.fixture);
    for (int p = 0; p < PUBLISHER_COUNT; p++)
        bench.lanes[p] = lane_new(&(struct lane_options){.ops = &fake_ops,
                                                         .clock = &bench.fixture->clock,
                                                         .wakeup = &bench.wakeup,
                                                         .metrics = bench.metrics});
    assert_int_equal(lane_open(bench.lanes[PUBLISHER_KAFKA], &options, NULL), 0);
    memcpy(replay_options.lanes, bench.lanes, sizeof(replay_options.lanes));
    replay_options.router = bench.router;
    replay_options.journal = bench.fixture->journal;
    replay_options.wakeup = &bench.wakeup;
    replay_options.clock = &bench.fixture->clock;
    replay_options.metrics = bench.metrics;
    bench.replay = replay_open(&replay_options);
}

static void close_bench(void)
{
    replay_end(bench.replay);
    replay_close(bench.replay);
    for (int p = 0; p < PUBLISHER_COUNT; p++)
        lane_close(bench.lanes[p], 0);
    router_free(bench.router);
    topic_template_free(bench.entry.kafka.topic);
    metrics_free(bench.metrics);
    wakeup_release(&bench.wakeup);
}

/* Event n comes n milliseconds after the begin. */
static struct event *new_event(size_t number, const char *account, const char *object_type,
                               size_t body_size)
{
    struct event_origin origin = {.account = text_of(account),
                                  .received_ms = begin_ms + (int64_t)number};
    char *body = calloc(1, body_size + 1);
    char id[32];
    struct event *event = event_new(&origin, (struct text){body, body_size}, 0);

    assert_non_null(event);
    snprintf(id, sizeof(id), "%zu", number);
    assert_true(event_add_field(event, EVENT_ID, text_of(id)));
    assert_true(event_add_field(event, EVENT_OBJECT_TYPE, text_of(object_type)));
    assert_true(event_add_field(event, EVENT_ACTION, text_of("created")));
    assert_true(event_add_field(event, EVENT_OBJECT, text_of(id)));
    free(body);
    return event;
}

static void post(size_t number, const char *account, const char *object_type, size_t body_size)
{
    struct event *event = new_event(number, account, object_type, body_size);

    assert_int_equal(fixture_post(bench.fixture, event), DELIVERY_ACCEPTED);
}

static void post_leads(size_t first, size_t last)
{
    struct post *posts = calloc(last - first + 1, sizeof(*posts));

    assert_non_null(posts);
    for (size_t i = first; i <= last; i++)
        fixture_send(bench.fixture, &posts[i - first], new_event(i, "main", "lead", 100));
    for (size_t i = first; i <= last; i++)
        assert_int_equal(fixture_wait(&posts[i - first]), DELIVERY_ACCEPTED);
    free(posts);
}

static struct replay_request all_of(uint64_t last)
{
    return (struct replay_request){.filter = {.until_ms = INT64_MAX},
                                   .publishers = {[PUBLISHER_KAFKA] = true},
                                   .first = 1,
                                   .last = last};
}

static void start(const struct replay_request *request)
{
    assert_int_equal(replay_start(bench.replay, request, NULL), REPLAY_STARTED);
}

static struct replay_progress shown(void)
{
    struct replay_progress progress;

    replay_progress(bench.replay, &progress);
    return progress;
}

static struct replay_counts counts(void)
{
    return shown().counts[PUBLISHER_KAFKA];
}

static void turn(void)
{
    wakeup_wait(&bench.wakeup, 1);
    for (int p = 0; p < PUBLISHER_COUNT; p++)
        lane_run(bench.lanes[p], false);
    replay_run(bench.replay);
}

static void turn_until_sent(size_t count)
{
    for (int i = 0; i < TURNS && bench.publisher->count < count; i++)
        turn();
    for (int i = 0; i < 20; i++) /* and no more */
        turn();
    assert_int_equal(bench.publisher->count, count);
}

static void turn_until(enum replay_state state)
{
    for (int i = 0; i < TURNS && shown().state != state; i++)
        turn();
    assert_int_equal(shown().state, state);
}

static void finish(void)
{
    for (int i = 0; i < TURNS && shown().state == REPLAY_RUNS; i++) {
        settle(bench.publisher->count, SETTLED_DELIVERED, NULL);
        turn();
    }
    assert_int_equal(shown().state, REPLAY_DONE);
}

static size_t number_at(size_t i)
{
    char key[32] = "";
    struct text text = bench.publisher->records[i]->key;

    memcpy(key, text.data, text.size);
    return (size_t)strtoul(key, NULL, 10);
}

/* ---- tests ---- */

static void a_few_are_on_their_way_marked_and_in_order(void **state)
{
    struct replay_request request = all_of(1000);
    size_t next = 1;

    open_bench(state, "leads");
    post_leads(1, 1000);
    start(&request);
    assert_int_equal(replay_start(bench.replay, &request, NULL), REPLAY_IS_BUSY);
    turn_until_sent(AT_MOST);
    assert_true(shown().state == REPLAY_RUNS && counts().reached_ms == begin_ms + 1);
    while (next <= 1000) {
        size_t count = bench.publisher->count < 100 ? bench.publisher->count : 100;

        for (size_t i = 0; i < count; i++) {
            assert_int_equal(number_at(i), next++);
            assert_true(bench.publisher->records[i]->is_replay);
            assert_false(bench.publisher->records[i]->retain);
        }
        settle(count, SETTLED_DELIVERED, NULL);
        turn_until_sent(1000 - next + 1 < AT_MOST ? 1000 - next + 1 : AT_MOST);
    }
    turn_until(REPLAY_DONE);
    assert_int_equal(counts().read, 1000);
    assert_int_equal(counts().sent, 1000);
    assert_int_equal(counts().delivered, 1000);
    assert_int_equal(counts().missing + counts().failed + counts().remaining, 0);
    assert_true(counts().reached_ms == begin_ms + 1000);
    close_bench();
}

static void large_events_are_bounded_by_their_size(void **state)
{
    struct replay_request request = all_of(5);

    open_bench(state, "leads");
    for (size_t i = 1; i <= 5; i++)
        post(i, "main", "lead", 1024 * 1024);
    start(&request);
    turn_until_sent(2);
    settle(1, SETTLED_DELIVERED, NULL);
    turn_until_sent(2);
    finish();
    assert_int_equal(counts().delivered, 5);
    close_bench();
}

static void it_waits_for_room_in_the_lane(void **state)
{
    struct replay_request request = all_of(50);

    open_bench(state, "leads");
    post_leads(1, 50);
    bench.publisher->is_busy = true;
    start(&request);
    for (int i = 0; i < 100; i++)
        turn();
    assert_int_equal(counts().sent, 1); /* which waits in the lane */
    bench.publisher->is_busy = false;
    bench.publisher->base.events.on_ready(bench.publisher->base.events.context);
    turn_until_sent(50);
    finish();
    close_bench();
}

static void what_is_not_settled_is_left_to_the_live_events(void **state)
{
    struct replay_request request = all_of(50);

    open_bench(state, "leads");
    post_leads(1, 50);
    bench.settled = 30;
    start(&request);
    turn_until_sent(30);
    finish();
    assert_int_equal(counts().left_to_live, 20);
    assert_int_equal(counts().read, 30);
    bench.settled = 0;
    start(&request);
    turn_until(REPLAY_DONE);
    assert_int_equal(counts().left_to_live, 50);
    assert_int_equal(counts().sent, 0);
    close_bench();
}

static void filters_choose_and_the_rest_is_only_read(void **state)
{
    struct replay_request request = all_of(6000);

    open_bench(state, "{object_type}");
    post_leads(1, 5995); /* more than one slice looks at */
    post(5996, "main", "activity.note", 10);
    post(5997, "other", "activity.call", 10);
    post(5998, "main", "activity.call", 10);
    post(5999, "main", "activity", 10);
    post(6000, "main", "activity.call", 10);
    request.filter.until_ms = begin_ms + 6000;
    strcpy(request.filter.object_type, "activity.*");
    strcpy(request.filter.account, "main");
    start(&request);
    turn_until_sent(2);
    assert_int_equal(number_at(0), 5996);
    assert_int_equal(number_at(1), 5998);
    finish();
    assert_int_equal(counts().read, 6000);
    strcpy(request.topic, "activity.call");
    start(&request);
    turn_until_sent(1);
    finish();
    assert_int_equal(counts().events, 1);
    assert_int_equal(counts().unrouted, 0);
    close_bench();
}

static void events_that_are_gone_are_counted(void **state)
{
    struct replay_request request = all_of(30);

    open_bench(state, "leads");
    post_leads(1, 12); /* what one commit brings may only go together */
    post_leads(13, 30);
    assert_int_equal(fixture_settle(bench.fixture, 12), NOTE_STORED);
    atomic_fetch_add(&bench.fixture->monotonic_us, INT64_C(4000) * 1000000);
    post_leads(31, 31);
    assert_int_equal(fixture_count(bench.fixture), 31 - 12);
    request.last = 31;
    start(&request);
    turn_until_sent(31 - 12);
    finish();
    assert_int_equal(counts().missing, 12);
    request.filter.since_ms = begin_ms + 20; /* what is gone was older than that */
    start(&request);
    turn_until_sent(12);
    finish();
    assert_int_equal(counts().missing, 0);
    close_bench();
}

static void failures_are_reported_by_topic_and_reason(void **state)
{
    struct replay_request request = all_of(40);
    struct replay_progress progress;
    char type[16];

    open_bench(state, "{object_type}");
    for (size_t i = 1; i <= 40; i++) {
        snprintf(type, sizeof(type), "type_%zu", i <= 20 ? 1 : i);
        post(i, "main", type, 10);
    }
    start(&request);
    turn_until_sent(40);
    settle(5, SETTLED_RECORD_FAULT, "too_large");
    settle(5, SETTLED_DESTINATION_FAULT, "unknown_topic");
    settle(10, SETTLED_DELIVERED, NULL);
    settle(20, SETTLED_DESTINATION_FAULT, "unknown_topic");
    turn_until(REPLAY_DONE);
    progress = shown();
    assert_int_equal(progress.counts[PUBLISHER_KAFKA].delivered, 10);
    assert_int_equal(progress.counts[PUBLISHER_KAFKA].failed, 30);
    assert_int_equal(progress.fault_count, REPLAY_FAULTS);
    assert_int_equal(progress.unlisted, 20 - (REPLAY_FAULTS - 2));
    assert_string_equal(progress.faults[0].topic, "type_1");
    assert_string_equal(progress.faults[0].reason, "too_large");
    assert_int_equal(progress.faults[0].count, 5);
    assert_true(progress.faults[0].first_ms == begin_ms + 1);
    assert_true(progress.faults[0].last_ms == begin_ms + 5);
    assert_string_equal(progress.faults[1].reason, "unknown_topic");
    assert_int_equal(progress.faults[1].count, 5);
    close_bench();
}

static void records_of_a_parked_topic_are_not_sent(void **state)
{
    struct replay_request request = all_of(20);
    struct destination *parked;
    static char anything;

    open_bench(state, "{object_type}");
    for (size_t i = 1; i <= 20; i++)
        post(i, "main", i % 2 ? "lead" : "contact", 10);
    parked = lane_destination(bench.lanes[PUBLISHER_KAFKA], "contact");
    parked->parked = (struct parked_topic *)(void *)&anything;
    start(&request);
    turn_until_sent(10);
    assert_int_equal(number_at(9), 19);
    finish();
    assert_int_equal(counts().failed, 10);
    assert_string_equal(shown().faults[0].reason, "topic_parked");
    parked->parked = NULL;
    lane_release_destination(bench.lanes[PUBLISHER_KAFKA], parked);
    close_bench();
}

static void a_dry_run_counts_and_sends_nothing(void **state)
{
    struct replay_request request = all_of(1000);

    open_bench(state, "leads");
    post_leads(1, 1000);
    request.is_dry_run = true;
    bench.publisher->is_busy = true; /* it needs no room */
    start(&request);
    turn_until(REPLAY_DONE);
    assert_int_equal(counts().sent, 1000);
    assert_int_equal(counts().delivered, 0);
    assert_true(lane_is_idle(bench.lanes[PUBLISHER_KAFKA]));
    close_bench();
}

static void after_a_lost_connection_it_goes_on_in_order(void **state)
{
    struct replay_request request = all_of(300);

    open_bench(state, "leads");
    post_leads(1, 300);
    start(&request);
    turn_until_sent(AT_MOST);
    settle(AT_MOST, SETTLED_RETRY, NULL);
    turn_until_sent(AT_MOST);
    for (size_t i = 0; i < AT_MOST; i++)
        assert_int_equal(number_at(i), i + 1);
    finish();
    assert_int_equal(counts().delivered, 300);
    assert_int_equal(counts().sent, 300);
    close_bench();
}

static void a_stop_sends_nothing_more_and_lets_go_of_what_comes_back(void **state)
{
    struct replay_request request = all_of(1000);

    open_bench(state, "leads");
    post_leads(1, 1000);
    assert_false(replay_stop(bench.replay));
    start(&request);
    turn_until_sent(AT_MOST);
    assert_true(replay_stop(bench.replay));
    assert_int_equal(shown().state, REPLAY_STOPPED);
    assert_false(replay_stop(bench.replay));
    settle(100, SETTLED_DELIVERED, NULL);
    turn_until_sent(AT_MOST - 100);
    assert_int_equal(counts().delivered, 100);
    assert_int_equal(replay_start(bench.replay, &request, NULL), REPLAY_IS_LEAVING);
    settle(AT_MOST - 100, SETTLED_RETRY, NULL);
    turn_until_sent(0);
    assert_true(lane_is_idle(bench.lanes[PUBLISHER_KAFKA]));
    start(&request);
    finish();
    assert_int_equal(counts().delivered, 1000);
    close_bench();
}

static void a_stop_that_finds_it_over_does_not_stop_the_next_one(void **state)
{
    struct replay_request request = all_of(50);

    open_bench(state, "leads");
    post_leads(1, 50);
    bench.settled = 0; /* nothing is to be sent: it is over in the turn in which it begins */
    bench.is_stopped_in_the_turn = true;
    start(&request);
    replay_run(bench.replay);
    assert_int_equal(shown().state, REPLAY_STOPPED);
    bench.settled = UINT64_MAX;
    start(&request);
    finish();
    assert_int_equal(counts().delivered, 50);
    close_bench();
}

static void a_publisher_that_is_taken_out_stops_it(void **state)
{
    struct replay_request request = all_of(1000);

    open_bench(state, "leads");
    post_leads(1, 1000);
    start(&request);
    turn_until_sent(AT_MOST);
    settle(AT_MOST, SETTLED_DELIVERED, NULL);
    lane_change(bench.lanes[PUBLISHER_KAFKA], &(struct carrier_options){NULL, NULL});
    turn_until(REPLAY_STOPPED);
    assert_true(counts().sent < 1000);
    close_bench();
}

static void it_ends_with_the_dispatcher(void **state)
{
    struct replay_request request = all_of(1000);

    open_bench(state, "leads");
    post_leads(1, 1000);
    start(&request);
    turn_until_sent(AT_MOST);
    replay_end(bench.replay);
    assert_int_equal(shown().state, REPLAY_STOPPED);
    assert_int_equal(replay_start(bench.replay, &request, NULL), REPLAY_IS_STOPPING);
    close_bench();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_few_are_on_their_way_marked_and_in_order),
        TEST(large_events_are_bounded_by_their_size),
        TEST(it_waits_for_room_in_the_lane),
        TEST(what_is_not_settled_is_left_to_the_live_events),
        TEST(filters_choose_and_the_rest_is_only_read),
        TEST(events_that_are_gone_are_counted),
        TEST(failures_are_reported_by_topic_and_reason),
        TEST(records_of_a_parked_topic_are_not_sent),
        TEST(a_dry_run_counts_and_sends_nothing),
        TEST(after_a_lost_connection_it_goes_on_in_order),
        TEST(a_stop_sends_nothing_more_and_lets_go_of_what_comes_back),
        TEST(a_stop_that_finds_it_over_does_not_stop_the_next_one),
        TEST(a_publisher_that_is_taken_out_stops_it),
        TEST(it_ends_with_the_dispatcher),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
