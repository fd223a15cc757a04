#include "publishers/kafka_message.h"

#include <librdkafka/rdkafka.h>

#include "publishers/kafka_headers.h"
#include "publishers/publisher.h"
#include "schemas/encoder.h"
#include "schemas/envelope.h"
#include "schemas/event.h"

static void add_header(struct kafka_header_list *list, const char *name, struct text value)
{
    if (!value.data)
        return;
    list->headers[list->count].name = name;
    list->headers[list->count++].value = value;
}

static void add_attributes(struct kafka_header_list *list, const struct record *record,
                           const struct envelope *envelope)
{
    bool is_binary = format_is_binary_mode(record->format);

    for (size_t i = 0; i < envelope->count; i++) {
        const struct envelope_attribute *attribute = &envelope->attributes[i];

        if (is_binary || attribute->is_trace_context)
            add_header(list, attribute->kafka_name, attribute->value);
    }
}

/* A body that is no event need not be JSON either. */
static const char *content_type(const struct record *record)
{
    return event_has(record->event, EVENT_IS_OPAQUE) ? "application/octet-stream"
                                                     : format_content_type(record->format, false);
}

/* Returns owned, NULL without memory. */
static rd_kafka_headers_t *make_headers(struct kafka_headers *headers, const struct record *record)
{
    struct kafka_header_list list = {.count = 0};
    struct envelope envelope;

    envelope_build(&envelope, record->event, record->is_replay);
    add_header(&list, "content-type", text_of(content_type(record)));
    add_attributes(&list, record, &envelope);
    add_header(&list, "closebridge_reason", text_of(record->dead_reason));
    add_header(&list, "closebridge_publisher", text_of(record->dead_publisher));
    add_header(&list, "closebridge_topic", text_of(record->dead_topic));
    add_header(&list, "closebridge_withheld", text_of(record->is_withheld ? "field_policy" : NULL));
    return kafka_headers_make(headers, &list);
}

/* librdkafka only reads what it is given, but takes pointers to bytes that are not const. */
static void *unconst(const char *data)
{
    return (void *)(uintptr_t)data;
}

int kafka_message_produce(struct rd_kafka_s *producer, struct rd_kafka_topic_s *topic,
                          struct kafka_headers *kept, struct record *record)
{
    rd_kafka_headers_t *headers = make_headers(kept, record);
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
