/*
 * How threads hand things to each other: intrusive queues with many senders and one receiver, and
 * the wake-up of the receiver.
 *
 * A sender never blocks and never allocates. The wake-up costs a system call only when the receiver
 * had emptied the mailbox, so that a busy receiver is not woken at all. Several mailboxes may share
 * one wake-up. The order of one sender is kept.
 */
#ifndef BRIDGE_BASE_MAILBOX_H
#define BRIDGE_BASE_MAILBOX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct error;

/* First or any member of what is sent; belongs to the mailbox from push to take. */
struct mailbox_node {
    struct mailbox_node *next;
};

struct wakeup {
    int fd; /* an eventfd, to poll for POLLIN */
};

int wakeup_init(struct wakeup *wakeup, struct error *err);
void wakeup_release(struct wakeup *wakeup);

/* From any thread. */
void wakeup_signal(struct wakeup *wakeup);

/* Between the two a signal of this thread is sent at the end, and once to each receiver: whoever
 * has many messages for one that sleeps would else wake it between them again and again. Not
 * nested. */
void wakeup_hold(void);
void wakeup_let_go(void);

/* The receiver, before it looks into its mailboxes: the other order can miss a message. */
void wakeup_clear(struct wakeup *wakeup);

/* Waits until it is signalled, at most `timeout_ms` (-1: for ever), and clears it. */
void wakeup_wait(struct wakeup *wakeup, int timeout_ms);
void wakeup_wait_us(struct wakeup *wakeup, int64_t timeout_us); /* 0 or more */

struct mailbox {
    _Atomic(struct mailbox_node *) newest;
    struct wakeup *wakeup;
};

/* Borrows `wakeup` for its whole life. */
void mailbox_init(struct mailbox *mailbox, struct wakeup *wakeup);

void mailbox_push(struct mailbox *mailbox, struct mailbox_node *node);

/* The same without the wake-up, for receivers that know whether they sleep: true when the mailbox
 * was empty. */
bool mailbox_add(struct mailbox *mailbox, struct mailbox_node *node);
bool mailbox_is_empty(const struct mailbox *mailbox);

/* Takes everything, oldest first, linked by `next`; NULL when there is nothing. Receiver only. */
struct mailbox_node *mailbox_take(struct mailbox *mailbox);

#define container_of(pointer, type, member)                                                        \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#endif
