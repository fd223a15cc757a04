#include "bridge/base/text.h"

#include <stdlib.h>
#include <string.h>

struct text text_of(const char *string)
{
    return (struct text){string, string ? strlen(string) : 0};
}

bool text_equal(struct text a, struct text b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

bool text_equal_string(struct text a, const char *b)
{
    return text_equal(a, text_of(b));
}

bool text_starts_with(struct text a, const char *prefix)
{
    size_t size = strlen(prefix);

    return a.size >= size && memcmp(a.data, prefix, size) == 0;
}

bool text_has_control(struct text a)
{
    for (size_t i = 0; i < a.size; i++) {
        unsigned char c = (unsigned char)a.data[i];

        if (c < 0x20 || c == 0x7f)
            return true;
    }
    return false;
}

/* Bytes of the character at `at`, 0 when it is not UTF-8. */
static size_t read_character(const unsigned char *at, size_t size, uint32_t *out_code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = at[0] < 0x80    ? 1
                    : at[0] < 0xc0  ? 0
                    : at[0] < 0xe0  ? 2
                    : at[0] < 0xf0  ? 3
                    : at[0] <= 0xf4 ? 4
                                    : 0;
    uint32_t code = length > 1 ? at[0] & (0x7fu >> length) : at[0];

    if (length == 0 || length > size)
        return 0;
    for (size_t i = 1; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (at[i] & 0x3f);
    }
    if (code < least[length] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
        return 0;
    *out_code = code;
    return length;
}

/* True when all eight bytes are printable ASCII. */
static bool are_printable(const unsigned char *bytes)
{
    static const uint64_t ones = 0x0101010101010101u;
    uint64_t word;

    memcpy(&word, bytes, sizeof(word));
    /* Bit 7 of a byte appears when it is set, when the byte is 0x7f, or when it is below 0x20. */
    return ((word | (word + ones) | (word - 0x20 * ones)) & 0x80 * ones) == 0;
}

size_t text_printable_start(struct text a)
{
    const unsigned char *bytes = (const unsigned char *)a.data;
    size_t size = 0;

    while (a.size - size >= 8 && are_printable(bytes + size))
        size += 8;
    return size;
}

bool text_is_clean(struct text a)
{
    const unsigned char *bytes = (const unsigned char *)a.data;
    size_t i = 0;

    while (i < a.size) {
        uint32_t code;
        size_t length = text_printable_start((struct text){a.data + i, a.size - i});

        if (length > 0) {
            i += length;
            continue;
        }
        if (bytes[i] >= 0x20 && bytes[i] < 0x7f) {
            i++;
            continue;
        }
        length = read_character(bytes + i, a.size - i, &code);
        if (length == 0 || code < 0xa0 || (code >= 0xfdd0 && code <= 0xfdef) ||
            (code & 0xfffe) == 0xfffe)
            return false;
        i += length;
    }
    return true;
}

bool text_is_utf8(struct text a)
{
    size_t i = 0;

    while (i < a.size) {
        uint32_t code;
        size_t length = read_character((const unsigned char *)a.data + i, a.size - i, &code);

        if (length == 0)
            return false;
        i += length;
    }
    return true;
}

bool text_to_u64(struct text a, uint64_t *out_value)
{
    uint64_t value = 0;

    if (a.size == 0)
        return false;
    for (size_t i = 0; i < a.size; i++) {
        unsigned digit = (unsigned)(unsigned char)a.data[i] - '0';

        if (digit > 9 || value > (UINT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *out_value = value;
    return true;
}

/* Of a hex digit its value plus one, of all else 0. */
static const unsigned char hex_values[256] = {
    ['0'] = 1,  ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
    ['8'] = 9,  ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
    ['A'] = 11, ['B'] = 12, ['C'] = 13, ['D'] = 14, ['E'] = 15, ['F'] = 16,
};

bool text_from_hex(struct text hex, unsigned char *out_bytes, size_t size)
{
    const unsigned char *digits = (const unsigned char *)hex.data;

    if (hex.size != 2 * size)
        return false;
    for (size_t i = 0; i < hex.size; i++) {
        if (hex_values[digits[i]] == 0)
            return false;
    }
    for (size_t i = 0; i < size; i++)
        out_bytes[i] = (unsigned char)((hex_values[digits[2 * i]] - 1) << 4 |
                                       (hex_values[digits[2 * i + 1]] - 1));
    return true;
}

void text_to_hex(const unsigned char *bytes, size_t size, char *out_hex)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < size; i++) {
        out_hex[2 * i] = digits[bytes[i] >> 4];
        out_hex[2 * i + 1] = digits[bytes[i] & 15];
    }
    out_hex[2 * size] = '\0';
}

char *text_dup(struct text a)
{
    char *copy = malloc(a.size + 1);

    if (!copy)
        return NULL;
    if (a.size)
        memcpy(copy, a.data, a.size);
    copy[a.size] = '\0';
    return copy;
}
