#include "bridge/close/event_log.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "bridge/close/close_api.h"
#include "schemas/date.h"

enum {
    PAGE = 50,          /* Close refuses more */
    PAGE_DIVISOR = 5,   /* of a page that is too large to be read */
    MAX_PAGES = 100000, /* of one window */
    SLACK_MS = 1000,    /* what Close may round a bound by */
    PART_EVENTS = 2000, /* what is kept at once, but for the last page */
    PART_BYTES = 16 * 1024 * 1024,
    /* The same of one millisecond, which cannot be parted. */
    DENSE_EVENTS = 100000,
    DENSE_BYTES = 256 * 1024 * 1024,
};

struct log_reading {
    struct log_window window;
    unsigned page_limit;
    unsigned pages_read;
    char *cursor; /* NULL: the first page comes next */
    int64_t *stops;
    size_t stop_count;
    struct buf *pages;
    size_t page_count;
    size_t bytes;
    struct log_entry *entries; /* newest first until it is complete */
    size_t count;
    size_t capacity;
};

struct log_reading *event_log_begin(struct log_window window)
{
    struct log_reading *reading = alloc_zeroed(1, sizeof(*reading));

    reading->window = window;
    reading->page_limit = PAGE;
    return reading;
}

static void drop_pages(struct log_reading *reading)
{
    for (size_t i = 0; i < reading->page_count; i++)
        buf_release(&reading->pages[i]);
    free(reading->pages);
    reading->pages = NULL;
    reading->page_count = reading->bytes = reading->count = 0;
}

void event_log_end(struct log_reading *reading)
{
    if (!reading)
        return;
    drop_pages(reading);
    free(reading->stops);
    free(reading->entries);
    free(reading->cursor);
    free(reading);
}

static int64_t end_of(const struct log_reading *reading)
{
    return reading->stop_count ? reading->stops[reading->stop_count - 1] : reading->window.until_ms;
}

struct log_window event_log_window(const struct log_reading *reading)
{
    return (struct log_window){reading->window.since_ms, end_of(reading)};
}

const int64_t *event_log_stops(const struct log_reading *reading, size_t *out_count)
{
    *out_count = reading->stop_count;
    return reading->stops;
}

/* ---- the request ---- */

static void append_moment(struct buf *path, int64_t ms)
{
    const struct instant instant = {
        .seconds = ms / 1000, .nanoseconds = (uint32_t)(ms % 1000) * 1000000, .fraction_digits = 6};
    char date[DATE_MAX];

    buf_append(path, date, date_format(&instant, date));
}

static void append_escaped(struct buf *path, const char *value)
{
    for (const unsigned char *at = (const unsigned char *)value; *at; at++) {
        if ((*at >= '0' && *at <= '9') || (*at >= 'A' && *at <= 'Z') ||
            (*at >= 'a' && *at <= 'z') || strchr("-._~", *at))
            buf_append_char(path, (char)*at);
        else
            buf_printf(path, "%%%02X", *at);
    }
}

/* With a cursor, the bounds are the cursor's. */
static void format_path(const struct log_reading *reading, struct buf *path)
{
    buf_printf(path, "/event/?_limit=%u", reading->page_limit);
    if (reading->cursor) {
        buf_append_string(path, "&_cursor=");
        append_escaped(path, reading->cursor);
        return;
    }
    buf_append_string(path, "&date_updated__gte=");
    append_moment(path, reading->window.since_ms);
    buf_append_string(path, "&date_updated__lt=");
    append_moment(path, reading->window.until_ms);
}

/* ---- a page ---- */

static int refuse_outside(const struct log_reading *reading, int64_t date_ms, struct error *err)
{
    struct buf words = {0};

    append_moment(&words, date_ms);
    buf_append_string(&words, " when asked for ");
    append_moment(&words, reading->window.since_ms);
    buf_append_string(&words, " to ");
    append_moment(&words, reading->window.until_ms);
    error_set(err, ERROR_CONFIG,
              "Close answers with an event of %s: its Event Log does not select by date any more, "
              "or api_url is not Close's",
              buf_text(&words).data);
    buf_release(&words);
    return -1;
}

/*
 * Nothing older than the window can be in it. An event that changed meanwhile is newer than the
 * window, and comes in a later one; a page of nothing else means that the bounds were ignored.
 */
static int check_window(const struct log_reading *reading, const struct log_page *page,
                        struct error *err)
{
    size_t newer = 0;

    for (size_t i = 0; i < page->count; i++) {
        const struct log_entry *entry = &page->entries[i];

        if (entry->has_date && entry->date_ms < reading->window.since_ms - SLACK_MS)
            return refuse_outside(reading, entry->date_ms, err);
        newer += entry->has_date && entry->date_ms >= reading->window.until_ms + SLACK_MS;
    }
    return page->count > 0 && newer == page->count
               ? refuse_outside(reading, page->entries[0].date_ms, err)
               : 0;
}

static void keep_entries(struct log_reading *reading, const struct log_page *page)
{
    size_t needed = reading->count + page->count;

    if (needed > reading->capacity) {
        struct log_entry *grown = alloc_zeroed(2 * needed, sizeof(*grown));

        if (reading->count)
            memcpy(grown, reading->entries, reading->count * sizeof(*grown));
        free(reading->entries);
        reading->entries = grown;
        reading->capacity = 2 * needed;
    }
    for (size_t i = 0; i < page->count; i++) {
        const struct log_entry *entry = &page->entries[i];

        if (!entry->has_date || entry->date_ms < reading->window.until_ms + SLACK_MS)
            reading->entries[reading->count++] = *entry;
    }
}

/* Takes the body. */
static void keep_page(struct log_reading *reading, struct log_page *page, struct buf *body)
{
    struct buf *pages = alloc_zeroed(reading->page_count + 1, sizeof(*pages));

    if (reading->page_count)
        memcpy(pages, reading->pages, reading->page_count * sizeof(*pages));
    free(reading->pages);
    reading->pages = pages;
    reading->pages[reading->page_count++] = *body;
    reading->pages_read++;
    reading->bytes += body->size;
    *body = (struct buf){0};
    keep_entries(reading, page);
    free(reading->cursor);
    reading->cursor = page->cursor_next;
    page->cursor_next = NULL;
}

static int check_end(const struct log_reading *reading, const struct log_page *page,
                     struct error *err)
{
    bool is_same =
        page->cursor_next && reading->cursor && strcmp(page->cursor_next, reading->cursor) == 0;

    if (is_same || reading->pages_read == MAX_PAGES)
        return error_set(err, ERROR_CONFIG, "Close's Event Log does not end: check api_url");
    return 0;
}

static int take_page(struct log_reading *reading, struct buf *body, struct error *err)
{
    struct log_page page;
    int rc;

    if (event_log_page_parse(buf_text(body), &page, err) < 0)
        return -1;
    rc = check_window(reading, &page, err);
    if (rc == 0)
        rc = check_end(reading, &page, err);
    if (rc == 0)
        keep_page(reading, &page, body);
    event_log_page_release(&page);
    return rc;
}

/* ---- the order ---- */

/* What has no date stays with what came before it. */
static void date_all(struct log_reading *reading)
{
    for (size_t i = 1; i < reading->count; i++) {
        if (!reading->entries[i].has_date)
            reading->entries[i].date_ms = reading->entries[i - 1].date_ms;
    }
}

static int compare(const void *a, const void *b)
{
    const struct log_entry *x = *(const struct log_entry *const *)a;
    const struct log_entry *y = *(const struct log_entry *const *)b;

    if (x->date_ms != y->date_ms)
        return x->date_ms < y->date_ms ? -1 : 1;
    return x > y ? -1 : x < y; /* what came later is older */
}

static void put_oldest_first(struct log_reading *reading)
{
    size_t count = reading->count;
    const struct log_entry **order = alloc_zeroed(count + 1, sizeof(struct log_entry *));
    struct log_entry *sorted = alloc_zeroed(count + 1, sizeof(*sorted));

    date_all(reading);
    for (size_t i = 0; i < count; i++)
        order[i] = &reading->entries[i];
    qsort(order, count, sizeof(struct log_entry *), compare);
    for (size_t i = 0; i < count; i++)
        sorted[i] = *order[i];
    free(order);
    free(reading->entries);
    reading->entries = sorted;
    reading->capacity = count;
}

const struct log_entry *event_log_entries(const struct log_reading *reading, size_t *out_count)
{
    *out_count = reading->count;
    return reading->entries;
}

/* ---- parts ---- */

/* INT64_MAX without any that has a date. */
static int64_t oldest_ms(const struct log_reading *reading)
{
    for (size_t i = reading->count; i > 0; i--) {
        if (reading->entries[i - 1].has_date)
            return reading->entries[i - 1].date_ms;
    }
    return INT64_MAX;
}

static bool exceeds(const struct log_reading *reading, size_t max_events, size_t max_bytes)
{
    return reading->count > max_events || reading->bytes > max_bytes;
}

/* Passes over what was kept: it is a window of its own. */
static void stop_at(struct log_reading *reading, int64_t date_ms)
{
    int64_t *stops = alloc_zeroed(reading->stop_count + 1, sizeof(*stops));

    if (reading->stop_count)
        memcpy(stops, reading->stops, reading->stop_count * sizeof(*stops));
    stops[reading->stop_count++] = date_ms;
    free(reading->stops);
    reading->stops = stops;
    drop_pages(reading);
}

static enum log_progress make_room(struct log_reading *reading, struct error *err)
{
    int64_t date_ms = oldest_ms(reading);

    if (!exceeds(reading, PART_EVENTS, PART_BYTES))
        return LOG_HAS_MORE;
    if (date_ms < end_of(reading) && date_ms > reading->window.since_ms) {
        stop_at(reading, date_ms);
        return LOG_HAS_MORE;
    }
    if (!exceeds(reading, DENSE_EVENTS, DENSE_BYTES))
        return LOG_HAS_MORE;
    error_set(err, ERROR_CONFIG, "Close has more than %d events of one millisecond: check api_url",
              DENSE_EVENTS);
    return LOG_FAILED;
}

/* ---- reading ---- */

static enum log_progress after_failure(struct log_reading *reading,
                                       const struct close_answer *answer)
{
    if (answer->status == 400 && reading->cursor)
        return LOG_EXPIRED;
    if (answer->is_too_large && reading->page_limit > 1) {
        reading->page_limit /= PAGE_DIVISOR;
        reading->page_limit += reading->page_limit == 0;
        return LOG_HAS_MORE;
    }
    return LOG_FAILED;
}

static enum log_progress after_page(struct log_reading *reading, struct error *err)
{
    if (reading->cursor)
        return make_room(reading, err);
    put_oldest_first(reading);
    return LOG_COMPLETE;
}

enum log_progress event_log_next(struct log_reading *reading, struct close_api *api,
                                 struct close_access *access, struct error *err)
{
    struct close_answer answer = {0};
    struct buf path = {0};
    enum log_progress progress;

    format_path(reading, &path);
    if (path.failed) {
        error_set(err, ERROR_FATAL, "a request to Close's API: out of memory");
        progress = LOG_FAILED;
    } else if (close_api_ask(api, access, &(struct close_request){CLOSE_GET, path.data, {0}},
                             &answer, err) < 0) {
        progress = after_failure(reading, &answer);
    } else {
        progress =
            take_page(reading, &answer.body, err) < 0 ? LOG_FAILED : after_page(reading, err);
    }
    close_answer_release(&answer);
    buf_release(&path);
    return progress;
}

int event_log_probe(struct close_api *api, struct close_access *access, struct error *err)
{
    struct close_answer answer;
    struct log_page page;
    int rc = close_api_ask(api, access, &(struct close_request){CLOSE_GET, "/event/?_limit=1", {0}},
                           &answer, err);

    if (rc == 0)
        rc = event_log_page_parse(buf_text(&answer.body), &page, err);
    if (rc == 0)
        event_log_page_release(&page);
    close_answer_release(&answer);
    return rc;
}
