/*
 * A small file beside the journal, mode 0600, that is only ever replaced as a whole: written anew,
 * synced, renamed over the old one, and the folder synced. What durable_file_write() reported is
 * there after a power cut.
 *
 * Threads: one at a time.
 */
#ifndef BRIDGE_RUNTIME_DURABLE_FILE_H
#define BRIDGE_RUNTIME_DURABLE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/base/text.h"

struct buf;
struct error;

enum { DURABLE_FILE_MAX = 4 * 1024 * 1024, DURABLE_FILE_PATH_SIZE = 4096 + 64 };

struct durable_file {
    const char *name; /* for messages: "the keys file" */
    char *path;       /* owned: free */
};

/* Returns owned (free): the path of the journal's folder with `suffix` behind it. */
char *durable_file_path(const char *journal_path, const char *suffix);

/*
 * Appends the content to `out`, with JSON_PADDING readable bytes behind it. A file that is not
 * there, which `*out_exists` says, is empty. One that others may read, that somebody else owns or
 * that is too large is refused.
 */
int durable_file_read(const struct durable_file *file, struct buf *out, bool *out_exists,
                      struct error *err);

int durable_file_write(const struct durable_file *file, struct text content, struct error *err);

/* Makes the name of the file at `path` durable. False: errno says why. */
bool durable_file_sync_folder(const char *path);

/* Renames a file whose content is damaged; its new path is written to `out_aside`. */
int durable_file_set_aside(const struct durable_file *file, int64_t now_ms,
                           char out_aside[DURABLE_FILE_PATH_SIZE], struct error *err);

#endif
