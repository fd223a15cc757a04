#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <librdkafka/rdkafka.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "publishers/kafka_options.h"
#include "publishers/kafka_publisher.h"
#include "publishers/publisher.h"

static const struct kafka_property *reported;
static char reported_message[400];

static void note(void *context, const struct kafka_property *property, const char *message)
{
    (*(int *)context)++;
    reported = property;
    strncpy(reported_message, message, sizeof(reported_message) - 1);
}

static size_t check(struct kafka_property *properties, size_t count)
{
    struct kafka_options options = {
        .properties = properties, .property_count = count, .max_message_bytes = 9 << 20};
    int calls = 0;
    size_t mistakes = kafka_options_check(&options, note, &calls);

    assert_int_equal(mistakes, calls);
    return mistakes;
}

static void good_properties_pass_also_those_of_topics_and_aliases(void **state)
{
    struct kafka_property properties[] = {
        {"bootstrap.servers", "127.0.0.1:1", 3},
        {"metadata.broker.list", "127.0.0.1:1", 4},
        {"request.timeout.ms", "5000", 5},
        {"compression.type", "zstd", 6},
        {"partitioner", "consistent_random", 7},
        {"queue.buffering.max.ms", "1", 8},
        {"security.protocol", "SASL_PLAINTEXT", 9},
        {"sasl.mechanism", "PLAIN", 10},
        {"sasl.username", "bridge", 11},
        {"sasl.password", "canary-4711", 12},
    };

    (void)state;
    assert_int_equal(check(properties, sizeof(properties) / sizeof(properties[0])), 0);
}

static void each_mistake_names_its_property(void **state)
{
    static const struct {
        char *name;
        char *value;
        const char *part; /* of the message */
    } cases[] = {
        {"no.such.property", "1", "no property of this name"},
        {"linger.ms", "soon", "Invalid value"},
        {"security.protocol", "telnet", "telnet"},
        {"acks", "1", "always all"},
        {"request.required.acks", "-1", "always all"},
        {"enable.idempotence", "true", "always true"},
        {"message.timeout.ms", "1000", "the bridge decides"},
        {"delivery.timeout.ms", "1000", "the bridge decides"},
        {"delivery.report.only.error", "true", "every report"},
        {"transactional.id", "x", "no transactions"},
        {"max.in.flight", "10", "max.in.flight"}, /* with idempotence */
        {"ssl.ca.location", "/nonexistent.pem",   /* with the protocol below */
         "cannot read /nonexistent.pem: No such file or directory"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct kafka_property properties[] = {
            {"bootstrap.servers", "127.0.0.1:1", 3},
            {"client.id", "test", 4},
            {cases[i].name, cases[i].value, 5},
            {"security.protocol", "ssl", 6},
        };
        size_t count = strcmp(cases[i].name, "ssl.ca.location") == 0 ? 4 : 3;

        reported = NULL;
        assert_int_equal(check(properties, count), 1);
        assert_ptr_equal(reported, &properties[2]);
        if (!strstr(reported_message, cases[i].part))
            fail_msg("%s: %s", cases[i].name, reported_message);
    }
}

static void all_mistakes_are_reported_at_once(void **state)
{
    struct kafka_property properties[] = {
        {"acks", "1", 1}, {"no.such", "1", 2}, {"linger.ms", "x", 3}, {"client.id", "fine", 4}};

    (void)state;
    assert_int_equal(check(properties, 4), 3);
}

static void no_message_holds_a_secret(void **state)
{
    static const struct {
        char *name;
        char *protocol;
    } cases[] = {
        {"sasl.jaas.config", "sasl_ssl"},
        {"ssl.key.pem", "ssl"},
        {"ssl.certificate.pem", "ssl"},
        {"sasl.oauthbearer.method", "sasl_ssl"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct kafka_property properties[] = {
            {"bootstrap.servers", "127.0.0.1:1", 1},
            {"security.protocol", cases[i].protocol, 2},
            {cases[i].name, "canary-4711", 3},
        };

        if (check(properties, 3) != 1)
            fail_msg("%s", cases[i].name);
        assert_null(strstr(reported_message, "canary-4711"));
    }
}

static void batches_are_waited_for_less_where_the_sender_waits(void **state)
{
    struct kafka_property own = {"queue.buffering.max.ms", "7", 3}; /* librdkafka's alias */
    const struct {
        struct kafka_options options;
        const char *linger_ms;
    } cases[] = {
        {{.message_timeout_ms = 0}, "5"},
        {{.message_timeout_ms = 6000}, "2"},
        {{.properties = &own, .property_count = 1, .message_timeout_ms = 6000}, "7"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error err = {0};
        rd_kafka_conf_t *conf = kafka_options_conf(&cases[i].options, 0, &err);
        char value[32] = "";
        size_t size = sizeof(value);

        assert_non_null(conf);
        assert_int_equal(rd_kafka_conf_get(conf, "linger.ms", value, &size), RD_KAFKA_CONF_OK);
        assert_string_equal(value, cases[i].linger_ms);
        rd_kafka_conf_destroy(conf);
    }
}

static void a_producer_that_cannot_be_made_says_why(void **state)
{
    struct kafka_property properties[] = {{"max.in.flight", "10", 1}};
    struct kafka_options options = {
        .properties = properties, .property_count = 1, .max_message_bytes = 9 << 20};
    struct publisher_events events = {0};
    struct error err = {0};

    (void)state;
    assert_null(kafka_publisher_ops.create(&options, &clock_system, events, &err));
    assert_int_equal(err.kind, ERROR_CONFIG);
    assert_non_null(strstr(err.message, "max.in.flight"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_properties_pass_also_those_of_topics_and_aliases),
        cmocka_unit_test(each_mistake_names_its_property),
        cmocka_unit_test(all_mistakes_are_reported_at_once),
        cmocka_unit_test(no_message_holds_a_secret),
        cmocka_unit_test(batches_are_waited_for_less_where_the_sender_waits),
        cmocka_unit_test(a_producer_that_cannot_be_made_says_why),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
