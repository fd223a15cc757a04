#include "bridge/dedupe.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <xxhash.h>

#include "bridge/base/error.h"
#include "schemas/event.h"

enum { MAX_PART = 256 };

/* Words of 32 bits, so that a mark has no padding. */
struct mark {
    uint32_t identity[4];
    uint32_t content[2];
    uint32_t time_s;
};

/*
 * Marks lie in a ring in order of arrival, which is the order in which they expire. The index is a
 * hash table of places in the ring, open addressing with linear probing; what is removed is closed
 * up, so that there are no tombstones.
 */
struct dedupe {
    uint32_t max;
    uint32_t window_s;
    struct mark *ring;
    uint32_t *index; /* place in the ring plus one; 0: empty */
    uint32_t mask;   /* size of the index minus one */
    uint64_t first;  /* marks [first, last) are in the ring, modulo max */
    uint64_t last;
    bool has_given_way;   /* a mark left before its time */
    uint32_t given_way_s; /* the time of the newest such mark */
};

/* Appends a part and its end to what identifies an event; a part that is too long goes in as its
 * hash. */
static void append_part(unsigned char *key, size_t *size, struct text part)
{
    uint64_t hash;

    if (part.size > MAX_PART) {
        hash = XXH3_64bits(part.data, part.size);
        part = (struct text){(const char *)&hash, sizeof(hash)};
    }
    memcpy(key + *size, part.data, part.size);
    *size += part.size;
    key[(*size)++] = '\0';
}

void dedupe_identify(const unsigned char *secret, struct event *event)
{
    struct text object = event_text(event, EVENT_OBJECT);
    unsigned char key[3 * (MAX_PART + 1)];
    XXH128_canonical_t canonical;
    size_t size = 0;

    append_part(key, &size, event_text(event, EVENT_ACCOUNT));
    append_part(key, &size, event_text(event, EVENT_ID));
    append_part(key, &size, event_text(event, EVENT_DATE_UPDATED));
    XXH128_canonicalFromHash(&canonical,
                             XXH3_128bits_withSecret(key, size, secret, DEDUPE_SECRET_SIZE));
    memcpy(event->identity, canonical.digest, sizeof(event->identity));
    event->content = XXH3_64bits(object.data, object.size);
    event->has_identity = true;
}

/* Pages are taken as they are touched. */
static void *reserve(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

struct dedupe *dedupe_new(uint32_t max_marks, uint32_t window_s, struct error *err)
{
    struct dedupe *dedupe = calloc(1, sizeof(*dedupe));
    uint32_t size = 16;

    if (!dedupe)
        goto fail;
    while (size < max_marks + max_marks / 2)
        size *= 2;
    dedupe->max = max_marks;
    dedupe->window_s = window_s;
    dedupe->mask = size - 1;
    dedupe->ring = reserve(max_marks * sizeof(*dedupe->ring));
    dedupe->index = reserve(size * sizeof(*dedupe->index));
    if (dedupe->ring && dedupe->index)
        return dedupe;
fail:
    error_set(err, ERROR_FATAL, "no memory for %u dedupe marks: lower dedupe_max", max_marks);
    dedupe_free(dedupe);
    return NULL;
}

void dedupe_free(struct dedupe *dedupe)
{
    if (!dedupe)
        return;
    if (dedupe->ring)
        munmap(dedupe->ring, dedupe->max * sizeof(*dedupe->ring));
    if (dedupe->index)
        munmap(dedupe->index, (dedupe->mask + (size_t)1) * sizeof(*dedupe->index));
    free(dedupe);
}

static struct mark *mark_at(const struct dedupe *dedupe, uint32_t entry)
{
    return &dedupe->ring[entry - 1];
}

static uint32_t home_of(const struct dedupe *dedupe, const struct mark *mark)
{
    return mark->identity[0] & dedupe->mask;
}

static bool is_current(const struct dedupe *dedupe, const struct mark *mark, uint32_t now_s)
{
    return now_s - mark->time_s <= dedupe->window_s;
}

enum dedupe_answer dedupe_find(const struct dedupe *dedupe, const unsigned char *identity,
                               uint64_t content, uint32_t now_s)
{
    enum dedupe_answer answer = DEDUPE_NEW;
    uint32_t first_word;
    uint32_t slot;

    memcpy(&first_word, identity, sizeof(first_word));
    for (slot = first_word & dedupe->mask; dedupe->index[slot]; slot = (slot + 1) & dedupe->mask) {
        const struct mark *mark = mark_at(dedupe, dedupe->index[slot]);

        if (memcmp(mark->identity, identity, DEDUPE_IDENTITY_SIZE) != 0 ||
            !is_current(dedupe, mark, now_s))
            continue;
        if (memcmp(mark->content, &content, sizeof(content)) == 0)
            return DEDUPE_DUPLICATE;
        answer = DEDUPE_CONFLICT;
    }
    return answer;
}

/* Closes the gap at `slot`: what comes behind moves up unless that would put it before its home. */
static void close_gap(struct dedupe *dedupe, uint32_t slot)
{
    uint32_t next = slot;

    for (;;) {
        uint32_t home;

        next = (next + 1) & dedupe->mask;
        if (!dedupe->index[next])
            break;
        home = home_of(dedupe, mark_at(dedupe, dedupe->index[next]));
        if (((next - home) & dedupe->mask) < ((next - slot) & dedupe->mask))
            continue;
        dedupe->index[slot] = dedupe->index[next];
        slot = next;
    }
    dedupe->index[slot] = 0;
}

static void remove_oldest(struct dedupe *dedupe)
{
    uint32_t entry = (uint32_t)(dedupe->first % dedupe->max) + 1;
    uint32_t slot = home_of(dedupe, mark_at(dedupe, entry));

    while (dedupe->index[slot] != entry)
        slot = (slot + 1) & dedupe->mask;
    close_gap(dedupe, slot);
    dedupe->first++;
}

void dedupe_expire(struct dedupe *dedupe, uint32_t now_s)
{
    while (dedupe->first < dedupe->last &&
           !is_current(dedupe, &dedupe->ring[dedupe->first % dedupe->max], now_s))
        remove_oldest(dedupe);
}

void dedupe_add(struct dedupe *dedupe, const unsigned char *identity, uint64_t content,
                uint32_t now_s)
{
    struct mark *mark;
    uint32_t slot;

    dedupe_expire(dedupe, now_s);
    if (dedupe->last - dedupe->first == dedupe->max) {
        dedupe->has_given_way = true;
        dedupe->given_way_s = dedupe->ring[dedupe->first % dedupe->max].time_s;
        remove_oldest(dedupe);
    }
    mark = &dedupe->ring[dedupe->last % dedupe->max];
    memcpy(mark->identity, identity, sizeof(mark->identity));
    memcpy(mark->content, &content, sizeof(mark->content));
    mark->time_s = now_s;
    slot = home_of(dedupe, mark);
    while (dedupe->index[slot])
        slot = (slot + 1) & dedupe->mask;
    dedupe->index[slot] = (uint32_t)(dedupe->last % dedupe->max) + 1;
    dedupe->last++;
}

void dedupe_clear(struct dedupe *dedupe)
{
    while (dedupe->first < dedupe->last)
        remove_oldest(dedupe);
}

size_t dedupe_count(const struct dedupe *dedupe)
{
    return (size_t)(dedupe->last - dedupe->first);
}

uint32_t dedupe_reach_s(const struct dedupe *dedupe, uint32_t now_s)
{
    uint32_t reach_s = now_s - dedupe->given_way_s;

    return dedupe->has_given_way && reach_s < dedupe->window_s ? reach_s : dedupe->window_s;
}
