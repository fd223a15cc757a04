/*
 * Any bytes as the journal's file: reading its pages and looking for its values ends, stays inside
 * the bytes, and gives only values that are sound; what is decided of them holds together.
 *
 * The corpus has journals with everything that a journal holds, whole, cut and damaged.
 */
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/error.h"
#include "bridge/journal/journal_image.h"
#include "bridge/journal/journal_plan.h"
#include "bridge/journal/journal_records.h"
#include "bridge/journal/journal_scan.h"
#include "schemas/event.h"
#include "tests/fuzz/fuzz.h"

static bool read_bytes(void *context, uint64_t offset, void *to, size_t size)
{
    const struct image_source *source = context;

    MUST(offset <= source->size && size <= source->size - offset);
    memcpy(to, (const uint8_t *)source[1].context + offset, size);
    return offset % 7919 != 1; /* some places cannot be read */
}

static enum image_want wants(void *context, enum store_db db, struct text key)
{
    const struct image_source *source = context;

    MUST(db < STORE_DB_COUNT);
    return (enum image_want)((source->size + (size_t)db + key.size) % 3);
}

static bool look_at_row(void *context, enum store_db db, struct text key, struct text value)
{
    (void)context;
    MUST(db < STORE_DB_COUNT);
    for (size_t i = 0; i < key.size; i++)
        MUST(key.data[i] >= CHAR_MIN);
    return value.size == 0 || value.data[value.size - 1] != 'x';
}

static void check_event(struct text bytes)
{
    struct event *event = event_from_record(bytes.data, bytes.size, NULL);

    MUST(event);
    event_unref(event);
}

static void check_find(void *context, const struct scan_find *find)
{
    const struct image *image = context;
    struct letter_view view;

    MUST(find->offset <= image->source->size &&
         find->bytes.size <= image->source->size - find->offset);
    if (find->kind == SCAN_EVENT)
        check_event(find->bytes);
    if (find->kind != SCAN_LETTER)
        return;
    MUST(letter_view(find->bytes.data, find->bytes.size, &view));
    check_event(view.record);
}

static void check_plan(const struct image *image)
{
    struct plan plan;
    bool seen_extra = false;

    MUST(plan_make(&plan, image, NULL) == 0);
    for (size_t i = 0; i < plan.event_count; i++) {
        const struct plan_event *event = &plan.events[i];

        seen_extra = seen_extra || event->is_extra;
        MUST(seen_extra == event->is_extra); /* those come last */
        if (event->is_extra)
            continue;
        MUST(event->seq > 0 && (i == 0 || event->seq > plan.events[i - 1].seq));
        MUST(event->seq < plan.state.next_seq);
    }
    for (size_t i = 0; i < plan.letter_count; i++)
        MUST(plan.letters[i].id < plan.state.next_dead);
    plan_release(&plan);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct image_source source[2] = {{.size = size, .read = read_bytes},
                                     {.context = (void *)(uintptr_t)data}};
    struct image_rows rows = {.context = source, .wants = wants, .row = look_at_row};
    struct image image;
    bool is_whole;

    source[0].context = source;
    MUST(image_read(&image, source, &rows, NULL) == 0);
    MUST(image_scan(&image, check_find, &image, &is_whole, NULL) == 0);
    check_plan(&image);
    image_release(&image);
    return 0;
}
