/*
 * Points in time as operators write them: 2026-01-31T12:00:00Z (RFC 3339; without a zone it is UTC,
 * without seconds the full minute), 2026-01-31 (where that day begins in UTC), or how long ago:
 * 72h, 15m, 3d.
 *
 * A pure function: any thread.
 */
#ifndef BRIDGE_CONFIG_MOMENT_H
#define BRIDGE_CONFIG_MOMENT_H

#include <stdint.h>

#include "bridge/base/text.h"

struct error;

/* In milliseconds since 1970, 0 for what lies before. -1 and ERROR_INPUT, whose message follows the
 * name of what was written: "is not a point in time: ...". */
int moment_parse(struct text text, int64_t now_ms, int64_t *out_ms, struct error *err);

#endif
