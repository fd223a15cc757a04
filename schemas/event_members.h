/*
 * The members of Close's event object, as its API reference documents them. What is meant of the
 * record that the event is about lies in `data`, and as it was before in `previous_data`.
 *
 * Any thread.
 */
#ifndef SCHEMAS_EVENT_MEMBERS_H
#define SCHEMAS_EVENT_MEMBERS_H

#include <stdbool.h>

#include "bridge/base/text.h"

bool event_has_member(struct text name);

#endif
