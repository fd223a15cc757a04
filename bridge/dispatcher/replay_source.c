#include "bridge/dispatcher/replay_source.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "bridge/base/alloc.h"
#include "bridge/base/thread.h"
#include "bridge/config/topic_map.h"
#include "bridge/journal/journal.h"
#include "schemas/event.h"

enum {
    SLICE_BYTES = 1024 * 1024,
    ROUNDS = 16, /* reads without an event that passes, before progress is shown */
};

struct replay_source {
    struct journal_reader *reader;
    pthread_t thread;
    bool has_thread;
    atomic_bool is_stopping;
    struct wakeup wakeup;
    struct mailbox asked;
    struct mailbox done;
};

static bool passes(const struct replay_filter *filter, const struct event *event)
{
    int64_t received_ms = event->record->received_ms;

    if (received_ms < filter->since_ms || received_ms >= filter->until_ms)
        return false;
    if (filter->account[0] && !text_equal_string(event_text(event, EVENT_ACCOUNT), filter->account))
        return false;
    return !filter->object_type[0] ||
           topic_map_type_matches(filter->object_type, event_text(event, EVENT_OBJECT_TYPE));
}

/* Numbers without an event, when they lie within the time that is asked for. */
static void count_missing(struct replay_slice *slice, uint64_t count, int64_t next_ms)
{
    if (next_ms >= slice->filter->since_ms && slice->newest_ms < slice->filter->until_ms)
        slice->missing += count;
}

/* Keeps the event, or lets it go. */
static void look_at(struct replay_slice *slice, struct event *event)
{
    int64_t received_ms = event->record->received_ms;

    count_missing(slice, event->record->seq - slice->next, received_ms);
    slice->next = event->record->seq + 1;
    slice->newest_ms = received_ms;
    slice->read++;
    if (passes(slice->filter, event))
        slice->events[slice->count++] = event;
    else
        event_unref(event);
}

/* One read. True when the slice should be read on. */
static bool read_some(struct replay_source *source, struct replay_slice *slice)
{
    struct event *events[REPLAY_SLICE];
    int count =
        journal_read(source->reader, slice->next, REPLAY_SLICE, SLICE_BYTES, events, &slice->err);
    uint64_t reached;

    if (count < 0) {
        slice->has_failed = true;
        return false;
    }
    reached = count > 0 ? events[count - 1]->record->seq : slice->last;
    for (int i = 0; i < count; i++) {
        if (events[i]->record->seq <= slice->last)
            look_at(slice, events[i]);
        else
            event_unref(events[i]);
    }
    if (reached >= slice->last) {
        count_missing(slice, slice->last + 1 - slice->next, slice->filter->until_ms - 1);
        slice->next = slice->last + 1;
    }
    return slice->count == 0 && slice->next <= slice->last;
}

static void read_slice(struct replay_source *source, struct replay_slice *slice)
{
    for (int i = 0; i < ROUNDS && !atomic_load(&source->is_stopping); i++) {
        if (!read_some(source, slice))
            return;
    }
}

static void *run(void *argument)
{
    struct replay_source *source = argument;

    while (!atomic_load(&source->is_stopping)) {
        struct mailbox_node *node = mailbox_take(&source->asked);

        while (node) {
            struct replay_slice *slice = container_of(node, struct replay_slice, node);

            node = node->next;
            read_slice(source, slice);
            mailbox_push(&source->done, &slice->node);
        }
        wakeup_wait(&source->wakeup, -1);
    }
    return NULL;
}

struct replay_source *replay_source_open(struct journal *journal, struct wakeup *wakeup,
                                         struct error *err)
{
    struct replay_source *source = alloc_zeroed(1, sizeof(*source));

    source->wakeup.fd = -1;
    source->reader = journal_reader_open(journal, err);
    if (source->reader && wakeup_init(&source->wakeup, err) == 0) {
        mailbox_init(&source->asked, &source->wakeup);
        mailbox_init(&source->done, wakeup);
        if (thread_start(&source->thread, "replay", run, source, err) == 0) {
            source->has_thread = true;
            return source;
        }
    }
    replay_source_close(source);
    return NULL;
}

void replay_source_stop(struct replay_source *source)
{
    if (!source || !source->has_thread)
        return;
    atomic_store(&source->is_stopping, true);
    wakeup_signal(&source->wakeup);
    pthread_join(source->thread, NULL);
    source->has_thread = false;
}

void replay_source_close(struct replay_source *source)
{
    if (!source)
        return;
    replay_source_stop(source);
    journal_reader_close(source->reader);
    wakeup_release(&source->wakeup);
    free(source);
}

void replay_source_ask(struct replay_source *source, struct replay_slice *slice)
{
    slice->count = 0;
    slice->read = 0;
    slice->missing = 0;
    slice->has_failed = false;
    mailbox_push(&source->asked, &slice->node);
}

struct mailbox_node *replay_source_take(struct replay_source *source)
{
    return mailbox_take(&source->done);
}

void replay_slice_clear(struct replay_slice *slice)
{
    for (size_t i = 0; i < slice->count; i++)
        event_unref(slice->events[i]);
    slice->count = 0;
}
