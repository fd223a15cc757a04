/*
 * What the parts of the journal know of each other. Nobody else includes this.
 */
#ifndef BRIDGE_JOURNAL_INTERNAL_H
#define BRIDGE_JOURNAL_INTERNAL_H

struct journal;
struct store;

struct store *journal_store(struct journal *journal);

/* A record was passed over because it is damaged. Any thread. */
void journal_count_damage(struct journal *journal);

#endif
