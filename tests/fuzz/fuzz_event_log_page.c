/*
 * A page of Close's Event Log: what is taken for an entry lies in the page, is JSON by itself, and
 * becomes an event or is kept as it is.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/error.h"
#include "bridge/close/event_log_page.h"
#include "schemas/event.h"
#include "schemas/event_parser.h"
#include "schemas/json_reader.h"
#include "tests/fuzz/fuzz.h"

static void check_entry(struct text json, const struct log_entry *entry)
{
    struct event_parser *parser = event_parser_new(NULL);
    struct event_origin origin = {.account = text_of("main"), .flags = EVENT_FROM_LOG};
    struct error err = {0};
    struct event *event = event_parse_object(parser, &origin, entry->json, &err);

    MUST(entry->json.data >= json.data && entry->json.size > 0 &&
         entry->json.data + entry->json.size <= json.data + json.size);
    MUST(event || err.kind == ERROR_INPUT);
    MUST(event || strcmp(err.message, "the body is not JSON") != 0);
    event_unref(event);
    event_parser_free(parser);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *padded = fuzz_copy(data, size, JSON_PADDING);
    struct text json = {padded, size};
    struct log_page page;
    struct error err;

    if (event_log_page_parse(json, &page, &err) == 0) {
        MUST(!page.cursor_next || page.cursor_next[0]);
        for (size_t i = 0; i < page.count; i++)
            check_entry(json, &page.entries[i]);
        event_log_page_release(&page);
    }
    free(padded);
    return 0;
}
