/*
 * What the publisher makes of brokers that refuse, of topics that are not there, and of producers
 * that end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include "publishers/kafka_publisher.h"
#include "publishers/publisher.h"
#include "tests/unit/publishers/kafka_bench.h"

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

    bench_start(bench);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct record *record = bench_record(bench, (int)(2 * i));

        rd_kafka_mock_push_request_errors(bench->cluster, PRODUCE, 1, cases[i].code);
        bench_deliver(bench, record);
        if (record->outcome.as != cases[i].as)
            fail_msg("%s: settled as %d", rd_kafka_err2name(cases[i].code), record->outcome.as);
        if (cases[i].reason)
            assert_string_equal(record->outcome.reason, cases[i].reason);
        /* Whatever it was, it is over and the next record gets through. */
        record = bench_record(bench, (int)(2 * i + 1));
        for (int64_t until = bench_now_ms() + DEADLINE_MS; bench_now_ms() < until;
             bench_serve(bench)) {
            bench_deliver(bench, record);
            if (record->outcome.as == SETTLED_DELIVERED)
                break;
        }
        assert_int_equal(record->outcome.as, SETTLED_DELIVERED);
    }
}

static void a_record_over_the_limit_is_refused_at_once(void **state)
{
    struct bench *bench = *state;
    struct record *record = bench_record(bench, 0);
    char *value = calloc(1, 2 << 20);

    record->value = (struct text){value, 2 << 20};
    bench_start(bench);
    assert_int_equal(bench_submit(bench, record), SUBMIT_SETTLED);
    assert_int_equal(record->outcome.as, SETTLED_RECORD_FAULT);
    assert_string_equal(record->outcome.reason, "too_large");
    assert_int_equal(bench->settled, 0);
    free(value);
}

static void small_records_do_not_die_with_a_batch_that_is_too_large(void **state)
{
    struct bench *bench = *state;

    bench_set_property(bench, "linger.ms", "300"); /* so that the ten are one batch */
    bench_start(bench);
    bench_deliver(bench, bench_record(bench, 20));
    rd_kafka_mock_push_request_errors(bench->cluster, PRODUCE, 1,
                                      RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    for (int i = 0; i < 10; i++)
        assert_int_equal(bench_submit(bench, bench_record(bench, i)), SUBMIT_ACCEPTED);
    SERVE_UNTIL(bench, bench->settled == 11);
    assert_int_equal(bench->settled_as[SETTLED_RETRY], 10);
    SERVE_UNTIL(bench, bench->ready > 0);
    for (int i = 0; i < 10; i++)
        bench_deliver(bench, bench_record(bench, i));
    assert_int_equal(bench->settled_as[SETTLED_DELIVERED], 11);
    assert_int_equal(bench->settled_as[SETTLED_RECORD_FAULT], 0);
}

/* ---- topics that come and go ---- */

static void a_topic_that_appears_is_used_as_soon_as_it_is_offered_again(void **state)
{
    struct bench *bench = *state;
    struct record *record = bench_record(bench, 0);
    int64_t appeared;

    bench_set_property(bench, "topic.metadata.propagation.max.ms", "500");
    bench_set_property(bench, "topic.metadata.refresh.interval.ms", "600000"); /* not by this */
    rd_kafka_mock_topic_set_error(bench->cluster, "later", RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    record->topic = "later";
    bench_start(bench);
    bench_deliver(bench, record);
    assert_int_equal(record->outcome.as, SETTLED_DESTINATION_FAULT);
    assert_string_equal(record->outcome.reason, "unknown_topic");
    /* It stays refused, from memory, until every question of the first report is answered. */
    for (int64_t until = bench_now_ms() + 1000; bench_now_ms() < until; bench_serve(bench)) {
        assert_int_equal(bench_submit(bench, record), SUBMIT_SETTLED);
        assert_string_equal(record->outcome.reason, "unknown_topic");
    }
    rd_kafka_mock_topic_set_error(bench->cluster, "later", RD_KAFKA_RESP_ERR_NO_ERROR);
    appeared = bench_now_ms();
    while (record->outcome.as != SETTLED_DELIVERED) {
        assert_true(bench_now_ms() - appeared < 3000);
        assert_string_equal(record->outcome.reason, "unknown_topic");
        bench_serve(bench);
        bench_deliver(bench, record);
    }
    assert_true(bench->is_up);
}

static void a_topic_without_rights_is_tried_again_and_others_flow(void **state)
{
    struct bench *bench = *state;
    struct record *record = bench_record(bench, 0);
    int64_t refused;

    bench_set_property(bench, "topic.metadata.refresh.interval.ms", "600000"); /* not by this */
    record->topic = "secret";
    bench_start(bench);
    bench_deliver(bench, record);
    assert_int_equal(record->outcome.as, SETTLED_DELIVERED);
    rd_kafka_mock_push_request_errors(bench->cluster, PRODUCE, 1,
                                      RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    bench_deliver(bench, record);
    refused = bench_now_ms();
    assert_int_equal(record->outcome.as, SETTLED_DESTINATION_FAULT);
    assert_string_equal(record->outcome.reason, "not_authorized");
    bench_deliver(bench, bench_record(bench, 1));
    assert_int_equal(bench->records[1].outcome.as, SETTLED_DELIVERED);
    while (record->outcome.as != SETTLED_DELIVERED) {
        assert_true(bench_now_ms() - refused < 3000);
        assert_string_equal(record->outcome.reason, "not_authorized");
        bench_serve(bench);
        bench_deliver(bench, record);
    }
}

/* ---- producers that end ---- */

static void a_fatal_error_gives_every_record_back_and_a_new_producer_works(void **state)
{
    struct bench *bench = *state;
    int accepted;
    int64_t began;

    bench_start(bench);
    for (int round = 1; round <= 3; round++) {
        memset(bench->settled_as, 0, sizeof(bench->settled_as));
        bench_deliver(bench, bench_record(bench, 0));
        assert_int_equal(bench->settled_as[SETTLED_DELIVERED], 1);
        bench->settled = 0;
        bench->ready = 0;
        memset(bench->settled_as, 0, sizeof(bench->settled_as));
        rd_kafka_mock_push_request_errors(bench->cluster, PRODUCE, 1,
                                          RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
        began = bench_now_ms();
        accepted = bench_submit_many(bench, 1000);
        assert_true(accepted > 0);
        for (; accepted < MAX_RECORDS - 1; accepted++) {
            if (bench_submit(bench, bench_record(bench, accepted)) == SUBMIT_BUSY)
                break;
            bench_serve(bench);
        }
        while (bench->settled < accepted) { /* until all are back it takes none */
            assert_int_equal(bench->ready, 0);
            assert_int_equal(bench_submit(bench, &bench->records[accepted]), SUBMIT_BUSY);
            assert_true(bench_now_ms() - began < DEADLINE_MS);
            bench_serve(bench);
        }
        assert_int_equal(bench->settled_as[SETTLED_RETRY], accepted);
        SERVE_UNTIL(bench, bench->ready > 0);
        assert_true(bench_now_ms() - began < 8000);
    }
    bench_deliver(bench, bench_record(bench, 0));
    assert_int_equal(bench->records[0].outcome.as, SETTLED_DELIVERED);
    assert_int_equal(bench->changes, 1);
}

static void a_producer_that_stands_still_is_replaced(void **state)
{
    rd_kafka_resp_err_t errors[1000];
    struct bench *bench = *state;

    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
        errors[i] = RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS;
    bench_start(bench);
    SERVE_UNTIL(bench, bench->is_up);
    rd_kafka_mock_push_request_errors_array(bench->cluster, PRODUCE, 1000, errors);
    assert_int_equal(bench_submit(bench, bench_record(bench, 0)), SUBMIT_ACCEPTED);
    bench_serve(bench);
    assert_int_equal(bench->settled, 0);
    atomic_store(&bench_jumped_us, 301 * (int64_t)1000000);
    bench_serve(bench);
    assert_int_equal(bench_submit(bench, bench_record(bench, 1)), SUBMIT_BUSY);
    SERVE_UNTIL(bench, bench->settled == 1);
    assert_int_equal(bench->records[0].outcome.as, SETTLED_RETRY);
    rd_kafka_mock_clear_request_errors(bench->cluster, PRODUCE);
    SERVE_UNTIL(bench, bench->ready > 0);
    bench_deliver(bench, bench_record(bench, 0));
    assert_int_equal(bench->records[0].outcome.as, SETTLED_DELIVERED);
}

static void in_broker_mode_a_record_is_given_back_when_its_time_is_over(void **state)
{
    struct bench *bench = *state;

    bench->options.message_timeout_ms = 1000;
    rd_kafka_mock_broker_set_down(bench->cluster, 1);
    bench_start(bench);
    bench_deliver(bench, bench_record(bench, 0));
    assert_int_equal(bench->records[0].outcome.as, SETTLED_RETRY);
    assert_string_equal(bench->records[0].outcome.reason, "timed_out");
    assert_false(bench->is_up);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, bench_set_up, bench_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(answers_of_the_broker_are_classified),
        TEST(a_record_over_the_limit_is_refused_at_once),
        TEST(small_records_do_not_die_with_a_batch_that_is_too_large),
        TEST(a_topic_that_appears_is_used_as_soon_as_it_is_offered_again),
        TEST(a_topic_without_rights_is_tried_again_and_others_flow),
        TEST(a_fatal_error_gives_every_record_back_and_a_new_producer_works),
        TEST(a_producer_that_stands_still_is_replaced),
        TEST(in_broker_mode_a_record_is_given_back_when_its_time_is_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
