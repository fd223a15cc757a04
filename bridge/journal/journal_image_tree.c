#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/journal/journal_image_internal.h"

enum {
    NODE_SIZE = 8,    /* of a node before its key */
    INTEGER_KEYS = 8, /* MDB_INTEGERKEY */
};

struct node_head {
    uint16_t low; /* of a leaf: the value's size; of a branch: the child's number, with flags */
    uint16_t high;
    uint16_t flags;
    uint16_t key_size;
};

_Static_assert(sizeof(struct node_head) == NODE_SIZE, "as LMDB lays it out");

/* ---- pages ---- */

bool image_claim(struct walk *walk, uint64_t number, uint64_t count, enum image_page as)
{
    struct image *image = walk->image;

    if (number < META_PAGES || count == 0 || number > walk->last_page ||
        count > walk->last_page - number + 1) {
        image_problem(walk, "page %" PRIu64 " is outside the file", number);
        return false;
    }
    for (uint64_t i = number; i < number + count && i < image->page_count; i++) {
        if (image->pages[i] != PAGE_UNKNOWN) {
            image_problem(walk, "page %" PRIu64 " is used twice", i);
            return false;
        }
        image->pages[i] = (unsigned char)(as == PAGE_LONG && i > number ? PAGE_LONG_REST : as);
    }
    walk->claimed += count;
    return true;
}

static void unclaim(struct image *image, uint64_t number)
{
    if (number < image->page_count)
        image->pages[number] = PAGE_UNKNOWN;
}

static uint16_t u16_at(const unsigned char *page, size_t at)
{
    uint16_t value;

    memcpy(&value, page + at, sizeof(value));
    return value;
}

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

    if ((node->head.flags && !is_long && node->head.flags != NODE_IS_DB) || inside > node->room ||
        !image_take_row(walk, key, data, size, node->head.flags)) {
        image_problem(walk, "a row is malformed");
        return 0;
    }
    /* LMDB reads such a row, and neither overwrites nor deletes it. */
    if (node->head.flags == NODE_IS_DB && walk->tree != MAIN_TREE)
        image_problem(walk, "a row says that it is a database");
    return (NODE_SIZE + key.size + inside + 1) / 2 * 2;
}

static uint64_t child_of(const struct node_head *head)
{
    return (uint64_t)head->flags << 32 | (uint64_t)head->high << 16 | head->low;
}

static void walk_page(struct walk *walk, uint64_t number, unsigned depth);

static size_t walk_branch_node(struct walk *walk, const struct node *node, size_t i, unsigned depth)
{
    size_t key_size = node->head.key_size;

    if (i > 0 && !image_take_separator(walk, node->key, key_size)) {
        image_problem(walk, "a branch is malformed");
        return 0;
    }
    walk_page(walk, child_of(&node->head), depth - 1);
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
            image_problem(walk, "a row is outside its page");
            return;
        }
        used += depth > 1 ? walk_branch_node(walk, &node, i, depth) : walk_leaf_node(walk, &node);
    }
    if (used != walk->image->page_size - head.upper)
        image_problem(walk, "rows overlap or are missing in page %" PRIu64, head.number);
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
    if (!walk->has_memory || !image_claim(walk, number, 1, depth > 1 ? PAGE_BRANCH : PAGE_LEAF))
        return;
    if (number >= image->page_count ||
        !image_read_at(walk, number * image->page_size, *buffer, image->page_size)) {
        image_problem(walk, "page %" PRIu64 " cannot be read", number);
        unclaim(image, number);
        return;
    }
    if (!is_page(walk, *buffer, number, depth)) {
        image_problem(walk, "page %" PRIu64 " is not what it should be", number);
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

bool image_walk_tree(struct walk *walk, int tree, const struct db_record *db)
{
    bool is_empty;

    walk->tree = tree;
    walk->has_integer_keys = (db->flags & INTEGER_KEYS) != 0 || tree == FREE_TREE;
    walk->is_whole = true;
    walk->seen = (struct db_record){.pad = 0};
    walk->previous.is_set = walk->floor.is_set = false;
    /* Those of the free list's record are LMDB's environment's, too. */
    if (tree == FREE_TREE ? (db->flags & 0xff) != INTEGER_KEYS : db->flags != flags_of(tree))
        image_problem(walk, "its keys are not of its kind");
    is_empty = db->root == NO_PAGE;
    if (is_empty ? db->depth != 0 : db->depth == 0 || db->depth > MAX_DEPTH)
        image_problem(walk, "it cannot be %u levels deep", (unsigned)db->depth);
    if (!walk->is_whole)
        return false;
    if (!is_empty)
        walk_page(walk, db->root, db->depth);
    if (walk->is_whole &&
        (walk->seen.entries != db->entries || walk->seen.branch_pages != db->branch_pages ||
         walk->seen.leaf_pages != db->leaf_pages || walk->seen.long_pages != db->long_pages))
        image_problem(walk, "it does not have as many rows and pages as it says");
    return walk->is_whole;
}

uint64_t image_last_key(struct walk *walk, const struct db_record *list)
{
    unsigned char page[MAX_PAGE];
    uint64_t number = list->root;
    uint64_t key = 0;

    if (list->depth > MAX_DEPTH)
        return 0;
    for (unsigned depth = list->depth; depth > 0; depth--) {
        struct node node;

        if (number >= walk->image->page_count ||
            !image_read_at(walk, number * walk->image->page_size, page, walk->image->page_size) ||
            !is_page(walk, page, number, depth) ||
            !node_at(walk, page,
                     (u16_at(page, offsetof(struct page_head, lower)) - HEAD_SIZE) / 2U - 1, &node))
            return 0;
        number = child_of(&node.head);
        if (depth == 1 && node.head.key_size == sizeof(key))
            memcpy(&key, node.key, sizeof(key));
    }
    return key;
}
