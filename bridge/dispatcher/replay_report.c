#include "bridge/dispatcher/replay_report.h"

#include <inttypes.h>

#include "bridge/base/buf.h"
#include "bridge/dispatcher/replay.h"

static const char *const publisher_names[PUBLISHER_COUNT] = {"kafka", "mqtt"};

static const char *state_name(enum replay_state state)
{
    switch (state) {
    case REPLAY_NONE:
        return "none";
    case REPLAY_RUNS:
        return "running";
    case REPLAY_DONE:
        return "done";
    case REPLAY_STOPPED:
        return "stopped";
    }
    return "";
}

static void append_time(struct buf *json, const char *name, int64_t wall_ms)
{
    buf_printf(json, ",\"%s\":\"", name);
    buf_append_utc(json, wall_ms);
    buf_append_char(json, '"');
}

static void append_time_or_null(struct buf *json, const char *name, int64_t wall_ms)
{
    if (wall_ms != 0)
        append_time(json, name, wall_ms);
    else
        buf_printf(json, ",\"%s\":null", name);
}

/* Where nothing is asked for, null. */
static void append_filter(struct buf *json, const char *name, const char *value)
{
    buf_printf(json, ",\"%s\":", name);
    if (*value)
        buf_append_json_string(json, text_of(value));
    else
        buf_append_string(json, "null");
}

static void append_request(struct buf *json, const struct replay_progress *progress)
{
    const struct replay_request *request = &progress->request;

    buf_printf(json, ",\"id\":%" PRId64 ",\"dry_run\":%s", progress->id,
               request->is_dry_run ? "true" : "false");
    append_time(json, "since", request->filter.since_ms);
    append_time(json, "until", request->filter.until_ms);
    append_filter(json, "account", request->filter.account);
    append_filter(json, "object_type", request->filter.object_type);
    append_filter(json, "topic", request->topic);
    append_time_or_null(json, "oldest_kept", request->oldest_ms);
    buf_printf(json, ",\"reaches_back\":%s", request->reaches_back ? "true" : "false");
    append_time(json, "started", progress->id);
    append_time_or_null(json, "ended", progress->ended_ms);
}

static void append_counts(struct buf *json, const struct replay_counts *counts)
{
    buf_printf(json,
               "\"read\":%" PRIu64 ",\"remaining\":%" PRIu64 ",\"missing\":%" PRIu64
               ",\"events\":%" PRIu64 ",\"unrouted\":%" PRIu64 ",\"left_to_live\":%" PRIu64
               ",\"sent\":%" PRIu64 ",\"delivered\":%" PRIu64 ",\"failed\":%" PRIu64,
               counts->read, counts->remaining, counts->missing, counts->events, counts->unrouted,
               counts->left_to_live, counts->sent, counts->delivered, counts->failed);
}

static void append_totals(struct buf *json, const struct replay_progress *progress)
{
    struct replay_counts total = {0};

    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        const struct replay_counts *counts = &progress->counts[p];

        total.read += counts->read;
        total.remaining += counts->remaining;
        total.missing += counts->missing;
        total.events += counts->events;
        total.unrouted += counts->unrouted;
        total.left_to_live += counts->left_to_live;
        total.sent += counts->sent;
        total.delivered += counts->delivered;
        total.failed += counts->failed;
    }
    buf_append_char(json, ',');
    append_counts(json, &total);
}

static void append_publishers(struct buf *json, const struct replay_progress *progress)
{
    const char *separator = "";

    buf_append_string(json, ",\"publishers\":[");
    for (int p = 0; p < PUBLISHER_COUNT; p++) {
        const struct replay_counts *counts = &progress->counts[p];

        if (!progress->request.publishers[p])
            continue;
        buf_printf(json, "%s{\"publisher\":\"%s\",\"state\":\"%s\",", separator, publisher_names[p],
                   counts->is_done   ? "done"
                   : counts->is_down ? "waiting"
                                     : "running");
        append_counts(json, counts);
        append_time_or_null(json, "reached", counts->reached_ms);
        buf_append_char(json, '}');
        separator = ",";
    }
    buf_append_char(json, ']');
}

static void append_faults(struct buf *json, const struct replay_progress *progress)
{
    buf_append_string(json, ",\"failures\":[");
    for (size_t i = 0; i < progress->fault_count; i++) {
        const struct replay_fault *fault = &progress->faults[i];

        buf_printf(json, "%s{\"publisher\":\"%s\",\"topic\":", i ? "," : "",
                   publisher_names[fault->publisher]);
        buf_append_json_string(json, text_of(fault->topic));
        buf_printf(json, ",\"reason\":\"%s\",\"count\":%" PRIu64, fault->reason, fault->count);
        append_time(json, "first", fault->first_ms);
        append_time(json, "last", fault->last_ms);
        buf_append_char(json, '}');
    }
    buf_printf(json, "],\"failures_not_listed\":%" PRIu64, progress->unlisted);
}

void replay_report_append(const struct replay_progress *progress, struct buf *json)
{
    buf_printf(json, "{\"state\":\"%s\"", state_name(progress->state));
    if (progress->state != REPLAY_NONE) {
        append_request(json, progress);
        append_totals(json, progress);
        append_publishers(json, progress);
        append_faults(json, progress);
    }
    buf_append_char(json, '}');
}
