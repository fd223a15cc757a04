/*
 * What the bridge knows of its own subscriptions at Close: ids and signature keys, in a small file
 * beside the journal, so that a full or damaged journal never costs a key.
 *
 * The file is <journal.path>.keys, mode 0600, and holds secrets. A change is written to a new file,
 * synced and renamed over the old one, and the folder is synced: what key_store_put() reported is
 * there after a power cut. A file whose content is damaged is set aside with a line in the log; the
 * sync then recovers (or replaces) the keys. A file that others may read is refused.
 *
 * Threads: one at a time.
 */
#ifndef BRIDGE_SUBSCRIPTIONS_KEY_STORE_H
#define BRIDGE_SUBSCRIPTIONS_KEY_STORE_H

#include <stdbool.h>
#include <stddef.h>

struct clock;
struct error;
struct key_store; /* opaque: defined in key_store.c */
struct stored_account;

enum key_store_use {
    KEY_STORE_READ, /* as it is now; nothing can be changed */
    KEY_STORE_OWN,  /* locked against other processes until key_store_close() */
};

/* Returns owned (key_store_close). A file that is not there yet is an empty one. Borrows `clock`.
 */
struct key_store *key_store_open(const char *journal_path, enum key_store_use use,
                                 const struct clock *clock, struct error *err);
void key_store_close(struct key_store *store);

/* Whether the file is there. */
bool key_store_exists(const char *journal_path);

/* A store that is NULL is empty. */
size_t key_store_count(const struct key_store *store);
const struct stored_account *key_store_at(const struct key_store *store, size_t index);

/* NULL: nothing is kept of the account. Valid until the next change. */
const struct stored_account *key_store_find(const struct key_store *store, const char *account);

/* Copies the record in place of the account's former one. 0: it is durable. -1: the store is as it
 * was. */
int key_store_put(struct key_store *store, const struct stored_account *record, struct error *err);

/* Forgets the account, durably. */
int key_store_remove(struct key_store *store, const char *account, struct error *err);

#endif
