/*
 * Writes a new journal of what a plan keeps. Private to journal_salvage.c.
 */
#ifndef BRIDGE_JOURNAL_JOURNAL_REBUILD_H
#define BRIDGE_JOURNAL_JOURNAL_REBUILD_H

#include <stdint.h>

struct error;
struct plan;
struct salvage_report;

/* Makes an environment of LMDB in the empty folder `path` and syncs it. Counts into the report. */
int plan_write(const struct plan *plan, const char *path, struct salvage_report *report,
               struct error *err);

#endif
