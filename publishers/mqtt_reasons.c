#include "publishers/mqtt_reasons.h"

#include <mosquitto.h>
#include <mqtt_protocol.h>

static enum settled_as verdict(enum settled_as as, const char *reason, const char **out_reason)
{
    *out_reason = reason;
    return as;
}

static enum settled_as nobody_subscribes(enum mqtt_no_subscribers policy, const char **out_reason)
{
    switch (policy) {
    case MQTT_NO_SUBSCRIBERS_RETRY:
        return verdict(SETTLED_DESTINATION_FAULT, "no_subscribers", out_reason);
    case MQTT_NO_SUBSCRIBERS_DEAD_LETTER:
        return verdict(SETTLED_RECORD_FAULT, "no_subscribers", out_reason);
    case MQTT_NO_SUBSCRIBERS_OK:
        break;
    }
    return verdict(SETTLED_DELIVERED, "no_subscribers", out_reason);
}

/* MQTT 5.0 section 3.4.2.1, and TRAPS M10. */
enum settled_as mqtt_reason_class(int reason_code, enum mqtt_no_subscribers no_subscribers,
                                  const char **out_reason)
{
    switch (reason_code) {
    case MQTT_RC_SUCCESS:
        return verdict(SETTLED_DELIVERED, NULL, out_reason);
    case MQTT_RC_NO_MATCHING_SUBSCRIBERS:
        return nobody_subscribes(no_subscribers, out_reason);
    case MQTT_RC_PAYLOAD_FORMAT_INVALID:
        return verdict(SETTLED_RECORD_FAULT, "payload_format_invalid", out_reason);
    case MQTT_RC_PACKET_TOO_LARGE:
        return verdict(SETTLED_RECORD_FAULT, "too_large", out_reason);
    case MQTT_RC_NOT_AUTHORIZED:
        return verdict(SETTLED_DESTINATION_FAULT, "not_authorized", out_reason);
    case MQTT_RC_TOPIC_NAME_INVALID:
        return verdict(SETTLED_DESTINATION_FAULT, "invalid_topic", out_reason);
    case MQTT_RC_QUOTA_EXCEEDED:
        return verdict(SETTLED_DESTINATION_FAULT, "quota_exceeded", out_reason);
    default:
        /* The broker says no and not why: its topic waits and is tried again, so that nothing
         * spins. */
        return verdict(reason_code >= 0x80 ? SETTLED_DESTINATION_FAULT : SETTLED_DELIVERED,
                       reason_code >= 0x80 ? "broker_refused" : NULL, out_reason);
    }
}

enum settled_as mqtt_publish_error_class(int return_code, const char **out_reason)
{
    switch (return_code) {
    case MOSQ_ERR_PAYLOAD_SIZE:
    case MOSQ_ERR_OVERSIZE_PACKET:
        return verdict(SETTLED_RECORD_FAULT, "too_large", out_reason);
    case MOSQ_ERR_MALFORMED_UTF8:
    case MOSQ_ERR_INVAL:
    case MOSQ_ERR_MALFORMED_PACKET:
        return verdict(SETTLED_RECORD_FAULT, "not_encodable", out_reason);
    case MOSQ_ERR_QOS_NOT_SUPPORTED:
        return verdict(SETTLED_DESTINATION_FAULT, "qos_not_supported", out_reason);
    case MOSQ_ERR_RETAIN_NOT_SUPPORTED:
        return verdict(SETTLED_DESTINATION_FAULT, "retain_not_supported", out_reason);
    default:
        return verdict(SETTLED_RETRY, "connection_lost", out_reason);
    }
}
