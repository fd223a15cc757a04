/*
 * Two event objects, the first ended by a NUL: each says the same as itself, and what the first
 * says of the second, the second says of the first.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "schemas/event.h"
#include "schemas/event_content.h"
#include "schemas/event_parser.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    struct event_origin origin = {.flags = EVENT_FROM_LOG};
    struct text texts[2] = {{(const char *)data, nul ? (size_t)(nul - data) : size}, {"", 0}};
    struct event_parser *parser = event_parser_new(NULL);
    struct event *events[2];

    MUST(parser);
    if (nul)
        texts[1] = (struct text){(const char *)nul + 1, size - texts[0].size - 1};
    for (int i = 0; i < 2; i++) {
        events[i] = event_parse_object(parser, &origin, texts[i], NULL);
        MUST(!events[i] || event_content_equal(events[i], events[i]));
    }
    if (events[0] && events[1])
        MUST(event_content_equal(events[0], events[1]) ==
             event_content_equal(events[1], events[0]));
    event_unref(events[0]);
    event_unref(events[1]);
    event_parser_free(parser);
    return 0;
}
