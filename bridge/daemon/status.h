/*
 * What the daemon says of its state: to the webhooks whether events are accepted, to the control
 * listener what is ready and what the journal's numbers are, to the log which publishers are gone.
 *
 * Threads: the one that starts the daemon fills it in, before a listener is open; then any reads.
 */
#ifndef BRIDGE_DAEMON_STATUS_H
#define BRIDGE_DAEMON_STATUS_H

#include <stdbool.h>
#include <stddef.h>

struct buf;
struct dispatcher;
struct journal;
struct metrics;
struct subscriptions;

enum { STATUS_MAX_REMOVED = 16 };

struct status {
    /* Borrowed until the listeners are closed. */
    struct metrics *metrics;
    struct journal *journal; /* NULL in broker mode */
    struct dispatcher *dispatcher;
    struct subscriptions *subscriptions;
    /* publishers that the journal knows and this program does not */
    char removed[STATUS_MAX_REMOVED][64];
    size_t removed_count;
};

/* Each journal_numbers() is a metric from now on. With a journal; `status` is borrowed as long as
 * its metrics are scraped. */
void status_add_metrics(struct status *status);

/* Notes and logs publishers of the journal that are not configured any more. With a journal that
 * has not started, and a dispatcher. */
void status_note_removed(struct status *status);

/* Both for callbacks, the struct status is the context: for webhook_options ... */
bool status_is_ready(void *context);
/* ... and for control_options. */
bool status_append_readiness(void *context, struct buf *json);

#endif
