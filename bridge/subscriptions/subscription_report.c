/*
 * What a sync did, as JSON.
 */
#include "bridge/base/text.h"
#include "bridge/close/pair_list.h"
#include "bridge/subscriptions/subscription_sync.h"
#include "schemas/date.h"

const char *sync_result_name(enum sync_result result)
{
    static const char *const names[] = {
        [SYNC_UNCHANGED] = "unchanged", [SYNC_CREATED] = "created",
        [SYNC_UPDATED] = "updated",     [SYNC_REACTIVATED] = "reactivated",
        [SYNC_RECREATED] = "recreated", [SYNC_UNSUBSCRIBED] = "unsubscribed",
        [SYNC_FAILED] = "failed",
    };

    return names[result];
}

static void append_date(struct buf *json, int64_t ms)
{
    const struct instant instant = {.seconds = ms / 1000};
    char date[DATE_MAX];

    buf_append_char(json, '"');
    buf_append(json, date, date_format(&instant, date));
    buf_append_char(json, '"');
}

/* What failed, else what Close did not take. */
static void append_error(const struct sync_report *report, struct buf *json)
{
    const struct subscribed_pairs *refused = &report->refused;
    struct buf sentence = {0};

    if (report->result == SYNC_FAILED) {
        buf_append_json_string(json, text_of(report->error.message));
        return;
    }
    for (size_t i = 0; i < refused->count; i++)
        buf_printf(&sentence, "%s%s %s", i ? ", " : "Close does not take ",
                   refused->pairs[i].object_type, refused->pairs[i].action);
    if (sentence.size > 0) {
        buf_append_string(&sentence,
                          ", or the extra_filter: correct the topic map; all else is subscribed");
        buf_append_json_string(json, buf_text(&sentence));
    } else {
        buf_append_string(json, "null");
    }
    buf_release(&sentence);
}

void sync_report_append(const struct sync_report *report, struct buf *json)
{
    static const struct subscribed_pairs none;

    buf_append_string(json, "{\"account\":");
    buf_append_json_string(json, text_of(report->account));
    buf_printf(json, ",\"result\":\"%s\",\"subscription_id\":", sync_result_name(report->result));
    if (report->subscription_id)
        buf_append_json_string(json, text_of(report->subscription_id));
    else
        buf_append_string(json, "null");
    buf_printf(json, ",\"pairs\":%zu,\"added\":", report->after.count);
    pair_list_append_difference(&report->after, &report->before, json);
    buf_append_string(json, ",\"removed\":");
    pair_list_append_difference(&report->before, &report->after, json);
    buf_append_string(json, ",\"refused\":");
    pair_list_append_difference(&report->refused, &none, json);
    buf_printf(json, ",\"changes\":[%s],\"steps\":[%s]", buf_text(&report->changes).data,
               buf_text(&report->steps).data);
    if (report->gap_since_ms) {
        buf_append_string(json, ",\"gap\":{\"since\":");
        append_date(json, report->gap_since_ms);
        buf_append_string(json, ",\"until\":");
        append_date(json, report->gap_until_ms);
        buf_append_char(json, '}');
    }
    buf_append_string(json, ",\"error\":");
    append_error(report, json);
    buf_append_char(json, '}');
}
