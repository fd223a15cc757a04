/*
 * Dates as Close writes them: RFC 3339, with or without a zone; without one it is UTC.
 *
 * Strict: four digits of a year from 0001 on, capital T, days that exist, no leap seconds, at most
 * nine digits of a fraction, Z or +hh:mm or -hh:mm, nothing behind. Any thread.
 */
#ifndef SCHEMAS_DATE_H
#define SCHEMAS_DATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/text.h"

struct instant {
    int64_t seconds; /* since 1970, UTC */
    uint32_t nanoseconds;
    unsigned fraction_digits; /* as written, 0 to 9 */
};

enum { DATE_MAX = 30 }; /* 2025-09-04T07:27:17.123456789Z */

/* False: not a date, or not within the years 1 to 9999 in UTC. */
bool date_parse(struct text date, struct instant *out_instant);

/* Writes the instant in UTC with a Z and the digits of the fraction that it was written with;
 * returns how many of the DATE_MAX bytes were used. */
size_t date_format(const struct instant *instant, char *out);

/* True when `a` is later than `b`. */
bool date_is_later(const struct instant *a, const struct instant *b);

#endif
