#include "publishers/kafka_message.h"

#include <librdkafka/rdkafka.h>

#include "publishers/publisher.h"
#include "schemas/encoder.h"
#include "schemas/envelope.h"

enum { OUR_HEADERS = 5 }; /* beside the envelope's */

static bool add_header(rd_kafka_headers_t *headers, const char *name, struct text value)
{
    return !value.data || rd_kafka_header_add(headers, name, -1, value.data, (ssize_t)value.size) ==
                              RD_KAFKA_RESP_ERR_NO_ERROR;
}

static bool add_attributes(rd_kafka_headers_t *headers, const struct record *record)
{
    struct envelope envelope;

    envelope_build(&envelope, record->event, record->is_replay);
    for (size_t i = 0; i < envelope.count; i++) {
        if (!add_header(headers, envelope.attributes[i].kafka_name, envelope.attributes[i].value))
            return false;
    }
    return true;
}

/* Returns owned, NULL without memory. */
static rd_kafka_headers_t *make_headers(const struct record *record)
{
    rd_kafka_headers_t *headers = rd_kafka_headers_new(ENVELOPE_MAX + OUR_HEADERS);

    if (!headers)
        return NULL;
    if (add_header(headers, "content-type", text_of(format_content_type(record->format, false))) &&
        (!format_is_binary_mode(record->format) || add_attributes(headers, record)) &&
        add_header(headers, "closebridge_reason", text_of(record->dead_reason)) &&
        add_header(headers, "closebridge_publisher", text_of(record->dead_publisher)) &&
        add_header(headers, "closebridge_topic", text_of(record->dead_topic)) &&
        add_header(headers, "closebridge_withheld",
                   text_of(record->is_withheld ? "field_policy" : NULL)))
        return headers;
    rd_kafka_headers_destroy(headers);
    return NULL;
}

/* librdkafka only reads what it is given, but takes pointers to bytes that are not const. */
static void *unconst(const char *data)
{
    return (void *)(uintptr_t)data;
}

int kafka_message_produce(struct rd_kafka_s *producer, struct rd_kafka_topic_s *topic,
                          struct record *record)
{
    rd_kafka_headers_t *headers = make_headers(record);
    /* No partition: an explicit one that does not exist frees the headers twice (TRAPS K2). */
    rd_kafka_vu_t parts[] = {
        {.vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = topic},
        {.vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = {unconst(record->value.data), record->value.size}},
        {.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {unconst(record->key.data), record->key.size}},
        {.vtype = RD_KAFKA_VTYPE_TIMESTAMP, .u.i64 = record->timestamp_ms},
        {.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = record},
        {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers},
    };
    rd_kafka_error_t *error;
    rd_kafka_resp_err_t code;

    if (!headers)
        return RD_KAFKA_RESP_ERR__QUEUE_FULL; /* without memory, as with a full queue: later */
    error = rd_kafka_produceva(producer, parts, sizeof(parts) / sizeof(parts[0]));
    code = rd_kafka_error_code(error);
    if (error) {
        if (rd_kafka_error_is_fatal(error)) /* its code is that of the cause */
            code = RD_KAFKA_RESP_ERR__FATAL;
        rd_kafka_headers_destroy(headers); /* taken only on success */
        rd_kafka_error_destroy(error);
    }
    return code;
}
