/*
 * Which members of an event the consumers of an entry get, for Close sends full records whatever
 * the role of who subscribed.
 *
 * A path is names with dots between: `data.emails`, `data.contacts.emails`. It stands for the
 * member and all that is in it, reaches into the elements of arrays, and stands for flat keys that
 * begin so too (`data.custom` for `custom.cf_x`). A path under `data` is one under `previous_data`
 * as well.
 *
 * Drop cuts what its paths stand for. Keep cuts everything of `data` and `previous_data` but what
 * its paths stand for, and members of the event that Close does not document. All other bytes stay
 * as Close sent them.
 *
 * Threads: a policy is read-only once its paths are added: any thread.
 */
#ifndef SCHEMAS_FIELD_POLICY_H
#define SCHEMAS_FIELD_POLICY_H

#include "bridge/base/text.h"

struct buf;
struct error;
struct field_policy; /* opaque: defined in field_policy.c */

enum field_policy_kind { FIELDS_DROP, FIELDS_KEEP };

/* Returns owned (field_policy_free), NULL without memory. */
struct field_policy *field_policy_new(enum field_policy_kind kind);
void field_policy_free(struct field_policy *policy);

/* ERROR_CONFIG: the path can stand for nothing, or consumers cannot do without it; ERROR_FATAL
 * without memory. */
int field_policy_add(struct field_policy *policy, struct text path, struct error *err);

/* Appends the event object, which is known to be JSON, without what is cut. */
void field_policy_apply(const struct field_policy *policy, struct text event_object,
                        struct buf *out);

/* Appends {"drop":["data.emails"]} or the same with keep. */
void field_policy_append_json(const struct field_policy *policy, struct buf *json);

#endif
