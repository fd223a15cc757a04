#include "bridge/dispatcher/recent.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "bridge/base/alloc.h"
#include "schemas/event.h"

enum { MAX_EVENTS = 8192, MAX_BYTES = 6 * 1024 * 1024 };

struct recent {
    pthread_mutex_t lock;
    _Atomic uint64_t tail;
    struct event *events[MAX_EVENTS]; /* lock; at seq % MAX_EVENTS */
    uint64_t oldest;                  /* lock; oldest <= seq <= newest are kept */
    uint64_t newest;                  /* lock; oldest - 1 when empty */
    size_t bytes;                     /* lock */
};

struct recent *recent_new(uint64_t tail)
{
    struct recent *recent = alloc_zeroed(1, sizeof(*recent));

    pthread_mutex_init(&recent->lock, NULL);
    atomic_init(&recent->tail, tail);
    recent->oldest = tail + 1;
    recent->newest = tail;
    return recent;
}

/* lock held */
static void drop_oldest(struct recent *recent)
{
    struct event **place = &recent->events[recent->oldest % MAX_EVENTS];

    recent->bytes -= (*place)->record->size;
    event_unref(*place);
    *place = NULL;
    recent->oldest++;
}

void recent_free(struct recent *recent)
{
    if (!recent)
        return;
    while (recent->oldest <= recent->newest)
        drop_oldest(recent);
    pthread_mutex_destroy(&recent->lock);
    free(recent);
}

void recent_put(struct recent *recent, struct event *const *events, size_t count)
{
    if (count == 0)
        return;
    pthread_mutex_lock(&recent->lock);
    for (size_t i = 0; i < count; i++) {
        uint64_t seq = events[i]->record->seq;

        while (recent->oldest <= recent->newest &&
               (recent->newest - recent->oldest + 1 >= MAX_EVENTS || recent->bytes >= MAX_BYTES ||
                seq != recent->newest + 1))
            drop_oldest(recent);
        if (recent->oldest > recent->newest)
            recent->oldest = seq;
        recent->newest = seq;
        recent->events[seq % MAX_EVENTS] = event_ref(events[i]);
        recent->bytes += events[i]->record->size;
    }
    atomic_store(&recent->tail, recent->newest);
    pthread_mutex_unlock(&recent->lock);
}

uint64_t recent_tail(const struct recent *recent)
{
    return atomic_load(&recent->tail);
}

struct event *recent_get(struct recent *recent, uint64_t seq)
{
    struct event *event = NULL;

    pthread_mutex_lock(&recent->lock);
    if (seq >= recent->oldest && seq <= recent->newest)
        event = event_ref(recent->events[seq % MAX_EVENTS]);
    pthread_mutex_unlock(&recent->lock);
    return event;
}

void recent_release_before(struct recent *recent, uint64_t seq)
{
    pthread_mutex_lock(&recent->lock);
    while (recent->oldest <= recent->newest && recent->oldest < seq)
        drop_oldest(recent);
    pthread_mutex_unlock(&recent->lock);
}
