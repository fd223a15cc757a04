/*
 * Any JSON: its MessagePack, read token by token beside it, says the same and nothing more. The
 * reader is written here, so that no library has to be trusted with what the writer made.
 */
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "schemas/json_reader.h"
#include "schemas/json_scan.h"
#include "schemas/msgpack_writer.h"
#include "tests/fuzz/fuzz.h"

struct packed {
    const unsigned char *at;
    const unsigned char *end;
};

static uint64_t read_big_endian(struct packed *packed, size_t size)
{
    uint64_t value = 0;

    MUST((size_t)(packed->end - packed->at) >= size);
    for (size_t i = 0; i < size; i++)
        value = value << 8 | *packed->at++;
    return value;
}

static unsigned char peek(const struct packed *packed)
{
    MUST(packed->at < packed->end);
    return *packed->at;
}

/* Heads: the short form holds `mask` bits, the longer ones begin at `first` with 2 bytes (1 for
 * strings). */
static size_t read_head(struct packed *packed, unsigned char fixed, unsigned char mask,
                        unsigned char first, size_t first_size)
{
    unsigned char head = peek(packed);

    packed->at++;
    if ((head & ~mask) == fixed)
        return head & mask;
    MUST(head >= first && first_size << (head - first) <= 4);
    return (size_t)read_big_endian(packed, first_size << (head - first));
}

static struct text read_string(struct packed *packed)
{
    size_t size = read_head(packed, 0xa0, 0x1f, 0xd9, 1);
    struct text text = {(const char *)packed->at, size};

    MUST((size_t)(packed->end - packed->at) >= size);
    packed->at += size;
    return text;
}

static bool is_string_head(unsigned char head)
{
    return (head & 0xe0) == 0xa0 || (head >= 0xd9 && head <= 0xdb);
}

static void check_string(struct packed *packed, struct text token)
{
    struct buf plain = {0};

    MUST(json_unescape(json_string_inside(token), &plain));
    MUST(text_equal(read_string(packed), buf_text(&plain)));
    buf_release(&plain);
}

/* JSON has one spelling of an integer, so that printing it must give the token again. */
static void check_integer(struct packed *packed, const char *token)
{
    unsigned char head = peek(packed);
    char printed[24];

    packed->at++;
    if (head <= 0x7f) {
        snprintf(printed, sizeof(printed), "%u", head);
    } else if (head >= 0xe0) {
        snprintf(printed, sizeof(printed), "%d", head - 256);
    } else if (head >= 0xcc && head <= 0xcf) {
        snprintf(printed, sizeof(printed), "%llu",
                 (unsigned long long)read_big_endian(packed, (size_t)1 << (head - 0xcc)));
    } else {
        size_t size = (size_t)1 << (head - 0xd0);
        unsigned unused = (unsigned)(64 - 8 * size);

        MUST(head >= 0xd0 && head <= 0xd3);
        snprintf(printed, sizeof(printed), "%lld",
                 (long long)(int64_t)(read_big_endian(packed, size) << unused) >> unused);
    }
    MUST(strcmp(printed, token) == 0);
}

static bool is_zero(const char *digits)
{
    return strcspn(digits, "123456789") >= strcspn(digits, "eE");
}

static void check_double(struct packed *packed, const char *token)
{
    double expected = strtod(token, NULL);
    uint64_t bits;

    memcpy(&bits, &expected, sizeof(bits));
    MUST(isfinite(expected) && (fpclassify(expected) != FP_ZERO || is_zero(token)));
    MUST(peek(packed) == 0xcb);
    packed->at++;
    MUST(read_big_endian(packed, sizeof(bits)) == bits);
}

/* A string of digits needs an excuse: too large for an integer, or for a double, or too small. */
static void check_digits(struct packed *packed, struct text token, const char *digits)
{
    bool is_integer = !digits[strcspn(digits, ".eE")];
    double value = strtod(digits, NULL);

    MUST(text_equal(read_string(packed), token));
    if (is_integer)
        MUST(value >= 18446744073709551615.0 || value <= -9223372036854775808.0);
    else
        MUST(isinf(value) || (fpclassify(value) == FP_ZERO && !is_zero(digits)));
}

static void check_number(struct packed *packed, struct text token)
{
    char *digits = text_dup(token);

    MUST(digits);
    if (is_string_head(peek(packed)))
        check_digits(packed, token, digits);
    else if (peek(packed) == 0xcb)
        check_double(packed, digits);
    else
        check_integer(packed, digits);
    free(digits);
}

static void check_scalar(struct packed *packed, struct text token)
{
    switch (token.data[0]) {
    case '"':
        check_string(packed, token);
        return;
    case 'n':
        MUST(*packed->at++ == 0xc0);
        return;
    case 'f':
        MUST(*packed->at++ == 0xc2);
        return;
    case 't':
        MUST(*packed->at++ == 0xc3);
        return;
    default:
        check_number(packed, token);
    }
}

static void check_packed(struct text json, struct packed packed)
{
    size_t missing[JSON_MAX_DEPTH]; /* elements */
    size_t depth = 0;
    struct json_cursor cursor;
    struct text token;

    json_tokens_begin(&cursor, json);
    while (json_tokens_next(&cursor, &token)) {
        char kind = token.data[0];

        if (kind == '}' || kind == ']') {
            MUST(depth > 0 && missing[--depth] == 0);
            continue;
        }
        MUST(packed.at < packed.end);
        if (depth > 0)
            MUST(missing[depth - 1]-- > 0);
        if (kind != '{' && kind != '[') {
            check_scalar(&packed, token);
            continue;
        }
        MUST(depth < JSON_MAX_DEPTH);
        missing[depth++] = kind == '{' ? 2 * read_head(&packed, 0x80, 0x0f, 0xde, 2)
                                       : read_head(&packed, 0x90, 0x0f, 0xdc, 2);
    }
    MUST(depth == 0 && packed.at == packed.end);
}

/* As the event parser judges. */
static bool is_json(struct text json, struct buf *padded)
{
    static const char padding[JSON_PADDING];
    static struct json_reader *reader;
    enum json_verdict verdict;

    if (!reader)
        reader = json_reader_new();
    MUST(reader);
    buf_append_text(padded, json);
    buf_append(padded, padding, sizeof(padding));
    MUST(!padded->failed);
    verdict = json_reader_check(reader, padded->data, json.size);
    if (verdict != JSON_NUMBER_TOO_LARGE)
        return verdict == JSON_VALID;
    buf_clear(padded);
    if (!json_blank_numbers(json, padded))
        return false;
    buf_append(padded, padding, sizeof(padding));
    return json_reader_check(reader, padded->data, json.size) == JSON_VALID;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct text json = {(const char *)data, size};
    struct buf padded = {0};
    struct buf out = {0};
    int rc = msgpack_write_json(&out, json, NULL); /* what is no JSON must not break it */

    if (is_json(json, &padded)) {
        MUST(rc == 0);
        check_packed(json, (struct packed){(const unsigned char *)out.data,
                                           (const unsigned char *)out.data + out.size});
    }
    buf_release(&out);
    buf_release(&padded);
    return 0;
}
