/*
 * How far every account has been caught up, and what is still to be read, in a small file beside
 * the journal: <journal.path>.catch-up.
 *
 * It is written after what it says is durable in the journal, so that after a crash something is
 * read twice (the journal knows it then) and nothing is left out. A file whose content is damaged
 * is set aside with a line in the log; whoever reads it then has to go back far enough.
 *
 * Threads: one at a time.
 */
#ifndef BRIDGE_CATCH_UP_CATCH_UP_STORE_H
#define BRIDGE_CATCH_UP_CATCH_UP_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "bridge/base/text.h"

struct buf;
struct catch_up_account;
struct catch_up_store; /* opaque: defined in catch_up_store.c */
struct error;

/* Opens the file, which the lock of the journal keeps for this process. Returns owned
 * (catch_up_store_close), NULL on failure. */
struct catch_up_store *catch_up_store_open(const char *journal_path, struct error *err);
void catch_up_store_close(struct catch_up_store *store);

/*
 * The accounts as they were last saved, owned (catch_up_account_free each); `*out_was_damaged` when
 * the file had to be set aside.
 */
int catch_up_store_load(struct catch_up_store *store, int64_t now_ms,
                        struct catch_up_account **out_accounts, bool *out_was_damaged,
                        struct error *err);

/* 0: it is durable. */
int catch_up_store_save(struct catch_up_store *store, const struct catch_up_account *accounts,
                        struct error *err);

/* ---- the content ---- */

void catch_up_store_format(const struct catch_up_account *accounts, struct buf *out);

/* JSON_PADDING readable bytes must follow the content. Errors as checked_json_read(). */
int catch_up_store_parse(struct text content, struct catch_up_account **out_accounts,
                         struct error *err);

#endif
