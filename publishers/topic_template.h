/*
 * Topic templates: "close.{object_type}" becomes "close.activity.note", and no value from the wire
 * can choose a topic outside what the template allows.
 *
 * Variables: {account}, {object_type}, {action}, {category} ("other" outside the catalog); on MQTT
 * also {lead_id} and {object_id} ("none" when absent). On MQTT the dots of an object type become
 * levels. A final Kafka name matches [A-Za-z0-9._-]{1,249}, is not "." or ".." and does not begin
 * with "__"; a final MQTT name is UTF-8 without wildcard, control character, noncharacter, leading
 * "$" or empty level, at most 1,024 bytes (TRAPS K7, M12). A value that would leave its level is
 * refused, never changed.
 *
 * Read-only once made: any thread.
 */
#ifndef PUBLISHERS_TOPIC_TEMPLATE_H
#define PUBLISHERS_TOPIC_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>

#include "bridge/base/text.h"

struct error;
struct event;
struct topic_template; /* opaque: defined in topic_template.c */

enum topic_kind { TOPIC_KAFKA, TOPIC_MQTT };

enum { TOPIC_MAX = 1024 };

/* Returns owned (topic_template_free); NULL: `err` says what is wrong with the template. */
struct topic_template *topic_template_compile(struct text source, enum topic_kind kind,
                                              struct error *err);
void topic_template_free(struct topic_template *template_);

/* True when the name depends only on account, object type and action, so that it can be kept per
 * pair. */
bool topic_template_is_fixed_per_pair(const struct topic_template *template_);

/* True when there is no variable at all. */
bool topic_template_is_constant(const struct topic_template *template_);

/* Writes the terminated name to `out_name` (TOPIC_MAX + 1 bytes). -1 with ERROR_INPUT when the
 * result breaks the rules. */
int topic_template_render(const struct topic_template *template_, const struct event *event,
                          char *out_name, struct error *err);

/*
 * The same syntax for a partition key such as "{object_type}.{action}"; besides {event_id} and
 * {organization_id}, absent is empty and any byte may come out. Rendering writes no terminator;
 * -1 when the key does not fit `capacity` bytes.
 */
struct topic_template *key_template_compile(struct text source, struct error *err);
int key_template_render(const struct topic_template *template_, const struct event *event,
                        char *out_key, size_t capacity, size_t *out_size);

#endif
