/*
 * Whether two events say the same, however they are spelled.
 *
 * For one version of an event (account, id, date_updated) that came by webhook and from Close's
 * Event Log. No document says that the two are the same bytes, and what is documented differs: the
 * order of keys, space and escapes; the examples of the log lack api_key_id, oauth_client_id and
 * oauth_scope, and have older names of object types; the data of a deletion is null or {}; dates
 * end in +00:00, in Z or in nothing. So what matters is compared: action, object_id, lead_id,
 * changed_fields (in any order), data and previous_data. What else an event has says who caused it
 * and how, which does not change without its date.
 *
 * A member that one of them lacks is not compared: the log keeps data from those who are no admins,
 * and nothing is newer in an event without. Of objects the order of keys does not matter, and a
 * member that is null is as good as none; strings that are dates are compared as instants, numbers
 * by their value.
 *
 * A pure function: any thread.
 */
#ifndef SCHEMAS_EVENT_CONTENT_H
#define SCHEMAS_EVENT_CONTENT_H

#include <stdbool.h>

struct event;

/* False also without memory: then they count as different, which loses nothing. */
bool event_content_equal(const struct event *a, const struct event *b);

#endif
