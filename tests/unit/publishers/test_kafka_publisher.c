/*
 * The publisher against librdkafka's mock cluster: a server that speaks Kafka's protocol on
 * loopback, in this process.
 */
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
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <poll.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "publishers/kafka_publisher.h"
#include "publishers/publisher.h"
#include "schemas/event.h"

enum { PRODUCE = 0 /* ApiKey */, MAX_RECORDS = 4000, DEADLINE_MS = 30000 };

/* A clock that a test can move and stop. */
static _Atomic int64_t jumped_us;
static _Atomic int64_t stopped_us; /* 0: it runs */

static int64_t moved_monotonic_us(const struct clock *self)
{
    int64_t now_us = atomic_load(&stopped_us);

    (void)self;
    return (now_us ? now_us : clock_monotonic_us(&clock_system)) + atomic_load(&jumped_us);
}

static void stop_clock(void)
{
    atomic_store(&stopped_us, clock_monotonic_us(&clock_system));
}

static int64_t real_wall_ms(const struct clock *self)
{
    (void)self;
    return clock_wall_ms(&clock_system);
}

static const struct clock movable_clock = {moved_monotonic_us, real_wall_ms};

struct bench {
    rd_kafka_t *host; /* of the mock cluster */
    rd_kafka_mock_cluster_t *cluster;
    struct publisher *publisher;
    struct kafka_options options;
    struct kafka_property properties[8];
    struct event *event;
    struct record *records;
    rd_kafka_message_t *messages[128]; /* read back */
    size_t message_count;
    int settled;
    int settled_as[4];
    int ready;
    int changes; /* of state */
    bool is_up;
    char reason[256];
};

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

static int64_t now_ms(void)
{
    return clock_monotonic_ms(&clock_system);
}

static void serve(struct bench *bench)
{
    struct pollfd pollfd = {bench->publisher->fd, POLLIN, 0};

    poll(&pollfd, 1, 20);
    kafka_publisher_ops.serve(bench->publisher);
}

/* Serves until `condition` holds; fails the test after the deadline. */
#define SERVE_UNTIL(bench, condition)                                                              \
    for (int64_t until_ = now_ms() + DEADLINE_MS; !(condition);) {                                 \
        if (now_ms() > until_)                                                                     \
            fail_msg("still not: " #condition);                                                    \
        serve(bench);                                                                              \
    }

static void set_property(struct bench *bench, char *name, char *value)
{
    bench->properties[bench->options.property_count++] = (struct kafka_property){name, value, 1};
}

static struct event *make_event(void)
{
    struct event_origin origin = {.account = text_of("main"), .received_ms = 1700000000000};
    struct event *event = event_new(&origin, text_of("{\"id\":\"ev_1\"}"), 0);

    assert_true(event_add_field(event, EVENT_ID, text_of("ev_1")));
    assert_true(event_add_field(event, EVENT_OBJECT_TYPE, text_of("lead")));
    assert_true(event_add_field(event, EVENT_ACTION, text_of("created")));
    assert_true(event_add_field(event, EVENT_ORGANIZATION_ID, text_of("orga_1")));
    assert_true(event_add_field(event, EVENT_OBJECT_ID, text_of("lead_1")));
    return event;
}

static int set_up(void **state)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    char message[200];

    atomic_store(&jumped_us, 0);
    atomic_store(&stopped_us, 0);
    bench->host = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), message, sizeof(message));
    bench->cluster = rd_kafka_mock_cluster_new(bench->host, 1);
    bench->options.properties = bench->properties;
    bench->options.max_message_bytes = 1 << 20;
    bench->records = calloc(MAX_RECORDS, sizeof(*bench->records));
    bench->event = make_event();
    rd_kafka_mock_topic_create(bench->cluster, "leads", 1, 1);
    set_property(bench, "bootstrap.servers",
                 (char *)(uintptr_t)rd_kafka_mock_cluster_bootstraps(bench->cluster));
    *state = bench;
    return 0;
}

static void start(struct bench *bench)
{
    struct publisher_events events = {on_settled, on_ready, on_state, bench};
    struct error err = {0};

    bench->publisher = kafka_publisher_ops.create(&bench->options, &movable_clock, events, &err);
    if (!bench->publisher)
        fail_msg("%s", err.message);
}

static void stop(struct bench *bench, int64_t timeout_ms)
{
    kafka_publisher_ops.destroy(bench->publisher, timeout_ms);
    bench->publisher = NULL;
}

static int tear_down(void **state)
{
    struct bench *bench = *state;

    stop(bench, 1000);
    rd_kafka_mock_cluster_destroy(bench->cluster);
    rd_kafka_destroy(bench->host);
    event_unref(bench->event);
    free(bench->records);
    free(bench);
    return 0;
}

static struct record *a_record(struct bench *bench, int index)
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

static enum submit_result submit(struct bench *bench, struct record *record)
{
    return kafka_publisher_ops.submit(bench->publisher, record);
}

/* Offers the record, also again after on_ready(), until it is settled. */
static void deliver(struct bench *bench, struct record *record)
{
    int settled = bench->settled;
    int ready = bench->ready;
    enum submit_result result = submit(bench, record);
    int64_t until = now_ms() + DEADLINE_MS;

    while (result == SUBMIT_BUSY) {
        SERVE_UNTIL(bench, bench->ready > ready);
        assert_true(now_ms() < until);
        ready = bench->ready;
        result = submit(bench, record);
    }
    if (result == SUBMIT_ACCEPTED)
        SERVE_UNTIL(bench, bench->settled > settled);
}

/* ---- reading back ---- */

static rd_kafka_t *open_consumer(struct bench *bench)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_topic_partition_list_t *partitions = rd_kafka_topic_partition_list_new(1);
    char message[200];
    rd_kafka_t *consumer;

    rd_kafka_conf_set(conf, "bootstrap.servers", rd_kafka_mock_cluster_bootstraps(bench->cluster),
                      message, sizeof(message));
    rd_kafka_conf_set(conf, "group.id", "test", message, sizeof(message));
    consumer = rd_kafka_new(RD_KAFKA_CONSUMER, conf, message, sizeof(message));
    assert_non_null(consumer);
    rd_kafka_poll_set_consumer(consumer);
    rd_kafka_topic_partition_list_add(partitions, "leads", 0)->offset = 0;
    assert_int_equal(rd_kafka_assign(consumer, partitions), 0);
    rd_kafka_topic_partition_list_destroy(partitions);
    return consumer;
}

/* Lives until close_consumer(). */
static rd_kafka_message_t *read_message(struct bench *bench, rd_kafka_t *consumer)
{
    int64_t until = now_ms() + DEADLINE_MS;

    for (;;) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer, 100);

        if (message && message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
            bench->messages[bench->message_count++] = message;
            return message;
        }
        if (message)
            rd_kafka_message_destroy(message);
        assert_true(now_ms() < until);
    }
}

/*
 * The messages go last: where librdkafka's own thread drops the last reference to the buffer that
 * they lie in, ThreadSanitizer takes that for a race with our reading.
 */
static void close_consumer(struct bench *bench, rd_kafka_t *consumer)
{
    rd_kafka_consumer_close(consumer);
    while (bench->message_count > 0)
        rd_kafka_message_destroy(bench->messages[--bench->message_count]);
    rd_kafka_destroy(consumer);
}

static void assert_header(const rd_kafka_message_t *message, const char *name, const char *expected)
{
    rd_kafka_headers_t *headers = NULL;
    const void *value = NULL;
    size_t size = 0;

    assert_int_equal(rd_kafka_message_headers(message, &headers), 0);
    if (!expected) {
        assert_int_not_equal(rd_kafka_header_get_last(headers, name, &value, &size), 0);
        return;
    }
    if (rd_kafka_header_get_last(headers, name, &value, &size) != 0)
        fail_msg("no header %s", name);
    assert_int_equal(size, strlen(expected));
    assert_memory_equal(value, expected, size);
}

static void assert_bytes(const void *bytes, size_t size, const char *expected)
{
    assert_non_null(bytes);
    assert_int_equal(size, strlen(expected));
    assert_memory_equal(bytes, expected, size);
}

/* ---- what arrives ---- */

static void a_record_arrives_with_its_key_headers_value_and_time(void **state)
{
    struct bench *bench = *state;
    struct record *record = a_record(bench, 0);
    rd_kafka_timestamp_type_t type;
    rd_kafka_message_t *message;
    rd_kafka_t *consumer;

    start(bench);
    deliver(bench, record);
    assert_int_equal(record->outcome.as, SETTLED_DELIVERED);
    assert_int_equal(record->outcome.partition, 0);
    assert_int_equal(record->outcome.offset, 0);
    deliver(bench, a_record(bench, 1));
    assert_int_equal(bench->records[1].outcome.offset, 1);
    consumer = open_consumer(bench);
    message = read_message(bench, consumer);
    assert_bytes(message->payload, message->len, "{\"id\":\"ev_1\"}");
    assert_bytes(message->key, message->key_len, "lead_1");
    assert_int_equal(rd_kafka_message_timestamp(message, &type), 1700000000123);
    assert_header(message, "content-type", "application/json");
    assert_header(message, "ce_specversion", "1.0");
    assert_header(message, "ce_id", "ev_1");
    assert_header(message, "ce_source", "/close/orga_1");
    assert_header(message, "ce_type", "com.close.lead.created");
    assert_header(message, "ce_subject", "lead_1");
    assert_header(message, "closebridge_reason", NULL);
    close_consumer(bench, consumer);
}

static void null_keys_and_null_values_stay_null_and_empty_ones_empty(void **state)
{
    struct bench *bench = *state;
    struct record *tombstone = a_record(bench, 0);
    struct record *empty = a_record(bench, 1);
    rd_kafka_message_t *message;
    rd_kafka_t *consumer;

    tombstone->key = (struct text){NULL, 0};
    tombstone->value = (struct text){NULL, 0};
    empty->key = (struct text){"", 0};
    empty->value = (struct text){"", 0};
    start(bench);
    deliver(bench, tombstone);
    deliver(bench, empty);
    assert_int_equal(bench->settled_as[SETTLED_DELIVERED], 2);
    consumer = open_consumer(bench);
    message = read_message(bench, consumer);
    assert_null(message->key);
    assert_null(message->payload);
    message = read_message(bench, consumer);
    assert_bytes(message->key, message->key_len, "");
    assert_bytes(message->payload, message->len, "");
    close_consumer(bench, consumer);
}

static void structured_mode_has_no_attributes_and_dead_letters_say_why(void **state)
{
    struct bench *bench = *state;
    struct record *record = a_record(bench, 0);
    rd_kafka_message_t *message;
    rd_kafka_t *consumer;

    record->format = FORMAT_CLOUDEVENTS;
    record->dead_reason = "too_large";
    record->dead_publisher = "mqtt";
    record->dead_topic = "close/lead/created";
    start(bench);
    deliver(bench, record);
    consumer = open_consumer(bench);
    message = read_message(bench, consumer);
    assert_header(message, "content-type", format_content_type(FORMAT_CLOUDEVENTS, false));
    assert_header(message, "ce_id", NULL);
    assert_header(message, "closebridge_reason", "too_large");
    assert_header(message, "closebridge_publisher", "mqtt");
    assert_header(message, "closebridge_topic", "close/lead/created");
    close_consumer(bench, consumer);
}

/* ---- up and down ---- */

static void a_broker_that_is_away_at_first_is_said_down_and_then_up(void **state)
{
    struct bench *bench = *state;
    int64_t started = now_ms();

    rd_kafka_mock_broker_set_down(bench->cluster, 1);
    start(bench);
    SERVE_UNTIL(bench, bench->changes == 1);
    assert_false(bench->is_up);
    assert_true(now_ms() - started < 2500);
    assert_true(strlen(bench->reason) > 0);
    assert_int_equal(submit(bench, a_record(bench, 0)), SUBMIT_ACCEPTED);
    rd_kafka_mock_broker_set_up(bench->cluster, 1);
    SERVE_UNTIL(bench, bench->is_up);
    SERVE_UNTIL(bench, bench->settled == 1);
    assert_int_equal(bench->records[0].outcome.as, SETTLED_DELIVERED);
}

static void an_idle_publisher_notices_that_the_broker_goes_and_comes(void **state)
{
    struct bench *bench = *state;
    int64_t went;

    start(bench);
    SERVE_UNTIL(bench, bench->is_up);
    assert_int_equal(bench->changes, 1);
    rd_kafka_mock_broker_set_down(bench->cluster, 1);
    went = now_ms();
    SERVE_UNTIL(bench, !bench->is_up);
    assert_true(now_ms() - went < 2500);
    rd_kafka_mock_broker_set_up(bench->cluster, 1);
    SERVE_UNTIL(bench, bench->is_up);
}

/* ---- what brokers answer ---- */

static void answers_of_the_broker_are_classified(void **state)
{
    static const struct {
        rd_kafka_resp_err_t code;
        enum settled_as as;
        const char *reason;
    } cases[] = {
        {RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, SETTLED_RECORD_FAULT, "too_large"},
        {RD_KAFKA_RESP_ERR_INVALID_RECORD, SETTLED_RECORD_FAULT, "invalid_record"},
        {RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP, SETTLED_RECORD_FAULT, "invalid_timestamp"},
        {RD_KAFKA_RESP_ERR_POLICY_VIOLATION, SETTLED_DESTINATION_FAULT, "policy_violation"},
        {RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION, SETTLED_DESTINATION_FAULT, "invalid_topic"},
        {RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, SETTLED_DESTINATION_FAULT, "not_authorized"},
        {RD_KAFKA_RESP_ERR_UNKNOWN, SETTLED_RETRY, "connection_lost"},
        /* librdkafka sends these again by itself */
        {RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, SETTLED_DELIVERED, NULL},
        {RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT, SETTLED_DELIVERED, NULL},
        {RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, SETTLED_DELIVERED, NULL},
        {RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND, SETTLED_DELIVERED, NULL},
        {RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, SETTLED_DELIVERED, NULL},
        {RD_KAFKA_RESP_ERR__TRANSPORT, SETTLED_DELIVERED, NULL}, /* the connection breaks */
    };
    struct bench *bench = *state;

    start(bench);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct record *record = a_record(bench, (int)(2 * i));

        rd_kafka_mock_push_request_errors(bench->cluster, PRODUCE, 1, cases[i].code);
        deliver(bench, record);
        if (record->outcome.as != cases[i].as)
            fail_msg("%s: settled as %d", rd_kafka_err2name(cases[i].code), record->outcome.as);
        if (cases[i].reason)
            assert_string_equal(record->outcome.reason, cases[i].reason);
        /* Whatever it was, it is over and the next record gets through. */
        record = a_record(bench, (int)(2 * i + 1));
        for (int64_t until = now_ms() + DEADLINE_MS; now_ms() < until; serve(bench)) {
            deliver(bench, record);
            if (record->outcome.as == SETTLED_DELIVERED)
                break;
        }
        assert_int_equal(record->outcome.as, SETTLED_DELIVERED);
    }
}

static void a_record_over_the_limit_is_refused_at_once(void **state)
{
    struct bench *bench = *state;
    struct record *record = a_record(bench, 0);
    char *value = calloc(1, 2 << 20);

    record->value = (struct text){value, 2 << 20};
    start(bench);
    assert_int_equal(submit(bench, record), SUBMIT_SETTLED);
    assert_int_equal(record->outcome.as, SETTLED_RECORD_FAULT);
    assert_string_equal(record->outcome.reason, "too_large");
    assert_int_equal(bench->settled, 0);
    free(value);
}

static void small_records_do_not_die_with_a_batch_that_is_too_large(void **state)
{
    struct bench *bench = *state;

    set_property(bench, "linger.ms", "300"); /* so that the ten are one batch */
    start(bench);
    deliver(bench, a_record(bench, 20));
    rd_kafka_mock_push_request_errors(bench->cluster, PRODUCE, 1,
                                      RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    for (int i = 0; i < 10; i++)
        assert_int_equal(submit(bench, a_record(bench, i)), SUBMIT_ACCEPTED);
    SERVE_UNTIL(bench, bench->settled == 11);
    assert_int_equal(bench->settled_as[SETTLED_RETRY], 10);
    SERVE_UNTIL(bench, bench->ready > 0);
    for (int i = 0; i < 10; i++)
        deliver(bench, a_record(bench, i));
    assert_int_equal(bench->settled_as[SETTLED_DELIVERED], 11);
    assert_int_equal(bench->settled_as[SETTLED_RECORD_FAULT], 0);
}

/* ---- topics that come and go ---- */

static void a_topic_that_appears_is_used_as_soon_as_it_is_offered_again(void **state)
{
    struct bench *bench = *state;
    struct record *record = a_record(bench, 0);
    int64_t appeared;

    set_property(bench, "topic.metadata.propagation.max.ms", "500");
    set_property(bench, "topic.metadata.refresh.interval.ms", "600000"); /* not by this */
    rd_kafka_mock_topic_set_error(bench->cluster, "later", RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    record->topic = "later";
    start(bench);
    deliver(bench, record);
    assert_int_equal(record->outcome.as, SETTLED_DESTINATION_FAULT);
    assert_string_equal(record->outcome.reason, "unknown_topic");
    /* It stays refused, from memory, until every question of the first report is answered. */
    for (int64_t until = now_ms() + 1000; now_ms() < until; serve(bench)) {
        assert_int_equal(submit(bench, record), SUBMIT_SETTLED);
        assert_string_equal(record->outcome.reason, "unknown_topic");
    }
    rd_kafka_mock_topic_set_error(bench->cluster, "later", RD_KAFKA_RESP_ERR_NO_ERROR);
    appeared = now_ms();
    while (record->outcome.as != SETTLED_DELIVERED) {
        assert_true(now_ms() - appeared < 3000);
        assert_string_equal(record->outcome.reason, "unknown_topic");
        serve(bench);
        deliver(bench, record);
    }
    assert_true(bench->is_up);
}

static void a_topic_without_rights_is_tried_again_and_others_flow(void **state)
{
    struct bench *bench = *state;
    struct record *record = a_record(bench, 0);
    int64_t refused;

    set_property(bench, "topic.metadata.refresh.interval.ms", "600000"); /* not by this */
    record->topic = "secret";
    start(bench);
    deliver(bench, record);
    assert_int_equal(record->outcome.as, SETTLED_DELIVERED);
    rd_kafka_mock_push_request_errors(bench->cluster, PRODUCE, 1,
                                      RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    deliver(bench, record);
    refused = now_ms();
    assert_int_equal(record->outcome.as, SETTLED_DESTINATION_FAULT);
    assert_string_equal(record->outcome.reason, "not_authorized");
    deliver(bench, a_record(bench, 1));
    assert_int_equal(bench->records[1].outcome.as, SETTLED_DELIVERED);
    while (record->outcome.as != SETTLED_DELIVERED) {
        assert_true(now_ms() - refused < 3000);
        assert_string_equal(record->outcome.reason, "not_authorized");
        serve(bench);
        deliver(bench, record);
    }
}

/* ---- batches ---- */

/* Serves for some time. */
static void serve_for(struct bench *bench, int64_t ms)
{
    int64_t until = now_ms() + ms;

    while (now_ms() < until)
        serve(bench);
}

static void the_next_batch_begins_when_the_one_before_is_acknowledged(void **state)
{
    struct bench *bench = *state;

    set_property(bench, "linger.ms", "5");
    start(bench);
    deliver(bench, a_record(bench, 0));
    rd_kafka_mock_broker_set_rtt(bench->cluster, 1, 50);
    bench->ready = 0;
    stop_clock();
    assert_int_equal(submit(bench, a_record(bench, 1)), SUBMIT_ACCEPTED);
    atomic_store(&jumped_us, 4999);
    assert_int_equal(submit(bench, a_record(bench, 2)), SUBMIT_ACCEPTED);
    atomic_store(&jumped_us, 5000);
    assert_int_equal(submit(bench, a_record(bench, 3)), SUBMIT_BUSY);
    SERVE_UNTIL(bench, bench->ready > 0);
    assert_int_equal(bench->settled_as[SETTLED_DELIVERED], 3);
    assert_int_equal(submit(bench, a_record(bench, 3)), SUBMIT_ACCEPTED);
    SERVE_UNTIL(bench, bench->settled_as[SETTLED_DELIVERED] == 4);
}

static void a_slow_broker_does_not_hold_up_the_next_batch(void **state)
{
    struct bench *bench = *state;

    set_property(bench, "linger.ms", "5");
    start(bench);
    deliver(bench, a_record(bench, 0));
    rd_kafka_mock_broker_set_rtt(bench->cluster, 1, 2000);
    bench->ready = 0;
    stop_clock();
    assert_int_equal(submit(bench, a_record(bench, 1)), SUBMIT_ACCEPTED);
    atomic_store(&jumped_us, 104999);
    assert_int_equal(submit(bench, a_record(bench, 2)), SUBMIT_BUSY);
    serve(bench);
    assert_int_equal(bench->ready, 0);
    atomic_store(&jumped_us, 165000);
    SERVE_UNTIL(bench, bench->ready > 0);
    assert_int_equal(submit(bench, a_record(bench, 2)), SUBMIT_ACCEPTED);
    assert_int_equal(bench->settled, 1);
    SERVE_UNTIL(bench, bench->settled_as[SETTLED_DELIVERED] == 3);
}

static int64_t cpu_ms(void)
{
    struct timespec spent;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
    return spent.tv_sec * 1000 + spent.tv_nsec / 1000000;
}

/* Two seconds of more than the broker takes at a time. */
static void press_on(struct bench *bench, int rtt_ms, int64_t most_cpu_ms)
{
    int64_t began_ms;
    int submitted = 1;
    int batches = 0;

    start(bench);
    deliver(bench, a_record(bench, 0));
    rd_kafka_mock_broker_set_rtt(bench->cluster, 1, rtt_ms);
    began_ms = cpu_ms();
    for (int64_t until = now_ms() + 2000; now_ms() < until;) {
        int taken = 0;

        while (taken < 10 && submitted < MAX_RECORDS &&
               submit(bench, a_record(bench, submitted)) == SUBMIT_ACCEPTED) {
            submitted++;
            taken++;
        }
        batches += taken > 0;
        serve_for(bench, 5);
    }
    print_message("           %d batches, %d ms\n", batches, (int)(cpu_ms() - began_ms));
    assert_in_range(batches, 4, 40);
    assert_true(cpu_ms() - began_ms < most_cpu_ms);
    SERVE_UNTIL(bench, bench->settled_as[SETTLED_DELIVERED] == submitted);
}

static void waiting_for_a_broker_costs_no_cpu(void **state)
{
    press_on(*state, 80, 1000);
}

static void waiting_for_a_slow_broker_costs_no_cpu(void **state)
{
    press_on(*state, 300, 400);
}

/* ---- producers that end ---- */

/* Submits until it is busy or has `count`; returns how many were accepted. */
static int submit_many(struct bench *bench, int count)
{
    int accepted = 0;

    while (accepted < count && submit(bench, a_record(bench, accepted)) == SUBMIT_ACCEPTED)
        accepted++;
    return accepted;
}

static void a_fatal_error_gives_every_record_back_and_a_new_producer_works(void **state)
{
    struct bench *bench = *state;
    int accepted;
    int64_t began;

    start(bench);
    for (int round = 1; round <= 3; round++) {
        memset(bench->settled_as, 0, sizeof(bench->settled_as));
        deliver(bench, a_record(bench, 0));
        assert_int_equal(bench->settled_as[SETTLED_DELIVERED], 1);
        bench->settled = 0;
        bench->ready = 0;
        memset(bench->settled_as, 0, sizeof(bench->settled_as));
        rd_kafka_mock_push_request_errors(bench->cluster, PRODUCE, 1,
                                          RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
        began = now_ms();
        accepted = submit_many(bench, 1000);
        assert_true(accepted > 0);
        for (; accepted < MAX_RECORDS - 1; accepted++) {
            if (submit(bench, a_record(bench, accepted)) == SUBMIT_BUSY)
                break;
            serve(bench);
        }
        while (bench->settled < accepted) { /* until all are back it takes none */
            assert_int_equal(bench->ready, 0);
            assert_int_equal(submit(bench, &bench->records[accepted]), SUBMIT_BUSY);
            assert_true(now_ms() - began < DEADLINE_MS);
            serve(bench);
        }
        assert_int_equal(bench->settled_as[SETTLED_RETRY], accepted);
        SERVE_UNTIL(bench, bench->ready > 0);
        assert_true(now_ms() - began < 8000);
    }
    deliver(bench, a_record(bench, 0));
    assert_int_equal(bench->records[0].outcome.as, SETTLED_DELIVERED);
    assert_int_equal(bench->changes, 1);
}

static void a_producer_that_stands_still_is_replaced(void **state)
{
    rd_kafka_resp_err_t errors[1000];
    struct bench *bench = *state;

    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
        errors[i] = RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS;
    start(bench);
    SERVE_UNTIL(bench, bench->is_up);
    rd_kafka_mock_push_request_errors_array(bench->cluster, PRODUCE, 1000, errors);
    assert_int_equal(submit(bench, a_record(bench, 0)), SUBMIT_ACCEPTED);
    serve(bench);
    assert_int_equal(bench->settled, 0);
    atomic_store(&jumped_us, 301 * (int64_t)1000000);
    serve(bench);
    assert_int_equal(submit(bench, a_record(bench, 1)), SUBMIT_BUSY);
    SERVE_UNTIL(bench, bench->settled == 1);
    assert_int_equal(bench->records[0].outcome.as, SETTLED_RETRY);
    rd_kafka_mock_clear_request_errors(bench->cluster, PRODUCE);
    SERVE_UNTIL(bench, bench->ready > 0);
    deliver(bench, a_record(bench, 0));
    assert_int_equal(bench->records[0].outcome.as, SETTLED_DELIVERED);
}

static void in_broker_mode_a_record_is_given_back_when_its_time_is_over(void **state)
{
    struct bench *bench = *state;

    bench->options.message_timeout_ms = 1000;
    rd_kafka_mock_broker_set_down(bench->cluster, 1);
    start(bench);
    deliver(bench, a_record(bench, 0));
    assert_int_equal(bench->records[0].outcome.as, SETTLED_RETRY);
    assert_string_equal(bench->records[0].outcome.reason, "timed_out");
    assert_false(bench->is_up);
}

static void a_full_queue_is_busy_and_then_ready(void **state)
{
    struct bench *bench = *state;
    int accepted;

    set_property(bench, "queue.buffering.max.messages", "10");
    set_property(bench, "linger.ms", "300"); /* as long as a batch takes records */
    start(bench);
    rd_kafka_mock_broker_set_down(bench->cluster, 1);
    accepted = submit_many(bench, 20);
    assert_int_equal(accepted, 10);
    assert_int_equal(bench->ready, 0);
    rd_kafka_mock_broker_set_up(bench->cluster, 1);
    SERVE_UNTIL(bench, bench->settled == 10);
    SERVE_UNTIL(bench, bench->ready > 0);
    deliver(bench, a_record(bench, 10));
    assert_int_equal(bench->settled_as[SETTLED_DELIVERED], 11);
}

static void the_end_waits_for_reports_without_calling_back(void **state)
{
    struct bench *bench = *state;
    rd_kafka_message_t *message;
    rd_kafka_t *consumer;
    int accepted;

    set_property(bench, "linger.ms", "1000");
    start(bench);
    SERVE_UNTIL(bench, bench->is_up);
    accepted = submit_many(bench, 100);
    assert_int_equal(accepted, 100);
    stop(bench, 10000);
    assert_int_equal(bench->settled, 0);
    consumer = open_consumer(bench);
    for (int i = 0; i < 100; i++) {
        message = read_message(bench, consumer);
        assert_int_equal(message->offset, i);
    }
    close_consumer(bench, consumer);
}

static void the_end_is_quick_with_a_full_window_and_no_broker(void **state)
{
    struct bench *bench = *state;
    int64_t began;

    rd_kafka_mock_broker_set_down(bench->cluster, 1);
    set_property(bench, "linger.ms", "10000");
    start(bench);
    SERVE_UNTIL(bench, bench->changes == 1);
    assert_int_equal(submit_many(bench, MAX_RECORDS), MAX_RECORDS);
    began = now_ms();
    stop(bench, 5000);
    print_message("           left after %d ms\n", (int)(now_ms() - began));
    assert_true(now_ms() - began < 5500);
    assert_int_equal(bench->settled, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_record_arrives_with_its_key_headers_value_and_time),
        TEST(null_keys_and_null_values_stay_null_and_empty_ones_empty),
        TEST(structured_mode_has_no_attributes_and_dead_letters_say_why),
        TEST(a_broker_that_is_away_at_first_is_said_down_and_then_up),
        TEST(an_idle_publisher_notices_that_the_broker_goes_and_comes),
        TEST(answers_of_the_broker_are_classified),
        TEST(a_record_over_the_limit_is_refused_at_once),
        TEST(small_records_do_not_die_with_a_batch_that_is_too_large),
        TEST(a_topic_that_appears_is_used_as_soon_as_it_is_offered_again),
        TEST(a_topic_without_rights_is_tried_again_and_others_flow),
        TEST(the_next_batch_begins_when_the_one_before_is_acknowledged),
        TEST(a_slow_broker_does_not_hold_up_the_next_batch),
        TEST(waiting_for_a_broker_costs_no_cpu),
        TEST(waiting_for_a_slow_broker_costs_no_cpu),
        TEST(a_fatal_error_gives_every_record_back_and_a_new_producer_works),
        TEST(a_producer_that_stands_still_is_replaced),
        TEST(in_broker_mode_a_record_is_given_back_when_its_time_is_over),
        TEST(a_full_queue_is_busy_and_then_ready),
        TEST(the_end_waits_for_reports_without_calling_back),
        TEST(the_end_is_quick_with_a_full_window_and_no_broker),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
