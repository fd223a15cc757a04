#include "schemas/json_compare.h"

#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/buf.h"
#include "schemas/json_scan.h"

/* ---- numbers ---- */

enum { EXPONENT_MAX = 1 << 30 };

/* 0.d1d2d3... times ten to the exponent; zero has no digits. */
struct decimal {
    bool is_negative;
    struct text digits; /* first and last are not 0; may have a point inside */
    int64_t exponent;
};

static int64_t read_exponent(struct text text)
{
    bool is_negative = text.size > 0 && text.data[0] == '-';
    uint64_t value = 0;

    if (text.size > 0 && (text.data[0] == '-' || text.data[0] == '+')) {
        text.data++;
        text.size--;
    }
    if (text.size > 0 && (!text_to_u64(text, &value) || value > EXPONENT_MAX))
        value = EXPONENT_MAX;
    return is_negative ? -(int64_t)value : (int64_t)value;
}

static bool is_zero_or_point(char c)
{
    return c == '0' || c == '.';
}

/* Index of the first of `a` and `b` in `text`, its size when there is none. */
static size_t index_of(struct text text, char a, char b)
{
    size_t i = 0;

    while (i < text.size && text.data[i] != a && text.data[i] != b)
        i++;
    return i;
}

static struct decimal read_decimal(struct text number)
{
    struct decimal decimal = {.is_negative = number.data[0] == '-'};
    struct text digits = number;
    size_t mantissa;
    size_t point;

    digits.data += decimal.is_negative;
    digits.size -= decimal.is_negative;
    mantissa = index_of(digits, 'e', 'E');
    if (mantissa < digits.size)
        decimal.exponent =
            read_exponent((struct text){digits.data + mantissa + 1, digits.size - mantissa - 1});
    digits.size = mantissa;
    point = index_of(digits, '.', '.');
    decimal.exponent += (int64_t)point;
    while (digits.size > 0 && is_zero_or_point(digits.data[digits.size - 1]))
        digits.size--;
    while (digits.size > 0 && is_zero_or_point(digits.data[0])) {
        decimal.exponent -= digits.data[0] == '0';
        digits.data++;
        digits.size--;
    }
    decimal.digits = digits;
    return decimal;
}

static bool digits_equal(struct text a, struct text b)
{
    size_t i = 0;
    size_t j = 0;

    for (;;) {
        i += i < a.size && a.data[i] == '.';
        j += j < b.size && b.data[j] == '.';
        if (i == a.size || j == b.size)
            return i == a.size && j == b.size;
        if (a.data[i++] != b.data[j++])
            return false;
    }
}

static bool numbers_equal(struct text a, struct text b)
{
    struct decimal left = read_decimal(a);
    struct decimal right = read_decimal(b);

    if (left.digits.size == 0 || right.digits.size == 0)
        return left.digits.size == right.digits.size;
    return left.is_negative == right.is_negative && left.exponent == right.exponent &&
           digits_equal(left.digits, right.digits);
}

uint64_t json_number_hash(struct text number)
{
    struct decimal decimal = read_decimal(number);
    uint64_t hash = 14695981039346656037u; /* FNV-1a */

    if (decimal.digits.size == 0)
        return hash;
    hash = (hash ^ decimal.is_negative) * 1099511628211u;
    hash = (hash ^ (uint64_t)decimal.exponent) * 1099511628211u;
    for (size_t i = 0; i < decimal.digits.size; i++) {
        if (decimal.digits.data[i] != '.')
            hash = (hash ^ (unsigned char)decimal.digits.data[i]) * 1099511628211u;
    }
    return hash;
}

/* ---- strings ---- */

/* The plain bytes of what is between the quotes: `inside` itself, or made in `scratch`. */
static struct text plain(struct text inside, struct buf *scratch)
{
    if (!json_has_escape(inside))
        return inside;
    json_unescape(inside, scratch);
    return buf_text(scratch);
}

static bool inside_is(struct text inside, struct text name)
{
    struct buf scratch = {0};
    bool is_it = text_equal(plain(inside, &scratch), name) && !scratch.failed;

    buf_release(&scratch);
    return is_it;
}

static bool strings_equal(struct text a, struct text b)
{
    struct buf scratch = {0};
    bool equal = inside_is(json_string_inside(a), plain(json_string_inside(b), &scratch));

    buf_release(&scratch);
    return equal;
}

static bool string_contains(struct text string, struct text part)
{
    struct buf scratch[2] = {{0}, {0}};
    struct text whole = plain(json_string_inside(string), &scratch[0]);
    struct text wanted = plain(json_string_inside(part), &scratch[1]);
    bool found =
        wanted.size == 0 || (whole.size >= wanted.size &&
                             memmem(whole.data, whole.size, wanted.data, wanted.size) != NULL);

    found = found && !scratch[0].failed && !scratch[1].failed;
    buf_release(&scratch[0]);
    buf_release(&scratch[1]);
    return found;
}

/* ---- arrays and objects ---- */

bool json_find_member(struct text object, struct text name, struct text *out_value)
{
    struct json_cursor cursor;
    struct text key;
    struct text value;

    if (!json_object_begin(&cursor, object))
        return false;
    while (json_object_next(&cursor, &key, &value)) {
        if (inside_is(key, name)) {
            *out_value = value;
            return true;
        }
    }
    return false;
}

struct text json_member(struct text object, const char *name)
{
    struct text value;

    return json_find_member(object, text_of(name), &value) ? value : (struct text){NULL, 0};
}

char *json_string_member(struct text object, const char *name)
{
    struct text value = json_member(object, name);
    struct buf plain = {0};
    char *copy = NULL;

    if (json_is_string(value) && json_unescape(json_string_inside(value), &plain) &&
        !memchr(buf_text(&plain).data, '\0', plain.size))
        copy = alloc_string(buf_text(&plain).data);
    buf_release(&plain);
    return copy;
}

static bool arrays_equal(struct text a, struct text b)
{
    struct json_cursor left;
    struct json_cursor right;
    struct text x;
    struct text y;

    json_array_begin(&left, a);
    json_array_begin(&right, b);
    while (json_array_next(&left, &x)) {
        if (!json_array_next(&right, &y) || !json_equal(x, y))
            return false;
    }
    return !json_array_next(&right, &y);
}

/* True when `b` has every member of `a`, with an equal value if `values_too`. */
static bool has_members(struct text a, struct text b, bool values_too)
{
    struct json_cursor cursor;
    struct text key;
    struct text value;
    struct text other;
    bool has_all = true;

    json_object_begin(&cursor, a);
    while (has_all && json_object_next(&cursor, &key, &value)) {
        struct buf scratch = {0};

        has_all = json_find_member(b, plain(key, &scratch), &other) &&
                  (!values_too || json_equal(value, other));
        buf_release(&scratch);
    }
    return has_all;
}

static size_t count_members(struct text object)
{
    struct json_cursor cursor;
    struct text key;
    struct text value;
    size_t count = 0;

    json_object_begin(&cursor, object);
    while (json_object_next(&cursor, &key, &value))
        count++;
    return count;
}

/* With repeated keys equal counts and one inclusion are not enough. */
static bool objects_equal(struct text a, struct text b)
{
    return count_members(a) == count_members(b) && has_members(a, b, true) &&
           has_members(b, a, false);
}

static bool is_number(struct text value)
{
    return value.data[0] == '-' || (value.data[0] >= '0' && value.data[0] <= '9');
}

bool json_equal(struct text a, struct text b)
{
    if (is_number(a) || is_number(b))
        return is_number(a) && is_number(b) && numbers_equal(a, b);
    if (a.data[0] != b.data[0])
        return false;
    switch (a.data[0]) {
    case '"':
        return strings_equal(a, b);
    case '[':
        return arrays_equal(a, b);
    case '{':
        return objects_equal(a, b);
    default:
        return true; /* null, true or false: their first bytes differ */
    }
}

bool json_contains(struct text value, struct text wanted)
{
    struct json_cursor cursor;
    struct text element;

    if (json_is_string(value))
        return json_is_string(wanted) && string_contains(value, wanted);
    if (!json_array_begin(&cursor, value))
        return false;
    while (json_array_next(&cursor, &element)) {
        if (json_equal(element, wanted))
            return true;
    }
    return false;
}
