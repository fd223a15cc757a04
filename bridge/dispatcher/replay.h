/*
 * A replay: events of the journal are published again because an operator asked for it, marked as
 * replayed, by the topic map now in force. Dedupe has no part in it.
 *
 * It never overtakes the live events: of each publisher it sends only what its cursor had passed
 * when the replay began, because what lies behind is still to be published for the first time. It
 * has low priority: a few records at a time, when the lane has room, with the journal read on
 * another thread (replay_source.h). The order of the journal is kept, so that of a key is, too.
 *
 * A record that cannot be delivered is counted and reported with its topic and reason: it is not
 * parked, and no dead letter is made of it, for the live event has its own. So is a record for a
 * topic that is parked: it must not overtake the ones that wait there. A broker that cannot be
 * reached is waited for.
 *
 * Nothing of it is on disk: with the process it ends. One at a time.
 *
 * Threads: the dispatcher's, but for replay_start(), replay_stop() and replay_progress().
 */
#ifndef BRIDGE_DISPATCHER_REPLAY_H
#define BRIDGE_DISPATCHER_REPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/config/topic_map.h"
#include "bridge/dispatcher/replay_source.h"

struct clock;
struct lane;
struct metrics;
struct replay; /* opaque: defined in replay.c */
struct wakeup;

enum { REPLAY_FAULTS = 16, REPLAY_TOPIC_SIZE = 1025 };

/* What is asked for. */
struct replay_request {
    struct replay_filter filter;
    bool publishers[PUBLISHER_COUNT];
    char topic[REPLAY_TOPIC_SIZE]; /* only records for this topic; "": for any */
    uint64_t first;                /* events with numbers from here ... */
    uint64_t last;                 /* ... up to here; smaller than `first`: none */
    int64_t oldest_ms; /* when the oldest event that is kept was received; 0: none is kept */
    bool reaches_back; /* nothing was deleted that could have been asked for */
    bool is_dry_run;   /* counts what would be sent */
};

enum replay_state { REPLAY_NONE, REPLAY_RUNS, REPLAY_DONE, REPLAY_STOPPED };

/* Of one publisher. */
struct replay_counts {
    uint64_t read;         /* events looked at */
    uint64_t remaining;    /* events not looked at yet, at most */
    uint64_t missing;      /* events that were not there any more, or are damaged */
    uint64_t events;       /* events that are replayed */
    uint64_t unrouted;     /* events that nothing in the map sends to this publisher any more */
    uint64_t left_to_live; /* events that wait for their first publication */
    uint64_t sent;         /* records; the rest counts records, too */
    uint64_t delivered;
    uint64_t failed;
    int64_t reached_ms; /* of all events received before then, the outcome is known; 0: none */
    bool is_done;
    bool is_down; /* its broker cannot be reached: the replay waits */
};

/* Records of one topic that failed for one reason. */
struct replay_fault {
    enum publisher_index publisher;
    char topic[REPLAY_TOPIC_SIZE];
    const char *reason; /* static code */
    uint64_t count;
    int64_t first_ms; /* when the first and the last of their events were received */
    int64_t last_ms;
};

struct replay_progress {
    enum replay_state state;
    int64_t id; /* of this replay; wall clock when it began, in milliseconds */
    int64_t ended_ms;
    struct replay_request request;
    struct replay_counts counts[PUBLISHER_COUNT];
    struct replay_fault faults[REPLAY_FAULTS];
    size_t fault_count;
    uint64_t unlisted; /* failed records that found no place in `faults` */
};

struct replay_options {
    struct lane *lanes[PUBLISHER_COUNT];
    /* The publisher's live events are settled up to this number. */
    uint64_t (*settled_up_to)(void *context, enum publisher_index publisher);
    void *context;
    struct router *router;
    struct journal *journal;
    struct wakeup *wakeup; /* of the dispatcher */
    const struct clock *clock;
    struct metrics *metrics;
};

/* Borrows everything. Returns owned (replay_close). */
struct replay *replay_open(const struct replay_options *options);

/* After the dispatcher's thread has ended. NULL is a no-op. */
void replay_close(struct replay *replay);

enum replay_answer {
    REPLAY_STARTED,
    REPLAY_IS_BUSY,     /* one runs already */
    REPLAY_IS_LEAVING,  /* records of the one before are still on their way */
    REPLAY_IS_STOPPING, /* the bridge stops */
    REPLAY_CANNOT_READ, /* the thread that reads could not be started: `err` says why */
};

/* Any thread. Copies the request. */
enum replay_answer replay_start(struct replay *replay, const struct replay_request *request,
                                struct error *err);

/* Any thread: sends nothing more; what is on its way may still arrive. False when none runs. */
bool replay_stop(struct replay *replay);

/* Any thread. */
void replay_progress(struct replay *replay, struct replay_progress *out_progress);

/* One turn. Returns false when the next one should come at once. */
bool replay_run(struct replay *replay);

/* Stops for good, before the dispatcher's thread ends: nothing reads the journal afterwards. */
void replay_end(struct replay *replay);

#endif
