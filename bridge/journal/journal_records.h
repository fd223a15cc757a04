/*
 * What the journal stores beside events, byte for byte. Every value begins with a magic number and
 * carries a checksum over what follows it, as event records do (schemas/event.h), so that a value
 * is known for what it is wherever in a damaged file it lies, and a wrong cursor is never believed.
 *
 * Pure functions over bytes: any thread. Values lie unaligned in the store, so they are copied out.
 */
#ifndef BRIDGE_JOURNAL_JOURNAL_RECORDS_H
#define BRIDGE_JOURNAL_JOURNAL_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/text.h"
#include "bridge/journal/dedupe.h"
#include "bridge/journal/identity.h"

enum {
    JOURNAL_FORMAT = 4,
    PUBLISHER_SIZE = 64, /* with its terminator */
    TOPIC_SIZE = 1025,
    REASON_SIZE = 64,

    STATE_MAGIC = 0x31534243,  /* CBS1 */
    SECRET_MAGIC = 0x314b4243, /* CBK1 */
    CURSOR_MAGIC = 0x31434243, /* CBC1 */
    MARKS_MAGIC = 0x314d4243,  /* CBM1 */
    LETTER_MAGIC = 0x314c4243, /* CBL1 */

    /* Salvaged without all cursors: a publisher that has none begins with the oldest event. */
    STATE_CURSORS_UNKNOWN = 1,
};

/* Stored in every commit. */
struct journal_state {
    uint32_t magic;
    uint32_t format;
    uint64_t checksum;
    uint64_t commits;    /* counts the commits */
    uint64_t next_seq;   /* of the next event */
    uint64_t next_dead;  /* id of the next dead letter */
    uint64_t next_batch; /* number of the next batch of marks */
    uint32_t age_s;      /* the journal's clock */
    uint32_t evicted;    /* see dedupe_evicted() */
    uint32_t flags;
    uint32_t unused;
};

struct secret_record {
    uint32_t magic;
    uint32_t unused;
    uint64_t checksum;
    unsigned char secret[IDENTITY_SECRET_SIZE];
};

struct cursor_record {
    uint32_t magic;
    uint32_t unused;
    uint64_t checksum;
    uint64_t seq;
    char publisher[PUBLISHER_SIZE]; /* padded with zeros */
};

/* Then `count` marks of MARK_SIZE bytes: identity, content and place. */
struct marks_head {
    uint32_t magic;
    uint32_t age_s; /* of all of them */
    uint32_t count;
    uint32_t checksum; /* the lower half of XXH3 over the marks, seeded with age_s and count */
};

enum { MARK_SIZE = DEDUPE_IDENTITY_SIZE + 8 + 4 };

/* Then publisher, topic and reason, then a copy of the event's record. */
struct letter_head {
    uint32_t magic;
    uint32_t nth;
    uint64_t checksum; /* of the rest of the head and the texts; the event's record has its own */
    int64_t first_ms;
    int64_t last_ms;
    uint64_t seq;
    uint64_t id; /* of a dead letter; 0: a parked record */
    uint16_t publisher_size;
    uint16_t topic_size;
    uint16_t reason_size;
    uint16_t unused;
};

/* Each fills in magic and checksum ... */
void state_seal(struct journal_state *state);
void secret_seal(struct secret_record *record);
void cursor_seal(struct cursor_record *record);
void marks_seal(void *value, uint32_t age_s, uint32_t count); /* the marks are there already */
void letter_seal(void *value, struct letter_head head);       /* the texts are there already */

/* ... and each says whether the `size` bytes begin with a sound value, of which it gives a copy. */
bool state_check(const void *bytes, size_t size, struct journal_state *out_state);
bool secret_check(const void *bytes, size_t size, struct secret_record *out_record);
bool cursor_check(const void *bytes, size_t size, struct cursor_record *out_record);
bool marks_check(const void *bytes, size_t size, struct marks_head *out_head);
bool letter_check(const void *bytes, size_t size, struct letter_head *out_head);

/*
 * A cursor whose name begins with @ pins no events. @first.NAME says which event was the newest
 * when the publisher NAME was added; without one it has been there as long as the events, or was
 * added by a version that did not say so. The others count dead letters.
 */
bool cursor_pins_events(const char *name);
bool cursor_is_of_letters(const char *name);
void cursor_name_first(const char *publisher, char out_name[PUBLISHER_SIZE]);

/* The i-th mark behind a head, read and written; its age is the head's. */
struct dedupe_mark marks_at(const void *value, uint32_t i);
void marks_put(void *value, uint32_t i, const struct dedupe_mark *mark);

/* Bytes before the event's record. */
size_t letter_prefix_size(const struct letter_head *head);

/* A letter as it lies in the store: the texts and the event's record point into it. */
struct letter_view {
    struct letter_head head;
    struct text publisher;
    struct text topic;
    struct text reason;
    struct text record; /* not checked */
};

/* False when the letter is damaged before its event's record. */
bool letter_view(const void *bytes, size_t size, struct letter_view *out_view);

#endif
