#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/journal/journal_image_internal.h"

/* ---- keys ---- */

static int compare(const struct walk *walk, const void *a, size_t a_size, const void *b,
                   size_t b_size)
{
    int order;

    if (walk->has_integer_keys) {
        uint64_t left;
        uint64_t right;

        memcpy(&left, a, sizeof(left));
        memcpy(&right, b, sizeof(right));
        return (left > right) - (left < right);
    }
    order = memcmp(a, b, a_size < b_size ? a_size : b_size);
    return order ? order : (a_size > b_size) - (a_size < b_size);
}

static bool is_key(const struct walk *walk, size_t size)
{
    return walk->has_integer_keys ? size == sizeof(uint64_t) : size > 0 && size <= MAX_KEY;
}

static void set_key(struct key *key, const unsigned char *bytes, size_t size)
{
    memcpy(key->bytes, bytes, size);
    key->size = size;
    key->is_set = true;
}

/* The next key in the order of the tree. */
static void take_key(struct walk *walk, const unsigned char *bytes, size_t size)
{
    if ((walk->previous.is_set &&
         compare(walk, walk->previous.bytes, walk->previous.size, bytes, size) >= 0) ||
        (walk->floor.is_set && compare(walk, walk->floor.bytes, walk->floor.size, bytes, size) > 0))
        image_problem(walk, "keys are not in their order");
    walk->floor.is_set = false;
    set_key(&walk->previous, bytes, size);
}

bool image_take_separator(struct walk *walk, const unsigned char *bytes, size_t size)
{
    if (!is_key(walk, size))
        return false;
    if (walk->previous.is_set &&
        compare(walk, walk->previous.bytes, walk->previous.size, bytes, size) >= 0)
        image_problem(walk, "keys are not in their order");
    set_key(&walk->floor, bytes, size);
    return true;
}

/* ---- values ---- */

static bool make_room(struct walk *walk, size_t size)
{
    unsigned char *bigger;

    if (size <= walk->value_capacity)
        return true;
    bigger = realloc(walk->value, size);
    if (!bigger) {
        walk->has_memory = false;
        return false;
    }
    walk->value = bigger;
    walk->value_capacity = size;
    return true;
}

/* How much of a value somebody wants to see. */
static size_t wanted(const struct walk *walk, struct text key, size_t size)
{
    enum image_want want = WANT_NOTHING;

    if (walk->tree == FREE_TREE || walk->tree == MAIN_TREE)
        want = WANT_ALL;
    else if (walk->rows)
        want = walk->rows->wants(walk->rows->context, (enum store_db)walk->tree, key);
    if (want == WANT_ALL)
        return size;
    return want == WANT_NOTHING ? 0 : size < IMAGE_BEGINNING ? size : IMAGE_BEGINNING;
}

/* Pages said to be free: larger numbers first, and nobody uses them. */
static void take_free_pages(struct walk *walk, struct text value)
{
    uint64_t before = NO_PAGE;
    uint64_t count = UINT64_MAX;

    if (value.size >= sizeof(count))
        memcpy(&count, value.data, sizeof(count));
    if (count >= value.size / sizeof(count)) {
        image_problem(walk, "a list is not as long as it says");
        return;
    }
    for (uint64_t i = 1; i <= count; i++) {
        uint64_t number;

        memcpy(&number, value.data + i * sizeof(number), sizeof(number));
        if (number >= before) {
            image_problem(walk, "a list is not in its order");
            return;
        }
        before = number;
        image_claim(walk, number, 1, PAGE_FREE);
    }
}

static void take_db(struct walk *walk, struct text key, struct text value, unsigned node_flags)
{
    for (int db = 0; db < STORE_DB_COUNT; db++) {
        if (!text_equal_string(key, store_db_names[db]))
            continue;
        if (node_flags != NODE_IS_DB || value.size != sizeof(walk->dbs[db])) {
            image_problem(walk, "%s is not a database", store_db_names[db]);
            return;
        }
        memcpy(&walk->dbs[db], value.data, sizeof(walk->dbs[db]));
        walk->has_db[db] = true;
        return;
    }
    walk->image->is_foreign = true;
}

static void take_value(struct walk *walk, struct text key, struct text value, unsigned node_flags)
{
    if (walk->tree == FREE_TREE)
        take_free_pages(walk, value);
    else if (walk->tree == MAIN_TREE)
        take_db(walk, key, value, node_flags);
    else if (!walk->rows->row(walk->rows->context, (enum store_db)walk->tree, key, value))
        image_problem(walk, "a value is damaged");
}

static void take_long_value(struct walk *walk, struct text key, uint64_t number, size_t size)
{
    struct image *image = walk->image;
    uint64_t needed = (HEAD_SIZE - 1 + (uint64_t)size) / image->page_size + 1;
    struct page_head head;
    uint32_t pages;

    size = wanted(walk, key, size);
    if (number >= image->page_count ||
        !image_read_at(walk, number * image->page_size, &head, sizeof(head))) {
        image_problem(walk, "page %" PRIu64 " cannot be read", number);
        return;
    }
    pages = (uint32_t)head.upper << 16 | head.lower;
    if (head.number != number || head.flags != FLAG_LONG || pages < needed ||
        needed > image->page_count - number) {
        image_problem(walk, "page %" PRIu64 " is not that of a long value", number);
        return;
    }
    if (!image_claim(walk, number, pages, PAGE_LONG))
        return;
    walk->seen.long_pages += pages;
    if (size == 0 || !make_room(walk, size))
        return;
    if (image_read_at(walk, number * image->page_size + HEAD_SIZE, walk->value, size))
        take_value(walk, key, (struct text){(const char *)walk->value, size}, 0);
    else
        image_problem(walk, "page %" PRIu64 " cannot be read", number);
}

/* ---- both ---- */

bool image_take_row(struct walk *walk, struct text key, const unsigned char *data, size_t size,
                    unsigned node_flags)
{
    if (!is_key(walk, key.size))
        return false;
    take_key(walk, (const unsigned char *)key.data, key.size);
    walk->seen.entries++;
    if (node_flags == NODE_IS_LONG) {
        uint64_t number;

        memcpy(&number, data, sizeof(number));
        take_long_value(walk, key, number, size);
    } else if (wanted(walk, key, size)) {
        take_value(walk, key, (struct text){(const char *)data, size}, node_flags);
    }
    return true;
}
