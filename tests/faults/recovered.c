#include "tests/faults/recovered.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "schemas/event.h"

enum { AT_ONCE = 256, BYTES_AT_ONCE = 64 << 20 };

static void *longer(void *list, size_t count, size_t more, size_t size)
{
    void *memory = realloc(list, (count + more) * size);

    if (!memory)
        abort();
    return memory;
}

static int read_events(struct recovered *recovered, struct error *err)
{
    uint64_t next = 0;
    int count;

    do {
        recovered->events =
            longer(recovered->events, recovered->event_count, AT_ONCE, sizeof(*recovered->events));
        count = journal_read(recovered->reader, next, AT_ONCE, BYTES_AT_ONCE,
                             recovered->events + recovered->event_count, err);
        if (count > 0) {
            recovered->event_count += (size_t)count;
            next = recovered->events[recovered->event_count - 1]->record->seq + 1;
        }
    } while (count > 0);
    return count;
}

static int read_dead(struct recovered *recovered, struct error *err)
{
    struct letter_query query = {.max_count = AT_ONCE, .max_bytes = BYTES_AT_ONCE};
    int count;

    do {
        recovered->dead =
            longer(recovered->dead, recovered->dead_count, AT_ONCE, sizeof(*recovered->dead));
        count = journal_read_dead(recovered->reader, &query,
                                  recovered->dead + recovered->dead_count, &query.after_id, err);
        if (count > 0)
            recovered->dead_count += (size_t)count;
    } while (count >= 0 && query.after_id != UINT64_MAX);
    return count < 0 ? -1 : 0;
}

static int read_topic(struct recovered *recovered, const char *publisher, const char *topic,
                      struct error *err)
{
    struct letter_query query = {.publisher = publisher,
                                 .topic = topic,
                                 .after_nth = UINT32_MAX,
                                 .max_count = AT_ONCE,
                                 .max_bytes = BYTES_AT_ONCE};
    int count;

    do {
        recovered->parked =
            longer(recovered->parked, recovered->parked_count, AT_ONCE, sizeof(*recovered->parked));
        count = journal_read_parked(recovered->reader, &query,
                                    recovered->parked + recovered->parked_count, err);
        if (count > 0) {
            recovered->parked_count += (size_t)count;
            query.after_id = recovered->parked[recovered->parked_count - 1].id;
            query.after_nth = recovered->parked[recovered->parked_count - 1].nth;
        }
    } while (count > 0);
    return count;
}

struct topics {
    char (*names)[2][1025]; /* publisher, topic */
    size_t count;
};

static void visit_topic(void *context, const char *publisher, const char *topic, uint64_t count,
                        int64_t first_ms, const char *reason)
{
    struct topics *topics = context;

    (void)count;
    (void)first_ms;
    (void)reason;
    topics->names = longer(topics->names, topics->count, 1, sizeof(*topics->names));
    strcpy(topics->names[topics->count][0], publisher);
    strcpy(topics->names[topics->count][1], topic);
    topics->count++;
}

static int read_parked(struct recovered *recovered, struct error *err)
{
    struct topics topics = {.count = 0};
    int rc = journal_visit_parked(recovered->reader, visit_topic, &topics, err);

    for (size_t i = 0; i < topics.count && rc == 0; i++)
        rc = read_topic(recovered, topics.names[i][0], topics.names[i][1], err);
    free(topics.names);
    return rc;
}

static void visit_cursor(void *context, const char *publisher, uint64_t seq)
{
    struct recovered *recovered = context;
    struct recovered_cursor *cursor = &recovered->cursors[recovered->cursor_count];

    if (recovered->cursor_count == sizeof(recovered->cursors) / sizeof(*recovered->cursors))
        return;
    recovered->cursor_count++;
    strncpy(cursor->publisher, publisher, sizeof(cursor->publisher) - 1);
    cursor->seq = seq;
}

int recovered_open(struct recovered *recovered, const struct journal_options *options,
                   struct error *err)
{
    *recovered = (struct recovered){.journal = NULL};
    recovered->journal = journal_open(options, &clock_system, err);
    if (!recovered->journal)
        return -1;
    recovered->reader = journal_reader_open(recovered->journal, err);
    if (!recovered->reader)
        return -1;
    journal_visit_cursors(recovered->journal, visit_cursor, recovered);
    if (read_events(recovered, err) < 0 || read_dead(recovered, err) < 0 ||
        read_parked(recovered, err) < 0)
        return -1;
    return 0;
}

static void release_letters(struct letter *letters, size_t count)
{
    for (size_t i = 0; i < count; i++)
        event_unref(letters[i].event);
    free(letters);
}

void recovered_release(struct recovered *recovered)
{
    for (size_t i = 0; i < recovered->event_count; i++)
        event_unref(recovered->events[i]);
    free(recovered->events);
    release_letters(recovered->parked, recovered->parked_count);
    release_letters(recovered->dead, recovered->dead_count);
    journal_reader_close(recovered->reader);
    journal_close(recovered->journal);
}

uint64_t recovered_cursor(const struct recovered *recovered, const char *publisher)
{
    for (size_t i = 0; i < recovered->cursor_count; i++) {
        if (strcmp(recovered->cursors[i].publisher, publisher) == 0)
            return recovered->cursors[i].seq;
    }
    return 0;
}
