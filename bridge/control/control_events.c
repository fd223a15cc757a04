#include "bridge/control/control_events.h"

#include <stdlib.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/config/config.h"
#include "bridge/control/control.h"
#include "bridge/control/control_query.h"
#include "bridge/control/control_worker.h"
#include "bridge/control/event_search.h"
#include "bridge/dispatcher/dispatcher.h"
#include "bridge/http/http_server.h"
#include "bridge/journal/journal.h"

enum { PAGE = 20, PAGE_MAX = 200, TEXT_SIZE = 257 };

struct control_events {
    struct control_events_options options;
    struct journal_reader *reader; /* the worker's */
};

struct events_job {
    struct control_job base;
    struct control_events *events;
    char id[TEXT_SIZE];
    char lead_id[TEXT_SIZE];
    char object_type[TEXT_SIZE];
    int64_t since_ms;
    uint64_t limit;
    uint64_t before;
};

static const char *or_any(const char *text)
{
    return *text ? text : NULL;
}

static bool is_cancelled(void *context)
{
    return control_job_is_cancelled(context);
}

static void run(struct control_job *base)
{
    struct events_job *job = (struct events_job *)base;
    const struct control_events_options *options = &job->events->options;
    struct event_search search = {
        .journal = options->journal,
        .reader = job->events->reader,
        .config = options->config(options->config_context),
        .clock = options->clock,
        .query = {or_any(job->id), or_any(job->lead_id), or_any(job->object_type), job->since_ms},
        .before = job->before,
        .limit = job->limit,
        .is_cancelled = is_cancelled,
        .context = base,
    };
    struct error err = {0};

    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        search.is_configured[p] = dispatcher_settled(options->dispatcher, p, &search.settled[p]);
        search.outcomes[p] = dispatcher_outcomes(options->dispatcher, p);
    }
    base->status = 200;
    if (event_search_run(&search, &base->json, &err) < 0)
        control_job_fail(base, 503, "journal_unavailable", err.message);
    config_free(search.config);
}

static bool read_query(struct http_request *request, int64_t now_ms, struct events_job *out)
{
    static const char *const names[] = {"id",    "lead_id", "object_type", "since",
                                        "limit", "before",  NULL};

    return control_query_only(request, names) &&
           control_query_text(request, "id", out->id, sizeof(out->id)) &&
           control_query_text(request, "lead_id", out->lead_id, sizeof(out->lead_id)) &&
           control_query_text(request, "object_type", out->object_type, sizeof(out->object_type)) &&
           control_query_since(request, "since", now_ms, &out->since_ms) &&
           control_query_number(request, "limit", 1, PAGE_MAX, &out->limit) &&
           control_query_number(request, "before", 1, UINT64_MAX, &out->before);
}

static void get_events(void *context, struct http_request *request)
{
    struct control_events *events = context;
    struct events_job asked = {.limit = PAGE, .before = UINT64_MAX, .since_ms = INT64_MIN};
    struct events_job *job;

    if (!read_query(request, clock_wall_ms(events->options.clock), &asked))
        return;
    job = control_worker_defer(events->options.worker, request, sizeof(*job), run);
    if (!job)
        return;
    asked.base = job->base;
    asked.events = events;
    *job = asked;
    control_worker_submit(&job->base);
}

struct control_events *control_events_new(const struct control_events_options *options,
                                          struct error *err)
{
    struct control_events *events = alloc_zeroed(1, sizeof(*events));

    events->options = *options;
    events->reader = journal_reader_open(options->journal, err);
    if (!events->reader) {
        control_events_free(events);
        return NULL;
    }
    control_add(options->control,
                &(struct control_route){"GET", "/control/events", get_events, events});
    return events;
}

void control_events_free(struct control_events *events)
{
    if (!events)
        return;
    journal_reader_close(events->reader);
    free(events);
}
