#include "schemas/msgpack_writer.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <msgpack.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "schemas/json_reader.h"
#include "schemas/json_scan.h"

struct writer {
    msgpack_packer packer;
    struct buf *out;
    struct buf scratch;
    struct buf counts; /* a uint32_t for each object and array, in the order of their beginnings */
};

static int append(void *data, const char *bytes, size_t size)
{
    buf_append(data, bytes, size);
    return 0;
}

static uint32_t *count_at(struct writer *writer, size_t index)
{
    return (uint32_t *)(void *)writer->counts.data + index;
}

/*
 * MessagePack says how many elements follow before they do. Counting all of them in one walk keeps
 * the work linear: a walk for each object would read the innermost once for every level.
 */
static int count_elements(struct writer *writer, struct text json, struct error *err)
{
    static const uint32_t none = 0;
    size_t open[JSON_MAX_DEPTH];
    size_t depth = 0;
    struct json_cursor cursor;
    struct text token;

    json_tokens_begin(&cursor, json);
    while (json_tokens_next(&cursor, &token)) {
        char kind = token.data[0];

        if (kind == '}' || kind == ']') {
            depth -= depth > 0;
            continue;
        }
        if (depth > 0)
            ++*count_at(writer, open[depth - 1]);
        if (kind != '{' && kind != '[')
            continue;
        if (depth == JSON_MAX_DEPTH)
            return error_set(err, ERROR_INPUT, "the event is nested deeper than %d levels",
                             JSON_MAX_DEPTH);
        open[depth++] = writer->counts.size / sizeof(none);
        buf_append(&writer->counts, &none, sizeof(none));
        if (writer->counts.failed)
            return error_set(err, ERROR_FATAL, "out of memory");
    }
    return 0;
}

static void pack_text(struct writer *writer, struct text text)
{
    msgpack_pack_str(&writer->packer, text.size);
    msgpack_pack_str_body(&writer->packer, text.data, text.size);
}

/* What the scratch could not hold is missing from the output too. */
static void pack_scratch(struct writer *writer)
{
    if (writer->scratch.failed)
        writer->out->failed = true;
    else
        pack_text(writer, buf_text(&writer->scratch));
}

static bool pack_string(struct writer *writer, struct text inside)
{
    if (!json_has_escape(inside)) {
        pack_text(writer, inside);
        return true;
    }
    buf_clear(&writer->scratch);
    if (!json_unescape(inside, &writer->scratch))
        return false;
    pack_scratch(writer);
    return true;
}

/* False when no integer of 64 bits holds it. `digits` is terminated and follows JSON's grammar. */
static bool pack_integer(struct writer *writer, const char *digits)
{
    errno = 0;
    if (digits[0] == '-') {
        long long value = strtoll(digits, NULL, 10);

        if (errno == 0)
            msgpack_pack_int64(&writer->packer, value);
    } else {
        unsigned long long value = strtoull(digits, NULL, 10);

        if (errno == 0)
            msgpack_pack_uint64(&writer->packer, value);
    }
    return errno == 0;
}

/* False when its size is beyond a double, or it is not zero but nearer to it than any double. */
static bool pack_double(struct writer *writer, const char *digits)
{
    double value = strtod(digits, NULL);
    bool is_zero = strcspn(digits, "123456789") >= strcspn(digits, "eE");

    if (isinf(value) || (fpclassify(value) == FP_ZERO && !is_zero))
        return false;
    msgpack_pack_double(&writer->packer, value);
    return true;
}

static void pack_number(struct writer *writer, struct text number)
{
    const char *digits;
    bool is_packed;

    buf_clear(&writer->scratch);
    buf_append_text(&writer->scratch, number); /* terminated, for the functions of libc */
    digits = buf_text(&writer->scratch).data;
    /* -0 is a double: an integer has no sign of zero. */
    if (digits[strcspn(digits, ".eE")] || strcmp(digits, "-0") == 0)
        is_packed = pack_double(writer, digits);
    else
        is_packed = pack_integer(writer, digits);
    if (!is_packed || writer->scratch.failed)
        pack_scratch(writer);
}

static bool pack_token(struct writer *writer, struct text token, size_t *container)
{
    switch (token.data[0]) {
    case '{': /* keys and values were counted */
        msgpack_pack_map(&writer->packer, *count_at(writer, (*container)++) / 2);
        return true;
    case '[':
        msgpack_pack_array(&writer->packer, *count_at(writer, (*container)++));
        return true;
    case '}':
    case ']':
        return true;
    case '"':
        return json_is_string(token) && pack_string(writer, json_string_inside(token));
    case 't':
        msgpack_pack_true(&writer->packer);
        return true;
    case 'f':
        msgpack_pack_false(&writer->packer);
        return true;
    case 'n':
        msgpack_pack_nil(&writer->packer);
        return true;
    default:
        pack_number(writer, token);
        return true;
    }
}

static int pack_tokens(struct writer *writer, struct text json, struct error *err)
{
    struct json_cursor cursor;
    struct text token;
    size_t container = 0;

    json_tokens_begin(&cursor, json);
    while (json_tokens_next(&cursor, &token)) {
        if (!pack_token(writer, token, &container))
            return error_set(err, ERROR_INPUT, "the event has a string that is not one of JSON");
    }
    return 0;
}

int msgpack_write_json(struct buf *out, struct text json, struct error *err)
{
    struct writer writer = {.out = out};
    int rc = -1;

    msgpack_packer_init(&writer.packer, out, append);
    if (count_elements(&writer, json, err) == 0)
        rc = pack_tokens(&writer, json, err);
    buf_release(&writer.counts);
    buf_release(&writer.scratch);
    if (rc == 0 && out->failed)
        return error_set(err, ERROR_FATAL, "out of memory");
    return rc;
}
