#include "publishers/kafka_errors.h"

#include <librdkafka/rdkafka.h>

struct verdict {
    enum settled_as as;
    const char *reason;
};

/*
 * Codes with an underscore come from librdkafka, the others from the broker (Kafka protocol guide,
 * "Error codes"). What librdkafka retries by itself is here for the case that it gives up.
 */
static struct verdict classify(rd_kafka_resp_err_t code)
{
    /* Some 150 codes exist; what is not named is taken for transient. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wswitch-enum"
    switch (code) {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
    case RD_KAFKA_RESP_ERR_DUPLICATE_SEQUENCE_NUMBER: /* without an offset: kafka_reports.c */
        return (struct verdict){SETTLED_DELIVERED, NULL};

    /* ---- the record ---- */
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:    /* over message.max.bytes, ours or the topic's */
    case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE: /* over the topic's segment.bytes */
        return (struct verdict){SETTLED_RECORD_FAULT, "too_large"};
    case RD_KAFKA_RESP_ERR_INVALID_RECORD: /* such as a null key on a compacted topic */
    case RD_KAFKA_RESP_ERR_INVALID_MSG:    /* the broker finds it damaged */
    case RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE:
    case RD_KAFKA_RESP_ERR__BAD_MSG: /* librdkafka cannot write it */
        return (struct verdict){SETTLED_RECORD_FAULT, "invalid_record"};
    case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP: /* outside the topic's message.timestamp.*.max.ms */
        return (struct verdict){SETTLED_RECORD_FAULT, "invalid_timestamp"};

    /* ---- the topic ---- */
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:        /* known not to exist, said without asking */
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:    /* its partitions became fewer */
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART: /* said by the broker */
        return (struct verdict){SETTLED_DESTINATION_FAULT, "unknown_topic"};
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION: /* the broker does not allow such a name */
        return (struct verdict){SETTLED_DESTINATION_FAULT, "invalid_topic"};
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED: /* no WRITE or DESCRIBE right */
        return (struct verdict){SETTLED_DESTINATION_FAULT, "not_authorized"};
    case RD_KAFKA_RESP_ERR_POLICY_VIOLATION: /* the cluster's own rules for topics */
        return (struct verdict){SETTLED_DESTINATION_FAULT, "policy_violation"};
    case RD_KAFKA_RESP_ERR_THROTTLING_QUOTA_EXCEEDED:
        return (struct verdict){SETTLED_DESTINATION_FAULT, "quota_exceeded"};
    case RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS: /* fewer in sync than min.insync.replicas */
    case RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND:
        return (struct verdict){SETTLED_DESTINATION_FAULT, "not_enough_replicas"};
    case RD_KAFKA_RESP_ERR_INVALID_REQUIRED_ACKS:          /* the topic refuses acks=all */
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT: /* too old for headers */
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_COMPRESSION_TYPE:
        return (struct verdict){SETTLED_DESTINATION_FAULT, "unsupported_by_topic"};

    /* ---- the moment ---- */
    case RD_KAFKA_RESP_ERR__MSG_TIMED_OUT: /* broker mode: message_timeout_ms is over */
    case RD_KAFKA_RESP_ERR__TIMED_OUT:
    case RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE:
    case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
        return (struct verdict){SETTLED_RETRY, "timed_out"};
    case RD_KAFKA_RESP_ERR__QUEUE_FULL: /* flow control (TRAPS K3) */
        return (struct verdict){SETTLED_RETRY, "queue_full"};
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED: /* the bridge as a whole may not write: */
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:   /* a fault of no topic */
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
        return (struct verdict){SETTLED_RETRY, "bridge_not_authorized"};
    case RD_KAFKA_RESP_ERR__FATAL:          /* the producer ended (TRAPS K5) ... */
    case RD_KAFKA_RESP_ERR__PURGE_QUEUE:    /* ... which returns what it had not sent ... */
    case RD_KAFKA_RESP_ERR__PURGE_INFLIGHT: /* ... and what it may have sent */
    case RD_KAFKA_RESP_ERR__DESTROY:
    case RD_KAFKA_RESP_ERR__GAPLESS_GUARANTEE:
    case RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER:
    case RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID:
    case RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH:
        return (struct verdict){SETTLED_RETRY, "producer_ended"};
    case RD_KAFKA_RESP_ERR__TRANSPORT: /* the connection broke */
    default:                           /* NOT_LEADER, LEADER_NOT_AVAILABLE, UNKNOWN, ... */
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
