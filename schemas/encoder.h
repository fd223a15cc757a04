/*
 * The formats in which consumers get an event.
 *
 * Any thread.
 */
#ifndef SCHEMAS_ENCODER_H
#define SCHEMAS_ENCODER_H

#include <stdbool.h>

#include "bridge/base/text.h"

struct buf;
struct error;
struct event;
struct field_policy;

enum format {
    FORMAT_EVENT,       /* the event object, the bytes that Close sent */
    FORMAT_RAW,         /* the whole body, byte for byte */
    FORMAT_CLOUDEVENTS, /* structured JSON */
    FORMAT_MSGPACK,     /* the event object as MessagePack */
};

/* False when `name` is none of event, raw, cloudevents, msgpack. */
bool format_from_name(struct text name, enum format *out_format);
const char *format_name(enum format format);

/* Value of content-type; Kafka and MQTT spell structured mode differently, `for_mqtt` chooses. */
const char *format_content_type(enum format format, bool for_mqtt);

/* True: attributes travel as headers or user properties; false: inside the payload (structured
 * mode). */
bool format_is_binary_mode(enum format format);

/*
 * Sets `out_value` to the payload: a view of the event where the bytes are already there, else of
 * `scratch`, which is cleared first. `fields` says what is cut out of the event object (NULL:
 * nothing); FORMAT_RAW has no use for it. ERROR_INPUT when this event cannot be encoded (opaque
 * events have only FORMAT_RAW), ERROR_FATAL without memory.
 */
int encoder_encode(enum format format, const struct event *event, const struct field_policy *fields,
                   bool is_replay, struct buf *scratch, struct text *out_value, struct error *err);

#endif
