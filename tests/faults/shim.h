/*
 * The file operations of a program under one folder, watched, failed and delayed from outside.
 *
 * shim.so is preloaded. FAULT_FOLDER names the folder; what lies in it counts, but for LMDB's
 * lock files, which hold nothing that has to last. FAULT_CONTROL names a file of the size of struct
 * shim_control through which another process arms faults and reads counters while the program runs.
 * FAULT_TRACE names a file to which every operation is written, in the order in which they
 * happened, for disk.c to rebuild what a power cut could leave.
 */
#ifndef TESTS_FAULTS_SHIM_H
#define TESTS_FAULTS_SHIM_H

#include <stdatomic.h>
#include <stdint.h>

enum shim_call {
    SHIM_WRITE, /* pwrite, pwritev, write, writev */
    SHIM_META,  /* the same through an O_DSYNC descriptor */
    SHIM_SYNC,  /* fdatasync and fsync of a file */
    SHIM_DIR_SYNC,
    SHIM_ALLOCATE, /* fallocate */
    SHIM_TRUNCATE,
    SHIM_OPEN,
    SHIM_CALL_COUNT
};

/* Every member is 32 bits, so that any language can lay it out. Zeros: nothing happens. */
struct shim_control {
    _Atomic uint32_t calls;         /* bits: 1 << enum shim_call; which calls count down */
    _Atomic int32_t countdown;      /* the call that brings it to 0 fails; 0: none does */
    _Atomic uint32_t for_ever;      /* all that follow fail too */
    _Atomic int32_t error;          /* errno, or 0 for a write of half the bytes */
    _Atomic uint32_t sync_delay_us; /* every sync and O_DSYNC write takes so much longer */
    _Atomic uint32_t fired;         /* how many calls failed */
    _Atomic uint32_t synced_again;  /* syncs of a descriptor on which one had failed before */
    _Atomic uint32_t writable_maps; /* shared mappings that could be written: not traced */
    _Atomic uint32_t malloc_after;  /* malloc.so: the allocation that brings it to 0 fails */
    _Atomic uint32_t malloc_for_ever;
    _Atomic uint32_t malloc_fired;
    _Atomic int32_t clock_offset_s; /* clock.so: so much is added to the wall clock */
    _Atomic uint32_t count[SHIM_CALL_COUNT];
};

enum trace_kind {
    TRACE_MAKE_DIR, /* name */
    TRACE_CREATE,   /* file, name */
    TRACE_RENAME,   /* name, a zero byte, new name */
    TRACE_UNLINK,   /* name */
    TRACE_WRITE,    /* file, offset, bytes */
    TRACE_WRITE_SYNCED,
    TRACE_RESIZE,   /* file, offset: the new size */
    TRACE_EXTEND,   /* file, offset: the size is at least this */
    TRACE_SYNC,     /* file */
    TRACE_SYNC_DIR, /* name */
    TRACE_MARK,     /* text, from the program itself */
};

/* Followed by `size` bytes. Names are relative to FAULT_FOLDER. */
struct trace_entry {
    uint32_t kind;
    uint32_t file; /* a number for each inode */
    uint64_t offset;
    uint64_t size;
};

/* Writes a mark into the trace. A weak symbol in the program: absent unless shim.so is loaded. */
void shim_mark(const char *text);

#endif
