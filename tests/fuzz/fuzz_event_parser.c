/*
 * Any bytes: what event_parse() and event_parse_object() accept keeps the promises of
 * event_parser.h, and its record can be read back.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/error.h"
#include "schemas/envelope.h"
#include "schemas/event.h"
#include "schemas/event_parser.h"
#include "tests/fuzz/fuzz.h"

static const struct event_origin origin = {.account = {"main", 4}};

static void check_name(struct text name)
{
    char previous = '.';

    MUST(name.size > 0 && name.size <= 128);
    for (size_t i = 0; i < name.size; i++) {
        char c = name.data[i];

        MUST(c == '.' ? previous != '.'
                      : c == '_' || c == '-' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                            (c >= 'A' && c <= 'Z'));
        previous = c;
    }
    MUST(previous != '.');
}

static void check_envelope(const struct event *event)
{
    struct envelope envelope;

    envelope_build(&envelope, event, true);
    MUST(envelope.count >= 7); /* specversion, id, type, source, closeaccount, -origin, -replay */
    for (size_t i = 0; i < envelope.count; i++) {
        struct text value = envelope.attributes[i].value;

        MUST(value.size > 0 && value.size <= ENVELOPE_VALUE_MAX);
        MUST(text_is_clean(value));
    }
}

static void check_event(const struct event *event, struct text body)
{
    struct text id = event_text(event, EVENT_ID);
    struct text object = event_text(event, EVENT_OBJECT);

    for (size_t i = 0; i < EVENT_FIELD_COUNT; i++) {
        struct event_slice slice = event->record->fields[i];

        MUST(slice.size <= event->record->size && slice.offset <= event->record->size - slice.size);
        MUST(slice.size == 0 || slice.offset >= sizeof(struct event_record));
    }
    MUST(text_equal(event_text(event, EVENT_BODY), body));
    MUST(id.size > 0 && id.size <= 256 && text_is_clean(id));
    check_name(event_text(event, EVENT_OBJECT_TYPE));
    check_name(event_text(event, EVENT_ACTION));
    MUST(object.size > 2 && object.data[0] == '{' && object.data[object.size - 1] == '}');
    check_envelope(event);
}

/* The event object is an event by itself and says the same. */
static void check_object(struct event_parser *parser, const struct event *event)
{
    struct event *again =
        event_parse_object(parser, &origin, event_text(event, EVENT_OBJECT), NULL);

    MUST(again);
    MUST(text_equal(event_text(again, EVENT_OBJECT), event_text(event, EVENT_OBJECT)));
    MUST(text_equal(event_text(again, EVENT_ACTION), event_text(event, EVENT_ACTION)));
    for (size_t i = EVENT_OBJECT_ID; i <= EVENT_DATE_UPDATED; i++) {
        if (i != EVENT_SUBSCRIPTION_ID)
            MUST(text_equal(event_text(again, (enum event_field)i),
                            event_text(event, (enum event_field)i)));
    }
    event_unref(again);
}

static void check_record(struct event *event)
{
    struct event *stored;

    event_seal(event, 1, 2);
    stored = event_from_record(event->record, event->record->size, NULL);
    MUST(stored);
    MUST(stored->record->size == event->record->size);
    MUST(memcmp(stored->record, event->record, event->record->size) == 0);
    event_unref(stored);
}

static void check_refusal(const struct error *err)
{
    MUST(err->kind == ERROR_INPUT && err->message[0] != '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct event_parser *parser;
    struct text body = {(const char *)data, size};
    struct error err = {0};
    struct event *event;

    if (!parser)
        parser = event_parser_new(NULL);
    MUST(parser);
    event = event_parse(parser, &origin, body, &err);
    if (event) {
        check_event(event, body);
        check_object(parser, event);
        check_record(event);
    } else {
        check_refusal(&err);
    }
    event_unref(event);

    event = event_parse_object(parser, &origin, body, &err);
    if (event)
        check_event(event, body);
    else
        check_refusal(&err);
    event_unref(event);
    return 0;
}
