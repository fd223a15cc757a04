/*
 * Questions about JSON values by their meaning, not by their bytes: escapes are decoded, numbers
 * are compared by their value whatever their size, the order of members does not matter.
 *
 * The values are slices of texts that are known to be JSON. Read-only: any thread.
 */
#ifndef SCHEMAS_JSON_COMPARE_H
#define SCHEMAS_JSON_COMPARE_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/base/text.h"

/* The first member of `object` called `name` (plain, not escaped). False when there is none, also
 * because `object` is not an object. */
bool json_find_member(struct text object, struct text name, struct text *out_value);

/* The same; {NULL, 0} when there is none. */
struct text json_member(struct text object, const char *name);

/* Returns owned (free) the decoded string of a member; NULL when it is none or has a NUL in it. */
char *json_string_member(struct text object, const char *name);

/* True when the values are of one type and equal: 1 equals 1.0, "1" does not. Recurses as deep as
 * the shallower of them is nested. */
bool json_equal(struct text a, struct text b);

/* A hash that is the same for numbers of the same value, however they are written. */
uint64_t json_number_hash(struct text number);

/* True when `wanted` is an element of the array `value`, or a part of the string `value`. */
bool json_contains(struct text value, struct text wanted);

#endif
