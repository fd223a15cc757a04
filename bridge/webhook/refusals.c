#include "bridge/webhook/refusals.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/alloc.h"
#include "bridge/base/buf.h"
#include "bridge/base/clock.h"
#include "bridge/base/log.h"

enum { KEPT = 100, LOG_KINDS = 64, LOG_EVERY_MS = 10000 };

struct refusal {
    int64_t wall_ms;
    char account[64];
    const char *reason;
    char address[46];
    uint64_t count; /* the same again and again is one */
};

/* When a kind of refusal was last logged, and how many were not. */
struct log_kind {
    char account[64];
    const char *reason;
    int64_t logged_ms;
    uint64_t since;
};

struct refusals {
    const struct clock *clock;
    pthread_mutex_t lock;
    struct refusal ring[KEPT];        /* lock: lock */
    size_t next;                      /* lock: lock */
    size_t size;                      /* lock: lock */
    struct log_kind kinds[LOG_KINDS]; /* lock: lock */
    size_t kind_count;                /* lock: lock */
};

struct refusals *refusals_new(const struct clock *clock)
{
    struct refusals *refusals = alloc_zeroed(1, sizeof(*refusals));

    refusals->clock = clock;
    pthread_mutex_init(&refusals->lock, NULL);
    return refusals;
}

void refusals_free(struct refusals *refusals)
{
    if (!refusals)
        return;
    pthread_mutex_destroy(&refusals->lock);
    free(refusals);
}

static bool is_same(const struct refusal *a, const char *account, const char *reason,
                    const char *address)
{
    return strcmp(a->reason, reason) == 0 && strcmp(a->account, account) == 0 &&
           strcmp(a->address, address) == 0;
}

static void keep(struct refusals *refusals, const char *account, const char *reason,
                 const char *address)
{
    struct refusal *latest = &refusals->ring[(refusals->next + KEPT - 1) % KEPT];

    if (refusals->size == 0 || !is_same(latest, account, reason, address)) {
        latest = &refusals->ring[refusals->next];
        refusals->next = (refusals->next + 1) % KEPT;
        refusals->size += refusals->size < KEPT;
        memset(latest, 0, sizeof(*latest));
        snprintf(latest->account, sizeof(latest->account), "%s", account);
        snprintf(latest->address, sizeof(latest->address), "%s", address);
        latest->reason = reason;
    }
    latest->count++;
    latest->wall_ms = clock_wall_ms(refusals->clock);
}

/* Zero: not to be logged now; else how many of the kind there were since the last line. */
static uint64_t due_for_log(struct refusals *refusals, const char *account, const char *reason)
{
    int64_t now_ms = clock_monotonic_ms(refusals->clock);
    struct log_kind *kind = refusals->kinds;
    uint64_t since;

    while (kind < refusals->kinds + refusals->kind_count &&
           (strcmp(kind->reason, reason) != 0 || strcmp(kind->account, account) != 0))
        kind++;
    if (kind == refusals->kinds + LOG_KINDS)
        return 0;
    if (kind == refusals->kinds + refusals->kind_count) {
        refusals->kind_count++;
        snprintf(kind->account, sizeof(kind->account), "%s", account);
        kind->reason = reason;
        kind->logged_ms = now_ms - LOG_EVERY_MS;
    }
    kind->since++;
    if (now_ms - kind->logged_ms < LOG_EVERY_MS)
        return 0;
    since = kind->since;
    kind->since = 0;
    kind->logged_ms = now_ms;
    return since;
}

void refusals_note(struct refusals *refusals, const char *account, const char *reason,
                   const char *address)
{
    uint64_t count;

    pthread_mutex_lock(&refusals->lock);
    keep(refusals, account, reason, address);
    count = due_for_log(refusals, account, reason);
    pthread_mutex_unlock(&refusals->lock);
    if (count)
        log_warn("webhook.refused", log_str("account", account), log_str("reason", reason),
                 log_str("address", address), log_i64("count", (int64_t)count));
}

static void append_refusal(struct buf *out, const struct refusal *refusal)
{
    buf_append_string(out, "{\"time\":\"");
    buf_append_utc(out, refusal->wall_ms);
    buf_append_string(out, "\",\"account\":");
    buf_append_json_string(out, text_of(refusal->account));
    buf_append_string(out, ",\"reason\":");
    buf_append_json_string(out, text_of(refusal->reason));
    buf_append_string(out, ",\"address\":");
    buf_append_json_string(out, text_of(refusal->address));
    buf_printf(out, ",\"count\":%" PRIu64 "}", refusal->count);
}

void refusals_render(struct refusals *refusals, struct buf *out)
{
    buf_append_string(out, "{\"refusals\":[");
    pthread_mutex_lock(&refusals->lock);
    for (size_t i = 1; i <= refusals->size; i++) {
        if (i > 1)
            buf_append_char(out, ',');
        append_refusal(out, &refusals->ring[(refusals->next + KEPT - i) % KEPT]);
    }
    pthread_mutex_unlock(&refusals->lock);
    buf_append_string(out, "]}");
}
