/*
 * What is on a disk while a program runs, rebuilt from the trace that shim.so wrote, and what a
 * power cut at any moment could leave of it.
 *
 * A write lasts once the file was synced after it (or when it went through an O_DSYNC descriptor);
 * a name lasts once its directory was synced. Until then each of the file's 512-byte sectors may be
 * on the disk or not, in any order, and the names may be those of any earlier moment since the last
 * sync.
 */
#ifndef TESTS_FAULTS_DISK_H
#define TESTS_FAULTS_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/faults/shim.h"

struct disk; /* opaque: defined in disk.c */

/* An operation of the trace; `bytes` are borrowed from the trace. */
struct operation {
    struct trace_entry entry;
    const char *bytes;
};

/* A whole trace in memory. */
struct trace {
    char *memory;
    struct operation *operations;
    size_t count;
};

/* False with a message on stderr. */
bool trace_read(const char *path, struct trace *out_trace);
void trace_release(struct trace *trace);

/* What the operation did, for messages: "write 4096 bytes at 8192". */
void operation_describe(const struct operation *operation, char *out, size_t size);

/* Empty. Borrows nothing. Returns owned (disk_free); ends the program without memory. */
struct disk *disk_new(void);
void disk_free(struct disk *disk);

/* The operation is over. */
void disk_apply(struct disk *disk, const struct operation *operation);

/* How many of the operations applied so far a power cut could still undo. */
size_t disk_unsynced(const struct disk *disk);

enum { DAMAGE_NOTHING_LASTS, DAMAGE_ALL_LASTS, DAMAGE_RANDOM };

/*
 * Writes what is left when the power goes while `current` is under way (NULL: between two) into
 * the empty directory `path`. `damage` is one of the above or more; from DAMAGE_RANDOM on it
 * chooses, with `seed`, what is dropped, reordered and torn.
 */
void disk_write_remains(const struct disk *disk, const struct operation *current, unsigned damage,
                        uint64_t seed, const char *path);

#endif
