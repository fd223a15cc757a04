#include "bridge/close/event_log_page.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "schemas/envelope.h"
#include "schemas/json_compare.h"
#include "schemas/json_reader.h"
#include "schemas/json_scan.h"

enum { MAX_ENTRIES = 1000, MAX_CURSOR = 4096 };

/* A number may be larger than the parser takes, and still be JSON: the text is judged without. */
static enum json_verdict judge(struct text json)
{
    static const char padding[JSON_PADDING];
    struct json_reader *reader = json_reader_new();
    enum json_verdict verdict =
        reader ? json_reader_check(reader, json.data, json.size) : JSON_NO_MEMORY;
    struct buf blanked = {0};

    if (verdict == JSON_NUMBER_TOO_LARGE) {
        verdict = JSON_INVALID;
        if (json_blank_numbers(json, &blanked)) {
            buf_append(&blanked, padding, sizeof(padding));
            verdict = blanked.failed ? JSON_NO_MEMORY
                                     : json_reader_check(reader, blanked.data, json.size);
        }
    }
    buf_release(&blanked);
    json_reader_free(reader);
    return verdict;
}

static int check_json(struct text json, struct error *err)
{
    switch (judge(json)) {
    case JSON_VALID:
        return 0;
    case JSON_NO_MEMORY:
        return error_set(err, ERROR_FATAL, "a page of Close's Event Log: out of memory");
    case JSON_TOO_DEEP:
        return error_set(err, ERROR_CONFIG, "a page of Close's Event Log is nested deeper than %d",
                         JSON_MAX_DEPTH);
    case JSON_INVALID:
    case JSON_NUMBER_TOO_LARGE:
        break;
    }
    return error_set(err, ERROR_TRANSIENT,
                     "a page of Close's Event Log is not JSON: check api_url, and what stands "
                     "between here and Close");
}

static struct log_entry read_entry(struct text json)
{
    struct log_entry entry = {.json = json};
    struct text date = json_member(json, "date_updated");

    entry.has_date =
        json_is_string(date) && envelope_parse_date(json_string_inside(date), &entry.date_ms);
    entry.has_data = json_member(json, "data").data || json_member(json, "previous_data").data;
    return entry;
}

static int read_entries(struct text data, struct log_page *page, struct error *err)
{
    struct json_cursor cursor;
    struct text json;

    if (!json_array_begin(&cursor, data))
        return error_set(err, ERROR_CONFIG,
                         "the answer is no page of an Event Log, which Close's is: check api_url");
    page->entries = alloc_zeroed(MAX_ENTRIES, sizeof(*page->entries));
    while (json_array_next(&cursor, &json)) {
        if (page->count == MAX_ENTRIES)
            return error_set(err, ERROR_CONFIG,
                             "a page has more than %d events, which Close's has not: check api_url",
                             MAX_ENTRIES);
        page->entries[page->count++] = read_entry(json);
    }
    return 0;
}

static int read_cursor(struct text value, struct log_page *page, struct error *err)
{
    struct buf plain = {0};
    int rc = 0;

    if (!json_is_string(value))
        return 0; /* null, or absent: the last page */
    if (!json_unescape(json_string_inside(value), &plain) || plain.failed || plain.size == 0 ||
        plain.size > MAX_CURSOR || memchr(plain.data, '\0', plain.size))
        rc = error_set(err, ERROR_CONFIG,
                       "the cursor of a page is empty or longer than %d bytes, which Close's is "
                       "not: check api_url",
                       MAX_CURSOR);
    else
        page->cursor_next = alloc_string(plain.data);
    buf_release(&plain);
    return rc;
}

int event_log_page_parse(struct text json, struct log_page *out_page, struct error *err)
{
    struct log_page page = {0};
    struct text document;

    if (check_json(json, err) < 0)
        return -1;
    document = json_document(json);
    if (read_entries(json_member(document, "data"), &page, err) < 0 ||
        read_cursor(json_member(document, "cursor_next"), &page, err) < 0) {
        event_log_page_release(&page);
        return -1;
    }
    *out_page = page;
    return 0;
}

void event_log_page_release(struct log_page *page)
{
    free(page->entries);
    free(page->cursor_next);
    *page = (struct log_page){0};
}
