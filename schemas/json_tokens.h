/*
 * A walk over the tokens of a text that is known to be JSON: members of objects, and the bytes of a
 * value as they were written. It looks at the beginnings of tokens only, which makes it several
 * times as fast as json_scan.h, and not at numbers at all.
 *
 * A token is the index in `starts` of a bracket, brace, comma, colon, or of the first byte of a
 * string, number or word. Read-only: any thread.
 */
#ifndef SCHEMAS_JSON_TOKENS_H
#define SCHEMAS_JSON_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/text.h"

/* Made by json_reader_tokens(). Whoever moves the text sets `json` anew. */
struct json_tokens {
    const char *json;
    const uint32_t *starts; /* offsets into `json`, ascending */
    size_t count;
};

struct json_member {
    struct text key; /* between the quotes, still escaped */
    size_t value;    /* token */
};

/* First byte of a token. */
static inline char json_token(const struct json_tokens *tokens, size_t token)
{
    return tokens->json[tokens->starts[token]];
}

/* The token behind a value. */
size_t json_token_skip(const struct json_tokens *tokens, size_t token);

/* The bytes of a value inside an object or array as they were written, brackets or quotes
 * included; of the whole document only when it is an object or array. */
struct text json_token_value(const struct json_tokens *tokens, size_t token);

/* From one bracket, brace, comma or colon to another, both included. */
struct text json_token_span(const struct json_tokens *tokens, size_t first, size_t last);

/* Goes through an object: `cursor` begins as the token of its opening brace. False at the end, when
 * `cursor` is the closing one. */
bool json_token_member(const struct json_tokens *tokens, size_t *cursor,
                       struct json_member *out_member);

/* The same, but `cursor` stays: whoever calls sets it to the token behind the value, which may be
 * known from going through it. */
bool json_token_member_here(const struct json_tokens *tokens, size_t *cursor,
                            struct json_member *out_member);

#endif
