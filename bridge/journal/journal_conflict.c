#include <string.h>

#include "bridge/journal/journal_internal.h"
#include "schemas/event.h"
#include "schemas/event_content.h"

/*
 * Deliveries whose id and date are known, with other bytes.
 *
 * Two webhooks that differ are two events, as far as anyone can say: both are published. But the
 * Event Log may spell what a webhook brought in another way, so when one of the two comes from
 * there, they are compared by what they say (event_content.h) with the copy that the journal keeps.
 * That costs only such deliveries something (10 us for 2 KB). A hash of the meaning, kept with
 * every mark, would cost every webhook 5 us, a quarter of its whole way, and could not pass over
 * members that one of the two lacks.
 *
 * An event of the log whose first copy was delivered and deleted since is taken for a duplicate:
 * Close moves date_updated when it changes an event, so id and date are trusted then, and counted.
 * The other way round, a webhook is published: it is never lost on trust.
 */

enum { MAX_VERSIONS = 8 }; /* of one id and date that are looked at */

enum finding {
    IS_SAME,
    IS_OTHER,   /* or cannot be read: what may be lost is published again */
    IS_DELETED, /* delivered, and its retention is over */
};

/* From the lower half of a number to all of it. */
static uint64_t number_of(const struct journal *journal, const struct batch *batch, uint32_t place)
{
    uint64_t newest = journal->durable.state.next_seq - 1 + batch->event_count;

    return newest - (uint32_t)((uint32_t)newest - place);
}

static bool is_same(const struct event *a, const struct event *b)
{
    bool is_from_log = event_has(a, EVENT_FROM_LOG) || event_has(b, EVENT_FROM_LOG);

    return is_from_log && memcmp(a->identity, b->identity, sizeof(a->identity)) == 0 &&
           event_content_equal(a, b);
}

static enum finding compare_stored(struct journal *journal, uint64_t seq, const struct event *event)
{
    struct journal_reader reader = {journal};
    struct event *stored = NULL;
    enum finding finding = IS_OTHER;

    if (seq < journal->durable.head_seq)
        return IS_DELETED;
    if (journal_read(&reader, seq, 1, 0, &stored, NULL) != 1)
        return IS_OTHER;
    journal->intake.identify(&journal->intake, stored);
    if (stored->record->seq == seq && is_same(stored, event))
        finding = IS_SAME;
    event_unref(stored);
    return finding;
}

enum dedupe_verdict conflict_look_closer(struct journal *journal, const struct batch *batch,
                                         const struct event *event, const struct dedupe_mark *mark)
{
    uint32_t places[MAX_VERSIONS];
    size_t count = dedupe_places(journal->dedupe, mark, places, MAX_VERSIONS);
    uint64_t next_seq = journal->durable.state.next_seq;
    bool is_any_deleted = false;

    for (size_t i = 0; i < count; i++) {
        uint64_t seq = number_of(journal, batch, places[i]);
        bool is_pending = seq >= next_seq;
        enum finding finding;

        if (is_pending)
            finding = is_same(batch->events[seq - next_seq], event) ? IS_SAME : IS_OTHER;
        else
            finding = compare_stored(journal, seq, event);
        is_any_deleted = is_any_deleted || finding == IS_DELETED;
        if (finding != IS_SAME)
            continue;
        atomic_fetch_add(&journal->respelled, 1);
        return is_pending ? DEDUPE_PENDING : DEDUPE_SEEN;
    }
    if (!is_any_deleted || !event_has(event, EVENT_FROM_LOG))
        return DEDUPE_CONFLICT;
    atomic_fetch_add(&journal->trusted, 1);
    return DEDUPE_SEEN;
}
