#include "bridge/journal/journal_plan.h"

#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "bridge/base/error.h"
#include "schemas/event.h"

/* What is found, in arrays that grow. */
struct gathering {
    struct plan *plan;
    size_t event_capacity;
    size_t letter_capacity;
    size_t marks_capacity;
    uint8_t state_rank;
    bool has_memory;
};

/* Room for one more; NULL without memory. */
static void *grow(struct gathering *gathering, void *items, size_t count, size_t *capacity,
                  size_t size)
{
    void *bigger;

    if (count < *capacity)
        return items;
    bigger = realloc(items, (*capacity ? *capacity * 2 : 1024) * size);
    if (!bigger) {
        gathering->has_memory = false;
        return items;
    }
    *capacity = *capacity ? *capacity * 2 : 1024;
    return bigger;
}

/* ---- gathering ---- */

static void gather_event(struct gathering *gathering, const struct scan_find *find)
{
    struct plan *plan = gathering->plan;
    struct event_record head;
    bool is_extra;

    memcpy(&head, find->bytes.data, sizeof(head));
    is_extra = find->is_orphan || head.seq == 0;
    if (is_extra && find->rank == SCAN_STALE)
        return;
    plan->events = grow(gathering, plan->events, plan->event_count, &gathering->event_capacity,
                        sizeof(*plan->events));
    if (!gathering->has_memory)
        return;
    plan->events[plan->event_count++] = (struct plan_event){.seq = head.seq,
                                                            .offset = find->offset,
                                                            .received_ms = head.received_ms,
                                                            .checksum = (uint32_t)head.checksum,
                                                            .size = head.size,
                                                            .age_s = head.journal_age,
                                                            .rank = (uint8_t)find->rank,
                                                            .is_extra = is_extra};
}

static void gather_letter(struct gathering *gathering, const struct scan_find *find)
{
    struct plan *plan = gathering->plan;
    struct letter_view view;

    if (find->rank == SCAN_STALE || !letter_view(find->bytes.data, find->bytes.size, &view))
        return;
    plan->letters = grow(gathering, plan->letters, plan->letter_count, &gathering->letter_capacity,
                         sizeof(*plan->letters));
    if (!gathering->has_memory)
        return;
    plan->letters[plan->letter_count++] = (struct plan_letter){
        .id = view.head.id,
        .seq = view.head.seq,
        .place = XXH3_64bits(view.publisher.data, view.publisher.size + view.topic.size),
        .offset = find->offset,
        .last_ms = view.head.last_ms,
        .size = (uint32_t)find->bytes.size,
        .nth = view.head.nth,
        .rank = (uint8_t)find->rank};
}

static void gather_marks(struct gathering *gathering, const struct scan_find *find)
{
    struct plan *plan = gathering->plan;
    struct marks_head head;

    if (find->rank == SCAN_STALE)
        return;
    plan->marks = grow(gathering, plan->marks, plan->mark_batches, &gathering->marks_capacity,
                       sizeof(*plan->marks));
    if (!gathering->has_memory)
        return;
    memcpy(&head, find->bytes.data, sizeof(head));
    plan->marks[plan->mark_batches++] = (struct plan_marks){.offset = find->offset,
                                                            .size = (uint32_t)find->bytes.size,
                                                            .age_s = head.age_s,
                                                            .count = head.count};
}

/* Cursors only grow: of several versions the highest is true, and a lower one costs duplicates. */
static void gather_cursor(struct plan *plan, const struct scan_find *find)
{
    struct cursor_record record;
    struct cursor_record *known = plan->cursors;

    if (plan->image->is_known[STORE_CURSORS] && find->rank != SCAN_CURRENT)
        return;
    cursor_check(find->bytes.data, find->bytes.size, &record);
    while (known < plan->cursors + plan->cursor_count &&
           strcmp(known->publisher, record.publisher) != 0)
        known++;
    if (known == plan->cursors + PLAN_CURSORS)
        return;
    if (known == plan->cursors + plan->cursor_count)
        plan->cursor_count++;
    else if (known->seq >= record.seq)
        return;
    *known = record;
}

static void gather_state(struct gathering *gathering, const struct scan_find *find)
{
    struct plan *plan = gathering->plan;
    struct journal_state state;

    if (!state_check(find->bytes.data, find->bytes.size, &state) ||
        state.format != JOURNAL_FORMAT ||
        (plan->has_state &&
         (find->rank < gathering->state_rank ||
          (find->rank == gathering->state_rank && state.commits <= plan->state.commits))))
        return;
    plan->state = state;
    plan->has_state = true;
    plan->is_state_current = find->rank == SCAN_CURRENT && plan->image->is_known[STORE_META] &&
                             image_is_newest(plan->image);
    gathering->state_rank = (uint8_t)find->rank;
}

static void gather(void *context, const struct scan_find *find)
{
    struct gathering *gathering = context;
    struct plan *plan = gathering->plan;

    switch (find->kind) {
    case SCAN_EVENT:
        gather_event(gathering, find);
        return;
    case SCAN_LETTER:
        gather_letter(gathering, find);
        return;
    case SCAN_CURSOR:
        gather_cursor(plan, find);
        return;
    case SCAN_STATE:
        gather_state(gathering, find);
        return;
    case SCAN_SECRET:
        plan->has_secret = secret_check(find->bytes.data, find->bytes.size, &plan->secret);
        return;
    case SCAN_MARKS:
        gather_marks(gathering, find);
        return;
    }
}

/* ---- deciding ---- */

static void sort(void *items, size_t count, size_t size, int (*order)(const void *, const void *))
{
    if (count) /* else there is no array */
        qsort(items, count, size, order);
}

static void decide_cursors(struct plan *plan)
{
    uint64_t minimum = UINT64_MAX;

    for (size_t i = 0; i < plan->cursor_count; i++) {
        if (cursor_pins_events(plan->cursors[i].publisher) && plan->cursors[i].seq < minimum)
            minimum = plan->cursors[i].seq;
    }
    plan->settled = plan->image->is_known[STORE_CURSORS] && minimum != UINT64_MAX ? minimum : 0;
}

static int by_seq(const void *a, const void *b)
{
    const struct plan_event *left = a;
    const struct plan_event *right = b;

    if (left->is_extra != right->is_extra)
        return left->is_extra ? 1 : -1;
    if (left->seq != right->seq)
        return left->seq > right->seq ? 1 : -1;
    if (left->rank != right->rank)
        return left->rank < right->rank ? 1 : -1;
    return (left->checksum > right->checksum) - (left->checksum < right->checksum);
}

/* What was not part of a commit was not answered 2xx. */
static bool was_accepted(const struct plan *plan, const struct plan_event *event)
{
    return !plan->is_state_current || event->seq < plan->state.next_seq;
}

/* Whether `event`, of which there is another with the same number, is kept under a new one. */
static bool is_worth_a_number(const struct plan *plan, const struct plan_event *event,
                              const struct plan_event *first)
{
    return event->checksum != first->checksum &&
           (event->rank != SCAN_STALE || event->seq > plan->settled);
}

/*
 * One event for each number. What is deleted and was delivered is not kept; what cannot be told
 * from another by its number gets a new one.
 */
static void decide_events(struct plan *plan)
{
    size_t kept = 0;
    const struct plan_event *first = NULL;

    sort(plan->events, plan->event_count, sizeof(*plan->events), by_seq);
    for (size_t i = 0; i < plan->event_count; i++) {
        struct plan_event *event = &plan->events[i];
        bool is_again = !event->is_extra && first && event->seq == first->seq;

        if (is_again && !is_worth_a_number(plan, event, first))
            continue;
        if (!event->is_extra && event->rank == SCAN_STALE && event->seq <= plan->settled)
            continue;
        if (!event->is_extra && !was_accepted(plan, event))
            continue;
        event->is_extra = event->is_extra || is_again;
        plan->events[kept] = *event;
        if (!event->is_extra)
            first = &plan->events[kept];
        kept++;
    }
    plan->event_count = kept;
    sort(plan->events, plan->event_count, sizeof(*plan->events), by_seq);
}

/* Between `before` and `after`, either of which may be missing, numbers are. */
static void count_lost(struct plan *plan, uint64_t count, const struct plan_event *before,
                       const struct plan_event *after)
{
    if (count == 0)
        return;
    if (plan->lost == 0) {
        plan->lost_since_ms = before ? before->received_ms : 0;
        plan->marked_until_s = before ? before->age_s : 0;
    }
    plan->lost += count;
    plan->lost_until_ms = after ? after->received_ms : 0;
}

static void decide_lost(struct plan *plan)
{
    const struct plan_event *before = NULL;
    uint64_t next = plan->settled + 1;
    bool is_start_known = plan->image->is_known[STORE_CURSORS];

    plan->marked_until_s = UINT32_MAX;
    for (size_t i = 0; i < plan->event_count && !plan->events[i].is_extra; i++) {
        const struct plan_event *event = &plan->events[i];

        if (event->seq >= next && (before || is_start_known))
            count_lost(plan, event->seq - next, before, event);
        if (event->seq >= next)
            next = event->seq + 1;
        before = event;
    }
    if (plan->has_state && plan->state.next_seq > next && (before || is_start_known))
        count_lost(plan, plan->state.next_seq - next, before, NULL);
}

static int by_place(const void *a, const void *b)
{
    const struct plan_letter *left = a;
    const struct plan_letter *right = b;

    if (left->id != right->id)
        return left->id > right->id ? 1 : -1;
    if (left->place != right->place)
        return left->place > right->place ? 1 : -1;
    if (left->seq != right->seq)
        return left->seq > right->seq ? 1 : -1;
    if (left->nth != right->nth)
        return left->nth > right->nth ? 1 : -1;
    if (left->rank != right->rank)
        return left->rank < right->rank ? 1 : -1;
    return (left->last_ms < right->last_ms) - (left->last_ms > right->last_ms);
}

static bool is_same_letter(const struct plan_letter *a, const struct plan_letter *b)
{
    if (a->id || b->id)
        return a->id == b->id;
    return a->place == b->place && a->seq == b->seq && a->nth == b->nth;
}

static void decide_letters(struct plan *plan)
{
    size_t kept = 0;

    sort(plan->letters, plan->letter_count, sizeof(*plan->letters), by_place);
    for (size_t i = 0; i < plan->letter_count; i++) {
        if (kept == 0 || !is_same_letter(&plan->letters[kept - 1], &plan->letters[i]))
            plan->letters[kept++] = plan->letters[i];
    }
    plan->letter_count = kept;
}

static int by_age(const void *a, const void *b)
{
    const struct plan_marks *left = a;
    const struct plan_marks *right = b;

    if (left->age_s != right->age_s)
        return left->age_s > right->age_s ? 1 : -1;
    return (left->offset > right->offset) - (left->offset < right->offset);
}

static void decide_marks(struct plan *plan)
{
    size_t kept = 0;

    sort(plan->marks, plan->mark_batches, sizeof(*plan->marks), by_age);
    while (plan->has_secret && kept < plan->mark_batches &&
           plan->marks[kept].age_s < plan->marked_until_s)
        kept++;
    plan->mark_batches = kept;
}

static void raise(uint64_t *number, uint64_t least)
{
    if (*number < least)
        *number = least;
}

/* The numbers from which a journal goes on that holds all this. */
static void decide_state(struct plan *plan)
{
    struct journal_state *state = &plan->state;

    if (!plan->has_state)
        *state = (struct journal_state){.next_seq = 1, .next_dead = 1, .next_batch = 1};
    state->format = JOURNAL_FORMAT;
    state->flags = plan->image->is_known[STORE_CURSORS] ? 0 : STATE_CURSORS_UNKNOWN;
    for (size_t i = 0; i < plan->event_count; i++) {
        if (!plan->events[i].is_extra)
            raise(&state->next_seq, plan->events[i].seq + 1);
        if (state->age_s < plan->events[i].age_s)
            state->age_s = plan->events[i].age_s;
    }
    for (size_t i = 0; i < plan->cursor_count; i++)
        raise(cursor_is_of_letters(plan->cursors[i].publisher) ? &state->next_dead
                                                               : &state->next_seq,
              plan->cursors[i].seq + 1);
    for (size_t i = 0; i < plan->letter_count; i++) {
        raise(&state->next_dead, plan->letters[i].id + 1);
        raise(&state->next_seq, plan->letters[i].seq + 1);
    }
}

int plan_make(struct plan *plan, const struct image *image, struct error *err)
{
    struct gathering gathering = {.plan = plan, .has_memory = true};

    *plan = (struct plan){.image = image};
    if (image_scan(image, gather, &gathering, &plan->is_whole, err) < 0)
        return -1;
    if (!gathering.has_memory)
        return error_set(err, ERROR_FATAL, "out of memory");
    decide_cursors(plan);
    decide_events(plan);
    decide_lost(plan);
    decide_letters(plan);
    decide_marks(plan);
    decide_state(plan);
    return 0;
}

void plan_release(struct plan *plan)
{
    free(plan->events);
    free(plan->letters);
    free(plan->marks);
}

bool plan_is_empty(const struct plan *plan)
{
    return !plan->has_state && plan->event_count == 0 && plan->letter_count == 0 &&
           plan->cursor_count == 0;
}
