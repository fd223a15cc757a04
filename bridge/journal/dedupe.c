#include "bridge/journal/dedupe.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bridge/base/error.h"

enum { EXPIRE_STEP = 16384, FIRST_INDEX_SIZE = 64 };

struct slot {
    unsigned char identity[DEDUPE_IDENTITY_SIZE];
    uint64_t content;
    uint32_t place;
    uint32_t age_s;
};

/*
 * A ring of slots in the order of arrival, and an open-addressing index of ring positions (plus
 * one; 0 is empty) with linear probing. The identity is a keyed hash already.
 *
 * Both are mapped for as many marks as there can be. Of the index, which is touched everywhere, as
 * much is used as the marks need: each of its pages costs memory from the first touch on.
 */
struct dedupe {
    struct slot *ring;
    uint32_t *index;
    uint32_t ring_size;
    uint32_t index_size; /* as mapped */
    uint32_t index_mask; /* of what is used */
    uint32_t capacity;
    uint32_t window_s;
    uint32_t now_s; /* the newest time seen */
    uint32_t evicted;
    uint64_t oldest;  /* number of the oldest mark kept; numbers count up from 0 */
    uint64_t pending; /* number of the first pending mark */
    uint64_t next;    /* number of the next mark */
    uint64_t skipped;
};

static void *map_lazily(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

static uint32_t index_size_for(uint64_t marks)
{
    uint64_t size = FIRST_INDEX_SIZE;

    while (size < 2 * marks && size < (UINT64_C(1) << 31))
        size *= 2;
    return (uint32_t)size;
}

struct dedupe *dedupe_new(uint32_t capacity, uint32_t pending_max, uint32_t window_s,
                          struct error *err)
{
    struct dedupe *dedupe = calloc(1, sizeof(*dedupe));

    if (!dedupe) {
        error_set(err, ERROR_FATAL, "out of memory");
        return NULL;
    }
    dedupe->capacity = capacity;
    dedupe->window_s = window_s;
    dedupe->ring_size = capacity + pending_max;
    dedupe->index_size = index_size_for((uint64_t)capacity + pending_max);
    dedupe->index_mask = FIRST_INDEX_SIZE - 1;
    dedupe->ring = map_lazily(dedupe->ring_size * sizeof(*dedupe->ring));
    dedupe->index = map_lazily(dedupe->index_size * sizeof(*dedupe->index));
    if (!dedupe->ring || !dedupe->index) {
        error_set(err, ERROR_FATAL, "no memory for %u dedupe marks: %s", capacity, strerror(errno));
        dedupe_free(dedupe);
        return NULL;
    }
    return dedupe;
}

void dedupe_free(struct dedupe *dedupe)
{
    if (!dedupe)
        return;
    if (dedupe->ring)
        munmap(dedupe->ring, dedupe->ring_size * sizeof(*dedupe->ring));
    if (dedupe->index)
        munmap(dedupe->index, dedupe->index_size * sizeof(*dedupe->index));
    free(dedupe);
}

static uint32_t home_of(const struct dedupe *dedupe, const unsigned char *identity)
{
    uint32_t hash;

    memcpy(&hash, identity, sizeof(hash));
    return hash & dedupe->index_mask;
}

static uint32_t position_of(const struct dedupe *dedupe, uint64_t number)
{
    return (uint32_t)(number % dedupe->ring_size);
}

static bool is_pending(const struct dedupe *dedupe, uint32_t position)
{
    uint32_t first = position_of(dedupe, dedupe->oldest);
    uint32_t offset = position >= first ? position - first : position + dedupe->ring_size - first;

    return dedupe->oldest + offset >= dedupe->pending;
}

static bool is_expired(const struct dedupe *dedupe, uint32_t age_s, uint32_t now_s)
{
    return now_s > age_s && now_s - age_s > dedupe->window_s;
}

/* True when the slot is one that counts for the mark. */
static bool is_of(const struct dedupe *dedupe, const struct slot *slot,
                  const struct dedupe_mark *mark)
{
    return memcmp(slot->identity, mark->identity, sizeof(slot->identity)) == 0 &&
           !is_expired(dedupe, slot->age_s, mark->age_s);
}

enum dedupe_verdict dedupe_find(const struct dedupe *dedupe, const struct dedupe_mark *mark)
{
    enum dedupe_verdict verdict = DEDUPE_NEW;
    uint32_t i = home_of(dedupe, mark->identity);

    for (; dedupe->index[i]; i = (i + 1) & dedupe->index_mask) {
        uint32_t position = dedupe->index[i] - 1;
        const struct slot *slot = &dedupe->ring[position];

        if (!is_of(dedupe, slot, mark))
            continue;
        if (slot->content == mark->content)
            return is_pending(dedupe, position) ? DEDUPE_PENDING : DEDUPE_SEEN;
        verdict = DEDUPE_CONFLICT;
    }
    return verdict;
}

size_t dedupe_places(const struct dedupe *dedupe, const struct dedupe_mark *mark,
                     uint32_t *out_places, size_t max)
{
    uint32_t i = home_of(dedupe, mark->identity);
    size_t count = 0;

    for (; dedupe->index[i] && count < max; i = (i + 1) & dedupe->index_mask) {
        const struct slot *slot = &dedupe->ring[dedupe->index[i] - 1];

        if (is_of(dedupe, slot, mark))
            out_places[count++] = slot->place;
    }
    return count;
}

static void add_to_index(struct dedupe *dedupe, uint32_t position)
{
    uint32_t i = home_of(dedupe, dedupe->ring[position].identity);

    while (dedupe->index[i])
        i = (i + 1) & dedupe->index_mask;
    dedupe->index[i] = position + 1;
}

/* At half full: some 50 ms for a million marks, and so seldom that it does not matter. */
static void double_index(struct dedupe *dedupe)
{
    uint32_t size = dedupe->index_mask + 1;

    memset(dedupe->index, 0, size * sizeof(*dedupe->index));
    dedupe->index_mask = 2 * size - 1;
    for (uint64_t number = dedupe->oldest; number < dedupe->next; number++)
        add_to_index(dedupe, position_of(dedupe, number));
}

void dedupe_add(struct dedupe *dedupe, const struct dedupe_mark *mark)
{
    uint32_t position = position_of(dedupe, dedupe->next);
    struct slot *slot = &dedupe->ring[position];
    uint32_t used = dedupe->index_mask + 1;

    if (dedupe->next - dedupe->oldest >= used / 2 && used < dedupe->index_size)
        double_index(dedupe);
    memcpy(slot->identity, mark->identity, sizeof(slot->identity));
    slot->content = mark->content;
    slot->place = mark->place;
    slot->age_s = mark->age_s;
    add_to_index(dedupe, position);
    dedupe->next++;
}

/* Closes the gap at `gap` by moving back what probed past it. */
static void close_gap(struct dedupe *dedupe, uint32_t gap)
{
    uint32_t mask = dedupe->index_mask;

    for (uint32_t i = (gap + 1) & mask; dedupe->index[i]; i = (i + 1) & mask) {
        uint32_t home = home_of(dedupe, dedupe->ring[dedupe->index[i] - 1].identity);

        if (((i - home) & mask) < ((i - gap) & mask))
            continue; /* its home lies behind the gap */
        dedupe->index[gap] = dedupe->index[i];
        gap = i;
    }
    dedupe->index[gap] = 0;
}

static void remove_from_index(struct dedupe *dedupe, uint32_t position)
{
    uint32_t i = home_of(dedupe, dedupe->ring[position].identity);

    while (dedupe->index[i] != position + 1)
        i = (i + 1) & dedupe->index_mask;
    close_gap(dedupe, i);
}

static void forget_oldest(struct dedupe *dedupe)
{
    remove_from_index(dedupe, position_of(dedupe, dedupe->oldest));
    dedupe->oldest++;
}

void dedupe_confirm(struct dedupe *dedupe)
{
    dedupe->pending = dedupe->next;
    while (dedupe->next - dedupe->oldest > dedupe->capacity) {
        uint32_t age_s = dedupe->ring[position_of(dedupe, dedupe->oldest)].age_s;

        if (!is_expired(dedupe, age_s, dedupe->now_s))
            dedupe->evicted = age_s + 1;
        forget_oldest(dedupe);
    }
}

void dedupe_take_back(struct dedupe *dedupe)
{
    while (dedupe->next > dedupe->pending)
        remove_from_index(dedupe, position_of(dedupe, --dedupe->next));
}

void dedupe_expire(struct dedupe *dedupe, uint32_t now_s)
{
    dedupe->now_s = now_s;
    for (int i = 0; i < EXPIRE_STEP && dedupe->oldest < dedupe->pending; i++) {
        if (!is_expired(dedupe, dedupe->ring[position_of(dedupe, dedupe->oldest)].age_s, now_s))
            return;
        forget_oldest(dedupe);
    }
}

void dedupe_skip(struct dedupe *dedupe, uint64_t count)
{
    dedupe->skipped += count;
}

uint64_t dedupe_forgotten(const struct dedupe *dedupe)
{
    return dedupe->oldest + dedupe->skipped;
}

size_t dedupe_count(const struct dedupe *dedupe)
{
    return (size_t)(dedupe->pending - dedupe->oldest);
}

uint32_t dedupe_evicted(const struct dedupe *dedupe)
{
    return dedupe->evicted;
}

void dedupe_set_evicted(struct dedupe *dedupe, uint32_t evicted)
{
    dedupe->evicted = evicted;
}

void dedupe_set_window(struct dedupe *dedupe, uint32_t window_s, uint32_t now_s)
{
    uint32_t forgotten = now_s > dedupe->window_s ? now_s - dedupe->window_s : 0;

    if (window_s > dedupe->window_s && forgotten > dedupe->evicted)
        dedupe->evicted = forgotten;
    dedupe->window_s = window_s;
}

uint32_t dedupe_window_s(const struct dedupe *dedupe, uint32_t now_s)
{
    uint32_t since;

    if (!dedupe->evicted)
        return dedupe->window_s;
    since = now_s >= dedupe->evicted ? now_s - dedupe->evicted + 1 : 0;
    return since < dedupe->window_s ? since : dedupe->window_s;
}
