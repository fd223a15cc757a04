#include "bridge/dispatcher/retries.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/dispatcher/lane.h"
#include "bridge/dispatcher/saver.h"
#include "bridge/runtime/metrics.h"
#include "schemas/event.h"

enum {
    MAX_JOBS = 16,
    BATCH = 64, /* letters of one job and publisher sent at a time ... */
    BATCH_BYTES = 4 * 1024 * 1024,
    ROUND = 16384, /* letters that are put into the order of their events */
    NOTE_RETRY_MS = 1000,
};

/*
 * The dead letters of one publisher, or the bodies that are no events, as far as a job has gone
 * through them. Records are buried in the order in which their broker refuses them; a round of them
 * is sorted by their events, then sent in batches.
 */
struct part {
    uint64_t after;              /* listed up to here */
    bool is_listed;              /* all of them */
    struct letter_place *places; /* of the round */
    size_t count;
    size_t at; /* the first not sent */
    size_t on_the_way;
    bool is_done;
};

enum { PART_NOT_EVENTS = PUBLISHER_COUNT, PART_COUNT };

struct job {
    struct job *next;
    struct retry_request asked;    /* what was asked for; a copy */
    struct retry_request *request; /* NULL once it is answered */
    struct retry_counts counts;
    uint64_t last;       /* letters buried later are not of this job */
    int64_t deadline_ms; /* of the answer; monotonic */
    struct part parts[PART_COUNT];
};

/* A letter on its way. */
struct retried {
    struct retried *next; /* of all */
    struct retried *next_waiting;
    struct retries *retries;
    struct job *job;
    struct part *part;
    struct letter letter;
    size_t records; /* made of it */
    size_t left;    /* not settled yet */
    const char *failure;
    char failed_topic[sizeof(((struct letter *)0)->topic)];
    uint32_t failed_nth;
    struct errand errand;
};

struct retries {
    struct retries_options options;
    pthread_mutex_t lock;
    bool is_stopped;            /* lock: lock */
    struct mailbox_node *asked; /* lock: lock; newest first */
    struct job *jobs;
    struct retried *retried;
    struct retried *waiting; /* whose note was not stored */
    int64_t next_note_ms;    /* monotonic */
};

static const char not_events[] = "webhook"; /* who buries them */

struct retries *retries_open(const struct retries_options *options)
{
    struct retries *retries = alloc_zeroed(1, sizeof(*retries));

    retries->options = *options;
    pthread_mutex_init(&retries->lock, NULL);
    return retries;
}

/* ---- asking and answering ---- */

static void refuse(struct retry_request *request)
{
    request->counts = (struct retry_counts){.is_refused = true};
    request->answered(request);
}

void retries_ask(struct retries *retries, struct retry_request *request)
{
    bool is_stopped;

    pthread_mutex_lock(&retries->lock);
    is_stopped = retries->is_stopped;
    if (!is_stopped) {
        request->node.next = retries->asked;
        retries->asked = &request->node;
    }
    pthread_mutex_unlock(&retries->lock);
    if (is_stopped)
        refuse(request);
    else
        wakeup_signal(retries->options.errands->wakeup);
}

static void answer(struct job *job, bool is_done)
{
    struct retry_request *request = job->request;

    if (!request)
        return;
    job->request = NULL;
    job->counts.is_done = is_done;
    request->counts = job->counts;
    request->answered(request);
}

/* ---- one letter ---- */

static void release_retried(struct retried *retried)
{
    event_unref(retried->letter.event);
    free(retried);
}

static void free_retried(struct retried *retried)
{
    struct retried **at = &retried->retries->retried;

    while (*at != retried)
        at = &(*at)->next;
    *at = retried->next;
    release_retried(retried);
}

static void finish(struct retried *retried, enum note_result result)
{
    struct retries *retries = retried->retries;
    const char *publisher = retried->letter.publisher;

    if (retried->failure) {
        retried->job->counts.buried++;
        retried->job->counts.reason = retried->failure;
    } else {
        retried->job->counts.delivered++;
        if (result == NOTE_STORED)
            metric_add(saver_dead_letters(retries->options.metrics, publisher), -1);
    }
    log_info("dead_letter.retried", log_i64("id", (int64_t)retried->letter.id),
             log_str("publisher", publisher),
             log_str("result", retried->failure ? retried->failure : "delivered"));
    retried->part->on_the_way--;
    free_retried(retried);
}

static void noted(struct errand *errand)
{
    struct retried *retried = container_of(errand, struct retried, errand);
    struct retries *retries = retried->retries;

    /* One that finds no room to be renewed stays as it was. */
    if (errand->note.result != NOTE_FAILED) {
        finish(retried, errand->note.result);
        return;
    }
    retried->next_waiting = retries->waiting;
    retries->waiting = retried;
    retries->next_note_ms = clock_monotonic_ms(retries->options.clock) + NOTE_RETRY_MS;
}

static void conclude(struct retried *retried)
{
    const struct letter *letter = &retried->letter;
    bool is_only = retried->records == 1;

    retried->errand.finished = noted;
    retried->errand.note = (struct note){
        .kind = retried->failure ? NOTE_REBURY : NOTE_DROP,
        .letter = letter->id,
        .publisher = letter->publisher,
        .topic = is_only ? retried->failed_topic : letter->topic,
        .nth = is_only ? retried->failed_nth : letter->nth,
        .reason = retried->failure,
        .event = letter->event,
    };
    errand_send(&retried->errand, retried->retries->options.journal,
                retried->retries->options.errands);
}

static void settled(struct outgoing *outgoing)
{
    struct retried *retried = outgoing->owner;
    enum settled_as as = outgoing->record.outcome.as;

    if (as == SETTLED_RETRY && lane_is_configured(outgoing->lane)) {
        lane_resend(outgoing->lane, outgoing);
        return;
    }
    if (as != SETTLED_DELIVERED) {
        retried->failure =
            as == SETTLED_RETRY ? "publisher_removed" : outgoing->record.outcome.reason;
        retried->failed_nth = outgoing->nth;
        snprintf(retried->failed_topic, sizeof(retried->failed_topic), "%s",
                 outgoing->record.topic);
    }
    outgoing_free(outgoing);
    if (--retried->left == 0)
        conclude(retried);
}

static void send_route(struct retried *retried, struct lane *lane, const struct route *routes,
                       size_t i)
{
    struct outgoing *outgoing =
        lane_prepare(lane, retried->letter.event, routes[i].target, routes[i].topic);

    outgoing->owner = retried;
    outgoing->settled = settled;
    outgoing->seq = retried->letter.event->record->seq;
    outgoing->nth = route_ordinal(routes, i);
    retried->records++;
    retried->left++;
    lane_send(lane, outgoing);
}

static bool is_of_letter(const struct letter *letter, const struct route *routes, size_t i)
{
    return routes[i].topic && strcmp(routes[i].topic, letter->topic) == 0 &&
           route_ordinal(routes, i) == letter->nth;
}

/* Sends what the map makes of the event at one publisher. */
static void send_at(struct retried *retried, int publisher)
{
    struct retries *retries = retried->retries;
    const struct letter *letter = &retried->letter;
    struct lane *lane = retries->options.lanes[publisher];
    const struct route *routes;
    size_t count = router_route(retries->options.router, letter->event,
                                (enum publisher_index)publisher, &routes);
    size_t own = 0;

    while (own < count && !is_of_letter(letter, routes, own))
        own++;
    for (size_t i = 0; i < count; i++) {
        if (own == count || own == i)
            send_route(retried, lane, routes, i);
    }
}

/* Takes the letter. */
static void send_letter(struct retries *retries, struct job *job, int publisher,
                        const struct letter *letter)
{
    struct retried *retried = alloc_zeroed(1, sizeof(*retried));
    bool matched_nothing = strcmp(letter->reason, "unrouted") == 0;

    retried->retries = retries;
    retried->job = job;
    retried->part = &job->parts[publisher];
    retried->letter = *letter;
    retried->next = retries->retried;
    retries->retried = retried;
    retried->part->on_the_way++;
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        if (lane_is_configured(retries->options.lanes[p]) && (p == publisher || matched_nothing))
            send_at(retried, p);
    }
    if (retried->records > 0)
        return;
    retried->failure = "unrouted";
    conclude(retried);
}

static bool is_under_way(const struct retries *retries, uint64_t id)
{
    for (const struct retried *retried = retries->retried; retried; retried = retried->next) {
        if (retried->letter.id == id)
            return true;
    }
    return false;
}

/* ---- jobs ---- */

/* Sends the letter, or counts why not. Takes it. */
static void take_letter(struct retries *retries, struct job *job, struct letter *letter)
{
    int publisher = 0;

    while (publisher < PUBLISHER_COUNT &&
           strcmp(lane_name(retries->options.lanes[publisher]), letter->publisher) != 0)
        publisher++;
    if (event_has(letter->event, EVENT_IS_OPAQUE))
        job->counts.not_events++;
    else if (publisher == PUBLISHER_COUNT || !lane_is_configured(retries->options.lanes[publisher]))
        job->counts.removed++;
    else if (is_under_way(retries, letter->id))
        job->counts.under_way++;
    else {
        send_letter(retries, job, publisher, letter);
        return;
    }
    event_unref(letter->event);
}

static const char *or_any(const char *text)
{
    return *text ? text : NULL;
}

/* What a failed read leaves undone stays in the store. */
static void report_unreadable(const struct error *err)
{
    log_error("dead_letters.unreadable", log_str("error", err->message),
              log_str("action", "what was not sent again stays a dead letter"));
}

/* Reads a letter and sends it, or counts that it is gone. Returns the size of its event. */
static size_t take_id(struct retries *retries, struct job *job, uint64_t id)
{
    struct letter_query query = {.after_id = id - 1, .max_count = 1};
    struct letter *letter = alloc_zeroed(1, sizeof(*letter));
    struct error err;
    uint64_t after;
    size_t size = 0;
    int count = journal_read_dead(retries->options.reader, &query, letter, &after, &err);

    if (count < 0)
        report_unreadable(&err);
    if (count == 1 && letter->id == id) {
        size = letter->event->record->size;
        take_letter(retries, job, letter);
    } else {
        job->counts.absent++;
        event_unref(letter->event);
    }
    free(letter);
    return size;
}

static int by_event(const void *a, const void *b)
{
    const struct letter_place *left = a;
    const struct letter_place *right = b;

    if (left->seq != right->seq)
        return left->seq > right->seq ? 1 : -1;
    return (left->nth > right->nth) - (left->nth < right->nth);
}

/* Lists some more of the round's letters; sorts them when they are all there. */
static void list_some(struct retries *retries, struct job *job, struct part *part,
                      const char *publisher)
{
    struct letter_query query = {.publisher = publisher,
                                 .topic = or_any(job->asked.topic),
                                 .reason = or_any(job->asked.reason),
                                 .after_id = part->after,
                                 .max_count = ROUND - part->count};
    struct error err;
    int count;

    if (!part->places)
        part->places = alloc_zeroed(ROUND, sizeof(*part->places));
    count = journal_list_dead(retries->options.reader, &query, part->places + part->count,
                              &part->after, &err);
    if (count < 0) {
        report_unreadable(&err);
        part->after = UINT64_MAX;
        count = 0;
    }
    part->count += (size_t)count;
    while (part->count > 0 && part->places[part->count - 1].id > job->last)
        part->count--;
    part->is_listed = part->after >= job->last;
    if (part->is_listed || part->count == ROUND)
        qsort(part->places, part->count, sizeof(*part->places), by_event);
}

static void send_batch(struct retries *retries, struct job *job, struct part *part)
{
    size_t bytes = 0;

    for (int i = 0; i < BATCH && bytes < BATCH_BYTES && part->at < part->count; i++)
        bytes += take_id(retries, job, part->places[part->at++].id);
    if (part->at < part->count)
        return;
    part->at = part->count = 0;
    part->is_done = part->is_listed;
    if (part->is_done) {
        free(part->places);
        part->places = NULL;
    }
}

static void run_part(struct retries *retries, struct job *job, int p)
{
    struct part *part = &job->parts[p];
    struct lane *lane = p < PUBLISHER_COUNT ? retries->options.lanes[p] : NULL;
    const char *publisher = lane ? lane_name(lane) : not_events;

    if (part->is_done || part->on_the_way > 0)
        return;
    if (lane && !lane_is_configured(lane))
        part->is_done = true;
    else if (job->asked.publisher[0] && strcmp(job->asked.publisher, publisher) != 0)
        part->is_done = true;
    else if (!part->is_listed && part->count < ROUND && part->at == 0)
        list_some(retries, job, part, publisher);
    else if (!lane || !lane_is_busy(lane))
        send_batch(retries, job, part);
}

static void run_one(struct retries *retries, struct job *job)
{
    for (int p = 0; p < PART_COUNT; p++)
        job->parts[p].is_done = true;
    take_id(retries, job, job->asked.id);
}

static void free_job(struct job *job)
{
    for (int p = 0; p < PART_COUNT; p++)
        free(job->parts[p].places);
    free(job);
}

static bool is_done(const struct job *job)
{
    for (int p = 0; p < PART_COUNT; p++) {
        if (!job->parts[p].is_done || job->parts[p].on_the_way > 0)
            return false;
    }
    return true;
}

static void start_job(struct retries *retries, struct retry_request *request)
{
    struct job *job = alloc_zeroed(1, sizeof(*job));
    struct job **at = &retries->jobs;
    struct journal_numbers numbers;

    journal_numbers(retries->options.journal, &numbers);
    job->asked = *request;
    job->request = request;
    job->last = numbers.dead_tail;
    job->deadline_ms = clock_monotonic_ms(retries->options.clock) + request->answer_within_ms;
    while (*at)
        at = &(*at)->next;
    *at = job;
    if (request->id)
        run_one(retries, job);
}

static void take_asked(struct retries *retries)
{
    struct mailbox_node *node;
    size_t jobs = 0;

    pthread_mutex_lock(&retries->lock);
    node = retries->asked;
    retries->asked = NULL;
    pthread_mutex_unlock(&retries->lock);
    for (const struct job *job = retries->jobs; job; job = job->next)
        jobs++;
    while (node) {
        struct retry_request *request = container_of(node, struct retry_request, node);

        node = node->next;
        if (jobs++ < MAX_JOBS)
            start_job(retries, request);
        else
            refuse(request);
    }
}

static void send_notes_again(struct retries *retries)
{
    struct retried *retried = retries->waiting;

    if (!retried || clock_monotonic_ms(retries->options.clock) < retries->next_note_ms)
        return;
    retries->waiting = NULL;
    while (retried) {
        struct retried *next = retried->next_waiting;

        errand_send(&retried->errand, retries->options.journal, retries->options.errands);
        retried = next;
    }
}

void retries_run(struct retries *retries)
{
    int64_t now_ms = clock_monotonic_ms(retries->options.clock);
    struct job **at = &retries->jobs;

    take_asked(retries);
    send_notes_again(retries);
    while (*at) {
        struct job *job = *at;

        for (int p = 0; p < PART_COUNT; p++)
            run_part(retries, job, p);
        if (is_done(job)) {
            *at = job->next;
            answer(job, true);
            free_job(job);
            continue;
        }
        if (now_ms >= job->deadline_ms)
            answer(job, false);
        at = &job->next;
    }
}

void retries_stop(struct retries *retries)
{
    pthread_mutex_lock(&retries->lock);
    retries->is_stopped = true;
    pthread_mutex_unlock(&retries->lock);
    take_asked(retries);
    for (struct job *job = retries->jobs; job; job = job->next) {
        for (int p = 0; p < PART_COUNT; p++)
            job->parts[p].is_done = true;
        answer(job, false);
    }
}

void retries_close(struct retries *retries)
{
    if (!retries)
        return;
    while (retries->retried) {
        struct retried *next = retries->retried->next;

        release_retried(retries->retried);
        retries->retried = next;
    }
    while (retries->jobs) {
        struct job *next = retries->jobs->next;

        free_job(retries->jobs);
        retries->jobs = next;
    }
    pthread_mutex_destroy(&retries->lock);
    free(retries);
}
