/*
 * The journal's file as bytes, read without LMDB, which does not check what it reads: a single
 * wrong bit makes it abort, fault or loop (it has no checksums of its own). Here every number is
 * checked before it is used, so that any file can be read, and what is wrong in it is said.
 *
 * The format is that of LMDB 0.9 on 64-bit little-endian machines (mdb.c: MDB_page, MDB_node,
 * MDB_db, MDB_meta). Only what the journal uses is known: no duplicates, no sub-databases in
 * databases.
 *
 * Threads: an image belongs to one.
 */
#ifndef BRIDGE_JOURNAL_JOURNAL_IMAGE_H
#define BRIDGE_JOURNAL_JOURNAL_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/text.h"
#include "bridge/journal/journal_store.h"

struct error;

/* Where the bytes come from. */
struct image_source {
    void *context;
    uint64_t size;
    /* False when they cannot be read; never called beyond `size`. */
    bool (*read)(void *context, uint64_t offset, void *to, size_t size);
};

enum image_page {
    PAGE_UNKNOWN, /* not reached: never used, or lost with what led to it */
    PAGE_META,
    PAGE_BRANCH,
    PAGE_LEAF,
    PAGE_LONG, /* the first of those that one value takes */
    PAGE_LONG_REST,
    PAGE_FREE, /* said to be free by a list that is whole */
};

struct image {
    const struct image_source *source;
    size_t page_size;
    uint64_t page_count;           /* in the file; the last may be a part of one */
    unsigned char *pages;          /* an enum image_page for each */
    bool is_known[STORE_DB_COUNT]; /* all its pages were reached and are right; or it is not there
                                      in a tree that is right */
    bool is_free_known;            /* the same for the list of free pages */
    bool is_newest_known;          /* both meta pages are right: there is no newer tree */
    bool is_foreign; /* no database has a name of ours: if it is sound, it is something else's */
    uint64_t entries[STORE_DB_COUNT];
    uint64_t problems;
    uint64_t unreadable; /* of them: bytes that the source did not give */
    char first_problem[160];
};

enum { IMAGE_BEGINNING = 256 }; /* bytes of a value that cost no page more than its row does */

/* How much of a value is read. */
enum image_want {
    WANT_NOTHING,
    WANT_BEGINNING, /* IMAGE_BEGINNING bytes of it at least */
    WANT_ALL,
};

/* Who looks at the rows: those of the cursors before those of the events. */
struct image_rows {
    void *context;
    enum image_want (*wants)(void *context, enum store_db db, struct text key);
    /* Gets what was wanted; key and value are gone afterwards. False: it found the value damaged.
     */
    bool (*row)(void *context, enum store_db db, struct text key, struct text value);
};

/*
 * Reads the newest tree of pages from its root, and the list of free ones. `rows` may be NULL.
 * Borrows `source` until image_release(). -1: no memory.
 */
int image_read(struct image *image, const struct image_source *source,
               const struct image_rows *rows, struct error *err);
void image_release(struct image *image);

/* A tree of which pages are free is an older one, to which a wrong root led. */
static inline bool image_is_newest(const struct image *image)
{
    return image->is_newest_known && image->is_free_known;
}

/* True when LMDB can use the file. */
static inline bool image_is_sound(const struct image *image)
{
    return image->problems == 0;
}

#endif
