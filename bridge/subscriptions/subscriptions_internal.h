/*
 * What the parts of the subscriptions share: subscriptions.c is the thread and its schedule,
 * subscriptions_control.c the control endpoints, subscription_status.c what is shown of them.
 */
#ifndef BRIDGE_SUBSCRIPTIONS_SUBSCRIPTIONS_INTERNAL_H
#define BRIDGE_SUBSCRIPTIONS_SUBSCRIPTIONS_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "bridge/base/buf.h"
#include "bridge/base/mailbox.h"
#include "bridge/control/control_request.h"
#include "bridge/subscriptions/subscription_sync.h"
#include "bridge/subscriptions/subscriptions.h"

struct settings;

/* What is known of one account, from one sync to the next. */
struct account_state {
    struct account_state *next;
    char *name;
    struct sync_memory memory;
    int64_t next_sync_ms; /* monotonic; 0: at once, -1: never by itself */
    int64_t next_look_ms;
    /* The last sync that changed, or could have changed, something. */
    bool has_synced;
    enum sync_result result;
    int64_t synced_ms; /* since 1970 */
    struct error error;
    char shown[16]; /* the state that was last written to the log */
};

enum request_kind { REQUEST_SYNC, REQUEST_SHOW, REQUEST_UNSUBSCRIBE };

/* A request to the control listener, until it is answered. */
struct subscriptions_request {
    struct control_request base; /* first */
    enum request_kind kind;
    bool is_dry_run;
    char account[65]; /* "" for all */
};

struct subscriptions {
    struct subscriptions_options options;
    bool is_broker_mode;
    struct close_api *api;
    pthread_t thread;
    bool has_thread;
    atomic_bool is_stopping;
    struct wakeup wakeup;
    struct control_inbox inbox;

    /* The thread's. */
    struct key_store *store; /* NULL: there is nothing to keep yet */
    struct settings *settings;
    struct account_state *states;

    pthread_mutex_t lock;
    struct settings *next_settings; /* lock: lock; to be taken over by the thread */
    struct key_store *next_store;   /* lock: lock; with them, when it had to be opened */
    struct buf readiness;           /* lock: lock; the inside of a JSON object */
};

/* Serves the requests that wait, on the subscriptions' thread. */
void subscriptions_serve(struct subscriptions *subscriptions);

struct sync_tools subscriptions_tools(const struct subscriptions *subscriptions);

/* Never NULL. */
struct account_state *subscriptions_state(struct subscriptions *subscriptions, const char *name);

/* Keeps what came of a sync for those who ask later. */
void subscriptions_note(struct subscriptions *subscriptions, struct account_state *state,
                        const struct sync_report *report);

/* ---- what is shown ---- */

/* One word: active, drifted, failing, paused, missing, unsubscribed, orphaned, off or unknown. */
const char *subscription_state_name(const struct subscriptions *subscriptions, const char *account);

/* Sets the account's metrics, and logs its state when it is another one than before. */
void subscription_show_state(struct subscriptions *subscriptions, struct account_state *state);

/* Makes the part of /readyz anew. */
void subscriptions_show_readiness(struct subscriptions *subscriptions);

/* Appends one account as the JSON of GET /control/subscriptions. */
void subscription_append_status(const struct subscriptions *subscriptions, const char *account,
                                const struct error *look_error, struct buf *json);

#endif
