#include "bridge/journal/journal_image.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "bridge/base/error.h"
#include "bridge/journal/journal_image_internal.h"

enum { META_VERSION = 1, MIN_PAGE = 512 };

static const uint32_t meta_magic = 0xbeefc0de;

struct meta_record {
    uint32_t magic;
    uint32_t version;
    uint64_t address;
    uint64_t map_size;
    struct db_record free;
    struct db_record main;
    uint64_t last_page;
    uint64_t txn;
};

_Static_assert(sizeof(struct meta_record) == 136, "as LMDB lays it out");

static const char *tree_name(int tree)
{
    return tree == MAIN_TREE   ? "the main tree"
           : tree == FREE_TREE ? "the list of free pages"
                               : store_db_names[tree];
}

void image_problem(struct walk *walk, const char *fmt, ...)
{
    struct image *image = walk->image;
    char what[100];
    va_list args;

    walk->is_whole = false;
    if (image->problems++ > 0)
        return;
    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    snprintf(image->first_problem, sizeof(image->first_problem), "%s: %s", tree_name(walk->tree),
             what);
}

bool image_read_at(struct walk *walk, uint64_t offset, void *to, size_t size)
{
    const struct image_source *source = walk->image->source;

    if (offset > source->size || size > source->size - offset)
        return false;
    if (source->read(source->context, offset, to, size))
        return true;
    walk->image->unreadable++;
    return false;
}

/* ---- meta pages ---- */

static bool read_meta(struct walk *walk, uint64_t offset, struct meta_record *out_meta)
{
    struct page_head head;
    size_t size;

    if (!image_read_at(walk, offset, &head, sizeof(head)) ||
        !image_read_at(walk, offset + sizeof(head), out_meta, sizeof(*out_meta)))
        return false;
    size = out_meta->free.pad;
    return (head.flags & FLAG_META) && out_meta->magic == meta_magic &&
           out_meta->version == META_VERSION && size >= MIN_PAGE && size <= MAX_PAGE &&
           (size & (size - 1)) == 0 && out_meta->last_page < out_meta->map_size / size;
}

/*
 * A number that is too high would make the older tree the newest. But the first commit fills an
 * empty file, and every other replaces pages: under its number it writes down which are free from
 * then on. Of the older one nothing can be said: after a write that failed LMDB leaves the trees of
 * a commit under the number of the one before, and is right to take the other meta page.
 */
static bool is_of_its_commit(struct walk *walk, const struct meta_record *meta)
{
    uint64_t key;

    if (meta->free.root == NO_PAGE)
        return meta->txn < 2 && (meta->txn == 0) == (meta->main.root == NO_PAGE);
    key = image_last_key(walk, &meta->free);
    return key == 0 || key == meta->txn;
}

static void set_page_size(struct image *image, size_t size)
{
    image->page_size = size;
    image->page_count = (image->source->size + size - 1) / size;
}

/* Commits write them in turn. */
static bool are_neighbours(const struct meta_record *even, const struct meta_record *odd)
{
    if (even->txn == 0 && odd->txn == 0)
        return true;
    return even->txn % 2 == 0 && (even->txn + 1 == odd->txn || odd->txn + 1 == even->txn);
}

/* The second meta page begins where the first ends; without a first one, where it says itself. */
static bool read_second_meta(struct walk *walk, const struct meta_record *first,
                             struct meta_record *out_meta)
{
    size_t size = first ? first->free.pad : MIN_PAGE;
    size_t last = first ? first->free.pad : MAX_PAGE;

    for (; size <= last; size *= 2) {
        if (read_meta(walk, size, out_meta) && out_meta->free.pad == size)
            return true;
    }
    return false;
}

/* The newer of the two meta pages; both have to be there for LMDB. False: neither is. */
static bool find_meta(struct walk *walk, struct meta_record *out_meta)
{
    struct meta_record metas[META_PAGES];
    bool are_good[META_PAGES];
    size_t newest;

    walk->tree = MAIN_TREE;
    are_good[0] = read_meta(walk, 0, &metas[0]);
    are_good[1] = read_second_meta(walk, are_good[0] ? &metas[0] : NULL, &metas[1]);
    newest = !are_good[0] || (are_good[1] && metas[1].txn > metas[0].txn) ? 1 : 0;
    if (are_good[newest])
        set_page_size(walk->image, metas[newest].free.pad);
    walk->image->is_newest_known = are_good[0] && are_good[1] &&
                                   are_neighbours(&metas[0], &metas[1]) &&
                                   is_of_its_commit(walk, &metas[newest]);
    if (!walk->image->is_newest_known)
        image_problem(walk, "a meta page is damaged");
    if (!are_good[newest])
        return false;
    *out_meta = metas[newest];
    return true;
}

/* ---- all of it ---- */

/* Beside databases of ours one that is not: its name is damaged. */
static bool has_wrong_name(struct walk *walk)
{
    bool has_ours = false;

    for (int db = 0; db < STORE_DB_COUNT; db++)
        has_ours = has_ours || walk->has_db[db];
    if (!walk->image->is_foreign || !has_ours)
        return false;
    walk->image->is_foreign = false;
    image_problem(walk, "a database has the name of none");
    return true;
}

static void walk_all(struct walk *walk, const struct meta_record *meta)
{
    /* What the cursors say decides how much somebody wants to see of the events. */
    static const enum store_db order[STORE_DB_COUNT] = {STORE_META,  STORE_CURSORS, STORE_EVENTS,
                                                        STORE_MARKS, STORE_PARKED,  STORE_DEAD};
    struct image *image = walk->image;
    bool is_main_whole;

    walk->last_page = meta->last_page;
    for (uint64_t i = 0; i < META_PAGES && i < image->page_count; i++)
        image->pages[i] = PAGE_META;
    is_main_whole = image_walk_tree(walk, MAIN_TREE, &meta->main) && !has_wrong_name(walk);
    for (int i = 0; i < STORE_DB_COUNT; i++) {
        int db = (int)order[i];

        image->is_known[db] = is_main_whole;
        if (walk->has_db[db])
            image->is_known[db] = image_walk_tree(walk, db, &walk->dbs[db]) && is_main_whole;
        image->entries[db] = walk->has_db[db] ? walk->dbs[db].entries : 0;
    }
    image->is_free_known = image_walk_tree(walk, FREE_TREE, &meta->free);
    if (image->is_foreign && walk->has_db[STORE_META])
        image->is_foreign = false; /* another version's database beside ours */
}

/* Every page up to the last is in a tree or free; else the number of the last one is wrong, and
 * with it how much room there is. */
static void check_count(struct walk *walk)
{
    if (walk->image->problems == 0 && walk->claimed + META_PAGES != walk->last_page + 1)
        image_problem(walk, "of its %" PRIu64 " pages, %" PRIu64 " are in use or free",
                      walk->last_page + 1, walk->claimed + META_PAGES);
}

/* Free pages of a list that is not whole may as well be in use. */
static void forget_free_pages(struct image *image)
{
    for (uint64_t i = 0; i < image->page_count; i++) {
        if (image->pages[i] == PAGE_FREE)
            image->pages[i] = PAGE_UNKNOWN;
    }
}

int image_read(struct image *image, const struct image_source *source,
               const struct image_rows *rows, struct error *err)
{
    struct walk *walk = calloc(1, sizeof(*walk));
    struct meta_record meta;
    bool has_meta;

    *image = (struct image){.source = source};
    set_page_size(image, 4096);
    if (!walk)
        return error_set(err, ERROR_FATAL, "out of memory");
    walk->image = image;
    walk->rows = rows;
    has_meta = find_meta(walk, &meta);
    image->pages = calloc(image->page_count + 1, 1);
    walk->has_memory = image->pages != NULL;
    if (has_meta && walk->has_memory) {
        walk_all(walk, &meta);
        check_count(walk);
    }
    if (walk->has_memory && !image->is_free_known)
        forget_free_pages(image);
    for (int i = 0; i < MAX_DEPTH; i++)
        free(walk->buffers[i]);
    free(walk->value);
    if (!walk->has_memory)
        error_set(err, ERROR_FATAL, "out of memory");
    has_meta = walk->has_memory;
    free(walk);
    return has_meta ? 0 : -1;
}

void image_release(struct image *image)
{
    free(image->pages);
    image->pages = NULL;
}
