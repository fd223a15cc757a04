#include "bridge/dispatcher/outcomes.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"

enum { CAPACITY = 2 * 1024 * 1024 }; /* some 30,000 records */

/* Then the topic, padded so that the next one is aligned. */
struct entry {
    uint64_t seq;
    int64_t at_ms;
    int64_t offset;
    int32_t partition;
    uint32_t topic_size;
};

/*
 * A ring of entries of different sizes. None crosses the end: `wrap` is where the last one before
 * it ends. Kept are first..wrap and 0..next, or, before the ring is full, 0..next.
 */
struct outcomes {
    pthread_mutex_t lock;
    size_t first;                     /* lock: lock; the oldest */
    size_t next;                      /* lock: lock; where the next one goes */
    size_t wrap;                      /* lock: lock; 0: not gone round yet */
    _Alignas(8) char bytes[CAPACITY]; /* lock: lock */
};

struct outcomes *outcomes_new(void)
{
    struct outcomes *outcomes = alloc_zeroed(1, sizeof(*outcomes));

    pthread_mutex_init(&outcomes->lock, NULL);
    return outcomes;
}

void outcomes_free(struct outcomes *outcomes)
{
    if (!outcomes)
        return;
    pthread_mutex_destroy(&outcomes->lock);
    free(outcomes);
}

static size_t size_of(uint32_t topic_size)
{
    return sizeof(struct entry) + (topic_size + 7u) / 8 * 8;
}

static struct entry entry_at(const char *bytes, size_t at)
{
    struct entry entry;

    memcpy(&entry, bytes + at, sizeof(entry));
    return entry;
}

/* Gives up what stands in the way of `size` bytes at `next`. lock held */
static void make_room(struct outcomes *outcomes, size_t size)
{
    if (outcomes->next + size > CAPACITY) {
        outcomes->wrap = outcomes->next;
        outcomes->next = 0;
        outcomes->first = 0;
    }
    while (outcomes->wrap && outcomes->first < outcomes->next + size) {
        outcomes->first += size_of(entry_at(outcomes->bytes, outcomes->first).topic_size);
        if (outcomes->first >= outcomes->wrap)
            outcomes->first = outcomes->wrap = 0;
    }
}

void outcomes_add(struct outcomes *outcomes, const struct outcome *outcome)
{
    struct entry entry = {outcome->seq, outcome->at_ms, outcome->offset, outcome->partition,
                          (uint32_t)outcome->topic.size};
    size_t size = size_of(entry.topic_size);

    if (size > CAPACITY / 4)
        return;
    pthread_mutex_lock(&outcomes->lock);
    make_room(outcomes, size);
    memcpy(outcomes->bytes + outcomes->next, &entry, sizeof(entry));
    memcpy(outcomes->bytes + outcomes->next + sizeof(entry), outcome->topic.data,
           outcome->topic.size);
    outcomes->next += size;
    pthread_mutex_unlock(&outcomes->lock);
}

static void visit_part(const char *bytes, size_t from, size_t to,
                       void (*visit)(void *context, const struct outcome *outcome), void *context)
{
    while (from < to) {
        struct entry entry = entry_at(bytes, from);

        visit(context, &(struct outcome){entry.seq,
                                         entry.at_ms,
                                         entry.offset,
                                         entry.partition,
                                         {bytes + from + sizeof(entry), entry.topic_size}});
        from += size_of(entry.topic_size);
    }
}

void outcomes_visit(struct outcomes *outcomes,
                    void (*visit)(void *context, const struct outcome *outcome), void *context)
{
    struct outcomes *copy = alloc_zeroed(1, sizeof(*copy)); /* so that nobody waits for visits */

    pthread_mutex_lock(&outcomes->lock);
    copy->first = outcomes->first;
    copy->next = outcomes->next;
    copy->wrap = outcomes->wrap;
    memcpy(copy->bytes, outcomes->bytes, outcomes->wrap ? outcomes->wrap : outcomes->next);
    pthread_mutex_unlock(&outcomes->lock);
    if (copy->wrap)
        visit_part(copy->bytes, copy->first, copy->wrap, visit, context);
    visit_part(copy->bytes, 0, copy->next, visit, context);
    free(copy);
}
