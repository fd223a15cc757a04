/*
 * Paths, one a line, a NUL, any JSON: what is left is JSON, cutting it again changes nothing, and
 * of what drop leaves keep finds nothing to keep, nor the other way round.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/buf.h"
#include "schemas/field_policy.h"
#include "schemas/json_reader.h"
#include "schemas/json_scan.h"
#include "tests/fuzz/fuzz.h"

static bool is_json_object(struct text text)
{
    static struct json_reader *reader;
    static const char padding[JSON_PADDING];
    struct buf padded = {0};
    enum json_verdict verdict;

    if (!reader)
        reader = json_reader_new();
    buf_append_text(&padded, text);
    buf_append(&padded, padding, sizeof(padding));
    MUST(reader && !padded.failed);
    verdict = json_reader_check(reader, padded.data, text.size);
    buf_release(&padded);
    return verdict == JSON_VALID && *json_document(text).data == '{';
}

/* The paths that both kinds take. */
static void add_paths(struct text lines, struct field_policy *drop, struct field_policy *keep)
{
    while (lines.size > 0) {
        const char *end = memchr(lines.data, '\n', lines.size);
        size_t size = end ? (size_t)(end - lines.data) : lines.size;
        struct text path = {lines.data, size};

        if (field_policy_add(keep, path, NULL) == 0)
            MUST(field_policy_add(drop, path, NULL) == 0);
        else
            field_policy_add(drop, path, NULL);
        size += end ? 1 : 0;
        lines.data += size;
        lines.size -= size;
    }
}

static void apply(const struct field_policy *policy, struct text json, struct buf *out)
{
    struct buf again = {0};

    field_policy_apply(policy, json, out);
    MUST(!out->failed && out->size <= json.size && is_json_object(buf_text(out)));
    field_policy_apply(policy, buf_text(out), &again);
    MUST(text_equal(buf_text(out), buf_text(&again)));
    buf_release(&again);
}

/* Brackets, keys and nulls are all there is. */
static void check_hollow(struct text value)
{
    struct json_cursor cursor;
    struct text key;
    struct text inner;

    if (json_object_begin(&cursor, value)) {
        while (json_object_next(&cursor, &key, &inner))
            check_hollow(inner);
    } else if (json_array_begin(&cursor, value)) {
        while (json_array_next(&cursor, &inner))
            check_hollow(inner);
    } else {
        MUST(json_is_null(value));
    }
}

static void check_nothing_is_left(struct text json)
{
    struct json_cursor cursor;
    struct text key;
    struct text value;

    MUST(json_object_begin(&cursor, json_document(json)));
    while (json_object_next(&cursor, &key, &value)) {
        if (json_key_is(key, "data") || json_key_is(key, "previous_data"))
            check_hollow(value);
    }
}

static void check(const struct field_policy *first, const struct field_policy *second,
                  struct text json)
{
    struct buf once = {0};
    struct buf twice = {0};

    apply(first, json, &once);
    apply(second, buf_text(&once), &twice);
    check_nothing_is_left(buf_text(&twice));
    buf_release(&twice);
    buf_release(&once);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *end = size ? memchr(data, '\0', size) : NULL;
    struct field_policy *drop = field_policy_new(FIELDS_DROP);
    struct field_policy *keep = field_policy_new(FIELDS_KEEP);

    MUST(drop && keep);
    if (end) {
        size_t lines = (size_t)(end - (const char *)data);
        struct text json = {end + 1, size - lines - 1};

        add_paths((struct text){(const char *)data, lines}, drop, keep);
        if (is_json_object(json)) {
            check(drop, keep, json);
            check(keep, drop, json);
        }
    }
    field_policy_free(drop);
    field_policy_free(keep);
    return 0;
}
