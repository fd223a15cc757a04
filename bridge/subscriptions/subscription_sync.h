/*
 * Makes the subscription of one account at Close match the topic map, and removes it.
 *
 * Steps come from subscription_plan.h; here they are taken. A new key is durable, and valid at the
 * listener, before the next step: whatever ends the process, a later sync goes on from what Close
 * and the keys file then say.
 *
 * Threads: one at a time.
 */
#ifndef BRIDGE_SUBSCRIPTIONS_SUBSCRIPTION_SYNC_H
#define BRIDGE_SUBSCRIPTIONS_SUBSCRIPTION_SYNC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "bridge/config/config.h"
#include "bridge/subscriptions/subscription_plan.h"

struct account_settings;
struct clock;
struct close_api;
struct key_store;

/* What a sync works with; all borrowed. */
struct sync_tools {
    struct close_api *api;
    struct key_store *store;
    const struct clock *clock;
    /* Makes these the keys of the account's subscriptions at the listener; NULL: there is none. */
    int (*use_keys)(void *context, const char *account,
                    const unsigned char (*keys)[SIGNATURE_KEY_SIZE], size_t count,
                    struct error *err);
    void *use_keys_context;
};

enum { DISTURBANCES_KEPT = 3 };

/* What is remembered of an account from one look at Close to the next. Zero-initialised it is
 * empty. */
struct sync_memory {
    bool has_view;
    bool is_certain;                 /* nothing was under way when it was last known */
    struct subscription_view view;   /* what was last known */
    int64_t seen_ms;                 /* when Close was last asked with success, since 1970 */
    struct subscribed_pairs refused; /* pairs that Close does not take */
    int64_t refused_ms;              /* when it said so, monotonic */
    /* When somebody else had changed what is ours, monotonic, the oldest first; 0: never. */
    int64_t disturbed_ms[DISTURBANCES_KEPT];
    char disturbance[160]; /* the last one, as words */
};

void sync_memory_release(struct sync_memory *memory);

enum sync_result {
    SYNC_UNCHANGED,
    SYNC_CREATED,
    SYNC_UPDATED,
    SYNC_REACTIVATED,
    SYNC_RECREATED,
    SYNC_UNSUBSCRIBED,
    SYNC_FAILED,
};

/* What a sync did, or would do. Zero-initialised it is empty. */
struct sync_report {
    char *account;
    enum sync_result result;
    char *subscription_id; /* NULL: none */
    struct subscribed_pairs before;
    struct subscribed_pairs after;
    struct subscribed_pairs refused;
    struct buf changes; /* besides pairs: sentences as the inside of a JSON array */
    struct buf steps;   /* sentences as the inside of a JSON array */
    /* A time, since 1970, whose events Close may not have delivered; 0: none. */
    int64_t gap_since_ms;
    int64_t gap_until_ms;
    struct error error; /* with SYNC_FAILED */
};

const char *sync_result_name(enum sync_result result);
void sync_report_release(struct sync_report *report);

/* Appends the report as the JSON of POST /control/sync. */
void sync_report_append(const struct sync_report *report, struct buf *json);

enum sync_mode {
    SYNC_SCHEDULED, /* leaves alone what somebody meant: paused through the API, unsubscribed */
    SYNC_EXPLICIT,  /* somebody asked for it */
    SYNC_DRY_RUN,   /* the same, but nothing is changed */
};

/* `out_report` is released with sync_report_release(). */
void sync_account(const struct sync_tools *tools, struct account_settings *account,
                  struct sync_memory *memory, enum sync_mode mode, struct sync_report *out_report);

/* Only looks: what Close has goes into the memory. */
int sync_look(const struct sync_tools *tools, struct account_settings *account,
              struct sync_memory *memory, struct error *err);

enum removal {
    REMOVAL_LASTS,   /* until an explicit sync */
    REMOVAL_ON_STOP, /* until the next start */
};

/*
 * Deletes the account's subscriptions at Close, and then their ids and keys here. `account` NULL
 * (the configuration has it no more) or one that cannot be synced: only what is here goes.
 */
void sync_unsubscribe(const struct sync_tools *tools, const char *name,
                      struct account_settings *account, struct sync_memory *memory,
                      enum removal removal, struct sync_report *out_report);

/* Hands the account's stored keys to the listener. */
int sync_use_keys(const struct sync_tools *tools, const char *account, struct error *err);

#endif
