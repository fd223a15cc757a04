/*
 * What simdjson says about a text, behind a C interface: whether it is JSON, and where its tokens
 * begin.
 *
 * The judge is the DOM parser, which looks at every value: the on-demand one lets `tru`, `[1,2}`
 * and lone surrogates through where nobody reads.
 *
 * Threads: a reader belongs to one thread.
 */
#ifndef SCHEMAS_JSON_READER_H
#define SCHEMAS_JSON_READER_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    JSON_PADDING = 64, /* readable bytes that simdjson needs behind the text */
    JSON_MAX_DEPTH = 1024,
};

enum json_verdict {
    JSON_VALID,
    JSON_INVALID,
    JSON_TOO_DEEP,
    JSON_NUMBER_TOO_LARGE, /* or another number that simdjson does not take: the rest was not looked
                              at */
    JSON_NO_MEMORY,
};

struct json_reader; /* opaque: defined in json_reader.cc */
struct json_tokens;

/* Returns owned (json_reader_free), NULL without memory. */
struct json_reader *json_reader_new(void);
void json_reader_free(struct json_reader *reader);

/* Judges a whole text. JSON_PADDING readable bytes must follow it. */
enum json_verdict json_reader_check(struct json_reader *reader, const char *data, size_t size);

/*
 * The tokens of the text last checked. Only after JSON_VALID; `json` is that text, or another one
 * with its tokens at the same places. Borrows the reader until its next use.
 */
void json_reader_tokens(const struct json_reader *reader, const char *json,
                        struct json_tokens *out_tokens);

#ifdef __cplusplus
}
#endif

#endif
