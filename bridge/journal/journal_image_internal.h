/*
 * What the files that read an image share. Private to them.
 *
 *   journal_image.c       the meta pages, the order of the trees, what is said of the whole
 *   journal_image_tree.c  a tree: who has which page, and where the rows lie in it
 *   journal_image_rows.c  what the rows hold: keys, free pages, databases, values of ours
 *
 * Ownership: a walk lasts for one image_read(), which frees what it holds.
 * Threads: a walk belongs to that of its image.
 */
#ifndef BRIDGE_JOURNAL_JOURNAL_IMAGE_INTERNAL_H
#define BRIDGE_JOURNAL_JOURNAL_IMAGE_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/text.h"
#include "bridge/journal/journal_image.h"
#include "bridge/journal/journal_store.h"

enum {
    HEAD_SIZE = 16, /* of every page */
    MAX_DEPTH = 32, /* CURSOR_STACK */
    MAX_KEY = 511,
    MAX_PAGE = 32768,
    META_PAGES = 2,

    FLAG_BRANCH = 1,
    FLAG_LEAF = 2,
    FLAG_LONG = 4,
    FLAG_META = 8,

    NODE_IS_LONG = 1, /* its value has pages of its own */
    NODE_IS_DB = 2,
};

#define NO_PAGE UINT64_MAX

struct page_head {
    uint64_t number;
    uint16_t pad;
    uint16_t flags;
    uint16_t lower; /* end of the offsets; with upper, of a long value: its pages */
    uint16_t upper; /* beginning of the nodes */
};

struct db_record {
    uint32_t pad; /* of the first in a meta page: the page size */
    uint16_t flags;
    uint16_t depth;
    uint64_t branch_pages;
    uint64_t leaf_pages;
    uint64_t long_pages;
    uint64_t entries;
    uint64_t root;
};

_Static_assert(sizeof(struct page_head) == HEAD_SIZE && sizeof(struct db_record) == 48,
               "as LMDB lays them out");

/* What is gone through: one of the journal's databases, or one of LMDB's own two. */
enum { MAIN_TREE = STORE_DB_COUNT, FREE_TREE };

struct key {
    unsigned char bytes[MAX_KEY + 1];
    size_t size;
    bool is_set;
};

struct walk {
    struct image *image;
    const struct image_rows *rows;
    uint64_t last_page;
    uint64_t claimed; /* pages */
    int tree;
    bool has_integer_keys;
    bool is_whole;
    struct db_record seen;                /* counted */
    struct key previous;                  /* key of a leaf */
    struct key floor;                     /* the next key is not below: it stands in a branch */
    struct db_record dbs[STORE_DB_COUNT]; /* found in the main tree */
    bool has_db[STORE_DB_COUNT];
    unsigned char *buffers[MAX_DEPTH]; /* a page for each level */
    unsigned char *value;
    size_t value_capacity;
    bool has_memory;
};

/* ---- journal_image.c ---- */

/* Something is wrong in the tree that is gone through. The first in the file is kept for people. */
void image_problem(struct walk *walk, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* False: they are not in the file, or cannot be read. */
bool image_read_at(struct walk *walk, uint64_t offset, void *to, size_t size);

/* ---- journal_image_tree.c ---- */

/* True when all of it was reached and is right. */
bool image_walk_tree(struct walk *walk, int tree, const struct db_record *db);

/* The last key of a list of free pages; 0: it cannot be read. */
uint64_t image_last_key(struct walk *walk, const struct db_record *list);

/* Claims pages for this tree: nobody else may have them. */
bool image_claim(struct walk *walk, uint64_t number, uint64_t count, enum image_page as);

/* ---- journal_image_rows.c ---- */

/* A key between two children: behind all of the one and not behind any of the other. False: it is
 * none. */
bool image_take_separator(struct walk *walk, const unsigned char *bytes, size_t size);

/* The next row in the order of the tree. `size` is its value's, which begins at `data`, or there is
 * the number of its first page. False: the key is none. */
bool image_take_row(struct walk *walk, struct text key, const unsigned char *data, size_t size,
                    unsigned node_flags);

#endif
