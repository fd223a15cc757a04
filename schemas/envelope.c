#include "schemas/envelope.h"

#include <string.h>

#include "schemas/date.h"
#include "schemas/event.h"

/* Longer ones are not Close's: an id of theirs has 50 characters. */
enum { ORGANIZATION_MAX = 128 };

/* Makes values in the envelope's scratch. What does not fit makes the value empty, so that it is
 * left out. */
struct writer {
    struct envelope *envelope;
    size_t used;  /* of the scratch */
    size_t start; /* of the value being made */
    bool is_full;
};

static void write_bytes(struct writer *writer, const char *data, size_t size)
{
    if (size > sizeof(writer->envelope->scratch) - writer->used) {
        writer->is_full = true;
        return;
    }
    if (size)
        memcpy(writer->envelope->scratch + writer->used, data, size);
    writer->used += size;
}

static void write_text(struct writer *writer, struct text text)
{
    write_bytes(writer, text.data, text.size);
}

static bool is_unreserved(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

static void write_percent_encoded(struct writer *writer, struct text text)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t plain = 0; /* begin of what needs no encoding */

    for (size_t i = 0; i < text.size; i++) {
        unsigned char c = (unsigned char)text.data[i];
        char encoded[3] = {'%', hex[c >> 4], hex[c & 15]};

        if (is_unreserved(c))
            continue;
        write_bytes(writer, text.data + plain, i - plain);
        write_bytes(writer, encoded, sizeof(encoded));
        plain = i + 1;
    }
    write_bytes(writer, text.data + plain, text.size - plain);
}

/* Ends the value that was begun after the last one. */
static struct text written(struct writer *writer)
{
    struct text value = {writer->envelope->scratch + writer->start, writer->used - writer->start};

    if (writer->is_full)
        value.size = 0;
    writer->used = writer->start + value.size;
    writer->start = writer->used;
    writer->is_full = false;
    return value;
}

static void add_attribute(struct envelope *envelope, struct envelope_attribute attribute)
{
    struct text value = attribute.value;

    if (value.size > 0 && value.size <= ENVELOPE_VALUE_MAX && envelope->count < ENVELOPE_MAX &&
        text_is_clean(value))
        envelope->attributes[envelope->count++] = attribute;
}

#define add(envelope, name, value)                                                                 \
    add_attribute(envelope, (struct envelope_attribute){name, "ce_" name, value, false})

static void add_trace_context(struct envelope *envelope, const char *name, struct text value)
{
    add_attribute(envelope, (struct envelope_attribute){name, name, value, true});
}

static void add_source(struct writer *writer, struct text organization)
{
    write_text(writer, text_of("/close/"));
    if (organization.size == 0 || organization.size > ORGANIZATION_MAX)
        write_text(writer, text_of("unknown"));
    else
        write_percent_encoded(writer, organization);
    add(writer->envelope, "source", written(writer));
}

/* CloudEvents lets consumers drop a repeated source and id, so a consolidated update, which keeps
 * the id of the event, needs one of its own. */
static void add_id(struct writer *writer, const struct event *event, const struct instant *updated)
{
    struct text id = event_text(event, EVENT_ID);
    struct instant created;

    if (!updated || !date_parse(event_text(event, EVENT_DATE_CREATED), &created) ||
        !date_is_later(updated, &created)) {
        add(writer->envelope, "id", id);
        return;
    }
    write_text(writer, id);
    write_text(writer, text_of("/"));
    write_text(writer, event_text(event, EVENT_DATE_UPDATED));
    add(writer->envelope, "id", written(writer));
}

static void add_type(struct writer *writer, const struct event *event)
{
    write_text(writer, text_of("com.close."));
    write_text(writer, event_text(event, EVENT_OBJECT_TYPE));
    write_text(writer, text_of("."));
    write_text(writer, event_text(event, EVENT_ACTION));
    add(writer->envelope, "type", written(writer));
}

static void add_time(struct writer *writer, const struct instant *updated)
{
    char date[DATE_MAX];

    if (!updated)
        return;
    write_bytes(writer, date, date_format(updated, date));
    add(writer->envelope, "time", written(writer));
}

/* What CloudEvents defines; only events have it. */
static void add_event(struct writer *writer, const struct event *event)
{
    struct envelope *envelope = writer->envelope;
    struct instant instant;
    const struct instant *updated =
        date_parse(event_text(event, EVENT_DATE_UPDATED), &instant) ? &instant : NULL;

    add(envelope, "specversion", text_of("1.0"));
    add_id(writer, event, updated);
    add_type(writer, event);
    add(envelope, "subject", event_text(event, EVENT_OBJECT_ID));
    add_time(writer, updated);
    add(envelope, "closeeventid", event_text(event, EVENT_ID));
    add(envelope, "closesubscription", event_text(event, EVENT_SUBSCRIPTION_ID));
    add(envelope, "closedateupdated", event_text(event, EVENT_DATE_UPDATED));
}

void envelope_build(struct envelope *envelope, const struct event *event, bool is_replay)
{
    struct writer writer = {.envelope = envelope};

    envelope->count = 0;
    if (!event_has(event, EVENT_IS_OPAQUE))
        add_event(&writer, event);
    add_source(&writer, event_text(event, EVENT_ORGANIZATION_ID));
    add(envelope, "closeaccount", event_text(event, EVENT_ACCOUNT));
    add(envelope, "closeorigin",
        text_of(event_has(event, EVENT_FROM_LOG) ? "event_log" : "webhook"));
    if (is_replay)
        add(envelope, "closereplay", text_of("true"));
    if (event_has(event, EVENT_IS_TEST))
        add(envelope, "closetest", text_of("true"));
    add_trace_context(envelope, "traceparent", event_text(event, EVENT_TRACEPARENT));
    add_trace_context(envelope, "tracestate", event_text(event, EVENT_TRACESTATE));
}

bool envelope_parse_date(struct text date, int64_t *out_ms)
{
    struct instant instant;

    if (!date_parse(date, &instant))
        return false;
    *out_ms = instant.seconds * 1000 + instant.nanoseconds / 1000000;
    return true;
}
