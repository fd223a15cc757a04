/*
 * CloudEvents 1.0 attributes of an event, the same for every broker; the binding puts its own
 * prefix before the names.
 *
 * Attributes without a value are left out, and so are values that CloudEvents does not allow (not
 * UTF-8, control characters, noncharacters: mosquitto drops a connection that sends one, for ever)
 * and values of more than ENVELOPE_VALUE_MAX bytes. What is not an event (EVENT_IS_OPAQUE) has no
 * id and no type, so it is no CloudEvent and gets no specversion either.
 */
#ifndef SCHEMAS_ENVELOPE_H
#define SCHEMAS_ENVELOPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/text.h"

struct event;

enum { ENVELOPE_MAX = 16, ENVELOPE_VALUE_MAX = 1024 };

struct envelope_attribute {
    const char *name;       /* id, source, type, closeeventid ... */
    const char *kafka_name; /* the same with the prefix ce_; traceparent and tracestate have none */
    struct text value;
    bool is_trace_context; /* travels beside the payload in structured mode too */
};

struct envelope {
    size_t count;
    struct envelope_attribute attributes[ENVELOPE_MAX];
    char scratch[2048]; /* what had to be made: values point here or into the event */
};

/* Fills `envelope`; it borrows `event` for as long as it is used. Never fails: what does not fit is
 * left out. */
void envelope_build(struct envelope *envelope, const struct event *event, bool is_replay);

/* Milliseconds since 1970 of a date as Close writes it (with or without zone; without means UTC).
 * False: not a date. */
bool envelope_parse_date(struct text date, int64_t *out_ms);

#endif
