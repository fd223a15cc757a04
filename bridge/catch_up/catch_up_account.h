/*
 * What a catch-up knows of one account: how far it has come, and what is still to be read.
 *
 * All times are Close's: milliseconds since 1970 by its clock, unless they are said to be
 * monotonic. Plain data and pure functions; the catch-up's thread.
 */
#ifndef BRIDGE_CATCH_UP_CATCH_UP_ACCOUNT_H
#define BRIDGE_CATCH_UP_CATCH_UP_ACCOUNT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/error.h"
#include "bridge/base/text.h"
#include "bridge/close/close_api.h"
#include "bridge/close/event_log.h"

struct config_account;
struct event;
struct metric;

enum { CATCH_UP_NAME_SIZE = 129, CATCH_UP_TASKS_MAX = 16, CATCH_UP_FINISHED_MAX = 8 };

enum catch_up_cause {
    CATCH_UP_SCHEDULED,  /* from the point reached to now */
    CATCH_UP_GAP,        /* Close may not have delivered it, and no scheduled run has covered it */
    CATCH_UP_REQUESTED,  /* somebody asked for it */
    CATCH_UP_INCOMPLETE, /* came without its data, which the key was not allowed to see */
    CATCH_UP_CAUSE_COUNT
};

enum catch_up_result {
    CATCH_UP_ACCEPTED,  /* new, and durable */
    CATCH_UP_DUPLICATE, /* seen before, and durable */
    CATCH_UP_IGNORED,   /* no entry of the topic map takes it, or the request does not ask for it */
    CATCH_UP_MALFORMED, /* not an event: kept as a dead letter */
    CATCH_UP_WITHHELD,  /* came without its data: left for later */
    CATCH_UP_RESULT_COUNT
};

/* A stretch of time that is to be read, oldest first. */
struct catch_up_task {
    struct catch_up_task *next;
    uint64_t id;
    enum catch_up_cause cause;
    int64_t since_ms;
    int64_t until_ms;
    int64_t reached_ms;                   /* all before it is durable */
    char object_type[CATCH_UP_NAME_SIZE]; /* only these: exact, "prefix.*"; "" all */
    char action[CATCH_UP_NAME_SIZE];      /* "": all */
    bool is_dry_run;                      /* only counts; not stored */

    /* Of this process. */
    char *warnings; /* the inside of a JSON array; NULL: nobody has looked yet */
    int64_t *stops; /* where windows have to end, the newest first: the log is dense between them */
    size_t stop_count;
    bool is_cancelled;
    bool has_started;
    int64_t begun_ms; /* since 1970, by this machine's clock; with has_started */
    int64_t begun_monotonic_ms;
    int64_t begun_at_ms;    /* reached_ms then */
    int64_t finished_ms;    /* as begun_ms; 0: not yet */
    int64_t retry_at_ms;    /* monotonic */
    int64_t next_report_ms; /* monotonic: of the line in the log */
    struct error error;     /* why it does not go on; kind ERROR_NONE: it does */
    uint64_t read;
    uint64_t counts[CATCH_UP_RESULT_COUNT];
    uint64_t rate_limited; /* times that Close asked for a pause */
};

struct catch_up_account {
    struct catch_up_account *next;
    char *name;

    /* Durable. */
    bool has_point;
    int64_t point_ms;            /* scheduled runs have read everything from ... */
    int64_t covered_ms;          /* ... here to the point */
    uint64_t next_id;            /* of a task */
    struct catch_up_task *tasks; /* besides scheduled runs, oldest request first */

    /* Of this process. */
    const struct config_account *settings; /* NULL: the configuration has it no more */
    struct close_access access;
    int64_t seen_monotonic_ms; /* when this process first knew of it */
    bool has_clock;            /* Close has answered */
    int64_t clock_ms;          /* what Close's is ahead of the monotonic one */
    int64_t next_run_ms;       /* monotonic */
    struct catch_up_task *run; /* the scheduled one under way */
    struct catch_up_task *current;
    struct log_reading *reading; /* of the current one */
    unsigned expirations;        /* of the window's cursors, in a row */
    int64_t step_ms;             /* how long the next window is */
    int64_t retry_at_ms;         /* monotonic */
    unsigned failures;           /* in a row */
    struct error error;          /* the last; kind ERROR_NONE after a success */
    int64_t logged_error_ms;     /* monotonic */
    int64_t logged_limit_ms;     /* monotonic */
    int64_t gap_since_ms;        /* a gap that waits for the point to be known; 0: none */
    int64_t gap_until_ms;
    struct catch_up_task *finished; /* the newest first */
    struct metric *events[CATCH_UP_RESULT_COUNT];
    struct metric *point;
};

/* Returns owned (catch_up_account_free). */
struct catch_up_account *catch_up_account_new(const char *name);
void catch_up_account_free(struct catch_up_account *account);

const char *catch_up_cause_name(enum catch_up_cause cause);
/* False: there is no such cause. */
bool catch_up_cause_of(const char *name, enum catch_up_cause *out_cause);
const char *catch_up_result_name(enum catch_up_result result);

/* ---- tasks ---- */

/* Copies the task, without what is of this process, behind the others and gives it an id. NULL:
 * CATCH_UP_TASKS_MAX were asked for already, or there is one of another cause. */
struct catch_up_task *catch_up_task_add(struct catch_up_account *account,
                                        const struct catch_up_task *task);

/* Takes it out of the list and keeps it among the finished ones, of which the oldest go. A
 * scheduled run was in no list. */
void catch_up_task_finish(struct catch_up_account *account, struct catch_up_task *task);

/* Remembers a stretch that nobody asked for: in the one task of its cause, which grows. */
void catch_up_task_widen(struct catch_up_account *account, enum catch_up_cause cause,
                         int64_t since_ms, int64_t until_ms);

/* All of the window is durable. One that does not begin where the task stands says nothing of what
 * lies between. */
void catch_up_task_reach(struct catch_up_task *task, struct log_window window);

/* Whether the request asks for an event, or a pair. */
bool catch_up_task_selects_pair(const struct catch_up_task *task, struct text object_type,
                                struct text action);
bool catch_up_task_selects(const struct catch_up_task *task, const struct event *event);

/* Milliseconds until it is done as fast as it went so far; -1: nobody knows. */
int64_t catch_up_task_eta_ms(const struct catch_up_task *task, int64_t now_monotonic_ms);

/* ---- windows ---- */

/* The next one of the task: not longer than the account's step. */
struct log_window catch_up_next_window(const struct catch_up_account *account,
                                       const struct catch_up_task *task);

/* The window held `count` events: the next is as long as it takes for a fair number. */
void catch_up_fit_step(struct catch_up_account *account, struct log_window window, size_t count);

/* What was found out of the log while a window was read. */
void catch_up_add_stops(struct catch_up_task *task, const int64_t *stops, size_t count);

#endif
