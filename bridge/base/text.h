/*
 * A view of bytes that somebody else owns: not terminated, may hold any byte.
 */
#ifndef BRIDGE_BASE_TEXT_H
#define BRIDGE_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct text {
    const char *data; /* NULL: absent */
    size_t size;
};

/* Views a terminated string; NULL gives the absent text. */
struct text text_of(const char *string);

bool text_equal(struct text a, struct text b);
bool text_equal_string(struct text a, const char *b);
bool text_starts_with(struct text a, const char *prefix);

/* True when a byte below 0x20 or 0x7f is in it. */
bool text_has_control(struct text a);

/* Bytes at the beginning that are printable ASCII, in steps of eight: a quick pass over what needs
 * no closer look. */
size_t text_printable_start(struct text a);

/* True when it is UTF-8 without control characters (C0, DEL, C1) and noncharacters (U+FFFE ...):
 * what CloudEvents and MQTT 5 allow in a string. */
bool text_is_clean(struct text a);

/* True when it is UTF-8, whatever characters. */
bool text_is_utf8(struct text a);

/* Reads a whole decimal number without sign or space; false when it is anything else or too large.
 */
bool text_to_u64(struct text a, uint64_t *out_value);

/* Decodes exactly `size` bytes from 2 * `size` hex digits of either case. */
bool text_from_hex(struct text hex, unsigned char *out_bytes, size_t size);

/* Writes 2 * `size` lower-case hex digits and a terminator. */
void text_to_hex(const unsigned char *bytes, size_t size, char *out_hex);

/* Returns owned (free): a terminated copy; NULL only without memory. */
char *text_dup(struct text a);

#endif
