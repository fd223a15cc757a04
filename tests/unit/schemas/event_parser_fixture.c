#include "tests/unit/schemas/event_parser_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"

const struct event_origin fixture_origin = {.account = {"main", 4}, .received_ms = 1756970838008};

static struct event_parser *parser;

int fixture_make_parser(void **state)
{
    (void)state;
    parser = event_parser_new(NULL);
    return parser ? 0 : -1;
}

int fixture_free_parser(void **state)
{
    (void)state;
    event_parser_free(parser);
    return 0;
}

/* From memory of exactly its size, so that a sanitizer sees what reads beyond it. */
struct event *fixture_parse_exactly(parse_function *parse, struct text body, struct error *err)
{
    char *exact = malloc(body.size ? body.size : 1);
    struct event *event;

    assert_non_null(exact);
    if (body.size)
        memcpy(exact, body.data, body.size);
    event = parse(parser, &fixture_origin, (struct text){exact, body.size}, err);
    free(exact);
    return event;
}

struct event *fixture_accept(parse_function *parse, struct text body)
{
    struct error err = {0};
    struct event *event = fixture_parse_exactly(parse, body, &err);

    if (!event)
        fail_msg("%.*s: %s", (int)body.size, body.data, err.message);
    return event;
}

void fixture_assert_refused(struct text body, const char *reason)
{
    struct error err = {0};
    struct event *event = fixture_parse_exactly(event_parse, body, &err);

    if (event || err.kind != ERROR_INPUT || !strstr(err.message, reason))
        fail_msg("%.*s: \"%s\" is not \"... %s ...\"", (int)body.size, body.data,
                 event ? "accepted" : err.message, reason);
}

void fixture_assert_field(const struct event *event, enum event_field field, const char *expected)
{
    struct text value = event_text(event, field);

    if (!text_equal_string(value, expected))
        fail_msg("field %d is \"%.*s\", not \"%s\"", (int)field, (int)value.size, value.data,
                 expected);
}

struct text fixture_read_payload(const char *name, char *out, size_t capacity)
{
    char path[256];
    FILE *file;
    size_t size;

    snprintf(path, sizeof(path), TEST_DATA "/payloads/%s", name);
    file = fopen(path, "rb");
    assert_non_null(file);
    size = fread(out, 1, capacity, file);
    fclose(file);
    return (struct text){out, size};
}

/* A body whose event has these members behind the required ones. */
void fixture_with_members(struct buf *out, const char *members)
{
    buf_clear(out);
    buf_printf(out,
               "{\"event\": {\"id\": \"ev_1\", \"object_type\": \"lead\", \"action\": "
               "\"updated\"%s}}",
               members);
}
