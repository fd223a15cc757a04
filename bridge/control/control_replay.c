#include "bridge/control/control_replay.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/buf.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/control/control.h"
#include "bridge/control/control_query.h"
#include "bridge/control/control_worker.h"
#include "bridge/dispatcher/dispatcher.h"
#include "bridge/dispatcher/replay.h"
#include "bridge/dispatcher/replay_report.h"
#include "bridge/http/http_server.h"
#include "bridge/journal/journal.h"
#include "schemas/event.h"

/* Events may be stored in another order than they came by so much: see journal_find(). */
enum { SLACK_MS = 60000 };

struct control_replay {
    struct control_replay_options options;
    struct journal_reader *reader; /* the worker's */
};

struct replay_job {
    struct control_job base;
    struct control_replay *control;
    struct replay_request request;
};

static struct replay *replay_of(const struct control_replay *control)
{
    return dispatcher_replay(control->options.dispatcher);
}

/* ---- what is asked for ---- */

static bool refuse(struct http_request *request, const char *message)
{
    http_respond_error(request, 400, "bad_parameter", message);
    return false;
}

static bool read_times(const struct control_replay *control, struct http_request *request,
                       struct replay_filter *out_filter)
{
    int64_t now_ms = clock_wall_ms(control->options.clock);

    out_filter->since_ms = -1;
    out_filter->until_ms = now_ms;
    if (!control_query_since(request, "since", now_ms, &out_filter->since_ms) ||
        !control_query_since(request, "until", now_ms, &out_filter->until_ms))
        return false;
    if (out_filter->since_ms < 0)
        return refuse(request, "Say since when: since=72h, or since=2026-01-31T12:00:00Z.");
    if (out_filter->since_ms >= now_ms)
        return refuse(request, "The time of since lies in the future.");
    if (out_filter->until_ms <= out_filter->since_ms)
        return refuse(request, "The time of until is not after that of since.");
    return true;
}

/* Which of the configured publishers; all without the parameter. */
static bool read_publishers(const struct control_replay *control, struct http_request *request,
                            struct replay_request *out_request)
{
    static const char *const names[PUBLISHER_COUNT] = {"kafka", "mqtt"};
    char wanted[16] = "";
    bool has_any = false;

    if (!control_query_text(request, "publisher", wanted, sizeof(wanted)))
        return false;
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        out_request->publishers[p] = dispatcher_is_configured(control->options.dispatcher, p) &&
                                     (!wanted[0] || strcmp(wanted, names[p]) == 0);
        has_any = has_any || out_request->publishers[p];
    }
    return has_any || refuse(request, "No publisher of this name is configured.");
}

static bool read_request(const struct control_replay *control, struct http_request *request,
                         struct replay_request *out_request)
{
    static const char *const names[] = {"since", "until",   "object_type", "publisher",
                                        "topic", "account", "dry_run",     NULL};
    struct replay_filter *filter = &out_request->filter;

    return control_query_only(request, names) && read_times(control, request, filter) &&
           control_query_text(request, "object_type", filter->object_type,
                              sizeof(filter->object_type)) &&
           control_query_text(request, "account", filter->account, sizeof(filter->account)) &&
           control_query_text(request, "topic", out_request->topic, sizeof(out_request->topic)) &&
           control_query_bool(request, "dry_run", &out_request->is_dry_run) &&
           read_publishers(control, request, out_request);
}

/* ---- start ---- */

/* When the oldest event that is kept was received. */
static int find_oldest(const struct control_replay *control, struct replay_request *request,
                       struct error *err)
{
    struct journal_numbers numbers;
    struct event *oldest;
    int count = journal_read(control->reader, 0, 1, 0, &oldest, err);

    if (count < 0)
        return -1;
    if (count > 0) {
        request->oldest_ms = oldest->record->received_ms;
        event_unref(oldest);
    }
    journal_numbers(control->options.journal, &numbers);
    request->reaches_back =
        numbers.head <= 1 || (count > 0 && request->oldest_ms <= request->filter.since_ms);
    return 0;
}

static int find_events(const struct control_replay *control, struct replay_request *request,
                       struct error *err)
{
    uint64_t end;

    if (find_oldest(control, request, err) < 0 ||
        journal_find(control->reader, request->filter.since_ms - SLACK_MS, &request->first, err) <
            0 ||
        journal_find(control->reader, request->filter.until_ms + SLACK_MS, &end, err) < 0)
        return -1;
    request->last = end - 1;
    return 0;
}

static void append_progress(const struct control_replay *control, struct buf *json)
{
    struct replay_progress progress;

    replay_progress(replay_of(control), &progress);
    replay_report_append(&progress, json);
}

static void answer_start(struct replay_job *job, enum replay_answer answer, const struct error *err)
{
    struct control_job *base = &job->base;

    switch (answer) {
    case REPLAY_STARTED:
        base->status = 202;
        append_progress(job->control, &base->json);
        return;
    case REPLAY_IS_BUSY:
        control_job_fail(base, 409, "replay_runs",
                         "A replay is under way: GET shows it, DELETE stops it.");
        return;
    case REPLAY_IS_LEAVING:
        control_job_fail(base, 409, "replay_leaves",
                         "Records of the replay that was stopped still wait for their broker.");
        return;
    case REPLAY_IS_STOPPING:
        control_job_fail(base, 503, "shutting_down", "The bridge stops.");
        return;
    case REPLAY_CANNOT_READ:
        control_job_fail(base, 503, "journal_unavailable", err->message);
        return;
    }
}

static void start(struct control_job *base)
{
    struct replay_job *job = (struct replay_job *)base;
    struct error err = {0};

    if (find_events(job->control, &job->request, &err) < 0)
        control_job_fail(base, 503, "journal_unavailable", err.message);
    else
        answer_start(job, replay_start(replay_of(job->control), &job->request, &err), &err);
}

static void post_replay(void *context, struct http_request *request)
{
    struct control_replay *control = context;
    struct replay_request wanted = {0};
    struct replay_job *job;

    if (!read_request(control, request, &wanted))
        return;
    job = control_worker_defer(control->options.worker, request, sizeof(*job), start);
    if (!job)
        return;
    job->control = control;
    job->request = wanted;
    control_worker_submit(&job->base);
}

/* ---- see and stop ---- */

static void respond_progress(const struct control_replay *control, struct http_request *request)
{
    struct buf json = {0};

    append_progress(control, &json);
    if (json.failed)
        http_respond_error(request, 503, "out_of_memory", "There is no memory for the answer.");
    else
        http_respond(request, &(struct http_response){.status = 200, .body = buf_text(&json)});
    buf_release(&json);
}

static void get_replay(void *context, struct http_request *request)
{
    static const char *const none[] = {NULL};

    if (control_query_only(request, none))
        respond_progress(context, request);
}

static void delete_replay(void *context, struct http_request *request)
{
    static const char *const none[] = {NULL};

    if (!control_query_only(request, none))
        return;
    if (replay_stop(replay_of(context)))
        respond_progress(context, request);
    else
        http_respond_error(request, 409, "no_replay", "No replay is under way.");
}

/* ---- life ---- */

struct control_replay *control_replay_new(const struct control_replay_options *options,
                                          struct error *err)
{
    struct control_replay *control = alloc_zeroed(1, sizeof(*control));

    control->options = *options;
    control->reader = journal_reader_open(options->journal, err);
    if (!control->reader) {
        control_replay_free(control);
        return NULL;
    }
    control_add(options->control,
                &(struct control_route){"POST", "/control/replay", post_replay, control});
    control_add(options->control,
                &(struct control_route){"GET", "/control/replay", get_replay, control});
    control_add(options->control,
                &(struct control_route){"DELETE", "/control/replay", delete_replay, control});
    return control;
}

void control_replay_free(struct control_replay *control)
{
    if (!control)
        return;
    journal_reader_close(control->reader);
    free(control);
}
