/*
 * The headers of W3C Trace Context (https://www.w3.org/TR/trace-context/), checked before they
 * travel on. Pure functions.
 */
#ifndef BRIDGE_WEBHOOK_TRACE_CONTEXT_H
#define BRIDGE_WEBHOOK_TRACE_CONTEXT_H

#include <stdbool.h>

#include "bridge/base/text.h"

/* Version, trace id, parent id and flags in lower-case hex; neither id all zeros. Of versions after
 * 00 the beginning is checked. At most 128 bytes. */
bool trace_context_is_parent(struct text value);

/* Printable ASCII, not empty, at most 512 bytes. */
bool trace_context_is_state(struct text value);

#endif
