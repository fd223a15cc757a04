#include "bridge/control/event_search.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/buf.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/config/config.h"
#include "bridge/dispatcher/outcomes.h"
#include "bridge/journal/journal_records.h"
#include "schemas/event.h"

enum {
    ROWS = 1000, /* looked at in one transaction */
    AT_ONCE = 8, /* events in memory: they may have large bodies */
    EVENTS_MS = 3000,
    LETTERS_MS = 2000,
    DAY_MS = 24 * 3600 * 1000,
};

static const char *const publisher_names[PUBLISHER_COUNT] = {"kafka", "mqtt"};

/* What is said of an event, and what is known of its records. */
struct found {
    uint64_t seq;
    struct buf members;              /* JSON, up to the publishers */
    bool is_routed[PUBLISHER_COUNT]; /* by the map in force */
    struct buf records[PUBLISHER_COUNT];
    size_t parked[PUBLISHER_COUNT];
    size_t dead[PUBLISHER_COUNT];
};

struct run {
    const struct event_search *search;
    struct router *router;
    struct found *found; /* by seq, the largest first */
    size_t count;
    size_t capacity;
    uint64_t first[PUBLISHER_COUNT]; /* the newest event before the publisher was added */
    int64_t oldest_ms;               /* received: no letter of what was found is older */
    int64_t deadline_ms;
    bool is_complete;
};

static bool is_over(struct run *run)
{
    const struct event_search *search = run->search;

    if (clock_monotonic_ms(search->clock) < run->deadline_ms &&
        !(search->is_cancelled && search->is_cancelled(search->context)))
        return false;
    run->is_complete = false;
    return true;
}

/* ---- what is found ---- */

static void append_time(struct buf *json, const char *name, int64_t wall_ms)
{
    buf_printf(json, ",\"%s\":\"", name);
    buf_append_utc(json, wall_ms);
    buf_append_char(json, '"');
}

static void append_members(const struct run *run, struct event *event, bool is_kept,
                           struct buf *json)
{
    static const struct {
        const char *name;
        enum event_field field;
    } members[] = {{"account", EVENT_ACCOUNT},          {"id", EVENT_ID},
                   {"object_type", EVENT_OBJECT_TYPE},  {"action", EVENT_ACTION},
                   {"object_id", EVENT_OBJECT_ID},      {"lead_id", EVENT_LEAD_ID},
                   {"date_updated", EVENT_DATE_UPDATED}};

    buf_printf(json, "{\"seq\":%" PRIu64, event->record->seq);
    append_time(json, "received", event->record->received_ms);
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        struct text value = event_text(event, members[i].field);

        if (value.size == 0)
            continue;
        buf_printf(json, ",\"%s\":", members[i].name);
        buf_append_json_string(json, value);
    }
    buf_printf(json, ",\"origin\":\"%s\",\"duplicates\":%u,\"in_journal\":%s",
               event_has(event, EVENT_FROM_LOG) ? "event_log" : "webhook",
               journal_duplicates(run->search->journal, event), is_kept ? "true" : "false");
}

/* Takes the event; its body is not kept. `is_kept`: it is in the journal, else only letters have
 * it. */
static struct found *add(struct run *run, struct event *event, bool is_kept)
{
    struct found *found = &run->found[run->count++];
    const struct route *routes;

    *found = (struct found){.seq = event->record->seq};
    append_members(run, event, is_kept, &found->members);
    for (int p = 0; p < PUBLISHER_COUNT; p++)
        found->is_routed[p] =
            router_route(run->router, event, (enum publisher_index)p, &routes) > 0;
    if (event->record->received_ms < run->oldest_ms)
        run->oldest_ms = event->record->received_ms;
    event_unref(event);
    return found;
}

static struct found *find(struct run *run, uint64_t seq)
{
    for (size_t i = 0; i < run->count; i++) {
        if (run->found[i].seq == seq)
            return &run->found[i];
    }
    return NULL;
}

static int newest_first(const void *a, const void *b)
{
    uint64_t left = ((const struct found *)a)->seq;
    uint64_t right = ((const struct found *)b)->seq;

    return (left < right) - (left > right);
}

static int search_events(struct run *run, uint64_t *before, struct error *err)
{
    const struct event_search *search = run->search;
    struct event *events[AT_ONCE];
    int count = 0;

    while (count >= 0 && *before > 1 && run->count < search->limit && !is_over(run)) {
        size_t left = search->limit - run->count;

        count = journal_search(search->reader, &search->query, before, ROWS,
                               left < AT_ONCE ? left : AT_ONCE, events, err);
        for (int i = 0; i < count; i++)
            add(run, events[i], true);
    }
    return count < 0 ? -1 : 0;
}

/* ---- records ---- */

static void begin_record(struct buf *records, const char *state, struct text topic)
{
    buf_append_string(records, records->size ? "," : "");
    buf_printf(records, "{\"state\":\"%s\",\"topic\":", state);
    buf_append_json_string(records, topic);
}

struct outcome_visit {
    struct run *run;
    int publisher;
};

static void visit_outcome(void *context, const struct outcome *outcome)
{
    const struct outcome_visit *visit = context;
    struct found *found = find(visit->run, outcome->seq);
    struct buf *records;

    if (!found)
        return;
    records = &found->records[visit->publisher];
    begin_record(records, "delivered", outcome->topic);
    if (outcome->partition >= 0)
        buf_printf(records, ",\"partition\":%" PRId32, outcome->partition);
    if (outcome->offset >= 0)
        buf_printf(records, ",\"offset\":%" PRId64, outcome->offset);
    append_time(records, "time", outcome->at_ms);
    buf_append_char(records, '}');
}

static void find_outcomes(struct run *run)
{
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        struct outcome_visit visit = {run, p};

        if (run->search->outcomes[p] && run->count)
            outcomes_visit(run->search->outcomes[p], visit_outcome, &visit);
    }
}

/* The letter's event, when it is one that is looked for and not in the journal any more. */
static struct found *add_from_letter(struct run *run, const struct letter_view *letter)
{
    const struct event_query *query = &run->search->query;
    struct event *event;

    if ((!query->id && !query->lead_id && !query->object_type) || run->count == run->capacity ||
        letter->head.seq >= run->search->before || !event_query_matches(query, letter->record))
        return NULL;
    event = event_from_record(letter->record.data, letter->record.size, NULL);
    return event ? add(run, event, false) : NULL;
}

static int publisher_of(const struct letter_view *letter)
{
    int p = 0;

    while (p < PUBLISHER_COUNT && !text_equal_string(letter->publisher, publisher_names[p]))
        p++;
    return p;
}

static void add_letter(struct run *run, const struct letter_view *letter)
{
    int p = publisher_of(letter);
    struct found *found;
    struct buf *records;

    if (p == PUBLISHER_COUNT)
        return;
    found = find(run, letter->head.seq);
    if (!found)
        found = add_from_letter(run, letter);
    if (!found)
        return;
    records = &found->records[p];
    begin_record(records, letter->head.id ? "dead" : "parked", letter->topic);
    buf_append_string(records, ",\"reason\":");
    buf_append_json_string(records, letter->reason);
    if (letter->head.id)
        buf_printf(records, ",\"dead_letter\":%" PRIu64, letter->head.id);
    append_time(records, "since", letter->head.first_ms);
    append_time(records, "time", letter->head.last_ms);
    buf_append_char(records, '}');
    if (letter->head.id)
        found->dead[p]++;
    else
        found->parked[p]++;
}

static bool visit_parked(void *context, const struct letter_view *letter)
{
    add_letter(context, letter);
    return true;
}

/* From the newest back: what was last touched before the oldest event that was found came is of
 * none of them, nor are those before it. */
static bool visit_dead(void *context, const struct letter_view *letter)
{
    struct run *run = context;
    const struct event_query *query = &run->search->query;
    bool looks_further = query->id || query->lead_id || query->object_type;

    add_letter(run, letter);
    return looks_further || letter->head.last_ms >= run->oldest_ms - DAY_MS;
}

static int search_letters(struct run *run, enum letter_list list, struct error *err)
{
    struct letter_walk walk = {.key_size = 0};
    int more = 1;

    run->deadline_ms = clock_monotonic_ms(run->search->clock) + LETTERS_MS;
    while (more > 0 && !is_over(run))
        more = journal_walk_letters(run->search->reader, list, &walk, ROWS,
                                    list == LETTERS_DEAD ? visit_dead : visit_parked, run, err);
    return more < 0 ? -1 : 0;
}

/* ---- as JSON ---- */

static const char *state_of(const struct run *run, const struct found *found, int p)
{
    const struct event_search *search = run->search;

    if (found->seq > search->settled[p])
        return "pending";
    if (found->dead[p])
        return "dead";
    if (found->parked[p])
        return "parked";
    if (found->records[p].size)
        return "delivered";
    if (!found->is_routed[p] || found->seq <= run->first[p])
        return "none";
    /* One that may lose may have given it up. */
    return (p == PUBLISHER_KAFKA ? search->config->kafka : search->config->mqtt).overflow ==
                   OVERFLOW_DROP_OLDEST
               ? "settled"
               : "delivered";
}

static void append_event(const struct run *run, const struct found *found, struct buf *json)
{
    const char *comma = "";

    buf_append_text(json, buf_text(&found->members));
    buf_append_string(json, ",\"publishers\":[");
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        if (!run->search->is_configured[p])
            continue;
        buf_printf(json, "%s{\"publisher\":\"%s\",\"state\":\"%s\",\"records\":[", comma,
                   publisher_names[p], state_of(run, found, p));
        buf_append_text(json, buf_text(&found->records[p]));
        buf_append_string(json, "]}");
        comma = ",";
    }
    buf_append_string(json, "]}");
}

static void append_all(const struct run *run, uint64_t next, struct buf *json)
{
    buf_append_string(json, "{\"events\":[");
    for (size_t i = 0; i < run->count; i++) {
        if (i)
            buf_append_string(json, ",\n ");
        append_event(run, &run->found[i], json);
    }
    if (next > 1)
        buf_printf(json, "],\"next\":%" PRIu64, next);
    else
        buf_append_string(json, "],\"next\":null");
    buf_printf(json, ",\"complete\":%s}", run->is_complete ? "true" : "false");
}

static int find_first(struct run *run, struct error *err)
{
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        if (run->search->is_configured[p] &&
            journal_first(run->search->reader, publisher_names[p], &run->first[p], err) < 0)
            return -1;
    }
    return 0;
}

static int search_all(struct run *run, uint64_t *before, struct error *err)
{
    run->deadline_ms = clock_monotonic_ms(run->search->clock) + EVENTS_MS;
    if (find_first(run, err) < 0 || search_events(run, before, err) < 0 ||
        search_letters(run, LETTERS_DEAD, err) < 0 || search_letters(run, LETTERS_PARKED, err) < 0)
        return -1;
    find_outcomes(run);
    qsort(run->found, run->count, sizeof(*run->found), newest_first);
    return 0;
}

static void release(struct run *run)
{
    for (size_t i = 0; i < run->count; i++) {
        buf_release(&run->found[i].members);
        for (int p = 0; p < PUBLISHER_COUNT; p++)
            buf_release(&run->found[i].records[p]);
    }
    free(run->found);
}

int event_search_run(const struct event_search *search, struct buf *json, struct error *err)
{
    struct run run = {.search = search,
                      .capacity = search->limit * 2, /* as many that only letters have */
                      .oldest_ms = INT64_MAX,
                      .is_complete = true};
    uint64_t before = search->before;
    int rc;

    run.router = router_new(search->config, err);
    if (!run.router)
        return -1;
    run.found = alloc_zeroed(run.capacity, sizeof(*run.found));
    rc = search_all(&run, &before, err);
    if (rc == 0)
        append_all(&run, before, json);
    release(&run);
    router_free(run.router);
    return rc;
}
