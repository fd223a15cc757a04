#include "publishers/kafka_errors.h"

#include <librdkafka/rdkafka.h>

struct verdict {
    enum settled_as as;
    const char *reason;
};

/*
 * Faults of the record are dead letters at once, faults of the destination park its topic, anything
 * else is sent again. (TRAPS K5-K7; error codes: Kafka protocol guide, "Error codes".)
 */
static struct verdict classify(rd_kafka_resp_err_t code)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored                                                                     \
    "-Wswitch-enum" /* some 150 codes; what is not named is tried again */
    switch (code) {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
        return (struct verdict){SETTLED_DELIVERED, NULL};
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
        return (struct verdict){SETTLED_RECORD_FAULT, "too_large"};
    case RD_KAFKA_RESP_ERR_INVALID_RECORD: /* a null key on a compacted topic, for one */
    case RD_KAFKA_RESP_ERR_INVALID_MSG:
    case RD_KAFKA_RESP_ERR__BAD_MSG:
        return (struct verdict){SETTLED_RECORD_FAULT, "invalid_record"};
    case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP:
        return (struct verdict){SETTLED_RECORD_FAULT, "invalid_timestamp"};
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
        return (struct verdict){SETTLED_DESTINATION_FAULT, "unknown_topic"};
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
    case RD_KAFKA_RESP_ERR__INVALID_ARG:
        return (struct verdict){SETTLED_DESTINATION_FAULT, "invalid_topic"};
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
        return (struct verdict){SETTLED_DESTINATION_FAULT, "not_authorized"};
    case RD_KAFKA_RESP_ERR_POLICY_VIOLATION:
    case RD_KAFKA_RESP_ERR_THROTTLING_QUOTA_EXCEEDED:
        return (struct verdict){SETTLED_DESTINATION_FAULT, "quota_exceeded"};
    case RD_KAFKA_RESP_ERR_INVALID_REQUIRED_ACKS:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT:
        return (struct verdict){SETTLED_DESTINATION_FAULT, "unsupported_by_topic"};
    case RD_KAFKA_RESP_ERR__MSG_TIMED_OUT:
        return (struct verdict){SETTLED_RETRY, "timed_out"};
    default:
        return (struct verdict){SETTLED_RETRY, "connection_lost"};
    }
#pragma GCC diagnostic pop
}

enum settled_as kafka_error_class(int code, const char **out_reason)
{
    struct verdict verdict = classify((rd_kafka_resp_err_t)code);

    *out_reason = verdict.reason;
    return verdict.as;
}
