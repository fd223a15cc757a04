#include "bridge/journal/journal_image.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/error.h"

enum {
    META_VERSION = 1,
    HEAD_SIZE = 16, /* of every page */
    NODE_SIZE = 8,  /* of a node before its key */
    MAX_DEPTH = 32, /* CURSOR_STACK */
    MAX_KEY = 511,
    MIN_PAGE = 512,
    MAX_PAGE = 32768,
    META_PAGES = 2,

    FLAG_BRANCH = 1,
    FLAG_LEAF = 2,
    FLAG_LONG = 4,
    FLAG_META = 8,

    NODE_IS_LONG = 1,
    NODE_IS_DB = 2,

    INTEGER_KEYS = 8, /* MDB_INTEGERKEY */
};

static const uint32_t meta_magic = 0xbeefc0de;
static const uint64_t no_page = UINT64_MAX;

struct page_head {
    uint64_t number;
    uint16_t pad;
    uint16_t flags;
    uint16_t lower; /* end of the offsets; with upper, of a long value: its pages */
    uint16_t upper; /* beginning of the nodes */
};

struct node_head {
    uint16_t low; /* of a leaf: the value's size; of a branch: the child's number, with flags */
    uint16_t high;
    uint16_t flags;
    uint16_t key_size;
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

_Static_assert(sizeof(struct page_head) == HEAD_SIZE && sizeof(struct node_head) == NODE_SIZE &&
                   sizeof(struct db_record) == 48 && sizeof(struct meta_record) == 136,
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

static const char *tree_name(int tree)
{
    return tree == MAIN_TREE   ? "the main tree"
           : tree == FREE_TREE ? "the list of free pages"
                               : store_db_names[tree];
}

static void problem(struct walk *walk, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void problem(struct walk *walk, const char *fmt, ...)
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

static uint16_t u16_at(const unsigned char *page, size_t at)
{
    uint16_t value;

    memcpy(&value, page + at, sizeof(value));
    return value;
}

static bool read_at(struct walk *walk, uint64_t offset, void *to, size_t size)
{
    const struct image_source *source = walk->image->source;

    if (offset > source->size || size > source->size - offset)
        return false;
    if (source->read(source->context, offset, to, size))
        return true;
    walk->image->unreadable++;
    return false;
}

/* Claims pages for this tree: nobody else may have them. */
static bool claim(struct walk *walk, uint64_t number, uint64_t count, enum image_page as)
{
    struct image *image = walk->image;

    if (number < META_PAGES || count == 0 || number > walk->last_page ||
        count > walk->last_page - number + 1) {
        problem(walk, "page %" PRIu64 " is outside the file", number);
        return false;
    }
    for (uint64_t i = number; i < number + count && i < image->page_count; i++) {
        if (image->pages[i] != PAGE_UNKNOWN) {
            problem(walk, "page %" PRIu64 " is used twice", i);
            return false;
        }
        image->pages[i] = (unsigned char)(as == PAGE_LONG && i > number ? PAGE_LONG_REST : as);
    }
    return true;
}

static void unclaim(struct image *image, uint64_t number)
{
    if (number < image->page_count)
        image->pages[number] = PAGE_UNKNOWN;
}

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
        problem(walk, "keys are not in their order");
    walk->floor.is_set = false;
    set_key(&walk->previous, bytes, size);
}

/* A key between two children: behind all of the one and not behind any of the other. */
static void take_separator(struct walk *walk, const unsigned char *bytes, size_t size)
{
    if (walk->previous.is_set &&
        compare(walk, walk->previous.bytes, walk->previous.size, bytes, size) >= 0)
        problem(walk, "keys are not in their order");
    set_key(&walk->floor, bytes, size);
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

/* How much of a long value somebody wants to see. */
static size_t wanted(const struct walk *walk, size_t size)
{
    if (walk->tree == FREE_TREE || walk->tree == MAIN_TREE ||
        (walk->rows && walk->rows->wants[walk->tree]))
        return size;
    if (!walk->rows || !walk->rows->wants_beginning[walk->tree])
        return 0;
    return size < IMAGE_BEGINNING ? size : IMAGE_BEGINNING;
}

/* Pages said to be free: larger numbers first, and nobody uses them. */
static void take_free_pages(struct walk *walk, struct text value)
{
    uint64_t before = no_page;
    uint64_t count = UINT64_MAX;

    if (value.size >= sizeof(count))
        memcpy(&count, value.data, sizeof(count));
    if (count >= value.size / sizeof(count)) {
        problem(walk, "a list is not as long as it says");
        return;
    }
    for (uint64_t i = 1; i <= count; i++) {
        uint64_t number;

        memcpy(&number, value.data + i * sizeof(number), sizeof(number));
        if (number >= before) {
            problem(walk, "a list is not in its order");
            return;
        }
        before = number;
        claim(walk, number, 1, PAGE_FREE);
    }
}

static void take_db(struct walk *walk, struct text key, struct text value, unsigned node_flags)
{
    for (int db = 0; db < STORE_DB_COUNT; db++) {
        if (!text_equal_string(key, store_db_names[db]))
            continue;
        if (node_flags != NODE_IS_DB || value.size != sizeof(walk->dbs[db])) {
            problem(walk, "%s is not a database", store_db_names[db]);
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
        problem(walk, "a value is damaged");
}

static void take_long_value(struct walk *walk, struct text key, uint64_t number, size_t size)
{
    struct image *image = walk->image;
    uint64_t needed = (HEAD_SIZE - 1 + (uint64_t)size) / image->page_size + 1;
    struct page_head head;
    uint32_t pages;

    size = wanted(walk, size);
    if (number >= image->page_count ||
        !read_at(walk, number * image->page_size, &head, sizeof(head))) {
        problem(walk, "page %" PRIu64 " cannot be read", number);
        return;
    }
    pages = (uint32_t)head.upper << 16 | head.lower;
    if (head.number != number || head.flags != FLAG_LONG || pages < needed ||
        needed > image->page_count - number) {
        problem(walk, "page %" PRIu64 " is not that of a long value", number);
        return;
    }
    if (!claim(walk, number, pages, PAGE_LONG))
        return;
    walk->seen.long_pages += pages;
    if (size == 0 || !make_room(walk, size))
        return;
    if (read_at(walk, number * image->page_size + HEAD_SIZE, walk->value, size))
        take_value(walk, key, (struct text){(const char *)walk->value, size}, 0);
    else
        problem(walk, "page %" PRIu64 " cannot be read", number);
}

/* ---- pages ---- */

struct node {
    struct node_head head;
    const unsigned char *key;
    size_t room; /* behind the key, to the end of the page */
};

/* False: it is not inside the page. */
static bool node_at(const struct walk *walk, const unsigned char *page, size_t i,
                    struct node *out_node)
{
    size_t page_size = walk->image->page_size;
    size_t at = u16_at(page, HEAD_SIZE + 2 * i);

    if (at % 2 || at < u16_at(page, offsetof(struct page_head, upper)) ||
        at > page_size - NODE_SIZE)
        return false;
    memcpy(&out_node->head, page + at, sizeof(out_node->head));
    if (out_node->head.key_size > page_size - NODE_SIZE - at)
        return false;
    out_node->key = page + at + NODE_SIZE;
    out_node->room = page_size - NODE_SIZE - at - out_node->head.key_size;
    return true;
}

/* Returns what the node takes in the page, 0 when it is wrong. */
static size_t walk_leaf_node(struct walk *walk, const struct node *node)
{
    const unsigned char *data = node->key + node->head.key_size;
    struct text key = {(const char *)node->key, node->head.key_size};
    size_t size = (size_t)node->head.high << 16 | node->head.low;
    bool is_long = node->head.flags == NODE_IS_LONG;
    size_t inside = is_long ? sizeof(uint64_t) : size;
    uint64_t number;

    if ((node->head.flags && !is_long && node->head.flags != NODE_IS_DB) ||
        !is_key(walk, key.size) || inside > node->room) {
        problem(walk, "a row is malformed");
        return 0;
    }
    take_key(walk, node->key, key.size);
    walk->seen.entries++;
    if (is_long) {
        memcpy(&number, data, sizeof(number));
        take_long_value(walk, key, number, size);
    } else if (wanted(walk, size)) {
        take_value(walk, key, (struct text){(const char *)data, size}, node->head.flags);
    }
    return (NODE_SIZE + key.size + inside + 1) / 2 * 2;
}

static void walk_page(struct walk *walk, uint64_t number, unsigned depth);

static size_t walk_branch_node(struct walk *walk, const struct node *node, size_t i, unsigned depth)
{
    size_t key_size = node->head.key_size;

    if (i > 0 && !is_key(walk, key_size)) {
        problem(walk, "a branch is malformed");
        return 0;
    }
    if (i > 0)
        take_separator(walk, node->key, key_size);
    walk_page(walk,
              (uint64_t)node->head.flags << 32 | (uint64_t)node->head.high << 16 | node->head.low,
              depth - 1);
    return (NODE_SIZE + key_size + 1) / 2 * 2;
}

static void walk_nodes(struct walk *walk, const unsigned char *page, unsigned depth)
{
    struct page_head head;
    size_t count;
    size_t used = 0;

    memcpy(&head, page, sizeof(head));
    count = ((size_t)head.lower - HEAD_SIZE) / 2;
    for (size_t i = 0; i < count && walk->has_memory; i++) {
        struct node node;

        if (!node_at(walk, page, i, &node)) {
            problem(walk, "a row is outside its page");
            return;
        }
        used += depth > 1 ? walk_branch_node(walk, &node, i, depth) : walk_leaf_node(walk, &node);
    }
    if (used != walk->image->page_size - head.upper)
        problem(walk, "rows overlap or are missing in page %" PRIu64, head.number);
}

static bool is_page(const struct walk *walk, const unsigned char *page, uint64_t number,
                    unsigned depth)
{
    struct page_head head;

    memcpy(&head, page, sizeof(head));
    return head.number == number && head.flags == (depth > 1 ? FLAG_BRANCH : FLAG_LEAF) &&
           head.lower > HEAD_SIZE && head.lower % 2 == 0 && head.lower <= head.upper &&
           head.upper <= walk->image->page_size;
}

/* `depth` is 1 for a leaf. */
static void walk_page(struct walk *walk, uint64_t number, unsigned depth)
{
    struct image *image = walk->image;
    unsigned char **buffer = &walk->buffers[depth - 1];
    uint64_t problems = image->problems;

    if (!*buffer && !(*buffer = malloc(image->page_size)))
        walk->has_memory = false;
    if (!walk->has_memory || !claim(walk, number, 1, depth > 1 ? PAGE_BRANCH : PAGE_LEAF))
        return;
    if (number >= image->page_count ||
        !read_at(walk, number * image->page_size, *buffer, image->page_size)) {
        problem(walk, "page %" PRIu64 " cannot be read", number);
        unclaim(image, number);
        return;
    }
    if (!is_page(walk, *buffer, number, depth)) {
        problem(walk, "page %" PRIu64 " is not what it should be", number);
        unclaim(image, number);
        return;
    }
    if (depth > 1)
        walk->seen.branch_pages++;
    else
        walk->seen.leaf_pages++;
    walk_nodes(walk, *buffer, depth);
    if (image->problems > problems && depth == 1)
        unclaim(image, number); /* what it may hold besides is looked for */
}

/* ---- trees ---- */

static unsigned flags_of(int tree)
{
    return tree < STORE_DB_COUNT && store_has_integer_keys((enum store_db)tree) ? INTEGER_KEYS : 0;
}

/* True when all of it was reached and is right. */
static bool walk_tree(struct walk *walk, int tree, const struct db_record *db)
{
    bool is_empty;

    walk->tree = tree;
    walk->has_integer_keys = (db->flags & INTEGER_KEYS) != 0 || tree == FREE_TREE;
    walk->is_whole = true;
    walk->seen = (struct db_record){.pad = 0};
    walk->previous.is_set = walk->floor.is_set = false;
    /* Those of the free list's record are LMDB's environment's, too. */
    if (tree == FREE_TREE ? (db->flags & 0xff) != INTEGER_KEYS : db->flags != flags_of(tree))
        problem(walk, "its keys are not of its kind");
    is_empty = db->root == no_page;
    if (is_empty ? db->depth != 0 : db->depth == 0 || db->depth > MAX_DEPTH)
        problem(walk, "it cannot be %u levels deep", (unsigned)db->depth);
    if (!walk->is_whole)
        return false;
    if (!is_empty)
        walk_page(walk, db->root, db->depth);
    if (walk->is_whole &&
        (walk->seen.entries != db->entries || walk->seen.branch_pages != db->branch_pages ||
         walk->seen.leaf_pages != db->leaf_pages || walk->seen.long_pages != db->long_pages))
        problem(walk, "it does not have as many rows and pages as it says");
    return walk->is_whole;
}

static bool read_meta(struct walk *walk, uint64_t offset, struct meta_record *out_meta)
{
    struct page_head head;
    size_t size;

    if (!read_at(walk, offset, &head, sizeof(head)) ||
        !read_at(walk, offset + sizeof(head), out_meta, sizeof(*out_meta)))
        return false;
    size = out_meta->free.pad;
    return (head.flags & FLAG_META) && out_meta->magic == meta_magic &&
           out_meta->version == META_VERSION && size >= MIN_PAGE && size <= MAX_PAGE &&
           (size & (size - 1)) == 0 && out_meta->last_page < out_meta->map_size / size;
}

/* Commits write them in turn. */
static bool are_neighbours(const struct meta_record *even, const struct meta_record *odd)
{
    if (even->txn == 0 && odd->txn == 0)
        return true;
    return even->txn % 2 == 0 && (even->txn + 1 == odd->txn || odd->txn + 1 == even->txn);
}

/* The newer of the two meta pages; both have to be there for LMDB. False: neither is. */
static bool find_meta(struct walk *walk, struct meta_record *out_meta)
{
    struct meta_record metas[META_PAGES];
    bool are_good[META_PAGES];
    size_t newest;

    walk->tree = MAIN_TREE;
    are_good[0] = read_meta(walk, 0, &metas[0]);
    are_good[1] = read_meta(walk, are_good[0] ? metas[0].free.pad : 4096, &metas[1]);
    if (are_good[0] && are_good[1] && metas[0].free.pad != metas[1].free.pad)
        are_good[1] = false;
    walk->image->is_newest_known =
        are_good[0] && are_good[1] && are_neighbours(&metas[0], &metas[1]);
    if (!walk->image->is_newest_known)
        problem(walk, "a meta page is damaged");
    if (!are_good[0] && !are_good[1])
        return false;
    newest = !are_good[0] || (are_good[1] && metas[1].txn > metas[0].txn) ? 1 : 0;
    *out_meta = metas[newest];
    return true;
}

/* Beside databases of ours one that is not: its name is damaged. */
static bool has_wrong_name(struct walk *walk)
{
    bool has_ours = false;

    for (int db = 0; db < STORE_DB_COUNT; db++)
        has_ours = has_ours || walk->has_db[db];
    if (!walk->image->is_foreign || !has_ours)
        return false;
    walk->image->is_foreign = false;
    problem(walk, "a database has the name of none");
    return true;
}

static void walk_all(struct walk *walk, const struct meta_record *meta)
{
    struct image *image = walk->image;
    bool is_main_whole;

    walk->last_page = meta->last_page;
    for (uint64_t i = 0; i < META_PAGES && i < image->page_count; i++)
        image->pages[i] = PAGE_META;
    is_main_whole = walk_tree(walk, MAIN_TREE, &meta->main) && !has_wrong_name(walk);
    for (int db = 0; db < STORE_DB_COUNT; db++) {
        image->is_known[db] = is_main_whole;
        if (walk->has_db[db])
            image->is_known[db] = walk_tree(walk, db, &walk->dbs[db]) && is_main_whole;
        image->entries[db] = walk->has_db[db] ? walk->dbs[db].entries : 0;
    }
    image->is_free_known = walk_tree(walk, FREE_TREE, &meta->free);
    if (image->is_foreign && walk->has_db[STORE_META])
        image->is_foreign = false; /* another version's database beside ours */
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

    *image = (struct image){.source = source, .page_size = 4096};
    if (!walk)
        return error_set(err, ERROR_FATAL, "out of memory");
    walk->image = image;
    walk->rows = rows;
    has_meta = find_meta(walk, &meta);
    if (has_meta)
        image->page_size = meta.free.pad;
    image->page_count = (source->size + image->page_size - 1) / image->page_size;
    image->pages = calloc(image->page_count + 1, 1);
    walk->has_memory = image->pages != NULL;
    if (has_meta && walk->has_memory)
        walk_all(walk, &meta);
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
