#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <librdkafka/rdkafka.h>
#include <mosquitto.h>
#include <mqtt_protocol.h>

#include "publishers/kafka_errors.h"
#include "publishers/mqtt_reasons.h"

/* What becomes of a record for each answer of its broker: a dead letter at once (a fault of the
 * record), parked with its topic (of the destination), sent again, or delivered. */
struct verdict {
    int code;
    enum settled_as as;
    const char *reason;
};

static void check(const struct verdict *wanted, enum settled_as as, const char *reason)
{
    if (as != wanted->as || (reason == NULL) != (wanted->reason == NULL) ||
        (reason && strcmp(reason, wanted->reason) != 0))
        fail_msg("code %d: %d %s, not %d %s", wanted->code, as, reason ? reason : "(none)",
                 wanted->as, wanted->reason ? wanted->reason : "(none)");
}

static void kafka_codes_have_their_class(void **state)
{
    static const struct verdict cases[] = {
        {RD_KAFKA_RESP_ERR_NO_ERROR, SETTLED_DELIVERED, NULL},
        {RD_KAFKA_RESP_ERR_DUPLICATE_SEQUENCE_NUMBER, SETTLED_DELIVERED, NULL}, /* TRAPS K12 */
        /* the record */
        {RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, SETTLED_RECORD_FAULT, "too_large"},
        {RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE, SETTLED_RECORD_FAULT, "too_large"},
        {RD_KAFKA_RESP_ERR_INVALID_RECORD, SETTLED_RECORD_FAULT, "invalid_record"},
        {RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP, SETTLED_RECORD_FAULT, "invalid_timestamp"},
        /* the topic: TRAPS K6 (unknown at first, and at once ever after), K7 (a refused name) */
        {RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC, SETTLED_DESTINATION_FAULT, "unknown_topic"},
        {RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, SETTLED_DESTINATION_FAULT, "unknown_topic"},
        {RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION, SETTLED_DESTINATION_FAULT, "invalid_topic"},
        {RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, SETTLED_DESTINATION_FAULT, "not_authorized"},
        {RD_KAFKA_RESP_ERR_POLICY_VIOLATION, SETTLED_DESTINATION_FAULT, "policy_violation"},
        {RD_KAFKA_RESP_ERR_THROTTLING_QUOTA_EXCEEDED, SETTLED_DESTINATION_FAULT, "quota_exceeded"},
        {RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, SETTLED_DESTINATION_FAULT, "not_enough_replicas"},
        /* the moment: TRAPS K4, K3, K5 */
        {RD_KAFKA_RESP_ERR__MSG_TIMED_OUT, SETTLED_RETRY, "timed_out"},
        {RD_KAFKA_RESP_ERR__QUEUE_FULL, SETTLED_RETRY, "queue_full"},
        {RD_KAFKA_RESP_ERR__FATAL, SETTLED_RETRY, "producer_ended"},
        {RD_KAFKA_RESP_ERR__PURGE_QUEUE, SETTLED_RETRY, "producer_ended"},
        {RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, SETTLED_RETRY, "producer_ended"},
        {RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID, SETTLED_RETRY, "producer_ended"},
        {RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED, SETTLED_RETRY, "bridge_not_authorized"},
        {RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, SETTLED_RETRY, "connection_lost"},
        {RD_KAFKA_RESP_ERR__TRANSPORT, SETTLED_RETRY, "connection_lost"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *reason;
        enum settled_as as = kafka_error_class(cases[i].code, &reason);

        check(&cases[i], as, reason);
    }
}

/* Whatever librdkafka may say: a record is never taken for delivered, and never without a reason.
 */
static void every_code_of_kafka_has_a_class(void **state)
{
    const struct rd_kafka_err_desc *codes;
    size_t count;

    (void)state;
    rd_kafka_get_err_descs(&codes, &count);
    for (size_t i = 0; i < count; i++) {
        const char *reason;
        enum settled_as as = kafka_error_class(codes[i].code, &reason);
        bool is_fine = codes[i].code == RD_KAFKA_RESP_ERR_NO_ERROR ||
                       codes[i].code == RD_KAFKA_RESP_ERR_DUPLICATE_SEQUENCE_NUMBER;

        assert_int_equal(as == SETTLED_DELIVERED, is_fine);
        assert_int_equal(reason == NULL, is_fine);
    }
}

static void mqtt_reasons_have_their_class(void **state)
{
    static const struct verdict cases[] = {
        /* TRAPS M10 */
        {MQTT_RC_SUCCESS, SETTLED_DELIVERED, NULL},
        {MQTT_RC_NO_MATCHING_SUBSCRIBERS, SETTLED_DELIVERED, "no_subscribers"},
        {MQTT_RC_PAYLOAD_FORMAT_INVALID, SETTLED_RECORD_FAULT, "payload_format_invalid"},
        {MQTT_RC_PACKET_TOO_LARGE, SETTLED_RECORD_FAULT, "too_large"},
        {MQTT_RC_NOT_AUTHORIZED, SETTLED_DESTINATION_FAULT, "not_authorized"},
        {MQTT_RC_TOPIC_NAME_INVALID, SETTLED_DESTINATION_FAULT, "invalid_topic"},
        {MQTT_RC_QUOTA_EXCEEDED, SETTLED_DESTINATION_FAULT, "quota_exceeded"},
        {MQTT_RC_UNSPECIFIED, SETTLED_DESTINATION_FAULT, "broker_refused"},
        {MQTT_RC_IMPLEMENTATION_SPECIFIC, SETTLED_DESTINATION_FAULT, "broker_refused"},
        {0xff, SETTLED_DESTINATION_FAULT, "broker_refused"},
    };
    const char *reason;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        enum settled_as as = mqtt_reason_class(cases[i].code, MQTT_NO_SUBSCRIBERS_OK, &reason);

        check(&cases[i], as, reason);
    }
    assert_int_equal(
        mqtt_reason_class(MQTT_RC_NO_MATCHING_SUBSCRIBERS, MQTT_NO_SUBSCRIBERS_RETRY, &reason),
        SETTLED_DESTINATION_FAULT);
    assert_int_equal(mqtt_reason_class(MQTT_RC_NO_MATCHING_SUBSCRIBERS,
                                       MQTT_NO_SUBSCRIBERS_DEAD_LETTER, &reason),
                     SETTLED_RECORD_FAULT);
}

static void what_libmosquitto_refuses_has_its_class(void **state)
{
    static const struct verdict cases[] = {
        {MOSQ_ERR_OVERSIZE_PACKET, SETTLED_RECORD_FAULT, "too_large"},
        {MOSQ_ERR_PAYLOAD_SIZE, SETTLED_RECORD_FAULT, "too_large"},
        {MOSQ_ERR_MALFORMED_UTF8, SETTLED_RECORD_FAULT, "not_encodable"},
        {MOSQ_ERR_QOS_NOT_SUPPORTED, SETTLED_DESTINATION_FAULT, "qos_not_supported"},
        {MOSQ_ERR_RETAIN_NOT_SUPPORTED, SETTLED_DESTINATION_FAULT, "retain_not_supported"},
        {MOSQ_ERR_NO_CONN, SETTLED_RETRY, "connection_lost"},
        {MOSQ_ERR_NOMEM, SETTLED_RETRY, "connection_lost"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *reason;
        enum settled_as as = mqtt_publish_error_class(cases[i].code, &reason);

        check(&cases[i], as, reason);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kafka_codes_have_their_class),
        cmocka_unit_test(every_code_of_kafka_has_a_class),
        cmocka_unit_test(mqtt_reasons_have_their_class),
        cmocka_unit_test(what_libmosquitto_refuses_has_its_class),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
