#include "schemas/json_scan.h"

#include <string.h>

#include "bridge/base/buf.h"

static const char *skip_space(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t'))
        at++;
    return at;
}

/* `at` is on the opening quote; returns the place behind the closing one. */
static const char *skip_string(const char *at, const char *end)
{
    at++;
    while (at < end) {
        const char *quote = memchr(at, '"', (size_t)(end - at));
        size_t backslashes = 0;

        if (!quote)
            return end;
        while (quote - backslashes > at && quote[-1 - (ptrdiff_t)backslashes] == '\\')
            backslashes++;
        at = quote + 1;
        if (backslashes % 2 == 0)
            return at;
    }
    return end;
}

static const char *skip_nested(const char *at, const char *end)
{
    size_t depth = 0;

    while (at < end) {
        switch (*at) {
        case '"':
            at = skip_string(at, end);
            continue;
        case '{':
        case '[':
            depth++;
            break;
        case '}':
        case ']':
            if (--depth == 0)
                return at + 1;
            break;
        default:
            break;
        }
        at++;
    }
    return end;
}

static const char *skip_value(const char *at, const char *end)
{
    if (at == end)
        return end;
    if (*at == '"')
        return skip_string(at, end);
    if (*at == '{' || *at == '[')
        return skip_nested(at, end);
    while (at < end && !strchr(",]} \n\r\t", *at))
        at++;
    return at;
}

static bool begin(struct json_cursor *cursor, struct text value, char open)
{
    if (value.size < 2 || value.data[0] != open)
        return false;
    *cursor = (struct json_cursor){value.data + 1, value.data + value.size - 1};
    return true;
}

bool json_object_begin(struct json_cursor *cursor, struct text value)
{
    return begin(cursor, value, '{');
}

bool json_array_begin(struct json_cursor *cursor, struct text value)
{
    return begin(cursor, value, '[');
}

/* To the next thing after space and a separator. */
static bool next_thing(struct json_cursor *cursor, char separator)
{
    cursor->at = skip_space(cursor->at, cursor->end);
    if (cursor->at < cursor->end && *cursor->at == separator)
        cursor->at = skip_space(cursor->at + 1, cursor->end);
    return cursor->at < cursor->end;
}

static struct text take_value(struct json_cursor *cursor)
{
    const char *start = cursor->at;

    cursor->at = skip_value(start, cursor->end);
    return (struct text){start, (size_t)(cursor->at - start)};
}

bool json_object_next(struct json_cursor *cursor, struct text *out_key, struct text *out_value)
{
    struct text key;

    if (!next_thing(cursor, ',') || *cursor->at != '"')
        return false;
    key = take_value(cursor);
    if (!json_is_string(key) || !next_thing(cursor, ':'))
        return false;
    *out_key = json_string_inside(key);
    *out_value = take_value(cursor);
    return out_value->size > 0;
}

bool json_array_next(struct json_cursor *cursor, struct text *out_value)
{
    if (!next_thing(cursor, ','))
        return false;
    *out_value = take_value(cursor);
    return out_value->size > 0;
}

void json_tokens_begin(struct json_cursor *cursor, struct text json)
{
    *cursor = (struct json_cursor){json.data, json.data + json.size};
}

bool json_tokens_next(struct json_cursor *cursor, struct text *out_token)
{
    const char *at = cursor->at;

    while (at < cursor->end &&
           (*at == ',' || *at == ':' || *at == ' ' || *at == '\n' || *at == '\r' || *at == '\t'))
        at++;
    cursor->at = at;
    if (at < cursor->end && (*at == '{' || *at == '[' || *at == '}' || *at == ']')) {
        cursor->at++;
        *out_token = (struct text){at, 1};
        return true;
    }
    *out_token = take_value(cursor);
    return out_token->size > 0;
}

struct text json_document(struct text text)
{
    const char *end = text.data + text.size;
    const char *start = skip_space(text.data, end);

    return (struct text){start, (size_t)(skip_value(start, end) - start)};
}

bool json_has_escape(struct text inside)
{
    return inside.size > 0 && memchr(inside.data, '\\', inside.size) != NULL;
}

static bool read_hex4(const char *at, const char *end, unsigned *out_code)
{
    unsigned char bytes[2];

    if (end - at < 4 || !text_from_hex((struct text){at, 4}, bytes, 2))
        return false;
    *out_code = (unsigned)bytes[0] << 8 | bytes[1];
    return true;
}

static void append_utf8(struct buf *out, unsigned code)
{
    char bytes[4];
    size_t size;

    if (code < 0x80) {
        bytes[0] = (char)code;
        size = 1;
    } else if (code < 0x800) {
        bytes[0] = (char)(0xc0 | code >> 6);
        bytes[1] = (char)(0x80 | (code & 0x3f));
        size = 2;
    } else if (code < 0x10000) {
        bytes[0] = (char)(0xe0 | code >> 12);
        bytes[1] = (char)(0x80 | (code >> 6 & 0x3f));
        bytes[2] = (char)(0x80 | (code & 0x3f));
        size = 3;
    } else {
        bytes[0] = (char)(0xf0 | code >> 18);
        bytes[1] = (char)(0x80 | (code >> 12 & 0x3f));
        bytes[2] = (char)(0x80 | (code >> 6 & 0x3f));
        bytes[3] = (char)(0x80 | (code & 0x3f));
        size = 4;
    }
    buf_append(out, bytes, size);
}

/* `at` is behind "\u"; returns the place behind the code point, NULL when it is not one. */
static const char *unescape_unicode(const char *at, const char *end, struct buf *out)
{
    unsigned code;
    unsigned low;

    if (!read_hex4(at, end, &code))
        return NULL;
    at += 4;
    if (code >= 0xdc00 && code < 0xe000)
        return NULL;
    if (code >= 0xd800 && code < 0xdc00) {
        if (end - at < 6 || at[0] != '\\' || at[1] != 'u' || !read_hex4(at + 2, end, &low) ||
            low < 0xdc00 || low >= 0xe000)
            return NULL;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        at += 6;
    }
    append_utf8(out, code);
    return at;
}

bool json_unescape(struct text inside, struct buf *out)
{
    static const char names[] = "\"\\/bfnrt";
    static const char values[] = "\"\\/\b\f\n\r\t";
    const char *at = inside.data;
    const char *end = at + inside.size;

    while (at < end) {
        const char *backslash = memchr(at, '\\', (size_t)(end - at));
        const char *name;

        if (!backslash)
            backslash = end;
        buf_append(out, at, (size_t)(backslash - at));
        if (backslash == end)
            return true;
        if (backslash + 1 == end)
            return false;
        at = backslash + 2;
        if (backslash[1] == 'u') {
            at = unescape_unicode(at, end, out);
            if (!at)
                return false;
            continue;
        }
        name = memchr(names, backslash[1], sizeof(names) - 1);
        if (!name)
            return false;
        buf_append_char(out, values[name - names]);
    }
    return true;
}

bool json_key_is(struct text key, const char *name)
{
    struct buf plain = {0};
    bool is_it;

    if (!json_has_escape(key))
        return text_equal_string(key, name);
    is_it = json_unescape(key, &plain) && text_equal_string(buf_text(&plain), name);
    buf_release(&plain);
    return is_it;
}

static const char *skip_digits(const char *at, const char *end)
{
    while (at < end && *at >= '0' && *at <= '9')
        at++;
    return at;
}

/* Returns the place behind a number that follows JSON's grammar, NULL when it does not. */
static const char *skip_number(const char *at, const char *end)
{
    const char *digits;

    if (at < end && *at == '-')
        at++;
    digits = at;
    at = skip_digits(at, end);
    if (at == digits || (*digits == '0' && at - digits > 1))
        return NULL;
    if (at < end && *at == '.') {
        digits = at + 1;
        at = skip_digits(digits, end);
        if (at == digits)
            return NULL;
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        if (at < end && (*at == '+' || *at == '-'))
            at++;
        digits = at;
        at = skip_digits(at, end);
        if (at == digits)
            return NULL;
    }
    return at == end || strchr(",]} \n\r\t", *at) ? at : NULL;
}

bool json_blank_numbers(struct text text, struct buf *out)
{
    const char *at = text.data;
    const char *end = at + text.size;

    while (at < end) {
        const char *start = at;

        if (*at == '"') {
            at = skip_string(at, end);
            buf_append(out, start, (size_t)(at - start));
        } else if (*at == '-' || (*at >= '0' && *at <= '9')) {
            at = skip_number(at, end);
            if (!at)
                return false;
            buf_append_char(out, '0');
            for (start++; start < at; start++)
                buf_append_char(out, ' ');
        } else {
            buf_append_char(out, *at++);
        }
    }
    return true;
}
