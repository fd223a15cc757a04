/*
 * Finds the parts of a text that is known to be JSON, as slices of it: nothing is copied and no
 * number is converted.
 *
 * The functions trust that the text is valid (json_reader.h has judged it); on other texts they
 * stay inside it, but what they find means nothing.
 */
#ifndef SCHEMAS_JSON_SCAN_H
#define SCHEMAS_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>

#include "bridge/base/text.h"

struct buf;

/* A place in an object, between its members. */
struct json_cursor {
    const char *at;
    const char *end;
};

/* Begins an object; false when `value` is not one. */
bool json_object_begin(struct json_cursor *cursor, struct text value);

/* The next member: its key without quotes, still escaped, and its value's bytes. False at the end.
 */
bool json_object_next(struct json_cursor *cursor, struct text *out_key, struct text *out_value);

/* The same for arrays. */
bool json_array_begin(struct json_cursor *cursor, struct text value);
bool json_array_next(struct json_cursor *cursor, struct text *out_value);

/*
 * The next token behind the cursor, whatever the nesting: a bracket or brace, a string with its
 * quotes, a number or a word. Space, commas and colons are passed over. False at the end.
 */
void json_tokens_begin(struct json_cursor *cursor, struct text json);
bool json_tokens_next(struct json_cursor *cursor, struct text *out_token);

/* The whole value of a document, without the space around it. */
struct text json_document(struct text text);

static inline bool json_is_string(struct text value)
{
    return value.size >= 2 && value.data[0] == '"';
}

static inline bool json_is_null(struct text value)
{
    return value.size == 4 && value.data[0] == 'n';
}

/* The bytes between the quotes, still escaped. */
static inline struct text json_string_inside(struct text string)
{
    return (struct text){string.data + 1, string.size - 2};
}

/* True when the bytes of a string must be decoded to be understood. */
bool json_has_escape(struct text inside);

/* Appends the decoded bytes (UTF-8) of an escaped string. False for an escape that is not one. */
bool json_unescape(struct text inside, struct buf *out);

/* True when a key, escaped or not, is `name`. */
bool json_key_is(struct text key, const char *name);

/*
 * Appends `text` to `out` with every number outside of strings checked against JSON's grammar and
 * replaced by 0 and spaces, so that a parser can judge the rest whatever the size of the numbers
 * and every other byte keeps its place. False when a number is malformed.
 */
bool json_blank_numbers(struct text text, struct buf *out);

#endif
