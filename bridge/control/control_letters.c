#include "bridge/control/control_letters.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "bridge/control/control.h"
#include "bridge/control/control_query.h"
#include "bridge/control/control_worker.h"
#include "bridge/control/dead_letters.h"
#include "bridge/dispatcher/dispatcher.h"
#include "bridge/dispatcher/retries.h"
#include "bridge/http/http_server.h"
#include "bridge/journal/journal.h"

enum { PAGE = 100, PAGE_MAX = 1000, RETRY_ANSWER_MS = 5000 };

struct control_letters {
    struct control_letters_options options;
    struct journal_reader *reader; /* the worker's */
};

/* What a request asks for. */
struct wanted {
    uint64_t id; /* 0: all that pass the filters, */
    bool all;    /* which has to be said */
    uint64_t limit;
    uint64_t after;
    char publisher[64];
    char topic[1025];
    char reason[64];
};

struct letters_job {
    struct control_job base;
    struct control_letters *letters;
    struct wanted wanted;
};

struct retry_call {
    struct http_deferred deferred;
    struct retry_request request;
};

/* ---- what is asked for ---- */

static bool read_wanted(struct http_request *request, const char *const *names,
                        struct wanted *out_wanted)
{
    return control_query_only(request, names) &&
           control_query_number(request, "id", 1, UINT64_MAX - 1, &out_wanted->id) &&
           control_query_bool(request, "all", &out_wanted->all) &&
           control_query_number(request, "limit", 1, PAGE_MAX, &out_wanted->limit) &&
           control_query_number(request, "after", 0, UINT64_MAX, &out_wanted->after) &&
           control_query_text(request, "publisher", out_wanted->publisher,
                              sizeof(out_wanted->publisher)) &&
           control_query_text(request, "topic", out_wanted->topic, sizeof(out_wanted->topic)) &&
           control_query_text(request, "reason", out_wanted->reason, sizeof(out_wanted->reason));
}

/* One letter or all=true: leaving out a parameter must not mean everything. */
static bool read_choice(struct http_request *request, struct wanted *out_wanted)
{
    static const char *const names[] = {"id", "all", "publisher", "topic", "reason", NULL};

    if (!read_wanted(request, names, out_wanted))
        return false;
    if ((out_wanted->id != 0) != out_wanted->all)
        return true;
    http_respond_error(request, 400, "bad_parameter",
                       "Say id=NUMBER for one, or all=true, which publisher, topic and reason may "
                       "narrow.");
    return false;
}

static const char *or_any(const char *text)
{
    return *text ? text : NULL;
}

static struct letter_query query_of(const struct wanted *wanted)
{
    return (struct letter_query){.publisher = or_any(wanted->publisher),
                                 .topic = or_any(wanted->topic),
                                 .reason = or_any(wanted->reason),
                                 .after_id = wanted->after,
                                 .max_count = wanted->limit};
}

static void submit(struct control_letters *letters, struct http_request *request,
                   const struct wanted *wanted, void (*run)(struct control_job *self))
{
    struct letters_job *job =
        control_worker_defer(letters->options.worker, request, sizeof(*job), run);

    if (!job)
        return;
    job->letters = letters;
    job->wanted = *wanted;
    control_worker_submit(&job->base);
}

/* Answers a job whose letter is not there or whose journal cannot be read. */
static void fail_job(struct control_job *job, int found, const struct error *err)
{
    if (found < 0)
        control_job_fail(job, 503, "journal_unavailable", err->message);
    else
        control_job_fail(job, 404, "no_such_letter", "No dead letter has this number.");
}

/* ---- list and show ---- */

static void show(struct control_job *base)
{
    const struct letters_job *job = (const struct letters_job *)base;
    const struct wanted *wanted = &job->wanted;
    struct journal_reader *reader = job->letters->reader;
    struct letter_query query = query_of(wanted);
    struct error err = {0};
    int found = 1;

    base->status = 200;
    if (wanted->id)
        found = dead_letters_render_one(reader, wanted->id, &base->json, &err);
    else if (dead_letters_render(reader, &query, &base->json, &err) < 0)
        found = -1;
    if (found <= 0)
        fail_job(base, found, &err);
}

static void get_letters(void *context, struct http_request *request)
{
    static const char *const names[] = {"id",     "limit", "after", "publisher",
                                        "reason", "topic", NULL};
    struct wanted wanted = {.limit = PAGE};

    if (read_wanted(request, names, &wanted))
        submit(context, request, &wanted, show);
}

/* ---- drop ---- */

static void drop(struct control_job *base)
{
    struct letters_job *job = (struct letters_job *)base;
    struct control_letters *letters = job->letters;
    struct letter_query query = query_of(&job->wanted);
    struct error err = {0};
    uint64_t dropped = 1;
    int found = 1;

    base->status = 200;
    if (job->wanted.id)
        found = dead_letters_drop_one(letters->options.journal, letters->reader, job->wanted.id,
                                      letters->options.metrics, &err);
    else if (dead_letters_drop(letters->options.journal, letters->reader, &query,
                               letters->options.metrics, &dropped, &err) < 0)
        found = -1;
    if (found <= 0)
        fail_job(base, found, &err);
    else
        buf_printf(&base->json, "{\"dropped\":%" PRIu64 "}", dropped);
}

static void delete_letters(void *context, struct http_request *request)
{
    struct wanted wanted = {.id = 0};

    if (read_choice(request, &wanted))
        submit(context, request, &wanted, drop);
}

/* ---- retry ---- */

static void answered(struct retry_request *request)
{
    http_resume(&container_of(request, struct retry_call, request)->deferred);
}

static bool refuse_one(struct http_request *request, const struct retry_counts *counts)
{
    if (counts->is_refused)
        http_respond_error(request, 503, "busy",
                           "Too many retries are under way, or the bridge stops.");
    else if (counts->absent)
        http_respond_error(request, 404, "no_such_letter", "No dead letter has this number.");
    else if (counts->under_way)
        http_respond_error(request, 409, "under_way", "The letter is being sent again already.");
    else if (counts->not_events)
        http_respond_error(request, 409, "not_an_event",
                           "The body is no event, so no topic is for it: show it, drop it.");
    else if (counts->removed)
        http_respond_error(request, 409, "publisher_removed",
                           "The publisher of the letter is not configured.");
    else
        return false;
    return true;
}

static void retry_resumed(struct http_deferred *deferred)
{
    const struct retry_call *call = (const struct retry_call *)deferred;
    const struct retry_counts *counts = &call->request.counts;
    struct buf json = {0};

    if (!deferred->request ||
        ((call->request.id || counts->is_refused) && refuse_one(deferred->request, counts)))
        return;
    buf_printf(&json,
               "{\"delivered\":%" PRIu64 ",\"buried_again\":%" PRIu64 ",\"not_events\":%" PRIu64
               ",\"done\":%s",
               counts->delivered, counts->buried, counts->not_events,
               counts->is_done ? "true" : "false");
    if (counts->reason) {
        buf_append_string(&json, ",\"reason\":");
        buf_append_json_string(&json, text_of(counts->reason));
    }
    buf_append_char(&json, '}');
    http_respond(deferred->request, &(struct http_response){.status = counts->is_done ? 200 : 202,
                                                            .body = buf_text(&json)});
    buf_release(&json);
}

static void post_retry(void *context, struct http_request *request)
{
    const struct control_letters *letters = context;
    struct wanted wanted = {.id = 0};
    struct retry_call *call;

    if (!read_choice(request, &wanted))
        return;
    call = (struct retry_call *)http_defer(request, sizeof(*call), retry_resumed);
    call->request.id = wanted.id;
    memcpy(call->request.publisher, wanted.publisher, sizeof(wanted.publisher));
    memcpy(call->request.topic, wanted.topic, sizeof(wanted.topic));
    memcpy(call->request.reason, wanted.reason, sizeof(wanted.reason));
    call->request.answer_within_ms = RETRY_ANSWER_MS;
    call->request.answered = answered;
    dispatcher_retry(letters->options.dispatcher, &call->request);
}

/* ---- life ---- */

struct control_letters *control_letters_new(const struct control_letters_options *options,
                                            struct error *err)
{
    struct control_letters *letters = alloc_zeroed(1, sizeof(*letters));

    letters->options = *options;
    letters->reader = journal_reader_open(options->journal, err);
    if (!letters->reader) {
        control_letters_free(letters);
        return NULL;
    }
    control_add(options->control,
                &(struct control_route){"GET", "/control/dead-letters", get_letters, letters});
    control_add(options->control, &(struct control_route){"DELETE", "/control/dead-letters",
                                                          delete_letters, letters});
    control_add(options->control, &(struct control_route){"POST", "/control/dead-letters/retry",
                                                          post_retry, letters});
    return letters;
}

void control_letters_free(struct control_letters *letters)
{
    if (!letters)
        return;
    journal_reader_close(letters->reader);
    free(letters);
}
