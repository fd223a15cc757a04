/*
 * The publisher on a good day: what arrives, when it is up, how it ends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include "bridge/base/clock.h"
#include "publishers/kafka_publisher.h"
#include "publishers/publisher.h"
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

    bench_start(bench);
    bench_deliver(bench, bench_record(bench, 0));
    rd_kafka_mock_broker_set_rtt(bench->cluster, 1, rtt_ms);
    began_ms = cpu_ms();
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

static void a_full_queue_is_busy_and_then_ready(void **state)
{
    struct bench *bench = *state;
    int accepted;

    bench_set_property(bench, "queue.buffering.max.messages", "10");
    bench_set_property(bench, "linger.ms", "300"); /* as long as a batch takes records */
    bench_start(bench);
    rd_kafka_mock_broker_set_down(bench->cluster, 1);
    accepted = bench_submit_many(bench, 20);
    assert_int_equal(accepted, 10);
    assert_int_equal(bench->ready, 0);
    rd_kafka_mock_broker_set_up(bench->cluster, 1);
    SERVE_UNTIL(bench, bench->settled == 10);
    SERVE_UNTIL(bench, bench->ready > 0);
    bench_deliver(bench, bench_record(bench, 10));
    assert_int_equal(bench->settled_as[SETTLED_DELIVERED], 11);
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

    rd_kafka_mock_broker_set_down(bench->cluster, 1);
    bench_set_property(bench, "linger.ms", "10000");
    bench_start(bench);
    SERVE_UNTIL(bench, bench->changes == 1);
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
        TEST(a_broker_that_is_away_at_first_is_said_down_and_then_up),
        TEST(an_idle_publisher_notices_that_the_broker_goes_and_comes),
        TEST(the_next_batch_begins_when_the_one_before_is_acknowledged),
        TEST(a_slow_broker_does_not_hold_up_the_next_batch),
        TEST(waiting_for_a_broker_costs_no_cpu),
        TEST(waiting_for_a_slow_broker_costs_no_cpu),
        TEST(a_full_queue_is_busy_and_then_ready),
        TEST(the_end_waits_for_reports_without_calling_back),
        TEST(the_end_is_quick_with_a_full_window_and_no_broker),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
