/*
 * What the parts of the catch-up share: catch_up.c is its life, its configuration and its thread,
 * catch_up_step.c reads the Event Log and deals with what goes wrong, catch_up_schedule.c decides
 * what is read next, catch_up_delivery.c hands a window to the journal, catch_up_control.c has the
 * control endpoints, catch_up_report.c what is shown of it, catch_up_warnings.c what has to be
 * known before one goes far back.
 */
#ifndef BRIDGE_CATCH_UP_CATCH_UP_INTERNAL_H
#define BRIDGE_CATCH_UP_CATCH_UP_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "bridge/base/buf.h"
#include "bridge/base/mailbox.h"
#include "bridge/catch_up/catch_up.h"
#include "bridge/catch_up/catch_up_account.h"
#include "bridge/control/control_request.h"
#include "bridge/journal/delivery.h"

enum { CATCH_UP_CHUNK = 64 };

/* One event on its way to the journal. */
struct catch_up_flight {
    struct delivery delivery;
    struct catch_up *self;
};

enum catch_up_request_kind { CATCH_UP_POST, CATCH_UP_DELETE };

/* A request to the control listener, until it is answered. */
struct catch_up_request {
    struct control_request base; /* first */
    enum catch_up_request_kind kind;
    char account[65];          /* "" for all */
    struct catch_up_task task; /* until_ms 0: now */
    uint64_t id;               /* of the task to be cancelled; 0: all */
};

/* What catch_up_note_gap() was told. */
struct catch_up_gap {
    struct mailbox_node node;
    int64_t since_ms;
    int64_t until_ms;
    char account[];
};

struct catch_up {
    struct catch_up_options options;
    struct catch_up_store *store;
    struct close_api *api;
    struct intake *intake;
    pthread_t thread;
    bool has_thread;
    atomic_bool is_stopping;
    struct wakeup wakeup;
    struct control_inbox inbox;
    struct mailbox gaps;

    /* The thread's. */
    const struct config *config; /* a reference */
    struct router *router;
    struct event_parser *parser;
    struct catch_up_account *accounts;
    bool was_damaged;      /* what was stored: points are not known, and were */
    bool is_unsaved;       /* what is stored is older than what is known */
    int64_t next_save_ms;  /* monotonic; after one that failed */
    int64_t shown_ms;      /* monotonic */
    int64_t last_chunk_ms; /* monotonic */
    const char *waits_for; /* NULL: nothing holds it back */
    struct metric *dead_letters;
    struct catch_up_flight flights[CATCH_UP_CHUNK];
    size_t flight_count;
    atomic_size_t on_the_way;

    pthread_mutex_t lock;
    const struct config *next_config; /* lock: lock; a reference, to be taken over */
    struct router *next_router;       /* lock: lock; of that */
    struct buf shown;                 /* lock: lock; the answer to GET */
};

int64_t catch_up_now_ms(const struct catch_up *self); /* monotonic */

/* NULL: nothing is known of it. */
struct catch_up_account *catch_up_find(const struct catch_up *self, const char *name);

/* Whether the Event Log of the account can be asked at all. */
bool catch_up_can_read(const struct catch_up_account *account);

/* Close's clock. */
int64_t catch_up_close_ms(const struct catch_up *self, const struct catch_up_account *account);

/* Stores what is known; a failure is logged, and made good later. */
void catch_up_save(struct catch_up *self);

/* ---- catch_up_step.c ---- */

/* Reads a page for the account, or does what has to come before it. False: there is nothing to do.
 */
bool catch_up_step(struct catch_up *self, struct catch_up_account *account);

/* ---- catch_up_schedule.c ---- */

/* Chooses what the account reads next, if anything, and sets its `current`. */
void catch_up_choose(struct catch_up *self, struct catch_up_account *account);

/* The window was dealt with: goes on behind it, or ends the task. */
void catch_up_advance(struct catch_up *self, struct catch_up_account *account,
                      struct log_window window);

/* Ends a task that was cancelled. */
void catch_up_drop(struct catch_up *self, struct catch_up_account *account,
                   struct catch_up_task *task);

/* A gap of which catch_up_note_gap() was told. */
void catch_up_take_gap(struct catch_up *self, struct catch_up_account *account, int64_t since_ms,
                       int64_t until_ms);

/* Milliseconds until catch_up_choose() may find something; -1: never by itself. */
int64_t catch_up_wait_ms(const struct catch_up *self, const struct catch_up_account *account);

/* ---- catch_up_delivery.c ---- */

enum catch_up_delivered {
    CATCH_UP_DELIVERED, /* all of it is durable, or was left out for a reason that was counted */
    CATCH_UP_INTERRUPTED,
    CATCH_UP_HELD_BACK, /* nothing was handed over: events came without their data */
    CATCH_UP_NOT_DELIVERED,
};

/* Hands the window that was read to the journal; `err` is set unless it was interrupted. */
enum catch_up_delivered catch_up_deliver(struct catch_up *self, struct catch_up_account *account,
                                         struct error *err);

/* ---- catch_up_control.c ---- */

/* Serves requests and gaps that wait. */
void catch_up_serve(struct catch_up *self);

/* From now on requests are refused where they come in. */
void catch_up_close_requests(struct catch_up *self);

/* ---- catch_up_warnings.c ---- */

/*
 * Appends what whoever asks for the task should know, as JSON strings with commas between, and says
 * it in the log. `account` "" is every one. Asks Kafka how long its topics keep what they are
 * given, for seconds at most.
 */
void catch_up_warn(const struct catch_up *self, const struct catch_up_task *task,
                   const char *account, bool was_too_old, struct buf *json);

/* ---- catch_up_report.c ---- */

/* Makes the answer to GET anew, at most every so often unless `at_once`. */
void catch_up_show(struct catch_up *self, bool at_once);

void catch_up_append_task(const struct catch_up *self, const struct catch_up_task *task,
                          struct buf *json);

/* Appends a moment as a JSON string. */
void catch_up_append_moment(struct buf *json, int64_t ms);

void catch_up_log_begin(const struct catch_up_account *account, const struct catch_up_task *task);
void catch_up_log_progress(const struct catch_up_account *account,
                           const struct catch_up_task *task);
void catch_up_log_end(const struct catch_up_account *account, const struct catch_up_task *task);

#endif
