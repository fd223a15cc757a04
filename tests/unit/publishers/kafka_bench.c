#include "tests/unit/publishers/kafka_bench.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "schemas/event.h"

_Atomic int64_t bench_jumped_us;
static _Atomic int64_t stopped_us; /* 0: it runs */

static int64_t moved_monotonic_us(const struct clock *self)
{
    int64_t now_us = atomic_load(&stopped_us);

    (void)self;
    return (now_us ? now_us : clock_monotonic_us(&clock_system)) + atomic_load(&bench_jumped_us);
}

void bench_stop_clock(void)
{
    atomic_store(&stopped_us, clock_monotonic_us(&clock_system));
}

void bench_let_clock_run(void)
{
    atomic_store(&stopped_us, 0);
}

static int64_t real_wall_ms(const struct clock *self)
{
    (void)self;
    return clock_wall_ms(&clock_system);
}

static const struct clock movable_clock = {moved_monotonic_us, real_wall_ms};

static void on_settled(void *context, struct record *record)
{
    struct bench *bench = context;

    assert_in_range(record - bench->records, 0, MAX_RECORDS - 1);
    bench->settled++;
    bench->settled_as[record->outcome.as]++;
}

static void on_ready(void *context)
{
    ((struct bench *)context)->ready++;
}

static void on_state(void *context, bool is_up, const char *reason)
{
    struct bench *bench = context;

    assert_true(bench->changes == 0 || bench->is_up != is_up);
    bench->changes++;
    bench->is_up = is_up;
    snprintf(bench->reason, sizeof(bench->reason), "%s", reason);
}

int64_t bench_now_ms(void)
{
    return clock_monotonic_ms(&clock_system);
}

void bench_serve(struct bench *bench)
{
    struct pollfd pollfd = {bench->publisher->fd, POLLIN, 0};

    poll(&pollfd, 1, 20);
    kafka_publisher_ops.serve(bench->publisher);
}

void bench_set_property(struct bench *bench, char *name, char *value)
{
    bench->properties[bench->options.property_count++] = (struct kafka_property){name, value, 1};
}

struct event *bench_event(const char *id)
{
    struct event_origin origin = {.account = text_of("main"), .received_ms = 1700000000000};
    struct event *event = event_new(&origin, text_of("{\"id\":\"ev_1\"}"), 0);

    assert_true(event_add_field(event, EVENT_ID, text_of(id)));
    assert_true(event_add_field(event, EVENT_OBJECT_TYPE, text_of("lead")));
    assert_true(event_add_field(event, EVENT_ACTION, text_of("created")));
    assert_true(event_add_field(event, EVENT_ORGANIZATION_ID, text_of("orga_1")));
    assert_true(event_add_field(event, EVENT_OBJECT_ID, text_of("lead_1")));
    return event;
}

int bench_set_up(void **state)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    char message[200];

    atomic_store(&bench_jumped_us, 0);
    atomic_store(&stopped_us, 0);
    bench->host = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), message, sizeof(message));
    bench->cluster = rd_kafka_mock_cluster_new(bench->host, 1);
    bench->options.properties = bench->properties;
    bench->options.max_message_bytes = 1 << 20;
    bench->records = calloc(MAX_RECORDS, sizeof(*bench->records));
    bench->event = bench_event("ev_1");
    rd_kafka_mock_topic_create(bench->cluster, "leads", 1, 1);
    bench_set_property(bench, "bootstrap.servers",
                       (char *)(uintptr_t)rd_kafka_mock_cluster_bootstraps(bench->cluster));
    *state = bench;
    return 0;
}

void bench_start(struct bench *bench)
{
    struct publisher_events events = {on_settled, on_ready, on_state, bench};
    struct error err = {0};

    bench->publisher = kafka_publisher_ops.create(&bench->options, &movable_clock, events, &err);
    if (!bench->publisher)
        fail_msg("%s", err.message);
}

void bench_stop(struct bench *bench, int64_t timeout_ms)
{
    kafka_publisher_ops.destroy(bench->publisher, timeout_ms);
    bench->publisher = NULL;
}

int bench_tear_down(void **state)
{
    struct bench *bench = *state;

    bench_stop(bench, 1000);
    rd_kafka_mock_cluster_destroy(bench->cluster);
    rd_kafka_destroy(bench->host);
    event_unref(bench->event);
    free(bench->records);
    free(bench);
    return 0;
}

struct record *bench_record(struct bench *bench, int index)
{
    struct record *record = &bench->records[index];

    *record = (struct record){.event = bench->event,
                              .topic = "leads",
                              .key = text_of("lead_1"),
                              .value = event_text(bench->event, EVENT_BODY),
                              .format = FORMAT_EVENT,
                              .timestamp_ms = 1700000000123};
    return record;
}

enum submit_result bench_submit(struct bench *bench, struct record *record)
{
    return kafka_publisher_ops.submit(bench->publisher, record);
}

/* Offers the record, also again after on_ready(), until it is settled. */
void bench_deliver(struct bench *bench, struct record *record)
{
    int settled = bench->settled;
    int ready = bench->ready;
    enum submit_result result = bench_submit(bench, record);
    int64_t until = bench_now_ms() + DEADLINE_MS;

    while (result == SUBMIT_BUSY) {
        SERVE_UNTIL(bench, bench->ready > ready);
        assert_true(bench_now_ms() < until);
        ready = bench->ready;
        result = bench_submit(bench, record);
    }
    if (result == SUBMIT_ACCEPTED)
        SERVE_UNTIL(bench, bench->settled > settled);
}

/* Submits until it is busy or has `count`; returns how many were accepted. */
int bench_submit_many(struct bench *bench, int count)
{
    int accepted = 0;

    while (accepted < count &&
           bench_submit(bench, bench_record(bench, accepted)) == SUBMIT_ACCEPTED)
        accepted++;
    return accepted;
}
