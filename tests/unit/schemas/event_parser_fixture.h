/*
 * What the tests of the event parser share: a parser, bodies that it accepts and refuses. Failures
 * assert.
 */
#ifndef TESTS_UNIT_SCHEMAS_EVENT_PARSER_FIXTURE_H
#define TESTS_UNIT_SCHEMAS_EVENT_PARSER_FIXTURE_H

#include <stddef.h>

#include "schemas/event.h"
#include "schemas/event_parser.h"

struct buf;
struct error;

typedef struct event *parse_function(struct event_parser *, const struct event_origin *,
                                     struct text, struct error *);

extern const struct event_origin fixture_origin;

/* cmocka's setup and teardown of a group. */
int fixture_make_parser(void **state);
int fixture_free_parser(void **state);

/* From memory of exactly its size, so that a sanitizer sees what reads beyond it. */
struct event *fixture_parse_exactly(parse_function *parse, struct text body, struct error *err);

/* Returns owned: event_unref(). */
struct event *fixture_accept(parse_function *parse, struct text body);

/* As a webhook, with a message that holds `reason`. */
void fixture_assert_refused(struct text body, const char *reason);

void fixture_assert_field(const struct event *event, enum event_field field, const char *expected);

/* A file of tests/data/payloads. */
struct text fixture_read_payload(const char *name, char *out, size_t capacity);

/* A body whose event has these members behind the required ones. */
void fixture_with_members(struct buf *out, const char *members);

#endif
