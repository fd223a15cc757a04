/*
 * A filter, a NUL, an event object: what compiles has one normal spelling that means the same, and
 * its negation passes exactly the other events.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "schemas/event.h"
#include "schemas/event_parser.h"
#include "schemas/filter.h"
#include "tests/fuzz/fuzz.h"

static struct event *parse(struct text object)
{
    static const struct event_origin origin = {.account = {"main", 4}};
    static struct event_parser *parser;

    if (!parser)
        parser = event_parser_new(NULL);
    MUST(parser);
    return event_parse_object(parser, &origin, object, NULL);
}

/* NULL when the negation would be nested too deeply or be too long. */
static struct filter *negation(const struct filter *filter)
{
    struct filter *result;
    struct buf json = {0};

    buf_append_string(&json, "{\"type\":\"not\",\"filter\":");
    buf_append_text(&json, filter_json(filter));
    buf_append_char(&json, '}');
    result = filter_compile(buf_text(&json), NULL);
    buf_release(&json);
    return result;
}

static void check(const struct filter *filter, const struct event *event)
{
    struct filter *again = filter_compile(filter_json(filter), NULL);
    struct filter *opposite = negation(filter);

    /* An escape of a control character can be longer than what it stands for. */
    MUST(again || filter_json(filter).size > 64 * 1024);
    if (again)
        MUST(text_equal(filter_json(again), filter_json(filter)));
    if (event) {
        bool passes = filter_matches(filter, event);

        MUST(filter_matches(filter, event) == passes);
        MUST(!again || filter_matches(again, event) == passes);
        MUST(!opposite || filter_matches(opposite, event) != passes);
    }
    filter_free(opposite);
    filter_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct text json = {(const char *)data, size};
    struct text object = {NULL, 0};
    const char *nul = size ? memchr(data, 0, size) : NULL;
    struct error err = {0};
    struct filter *filter;
    struct event *event;

    if (nul) {
        json.size = (size_t)(nul - json.data);
        object = (struct text){nul + 1, size - json.size - 1};
    }
    filter = filter_compile(json, &err);
    if (!filter) {
        MUST(err.kind == ERROR_CONFIG && err.message[0] != '\0');
        return 0;
    }
    event = parse(object);
    check(filter, event);
    event_unref(event);
    filter_free(filter);
    return 0;
}
