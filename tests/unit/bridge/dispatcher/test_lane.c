#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/mailbox.h"
#include "bridge/config/config.h"
#include "bridge/dispatcher/carrier.h"
#include "bridge/dispatcher/lane.h"
#include "bridge/runtime/metrics.h"
#include "schemas/event.h"

enum { RECORDS = 64, TURNS = 20000 };

/* Takes records and settles them when the test says so. Its options are its number. */
struct fake_publisher {
    struct publisher base;
    int number;
    struct record *records[RECORDS];
    size_t count;
};

static struct {
    struct wakeup wakeup;
    struct metrics *metrics;
    struct lane *lane;
    struct config configs[3];
    struct fake_publisher *publisher; /* the newest */
    atomic_int living;                /* its number; 0: none lives */
    bool create_fails;
    bool hangs;      /* destroy() says that something may still read the records */
    char sent[2000]; /* "1:a 1:b 2:b ": number of the publisher and key of each record it took */
    char settled[2000];
    _Atomic int64_t monotonic_us;
} bench;

static int numbers[3] = {1, 2, 3};

/* ---- the publisher ---- */

static struct publisher *create(const void *options, const struct clock *clock,
                                struct publisher_events events, struct error *err)
{
    struct fake_publisher *fake;

    (void)clock;
    if (bench.create_fails) {
        error_set(err, ERROR_TRANSIENT, "not now");
        return NULL;
    }
    fake = calloc(1, sizeof(*fake));
    assert_non_null(fake);
    fake->base.events = events;
    fake->base.fd = -1;
    fake->number = *(const int *)options;
    assert_int_equal(atomic_exchange(&bench.living, fake->number), 0); /* never two at once */
    bench.publisher = fake;
    return &fake->base;
}

static enum submit_result submit(struct publisher *self, struct record *record)
{
    struct fake_publisher *fake = (struct fake_publisher *)self;
    size_t at = strlen(bench.sent);

    assert_true(fake->count < RECORDS);
    fake->records[fake->count++] = record;
    snprintf(bench.sent + at, sizeof(bench.sent) - at, "%d:%.*s ", fake->number,
             (int)record->key.size, record->key.data);
    return SUBMIT_ACCEPTED;
}

static bool destroy(struct publisher *self, int64_t timeout_ms)
{
    (void)timeout_ms;
    free(self);
    atomic_store(&bench.living, 0);
    return !bench.hangs;
}

static const struct publisher_ops fake_ops = {
    .name = "fake", .create = create, .submit = submit, .destroy = destroy};

static void settle_first(size_t count)
{
    struct fake_publisher *fake = bench.publisher;

    for (size_t i = 0; i < count; i++) {
        fake->records[i]->outcome.as = SETTLED_DELIVERED;
        fake->base.events.on_settled(fake->base.events.context, fake->records[i]);
    }
    memmove(fake->records, fake->records + count, (fake->count - count) * sizeof(struct record *));
    fake->count -= count;
}

/* ---- the bench ---- */

static int64_t fake_monotonic_us(const struct clock *self)
{
    (void)self;
    return atomic_load(&bench.monotonic_us);
}

static const struct clock fake_clock = {fake_monotonic_us, fake_monotonic_us};

static struct carrier_options options_of(int number)
{
    return number == 0 ? (struct carrier_options){NULL, NULL}
                       : (struct carrier_options){&bench.configs[number - 1], &numbers[number - 1]};
}

static int set_up(void **state)
{
    struct carrier_options options = options_of(1);

    (void)state;
    memset(&bench, 0, sizeof(bench));
    assert_int_equal(wakeup_init(&bench.wakeup, NULL), 0);
    bench.metrics = metrics_new();
    for (int i = 0; i < 3; i++)
        atomic_init(&bench.configs[i].references, 1);
    bench.lane = lane_new(&(struct lane_options){
        .ops = &fake_ops, .clock = &fake_clock, .wakeup = &bench.wakeup, .metrics = bench.metrics});
    return lane_open(bench.lane, &options, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    lane_close(bench.lane, 0);
    assert_int_equal(atomic_load(&bench.living), 0);
    metrics_free(bench.metrics);
    wakeup_release(&bench.wakeup);
    return 0;
}

static void resend_or_free(struct outgoing *outgoing)
{
    size_t at = strlen(bench.settled);
    bool is_delivered = outgoing->record.outcome.as == SETTLED_DELIVERED;

    snprintf(bench.settled + at, sizeof(bench.settled) - at, "%s%.*s ", is_delivered ? "+" : "-",
             (int)outgoing->record.key.size, outgoing->record.key.data);
    if (is_delivered)
        outgoing_free(outgoing);
    else
        lane_resend(bench.lane, outgoing);
}

static struct outgoing *send(const char *key)
{
    static const struct config_target target = {.key = KEY_EVENT_ID, .format = FORMAT_RAW};
    struct event_origin origin = {.account = text_of("main")};
    struct event *event = event_new(&origin, text_of("{}"), 0);
    struct outgoing *outgoing;

    assert_non_null(event);
    assert_true(event_add_field(event, EVENT_ID, text_of(key)));
    outgoing = lane_prepare(bench.lane, event, &target, "topic");
    event_unref(event);
    outgoing->settled = resend_or_free;
    lane_send(bench.lane, outgoing);
    return outgoing;
}

static void run(void)
{
    lane_run(bench.lane, true);
}

static unsigned references(int number)
{
    return atomic_load(&bench.configs[number - 1].references);
}

/* 0: the first one has ended, and the lane has noticed. */
static bool lives(int number)
{
    return atomic_load(&bench.living) == number && (number > 0 || references(1) == 1);
}

/* Runs until the publisher of that number lives. */
static void run_until(int number)
{
    const struct timespec pause = {0, 1000000};

    for (int i = 0; i < TURNS && !lives(number); i++) {
        run();
        nanosleep(&pause, NULL); /* a thread of its own ends the publisher */
    }
    assert_true(lives(number));
    run();
}

static void change(int number)
{
    struct carrier_options options = options_of(number);

    lane_change(bench.lane, &options);
}

static void pass_ms(int64_t ms)
{
    atomic_fetch_add(&bench.monotonic_us, ms * 1000);
}

/* ---- the tests ---- */

static void what_the_one_before_settles_is_not_sent_again(void **state)
{
    (void)state;
    send("a");
    send("b");
    run();
    change(2);
    send("c");
    run();
    assert_int_equal(bench.publisher->number, 1); /* it has records to settle */
    settle_first(2);
    run_until(2);
    assert_string_equal(bench.sent, "1:a 1:b 2:c ");
    assert_string_equal(bench.settled, "+a +b ");
    settle_first(1);
    run();
    assert_string_equal(bench.settled, "+a +b +c ");
    assert_int_equal(references(1), 1);
    assert_int_equal(references(2), 2);
}

static void what_it_does_not_settle_in_time_goes_to_the_next_one_in_order(void **state)
{
    (void)state;
    send("a");
    send("b");
    send("c");
    run();
    settle_first(1);
    change(2);
    send("d");
    for (int i = 0; i < 5; i++)
        run();
    assert_int_equal(bench.publisher->number, 1);
    pass_ms(10000);
    run_until(2);
    assert_string_equal(bench.sent, "1:a 1:b 1:c 2:b 2:c 2:d ");
    settle_first(3);
    run();
    assert_true(lane_is_idle(bench.lane));
}

static void a_publisher_that_cannot_reach_its_broker_is_not_waited_for(void **state)
{
    (void)state;
    send("a");
    run();
    bench.publisher->base.events.on_state(bench.publisher->base.events.context, false, "gone");
    change(2);
    run_until(2);
    assert_string_equal(bench.sent, "1:a 2:a ");
    settle_first(1);
    run();
}

static void records_that_are_still_read_stay_in_memory_and_so_do_the_options(void **state)
{
    struct outgoing *kept;

    (void)state;
    kept = send("a");
    run();
    bench.hangs = true;
    change(2);
    pass_ms(10000);
    run_until(2);
    assert_string_equal(bench.sent, "1:a 2:a ");
    assert_true(kept->must_stay);
    settle_first(1);
    run();
    assert_int_equal(kept->record.key.size, 1); /* freed by its owner, and still there */
    assert_int_equal(references(1), 2);
    /* The test alone knows that nobody reads it. */
    event_unref(kept->record.event);
    free(kept);
    bench.hangs = false;
}

static void without_a_publisher_records_wait_and_their_owners_are_asked(void **state)
{
    (void)state;
    send("a");
    run();
    change(0);
    send("b");
    assert_false(lane_is_configured(bench.lane));
    settle_first(1);
    run_until(0);
    assert_string_equal(bench.settled, "+a -b ");
    send("c");
    run();
    assert_int_equal(lane_fd(bench.lane), -1);
    assert_true(lane_is_down(bench.lane, false));
    assert_int_equal(references(1), 1);
    change(3);
    run_until(3);
    assert_string_equal(bench.sent, "1:a 3:b 3:c ");
    settle_first(2);
    run();
}

static void the_last_of_several_changes_counts(void **state)
{
    (void)state;
    send("a");
    run();
    change(2);
    change(3);
    settle_first(1);
    run_until(3);
    send("b");
    run();
    assert_string_equal(bench.sent, "1:a 3:b ");
    assert_int_equal(references(1), 1);
    assert_int_equal(references(2), 1);
    settle_first(1);
    run();
}

static void one_that_cannot_be_made_is_tried_again(void **state)
{
    (void)state;
    bench.create_fails = true;
    change(2);
    run_until(0);
    send("a");
    run();
    bench.create_fails = false;
    run();
    assert_int_equal(atomic_load(&bench.living), 0);
    pass_ms(1000);
    run_until(2);
    assert_string_equal(bench.sent, "2:a ");
    settle_first(1);
    run();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_the_one_before_settles_is_not_sent_again),
        TEST(what_it_does_not_settle_in_time_goes_to_the_next_one_in_order),
        TEST(a_publisher_that_cannot_reach_its_broker_is_not_waited_for),
        TEST(records_that_are_still_read_stay_in_memory_and_so_do_the_options),
        TEST(without_a_publisher_records_wait_and_their_owners_are_asked),
        TEST(the_last_of_several_changes_counts),
        TEST(one_that_cannot_be_made_is_tried_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
