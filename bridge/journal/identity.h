/*
 * What makes two deliveries the same event: account, event id and date_updated, as a keyed 128-bit
 * hash, and beside it a hash of the event's bytes. A date is the same however it is spelled: with
 * or without a zone, with fewer or more digits.
 *
 * A pure function: any thread.
 */
#ifndef BRIDGE_JOURNAL_IDENTITY_H
#define BRIDGE_JOURNAL_IDENTITY_H

struct event;

enum { IDENTITY_SECRET_SIZE = 192 };

/* Sets identity and content of the event. `secret` has IDENTITY_SECRET_SIZE random bytes. */
void identity_set(const unsigned char *secret, struct event *event);

#endif
