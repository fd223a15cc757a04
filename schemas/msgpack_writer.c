#include "schemas/msgpack_writer.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <msgpack.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "schemas/json_reader.h"
#include "schemas/json_scan.h"

enum { MAX_DIGITS = 400 };

struct writer {
    msgpack_packer packer;
    struct buf *out;
    struct buf scratch;
};

static int append(void *data, const char *bytes, size_t size)
{
    buf_append(data, bytes, size);
    return 0;
}

static int pack_text(struct writer *writer, struct text text)
{
    msgpack_pack_str(&writer->packer, text.size);
    return msgpack_pack_str_body(&writer->packer, text.data, text.size);
}

static int pack_string(struct writer *writer, struct text inside)
{
    if (!json_has_escape(inside))
        return pack_text(writer, inside);
    buf_clear(&writer->scratch);
    if (!json_unescape(inside, &writer->scratch))
        return -1;
    return pack_text(writer, buf_text(&writer->scratch));
}

/* `digits` is terminated and follows JSON's grammar. */
static bool pack_integer(struct writer *writer, const char *digits)
{
    char *end;

    errno = 0;
    if (digits[0] == '-') {
        long long value = strtoll(digits, &end, 10);

        if (errno || *end)
            return false;
        msgpack_pack_int64(&writer->packer, value);
    } else {
        unsigned long long value = strtoull(digits, &end, 10);

        if (errno || *end)
            return false;
        msgpack_pack_uint64(&writer->packer, value);
    }
    return true;
}

static int pack_number(struct writer *writer, struct text number)
{
    char digits[MAX_DIGITS + 1];
    bool is_integer = !memchr(number.data, '.', number.size) &&
                      !memchr(number.data, 'e', number.size) &&
                      !memchr(number.data, 'E', number.size);
    double value;

    if (number.size > MAX_DIGITS)
        return pack_text(writer, number);
    memcpy(digits, number.data, number.size);
    digits[number.size] = '\0';
    /* -0 is a double: an integer has no sign of zero. */
    if (is_integer && strcmp(digits, "-0") != 0)
        return pack_integer(writer, digits) ? 0 : pack_text(writer, number);
    value = strtod(digits, NULL);
    if (isinf(value))
        return pack_text(writer, number);
    return msgpack_pack_double(&writer->packer, value);
}

static int pack_value(struct writer *writer, struct text value, int depth);

static int pack_object(struct writer *writer, struct text object, int depth)
{
    struct json_cursor cursor;
    struct text key;
    struct text value;
    size_t count = 0;

    json_object_begin(&cursor, object);
    while (json_object_next(&cursor, &key, &value))
        count++;
    msgpack_pack_map(&writer->packer, count);
    json_object_begin(&cursor, object);
    while (json_object_next(&cursor, &key, &value)) {
        if (pack_string(writer, key) < 0 || pack_value(writer, value, depth + 1) < 0)
            return -1;
    }
    return 0;
}

static int pack_array(struct writer *writer, struct text array, int depth)
{
    struct json_cursor cursor;
    struct text value;
    size_t count = 0;

    json_array_begin(&cursor, array);
    while (json_array_next(&cursor, &value))
        count++;
    msgpack_pack_array(&writer->packer, count);
    json_array_begin(&cursor, array);
    while (json_array_next(&cursor, &value)) {
        if (pack_value(writer, value, depth + 1) < 0)
            return -1;
    }
    return 0;
}

static int pack_value(struct writer *writer, struct text value, int depth)
{
    if (value.size == 0 || depth > JSON_MAX_DEPTH)
        return -1;
    switch (value.data[0]) {
    case '{':
        return pack_object(writer, value, depth);
    case '[':
        return pack_array(writer, value, depth);
    case '"':
        return pack_string(writer, json_string_inside(value));
    case 't':
        return msgpack_pack_true(&writer->packer);
    case 'f':
        return msgpack_pack_false(&writer->packer);
    case 'n':
        return msgpack_pack_nil(&writer->packer);
    default:
        return pack_number(writer, value);
    }
}

int msgpack_write_json(struct buf *out, struct text json, struct error *err)
{
    struct writer writer = {.out = out};
    int rc;

    msgpack_packer_init(&writer.packer, out, append);
    rc = pack_value(&writer, json, 0);
    buf_release(&writer.scratch);
    if (out->failed)
        return error_set(err, ERROR_FATAL, "out of memory");
    if (rc < 0)
        return error_set(err, ERROR_INPUT, "the event cannot be written as MessagePack");
    return 0;
}
