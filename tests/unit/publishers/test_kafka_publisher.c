/*
 * The publisher on a good day: what arrives, when it is up, how it ends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include "bridge/base/clock.h"
#include "publishers/kafka_publisher.h"
#include "publishers/publisher.h"
#include "schemas/event.h"
#include "tests/unit/publishers/kafka_bench.h"

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
    int64_t until = bench_now_ms() + DEADLINE_MS;

    for (;;) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer, 100);

        if (message && message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
            bench->messages[bench->message_count++] = message;
            return message;
        }
        if (message)
            rd_kafka_message_destroy(message);
        assert_true(bench_now_ms() < until);
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
    struct record *record = bench_record(bench, 0);
    rd_kafka_timestamp_type_t type;
    rd_kafka_message_t *message;
    rd_kafka_t *consumer;

    bench_start(bench);
    bench_deliver(bench, record);
    assert_int_equal(record->outcome.as, SETTLED_DELIVERED);
    assert_int_equal(record->outcome.partition, 0);
    assert_int_equal(record->outcome.offset, 0);
    bench_deliver(bench, bench_record(bench, 1));
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
    struct record *tombstone = bench_record(bench, 0);
    struct record *empty = bench_record(bench, 1);
    rd_kafka_message_t *message;
    rd_kafka_t *consumer;

    tombstone->key = (struct text){NULL, 0};
    tombstone->value = (struct text){NULL, 0};
    empty->key = (struct text){"", 0};
    empty->value = (struct text){"", 0};
    bench_start(bench);
    bench_deliver(bench, tombstone);
    bench_deliver(bench, empty);
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
    struct record *record = bench_record(bench, 0);
    rd_kafka_message_t *message;
    rd_kafka_t *consumer;

    record->format = FORMAT_CLOUDEVENTS;
    record->dead_reason = "too_large";
    record->dead_publisher = "mqtt";
    record->dead_topic = "close/lead/created";
    bench_start(bench);
    bench_deliver(bench, record);
    consumer = open_consumer(bench);
    message = read_message(bench, consumer);
    assert_header(message, "content-type", format_content_type(FORMAT_CLOUDEVENTS, false));
    assert_header(message, "ce_id", NULL);
    assert_header(message, "closebridge_reason", "too_large");
    assert_header(message, "closebridge_publisher", "mqtt");
    assert_header(message, "closebridge_topic", "close/lead/created");
    close_consumer(bench, consumer);
}

/* Headers of the same names and lengths are written over older ones. */
static void each_record_has_its_own_headers(void **state)
{
    static const struct {
        const char *id;
        const char *dead_reason;
    } cases[] = {{"ev_1", NULL},      {"ev_2", NULL},        {"ev_long", NULL},
                 {"ev_3", "unknown"}, {"ev_4", "too_large"}, {"ev_5", NULL},
                 {"ev_6", "unknown"}, {"ev_more", NULL},     {"ev_7", NULL}};
    enum { CASES = sizeof(cases) / sizeof(cases[0]) };
    struct bench *bench = *state;
    rd_kafka_t *consumer;

    bench_start(bench);
    for (int i = 0; i < CASES; i++) {
        struct record *record = bench_record(bench, i);

        record->event = bench_event(cases[i].id);
        record->dead_reason = cases[i].dead_reason;
        bench_deliver(bench, record);
        event_unref(record->event);
    }
    consumer = open_consumer(bench);
    for (int i = 0; i < CASES; i++) {
        const rd_kafka_message_t *message = read_message(bench, consumer);

        assert_header(message, "ce_id", cases[i].id);
        assert_header(message, "ce_closeeventid", cases[i].id);
        assert_header(message, "ce_type", "com.close.lead.created");
        assert_header(message, "closebridge_reason", cases[i].dead_reason);
    }
    close_consumer(bench, consumer);
}

/* ---- up and down ---- */

static void a_broker_that_is_away_at_first_is_said_down_and_then_up(void **state)
{
    struct bench *bench = *state;
    int64_t started = bench_now_ms();

    rd_kafka_mock_broker_set_down(bench->cluster, 1);
    bench_start(bench);
    SERVE_UNTIL(bench, bench->changes == 1);
    assert_false(bench->is_up);
    assert_true(bench_now_ms() - started < 2500);
    assert_true(strlen(bench->reason) > 0);
    assert_int_equal(bench_submit(bench, bench_record(bench, 0)), SUBMIT_ACCEPTED);
    rd_kafka_mock_broker_set_up(bench->cluster, 1);
    SERVE_UNTIL(bench, bench->is_up);
    SERVE_UNTIL(bench, bench->settled == 1);
    assert_int_equal(bench->records[0].outcome.as, SETTLED_DELIVERED);
}

static void an_idle_publisher_notices_that_the_broker_goes_and_comes(void **state)
{
    struct bench *bench = *state;
    int64_t went;

    bench_start(bench);
    SERVE_UNTIL(bench, bench->is_up);
    assert_int_equal(bench->changes, 1);
    rd_kafka_mock_broker_set_down(bench->cluster, 1);
    went = bench_now_ms();
    SERVE_UNTIL(bench, !bench->is_up);
    assert_true(bench_now_ms() - went < 2500);
    rd_kafka_mock_broker_set_up(bench->cluster, 1);
    SERVE_UNTIL(bench, bench->is_up);
}

/* ---- batches ---- */

/* Serves for some time. */
static void serve_for(struct bench *bench, int64_t ms)
{
    int64_t until = bench_now_ms() + ms;

    while (bench_now_ms() < until)
        bench_serve(bench);
}

static void the_next_batch_begins_when_the_one_before_is_acknowledged(void **state)
{
    struct bench *bench = *state;

    bench_set_property(bench, "linger.ms", "5");
    bench_start(bench);
    bench_deliver(bench, bench_record(bench, 0));
    rd_kafka_mock_broker_set_rtt(bench->cluster, 1, 50);
    bench->ready = 0;
    bench_stop_clock();
    assert_int_equal(bench_submit(bench, bench_record(bench, 1)), SUBMIT_ACCEPTED);
    atomic_store(&bench_jumped_us, 4999);
    assert_int_equal(bench_submit(bench, bench_record(bench, 2)), SUBMIT_ACCEPTED);
    atomic_store(&bench_jumped_us, 5000);
    assert_int_equal(bench_submit(bench, bench_record(bench, 3)), SUBMIT_BUSY);
    SERVE_UNTIL(bench, bench->ready > 0);
    assert_int_equal(bench->settled_as[SETTLED_DELIVERED], 3);
    assert_int_equal(bench_submit(bench, bench_record(bench, 3)), SUBMIT_ACCEPTED);
    SERVE_UNTIL(bench, bench->settled_as[SETTLED_DELIVERED] == 4);
}

static void a_slow_broker_does_not_hold_up_the_next_batch(void **state)
{
    struct bench *bench = *state;

    bench_set_property(bench, "linger.ms", "5");
    bench_start(bench);
    bench_deliver(bench, bench_record(bench, 0));
    rd_kafka_mock_broker_set_rtt(bench->cluster, 1, 2000);
    bench->ready = 0;
    bench_stop_clock();
    assert_int_equal(bench_submit(bench, bench_record(bench, 1)), SUBMIT_ACCEPTED);
    atomic_store(&bench_jumped_us, 104999);
    assert_int_equal(bench_submit(bench, bench_record(bench, 2)), SUBMIT_BUSY);
    bench_serve(bench);
    assert_int_equal(bench->ready, 0);
    atomic_store(&bench_jumped_us, 165000);
    SERVE_UNTIL(bench, bench->ready > 0);
    assert_int_equal(bench_submit(bench, bench_record(bench, 2)), SUBMIT_ACCEPTED);
    assert_int_equal(bench->settled, 1);
    SERVE_UNTIL(bench, bench->settled_as[SETTLED_DELIVERED] == 3);
}

static void a_topic_that_is_only_being_made_holds_up_no_other(void **state)
{
    struct bench *bench = *state;
    struct record *early = bench_record(bench, 1);

    bench_set_property(bench, "linger.ms", "5");
    rd_kafka_mock_topic_create(bench->cluster, "made-late", 1, 1);
    rd_kafka_mock_topic_set_error(bench->cluster, "made-late",
                                  RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    bench_start(bench);
    bench_deliver(bench, bench_record(bench, 0));
    bench_stop_clock(); /* so that nothing begins only because the broker is slow */
    early->topic = "made-late";
    assert_int_equal(bench_submit(bench, early), SUBMIT_ACCEPTED);
    atomic_store(&bench_jumped_us, 5000);
    for (int i = 2; i < 6; i++)
        bench_deliver(bench, bench_record(bench, i));
    assert_int_equal(bench->settled_as[SETTLED_DELIVERED], 5);
    rd_kafka_mock_topic_set_error(bench->cluster, "made-late", RD_KAFKA_RESP_ERR_NO_ERROR);
    SERVE_UNTIL(bench, bench->settled_as[SETTLED_DELIVERED] == 6);
    assert_int_equal(early->outcome.as, SETTLED_DELIVERED);
}

/* Over a quarter of a second, so that librdkafka cannot make one batch of them. */
static void submit_apart(struct bench *bench, int first, int count)
{
    for (int i = first; i < first + count; i++) {
        for (int64_t until = bench_now_ms() + DEADLINE_MS;
             bench_submit(bench, bench_record(bench, i)) == SUBMIT_BUSY; bench_serve(bench))
            assert_true(bench_now_ms() < until);
        serve_for(bench, 125);
    }
}

/* Kafka takes any batch as the first one of a producer that it does not know. */
static void the_first_record_of_a_topic_goes_alone(void **state)
{
    struct bench *bench = *state;

    bench_set_property(bench, "linger.ms", "5");
    rd_kafka_mock_broker_set_rtt(bench->cluster, 1, 400);
    bench_start(bench);
    SERVE_UNTIL(bench, bench->is_up);
    rd_kafka_mock_push_request_errors(bench->cluster, PRODUCE, 1,
                                      RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION);
    submit_apart(bench, 0, 3);
    SERVE_UNTIL(bench, bench->settled_as[SETTLED_DELIVERED] == 3);
    assert_int_equal(bench->settled, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(bench->records[i].outcome.offset, i);
}

/* The mock cluster takes every batch, as Kafka those of a producer that it does not know. */
static void what_kafka_never_acknowledged_itself_is_given_back(void **state)
{
    struct bench *bench = *state;
    int64_t last = 0;

    bench_set_property(bench, "linger.ms", "5");
    bench_start(bench);
    bench_deliver(bench, bench_record(bench, 10));
    rd_kafka_mock_broker_set_rtt(bench->cluster, 1, 400);
    rd_kafka_mock_push_request_errors(bench->cluster, PRODUCE, 1,
                                      RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION);
    submit_apart(bench, 0, 2);
    SERVE_UNTIL(bench, bench->settled == 3);
    assert_int_equal(bench->settled_as[SETTLED_RETRY], 2);
    SERVE_UNTIL(bench, bench->ready > 0);
    for (int i = 0; i < 2; i++) {
        bench_deliver(bench, &bench->records[i]);
        assert_int_equal(bench->records[i].outcome.as, SETTLED_DELIVERED);
        assert_true(bench->records[i].outcome.offset > last); /* each is there, in its order */
        last = bench->records[i].outcome.offset;
    }
}

static void records_that_wait_for_the_first_one_share_its_fate(void **state)
{
    struct bench *bench = *state;

    bench_set_property(bench, "linger.ms", "5");
    bench_start(bench);
    SERVE_UNTIL(bench, bench->is_up);
    rd_kafka_mock_broker_set_rtt(bench->cluster, 1, 400);
    rd_kafka_mock_push_request_errors(bench->cluster, PRODUCE, 1, RD_KAFKA_RESP_ERR_INVALID_RECORD);
    submit_apart(bench, 0, 3);
    SERVE_UNTIL(bench, bench->settled == 3);
    assert_int_equal(bench->settled_as[SETTLED_RECORD_FAULT], 1);
    assert_int_equal(bench->settled_as[SETTLED_RETRY], 2); /* they have no fault */
    rd_kafka_mock_push_request_errors(bench->cluster, PRODUCE, 1,
                                      RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
    submit_apart(bench, 0, 3);
    SERVE_UNTIL(bench, bench->settled == 6);
    assert_int_equal(bench->settled_as[SETTLED_RETRY], 5);
    SERVE_UNTIL(bench, bench->ready > 0);
    rd_kafka_mock_push_request_errors(bench->cluster, PRODUCE, 1,
                                      RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    submit_apart(bench, 0, 3);
    SERVE_UNTIL(bench, bench->settled == 9);
    assert_int_equal(bench->settled_as[SETTLED_DESTINATION_FAULT], 3);
    assert_string_equal(bench->records[2].outcome.reason, "not_authorized");
}

static atomic_int looks;

/* librdkafka looks at the clock before it waits and afterwards: a thread of its that does not sleep
 * looks again and again. This one comes before libc's. */
int clock_gettime(clockid_t clock, struct timespec *out_now)
{
    atomic_fetch_add(&looks, 1);
    return (int)syscall(SYS_clock_gettime, clock, out_now);
}

/* Two seconds of more than the broker takes at a time. A thread that never slept would look some
 * 700,000 times. */
static void press_on(struct bench *bench, int rtt_ms, int most_looks)
{
    int submitted = 1;
    int batches = 0;

    bench_start(bench);
    bench_deliver(bench, bench_record(bench, 0));
    rd_kafka_mock_broker_set_rtt(bench->cluster, 1, rtt_ms);
    atomic_store(&looks, 0);
    for (int64_t until = bench_now_ms() + 2000; bench_now_ms() < until;) {
        int taken = 0;

        while (taken < 10 && submitted < MAX_RECORDS &&
               bench_submit(bench, bench_record(bench, submitted)) == SUBMIT_ACCEPTED) {
            submitted++;
            taken++;
        }
        batches += taken > 0;
        serve_for(bench, 5);
    }
    print_message("           %d batches, %d looks at the clock\n", batches, atomic_load(&looks));
    assert_in_range(batches, 4, 40);
    assert_in_range(atomic_load(&looks), 1, most_looks);
    SERVE_UNTIL(bench, bench->settled_as[SETTLED_DELIVERED] == submitted);
}

static void the_client_sleeps_while_it_waits_for_a_broker(void **state)
{
    press_on(*state, 80, 100000);
}

static void the_client_sleeps_while_it_waits_for_a_slow_broker(void **state)
{
    press_on(*state, 300, 400000);
}

/* ---- producers that end ---- */

static void a_full_queue_is_busy_and_then_ready(void **state)
{
    struct bench *bench = *state;
    int accepted;

    bench_set_property(bench, "queue.buffering.max.messages", "10");
    bench_set_property(bench, "linger.ms", "300"); /* as long as a batch takes records */
    bench_start(bench);
    bench_deliver(bench, bench_record(bench, 20));
    rd_kafka_mock_broker_set_down(bench->cluster, 1);
    bench_stop_clock(); /* so that the batch lasts, however busy the machine is */
    accepted = bench_submit_many(bench, 20);
    assert_int_equal(accepted, 10);
    assert_int_equal(bench->ready, 0);
    bench_let_clock_run();
    rd_kafka_mock_broker_set_up(bench->cluster, 1);
    SERVE_UNTIL(bench, bench->settled == 11);
    SERVE_UNTIL(bench, bench->ready > 0);
    bench_deliver(bench, bench_record(bench, 10));
    assert_int_equal(bench->settled_as[SETTLED_DELIVERED], 12);
}

static void the_end_waits_for_reports_without_calling_back(void **state)
{
    struct bench *bench = *state;
    rd_kafka_message_t *message;
    rd_kafka_t *consumer;
    int accepted;

    bench_set_property(bench, "linger.ms", "1000");
    bench_start(bench);
    SERVE_UNTIL(bench, bench->is_up);
    accepted = bench_submit_many(bench, 100);
    assert_int_equal(accepted, 100);
    bench_stop(bench, 10000);
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

    bench_set_property(bench, "linger.ms", "1000");
    bench_start(bench);
    bench_deliver(bench, bench_record(bench, 0));
    rd_kafka_mock_broker_set_down(bench->cluster, 1);
    SERVE_UNTIL(bench, !bench->is_up);
    bench->settled = 0;
    assert_int_equal(bench_submit_many(bench, MAX_RECORDS), MAX_RECORDS);
    began = bench_now_ms();
    bench_stop(bench, 5000);
    print_message("           left after %d ms\n", (int)(bench_now_ms() - began));
    assert_true(bench_now_ms() - began < 5500);
    assert_int_equal(bench->settled, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, bench_set_up, bench_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_record_arrives_with_its_key_headers_value_and_time),
        TEST(null_keys_and_null_values_stay_null_and_empty_ones_empty),
        TEST(structured_mode_has_no_attributes_and_dead_letters_say_why),
        TEST(each_record_has_its_own_headers),
        TEST(a_broker_that_is_away_at_first_is_said_down_and_then_up),
        TEST(an_idle_publisher_notices_that_the_broker_goes_and_comes),
        TEST(the_next_batch_begins_when_the_one_before_is_acknowledged),
        TEST(a_slow_broker_does_not_hold_up_the_next_batch),
        TEST(a_topic_that_is_only_being_made_holds_up_no_other),
        TEST(the_first_record_of_a_topic_goes_alone),
        TEST(what_kafka_never_acknowledged_itself_is_given_back),
        TEST(records_that_wait_for_the_first_one_share_its_fate),
        TEST(the_client_sleeps_while_it_waits_for_a_broker),
        TEST(the_client_sleeps_while_it_waits_for_a_slow_broker),
        TEST(a_full_queue_is_busy_and_then_ready),
        TEST(the_end_waits_for_reports_without_calling_back),
        TEST(the_end_is_quick_with_a_full_window_and_no_broker),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
