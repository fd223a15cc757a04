#include "bridge/journal/journal_scan.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/base/error.h"
#include "bridge/journal/journal_image.h"
#include "bridge/journal/journal_records.h"
#include "schemas/event.h"

enum {
    WINDOW = 1024 * 1024,
    AHEAD = 4096,                     /* read besides: the head of a value, with a letter's texts */
    PATIENCE = 4,                     /* bytes looked at in vain, as a multiple of the file's */
    LONG_HEAD = 16,                   /* of the page in which a long value begins */
    LETTER_MAX = 64 + 64 + 1024 + 64, /* a letter before its event's record, at most */
};

struct scan {
    const struct image *image;
    void (*found)(void *context, const struct scan_find *find);
    void *context;
    unsigned char *window;
    uint64_t window_offset;
    size_t window_size;
    unsigned char *value; /* that is longer than the window */
    size_t value_capacity;
    uint64_t skip_until;
    uint64_t chunk_end;     /* of the page of a chunk in which the last event ends ... */
    uint64_t chunk_seq;     /* ... and its number: those behind it have higher ones, or are old */
    uint64_t broken_letter; /* offset of the last one whose head is damaged; 0: none */
    uint64_t in_vain;       /* bytes */
    bool has_memory;
};

/* ---- what a candidate says of its size; 0: it is none ---- */

static size_t event_size(const unsigned char *bytes, size_t available)
{
    struct event_record head;

    if (available < sizeof(head))
        return 0;
    memcpy(&head, bytes, sizeof(head));
    if (head.magic != EVENT_MAGIC || head.version != EVENT_VERSION || head.size < sizeof(head))
        return 0;
    for (size_t i = 0; i < EVENT_FIELD_COUNT; i++) {
        if (head.fields[i].size > head.size ||
            head.fields[i].offset > head.size - head.fields[i].size)
            return 0;
    }
    return head.size;
}

static size_t letter_size(const unsigned char *bytes, size_t available)
{
    struct letter_head head;
    size_t prefix;
    size_t event;

    if (!letter_check(bytes, available, &head))
        return 0;
    prefix = letter_prefix_size(&head);
    event = event_size(bytes + prefix, available - prefix);
    return event ? prefix + event : 0;
}

static size_t marks_size(const unsigned char *bytes, size_t available)
{
    struct marks_head head;

    if (available < sizeof(head))
        return 0;
    memcpy(&head, bytes, sizeof(head));
    return sizeof(head) + (size_t)head.count * MARK_SIZE;
}

static size_t candidate_size(const unsigned char *bytes, size_t available, enum scan_kind *out_kind)
{
    uint32_t magic;

    if (available < sizeof(magic))
        return 0;
    memcpy(&magic, bytes, sizeof(magic));
    switch (magic) {
    case EVENT_MAGIC:
        *out_kind = SCAN_EVENT;
        return event_size(bytes, available);
    case LETTER_MAGIC:
        *out_kind = SCAN_LETTER;
        return letter_size(bytes, available);
    case CURSOR_MAGIC:
        *out_kind = SCAN_CURSOR;
        return sizeof(struct cursor_record);
    case STATE_MAGIC:
        *out_kind = SCAN_STATE;
        return sizeof(struct journal_state);
    case SECRET_MAGIC:
        *out_kind = SCAN_SECRET;
        return sizeof(struct secret_record);
    case MARKS_MAGIC:
        *out_kind = SCAN_MARKS;
        return marks_size(bytes, available);
    default:
        return 0;
    }
}

/* ---- whether it is sound ---- */

static bool is_event(struct scan *scan, const unsigned char *bytes, size_t size)
{
    struct error why = {0};
    struct event *event = event_from_record(bytes, size, &why);

    if (!event && why.kind == ERROR_FATAL)
        scan->has_memory = false;
    event_unref(event);
    return event != NULL;
}

static bool is_sound(struct scan *scan, enum scan_kind kind, const unsigned char *bytes,
                     size_t size)
{
    union {
        struct letter_head letter;
        struct cursor_record cursor;
        struct journal_state state;
        struct secret_record secret;
        struct marks_head marks;
    } copy;

    switch (kind) {
    case SCAN_EVENT:
        return is_event(scan, bytes, size);
    case SCAN_LETTER:
        return letter_check(bytes, size, &copy.letter) &&
               is_event(scan, bytes + letter_prefix_size(&copy.letter),
                        size - letter_prefix_size(&copy.letter));
    case SCAN_CURSOR:
        return cursor_check(bytes, size, &copy.cursor);
    case SCAN_STATE:
        return state_check(bytes, size, &copy.state);
    case SCAN_SECRET:
        return secret_check(bytes, size, &copy.secret);
    case SCAN_MARKS:
        return marks_check(bytes, size, &copy.marks);
    }
    return false;
}

/* The bytes of a candidate, from the window or read for it; NULL when they cannot be had. */
static const unsigned char *bytes_of(struct scan *scan, uint64_t offset, size_t size)
{
    const struct image_source *source = scan->image->source;
    size_t at = (size_t)(offset - scan->window_offset);
    unsigned char *bigger;

    if (size <= scan->window_size - at)
        return scan->window + at;
    if (size > source->size - offset)
        return NULL;
    if (size > scan->value_capacity) {
        bigger = realloc(scan->value, size);
        if (!bigger) {
            scan->has_memory = false;
            return NULL;
        }
        scan->value = bigger;
        scan->value_capacity = size;
    }
    return source->read(source->context, offset, scan->value, size) ? scan->value : NULL;
}

/* ---- pages ---- */

static uint64_t seq_of(struct text record)
{
    struct event_record head;

    memcpy(&head, record.data, sizeof(head));
    return head.seq;
}

static enum scan_rank rank_of(enum image_page page)
{
    return page == PAGE_FREE ? SCAN_STALE : page == PAGE_UNKNOWN ? SCAN_UNKNOWN : SCAN_CURRENT;
}

/* The end of the page of a long value in which `end` lies; `end` for others. */
static uint64_t end_of_page(const struct image *image, uint64_t page, uint64_t end)
{
    size_t rest = (size_t)(end % image->page_size);

    if (image->pages[page] != PAGE_LONG && image->pages[page] != PAGE_LONG_REST)
        return end;
    return rest ? end - rest + image->page_size : end;
}

/* Where to go on behind a value. What is left of the last page of a long one is old; behind an
 * event the others of its chunk come first. */
static void go_on_behind(struct scan *scan, uint64_t page, const struct scan_find *find)
{
    uint64_t end = find->offset + find->bytes.size;

    if (find->kind != SCAN_EVENT) {
        scan->skip_until =
            scan->image->pages[page] == PAGE_LONG ? end_of_page(scan->image, page, end) : end;
        return;
    }
    scan->skip_until = end;
    if (find->rank == SCAN_STALE)
        return;
    scan->chunk_end = end_of_page(scan->image, page, end);
    scan->chunk_seq = seq_of(find->bytes);
}

/* Looks at the candidate at `offset`, which lies in `page`. */
static void look_at(struct scan *scan, uint64_t page, uint64_t offset)
{
    size_t at = (size_t)(offset - scan->window_offset);
    struct scan_find find = {.offset = offset,
                             .rank = rank_of((enum image_page)scan->image->pages[page])};
    size_t size = candidate_size(scan->window + at, scan->window_size - at, &find.kind);
    const unsigned char *bytes = size ? bytes_of(scan, offset, size) : NULL;

    if (!size && find.kind == SCAN_LETTER)
        scan->broken_letter = offset;
    if (!size || size > scan->image->source->size - offset)
        return;
    if (!bytes || !is_sound(scan, find.kind, bytes, size)) {
        scan->in_vain += size;
        return;
    }
    find.bytes = (struct text){(const char *)bytes, size};
    if (find.kind == SCAN_EVENT && offset < scan->chunk_end &&
        seq_of(find.bytes) <= scan->chunk_seq)
        find.rank = SCAN_STALE;
    find.is_orphan = find.kind == SCAN_EVENT && scan->broken_letter &&
                     offset - scan->broken_letter <= LETTER_MAX;
    scan->broken_letter = 0;
    scan->found(scan->context, &find);
    go_on_behind(scan, page, &find);
}

static bool is_patient(const struct scan *scan)
{
    return scan->in_vain / PATIENCE <= scan->image->source->size;
}

/* Where in a page values may begin. */
static size_t first_in(const struct scan *scan, uint64_t page, const unsigned char *bytes)
{
    uint16_t upper;

    switch ((enum image_page)scan->image->pages[page]) {
    case PAGE_META:
    case PAGE_BRANCH:
        return scan->image->page_size;
    case PAGE_LEAF: /* below lies what was deleted */
        memcpy(&upper, bytes + 14, sizeof(upper));
        return upper;
    case PAGE_LONG:
        return LONG_HEAD;
    case PAGE_UNKNOWN:
    case PAGE_LONG_REST:
    case PAGE_FREE:
        break;
    }
    return 0;
}

static void scan_page(struct scan *scan, uint64_t page)
{
    uint64_t start = page * scan->image->page_size;
    const unsigned char *bytes = scan->window + (start - scan->window_offset);
    uint64_t end = start + scan->image->page_size;
    uint64_t read_end = scan->window_offset + scan->window_size;
    uint64_t offset = start + first_in(scan, page, bytes);

    if (end > read_end)
        end = read_end;

    while (is_patient(scan) && scan->has_memory) {
        const unsigned char *at;

        if (offset < scan->skip_until)
            offset = scan->skip_until;
        if (offset >= end)
            return;
        /* Both bytes are of every magic number; the second may lie behind the page. */
        at = memmem(bytes + (offset - start), end - offset + 1, "CB", 2);
        if (!at)
            return;
        offset = start + (uint64_t)(at - bytes);
        look_at(scan, page, offset);
        offset++;
    }
}

/* Reads what of a window can be read, page by page where it has to be: a bad sector is not all. */
static void read_window(struct scan *scan, uint64_t offset)
{
    const struct image_source *source = scan->image->source;
    size_t page_size = scan->image->page_size;
    size_t size = WINDOW + AHEAD;

    if (size > source->size - offset)
        size = (size_t)(source->size - offset);
    scan->window_offset = offset;
    scan->window_size = size;
    if (source->read(source->context, offset, scan->window, size))
        return;
    for (size_t at = 0; at < size; at += page_size) {
        size_t part = size - at < page_size ? size - at : page_size;

        if (!source->read(source->context, offset + at, scan->window + at, part))
            memset(scan->window + at, 0, part);
    }
}

int image_scan(const struct image *image,
               void (*found)(void *context, const struct scan_find *find), void *context,
               bool *out_is_whole, struct error *err)
{
    struct scan scan = {.image = image, .found = found, .context = context};
    uint64_t per_window = WINDOW / image->page_size;

    scan.window = malloc(WINDOW + AHEAD + 1); /* a byte more, so that memmem() may look at it */
    scan.has_memory = scan.window != NULL;
    for (uint64_t first = 0; scan.has_memory && first < image->page_count; first += per_window) {
        read_window(&scan, first * image->page_size);
        scan.window[scan.window_size] = 0;
        for (uint64_t page = first; page < first + per_window && page < image->page_count; page++)
            scan_page(&scan, page);
    }
    *out_is_whole = is_patient(&scan);
    free(scan.window);
    free(scan.value);
    return scan.has_memory ? 0 : error_set(err, ERROR_FATAL, "out of memory");
}
