/*
 * What stands before every opening of a journal: one that was not closed in order, or whose file is
 * another one than it was then, is verified, and when it is damaged it is salvaged. Both happen in
 * a process of its own, with a deadline, because a damaged file may kill who reads it. Of events
 * that every publisher has settled no more is read than says that they are there, so that a long
 * retention makes no slow start: a replay passes over what is damaged of them.
 *
 * Threads: any one, before journal_open().
 */
#ifndef BRIDGE_JOURNAL_JOURNAL_GUARD_H
#define BRIDGE_JOURNAL_JOURNAL_GUARD_H

#include <stdbool.h>

struct error;

enum guard_result {
    GUARD_FAILED = -1,
    GUARD_PASSED, /* nothing had to be verified */
    GUARD_SOUND,
    GUARD_SALVAGED,
};

/* `is_doubted`: verify whatever the folder says, because it could not be opened. */
enum guard_result journal_guard(const char *path, bool is_doubted, struct error *err);

#endif
