#include "schemas/encoder.h"

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "schemas/envelope.h"
#include "schemas/event.h"
#include "schemas/field_policy.h"
#include "schemas/msgpack_writer.h"

static const struct {
    const char *name;
    const char *kafka_type;
    const char *mqtt_type;
} formats[] = {
    [FORMAT_EVENT] = {"event", "application/json", "application/json"},
    [FORMAT_RAW] = {"raw", "application/json", "application/json"},
    [FORMAT_CLOUDEVENTS] = {"cloudevents", "application/cloudevents+json; charset=UTF-8",
                            "application/cloudevents+json; charset=utf-8"},
    [FORMAT_MSGPACK] = {"msgpack", "application/vnd.msgpack", "application/vnd.msgpack"},
};

bool format_from_name(struct text name, enum format *out_format)
{
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        if (text_equal_string(name, formats[i].name)) {
            *out_format = (enum format)i;
            return true;
        }
    }
    return false;
}

const char *format_name(enum format format)
{
    return formats[format].name;
}

const char *format_content_type(enum format format, bool for_mqtt)
{
    return for_mqtt ? formats[format].mqtt_type : formats[format].kafka_type;
}

bool format_is_binary_mode(enum format format)
{
    return format != FORMAT_CLOUDEVENTS;
}

static void write_cloudevent(const struct event *event, struct text object, bool is_replay,
                             struct buf *out)
{
    struct envelope envelope;

    envelope_build(&envelope, event, is_replay);
    buf_append_char(out, '{');
    for (size_t i = 0; i < envelope.count; i++) {
        const struct envelope_attribute *attribute = &envelope.attributes[i];

        buf_printf(out, "\"%s\":", attribute->name);
        buf_append_json_string(out, attribute->value);
        buf_append_char(out, ',');
    }
    buf_append_string(out, "\"datacontenttype\":\"application/json\",\"data\":");
    buf_append_text(out, object);
    buf_append_char(out, '}');
}

/* The payload around or in place of the event object. */
static int write(enum format format, const struct event *event, struct text object, bool is_replay,
                 struct buf *scratch, struct text *out_value, struct error *err)
{
    switch (format) {
    case FORMAT_EVENT:
        *out_value = object;
        return 0;
    case FORMAT_RAW:
        *out_value = event_text(event, EVENT_BODY);
        return 0;
    case FORMAT_CLOUDEVENTS:
        write_cloudevent(event, object, is_replay, scratch);
        break;
    case FORMAT_MSGPACK:
        if (msgpack_write_json(scratch, object, err) < 0)
            return -1;
        break;
    }
    if (scratch->failed)
        return error_set(err, ERROR_FATAL, "out of memory");
    *out_value = buf_text(scratch);
    return 0;
}

/* The same of what the policy leaves of it. */
static int write_cut(enum format format, const struct event *event,
                     const struct field_policy *fields, bool is_replay, struct buf *scratch,
                     struct text *out_value, struct error *err)
{
    struct buf cut = {0};
    int rc = -1;

    field_policy_apply(fields, event_text(event, EVENT_OBJECT), &cut);
    if (cut.failed) {
        error_set(err, ERROR_FATAL, "out of memory");
    } else if (format == FORMAT_EVENT) {
        buf_release(scratch);
        *scratch = cut;
        *out_value = buf_text(scratch);
        return 0;
    } else {
        rc = write(format, event, buf_text(&cut), is_replay, scratch, out_value, err);
    }
    buf_release(&cut);
    return rc;
}

int encoder_encode(enum format format, const struct event *event, const struct field_policy *fields,
                   bool is_replay, struct buf *scratch, struct text *out_value, struct error *err)
{
    if (event_has(event, EVENT_IS_OPAQUE) && format != FORMAT_RAW)
        return error_set(err, ERROR_INPUT, "what is not an event has no other format than raw");
    buf_clear(scratch);
    if (fields && format != FORMAT_RAW)
        return write_cut(format, event, fields, is_replay, scratch, out_value, err);
    return write(format, event, event_text(event, EVENT_OBJECT), is_replay, scratch, out_value,
                 err);
}
