#include "schemas/event_content.h"

#include <stddef.h>
#include <stdint.h>

#include <xxhash.h>

#include "bridge/base/buf.h"
#include "schemas/date.h"
#include "schemas/event.h"
#include "schemas/json_compare.h"
#include "schemas/json_scan.h"

/*
 * Each member becomes one number, in one walk over the tokens: the cost grows with the size of the
 * event alone. The hashes of an object's members are added up, which is what makes their order not
 * matter.
 */

/* Seeds: values of different kinds are different. */
enum kind { KIND_STRING = 1, KIND_DATE, KIND_NUMBER, KIND_WORD, KIND_ARRAY, KIND_OBJECT };

enum { MEMBERS = 6 };

static const struct member {
    const char *name;
    bool is_set;        /* an array whose order does not matter */
    bool null_is_empty; /* null says as much as {} or [] */
} members[MEMBERS] = {
    {"action", false, false},       {"object_id", false, false}, {"lead_id", false, false},
    {"changed_fields", true, true}, {"data", false, true},       {"previous_data", false, true},
};

struct content {
    bool has[MEMBERS];
    uint64_t hashes[MEMBERS];
};

struct walk {
    struct json_cursor cursor;
    struct buf scratch;
    bool has_failed; /* no memory */
};

static uint64_t mix(enum kind kind, uint64_t a, uint64_t b)
{
    const uint64_t both[2] = {a, b};

    return XXH3_64bits_withSeed(both, sizeof(both), (XXH64_hash_t)kind);
}

/* Of what stands between quotes. */
static struct text plain(struct walk *walk, struct text inside)
{
    if (!json_has_escape(inside))
        return inside;
    buf_clear(&walk->scratch);
    json_unescape(inside, &walk->scratch);
    walk->has_failed = walk->has_failed || walk->scratch.failed;
    return buf_text(&walk->scratch);
}

static uint64_t hash_key(struct walk *walk, struct text key)
{
    struct text name = plain(walk, json_string_inside(key));

    return XXH3_64bits_withSeed(name.data, name.size, KIND_STRING);
}

static uint64_t hash_string(struct walk *walk, struct text string)
{
    struct text value = plain(walk, json_string_inside(string));
    struct instant instant;

    if (date_parse(value, &instant))
        return mix(KIND_DATE, (uint64_t)instant.seconds, instant.nanoseconds);
    return XXH3_64bits_withSeed(value.data, value.size, KIND_STRING);
}

static uint64_t hash_value(struct walk *walk, struct text token);

/* NOLINTNEXTLINE(misc-no-recursion): as deep as the parser lets an event be nested */
static uint64_t hash_object(struct walk *walk)
{
    uint64_t sum = 0;
    struct text key;
    struct text value;

    while (json_tokens_next(&walk->cursor, &key) && key.data[0] == '"' &&
           json_tokens_next(&walk->cursor, &value)) {
        uint64_t name = hash_key(walk, key);
        uint64_t hash = hash_value(walk, value);

        if (!json_is_null(value))
            sum += mix(KIND_OBJECT, name, hash);
    }
    return mix(KIND_OBJECT, sum, 0);
}

/* NOLINTNEXTLINE(misc-no-recursion): as above */
static uint64_t hash_array(struct walk *walk, bool is_set)
{
    uint64_t all = 0;
    struct text token;

    while (json_tokens_next(&walk->cursor, &token) && token.data[0] != ']') {
        uint64_t hash = hash_value(walk, token);

        all = is_set ? all + mix(KIND_ARRAY, hash, 0) : mix(KIND_ARRAY, all, hash);
    }
    return mix(KIND_ARRAY, all, 1);
}

/* `token` begins the value, and the cursor stands behind it. */
/* NOLINTNEXTLINE(misc-no-recursion): as above */
static uint64_t hash_value(struct walk *walk, struct text token)
{
    switch (token.data[0]) {
    case '{':
        return hash_object(walk);
    case '[':
        return hash_array(walk, false);
    case '"':
        return hash_string(walk, token);
    case 't':
    case 'f':
    case 'n':
        return mix(KIND_WORD, (unsigned char)token.data[0], 0);
    default:
        return mix(KIND_NUMBER, json_number_hash(token), 0);
    }
}

/* The value of the i-th member; `{}`, `[]` and, where it may, null are one. */
static uint64_t hash_member(struct walk *walk, size_t i, struct text value)
{
    static const char empty = 0;
    uint64_t hash = members[i].is_set && value.data[0] == '[' ? hash_array(walk, true)
                                                              : hash_value(walk, value);
    bool is_empty =
        hash == mix(KIND_OBJECT, 0, 0) || hash == mix(KIND_ARRAY, 0, 1) || json_is_null(value);

    return members[i].null_is_empty && is_empty ? XXH3_64bits(&empty, 1) : hash;
}

static size_t find_member(struct text key)
{
    size_t i = 0;

    while (i < MEMBERS && !json_key_is(json_string_inside(key), members[i].name))
        i++;
    return i;
}

/* False without memory. */
static bool read_content(const struct event *event, struct content *content)
{
    struct walk walk = {.scratch = {0}};
    struct text token;
    struct text value;

    json_tokens_begin(&walk.cursor, event_text(event, EVENT_OBJECT));
    if (!json_tokens_next(&walk.cursor, &token) || token.data[0] != '{')
        return false;
    while (json_tokens_next(&walk.cursor, &token) && token.data[0] == '"' &&
           json_tokens_next(&walk.cursor, &value)) {
        size_t i = find_member(token);

        if (i == MEMBERS) {
            hash_value(&walk, value); /* only to get behind it */
            continue;
        }
        content->hashes[i] += hash_member(&walk, i, value);
        content->has[i] = members[i].null_is_empty || !json_is_null(value);
    }
    buf_release(&walk.scratch);
    return !walk.has_failed;
}

bool event_content_equal(const struct event *a, const struct event *b)
{
    struct content left = {{false}, {0}};
    struct content right = {{false}, {0}};

    if (!read_content(a, &left) || !read_content(b, &right))
        return false;
    for (size_t i = 0; i < MEMBERS; i++) {
        if (left.has[i] && right.has[i] && left.hashes[i] != right.hashes[i])
            return false;
    }
    return true;
}
