/*
 * The latest requests that were refused, for the operator: the sender is told nothing of the
 * reason.
 *
 * Kept in memory, shown by GET /control/refusals, logged at most once in ten seconds for each
 * account and reason. Nothing of the body, the signature or an unknown path is kept.
 *
 * Any thread.
 */
#ifndef BRIDGE_WEBHOOK_REFUSALS_H
#define BRIDGE_WEBHOOK_REFUSALS_H

#include <stdint.h>

struct buf;
struct clock;
struct refusals; /* opaque: defined in refusals.c */

/* Borrows `clock`. Returns owned (refusals_free). */
struct refusals *refusals_new(const struct clock *clock);
void refusals_free(struct refusals *refusals);

/* `account` is a configured name or "", `reason` a word that lives for ever. */
void refusals_note(struct refusals *refusals, const char *account, const char *reason,
                   const char *address);

/* Appends {"refusals":[{"time","account","reason","address","count"},...]}, latest first. */
void refusals_render(struct refusals *refusals, struct buf *out);

#endif
