/*
 * How commands show the daemon's answers to people.
 *
 * One thread.
 */
#ifndef BRIDGE_CLI_CLI_JSON_H
#define BRIDGE_CLI_CLI_JSON_H

#include <stdbool.h>

#include "bridge/base/text.h"

struct buf;
struct json_cursor;

/* Whether the answer is an object of JSON, which it gives without the space around it; prints as
 * `command` that it is not. JSON_PADDING readable bytes must follow the answer. */
bool cli_json_check(const char *command, struct text answer, struct text *out_document);

/* The same for an answer whose member `name` is a list, of which it begins to read the items. */
bool cli_json_check_list(const char *command, struct text answer, const char *name,
                         struct text *out_document, struct json_cursor *out_items);

/* The member's value as written; absent without one. */
struct text cli_json_member(struct text object, const char *name);

/* A string's text, without the control characters that a terminal would obey, in `out`, which is
 * emptied first; "" for anything else. */
const char *cli_json_plain(struct text string, struct buf *out);

/* Prints a member of an object: a string as cli_json_plain(), anything else as written, "-" without
 * one; padded to `width`. */
void cli_json_print(struct text object, const char *name, int width);

#endif
