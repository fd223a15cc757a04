/*
 * From a webhook's body to an event.
 *
 * Both payload shapes are accepted: Close's ({"subscription_id", "event": {...}}) and the older one
 * ({"event": "lead.created", "data", "subscription_id", "timestamp", "id"}), which is normalised
 * into an event object. The DOM parser of simdjson decides what is JSON; what it refuses only for
 * the size of a number, a slower walk decides.
 *
 * An event needs `id`, `object_type` and `action`: strings, not empty. object_type and action match
 * [A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*, at most 128 bytes; id has no control character, at most 256
 * bytes. A repeated key among those that route is ambiguous, so such a body is not an event.
 *
 * Threads: a parser belongs to one thread.
 */
#ifndef SCHEMAS_EVENT_PARSER_H
#define SCHEMAS_EVENT_PARSER_H

#include "bridge/base/text.h"

struct error;
struct event;
struct event_origin;
struct event_parser; /* opaque: defined in event_parser.c */

/* Returns owned (event_parser_free). */
struct event_parser *event_parser_new(struct error *err);
void event_parser_free(struct event_parser *parser);

/*
 * Returns owned (event_unref) an event, or NULL: ERROR_INPUT when the body is not an event (`err`
 * says why, without any of the body's bytes), ERROR_FATAL without memory. `body` is copied once.
 */
struct event *event_parse(struct event_parser *parser, const struct event_origin *origin,
                          struct text body, struct error *err);

/* The same for the event object alone, as Close's Event Log gives it. */
struct event *event_parse_object(struct event_parser *parser, const struct event_origin *origin,
                                 struct text object, struct error *err);

/* An authentic body that is not an event, to be kept as a dead letter. Returns owned, NULL without
 * memory. */
struct event *event_opaque(const struct event_origin *origin, struct text body);

#endif
