#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <lmdb.h>

#include "bridge/journal/journal_store.h"

/*
 * Three things can run out: max_size (counted in pages in use), the map (the highest page, which
 * fragmentation pushes up) and the disk (blocks under the file). A commit that meets the end of the
 * map or of the disk fails, and a full LMDB does not empty by itself, so all three are seen to
 * before a commit, and events leave a margin that only notes and deletions may use.
 */

enum {
    MIB = 1024 * 1024,
    RETRY_EXTEND_MS = 200,
    RECORD_OVERHEAD = 64,
    COMMIT_OVERHEAD = 96 * 1024
};

void store_plan_space(struct store *store, uint64_t max_size)
{
    store->page_size = (uint64_t)sysconf(_SC_PAGESIZE);
    store->max_size = max_size;
    store->reserve = max_size / 8 > 64 * MIB ? max_size / 8 : 64 * MIB;
    store->map_size = (max_size + store->reserve) / store->page_size * store->page_size;
    store->step = max_size / 64;
    if (store->step < MIB)
        store->step = MIB;
    if (store->step > 64 * MIB)
        store->step = 64 * MIB;
}

static uint64_t pages_of(MDB_txn *txn, MDB_dbi db, MDB_stat *out_stat)
{
    if (mdb_stat(txn, db, out_stat) != 0)
        return 0;
    return out_stat->ms_branch_pages + out_stat->ms_leaf_pages + out_stat->ms_overflow_pages;
}

void store_measure(struct store *store, struct MDB_txn *txn)
{
    enum { FREE_DB = 0, MAIN_DB = 1 }; /* LMDB's own */
    MDB_stat stat;
    uint64_t pages = 2 + pages_of(txn, FREE_DB, &stat) + pages_of(txn, MAIN_DB, &stat);

    store->page_size = stat.ms_psize;
    for (size_t i = 0; i < STORE_DB_COUNT; i++) {
        uint64_t of_db = pages_of(txn, store->db[i], &stat);

        pages += of_db;
        if (i == STORE_DEAD) {
            store->dead_used = of_db * store->page_size;
            store->dead_count = stat.ms_entries;
        }
    }
    store->used = pages * store->page_size;
}

void store_measure_file(struct store *store)
{
    MDB_envinfo info;

    if (mdb_env_info(store->env, &info) == 0)
        store->high_water = ((uint64_t)info.me_last_pgno + 1) * store->page_size;
}

uint64_t store_cost(const struct store *store, uint64_t size)
{
    return (size + RECORD_OVERHEAD + store->page_size - 1) / store->page_size * store->page_size;
}

/* For file systems without fallocate(). */
static int write_zeros(int fd, uint64_t from, uint64_t to)
{
    char *zeros = calloc(1, MIB);
    int rc = 0;

    if (!zeros)
        return -1;
    while (from < to && rc == 0) {
        size_t size = to - from < MIB ? (size_t)(to - from) : MIB;
        ssize_t n = pwrite(fd, zeros, size, (off_t)from);

        if (n > 0)
            from += (uint64_t)n;
        else if (n == 0 || errno != EINTR)
            rc = -1;
    }
    free(zeros);
    return rc;
}

static int allocate(struct store *store, uint64_t to)
{
    uint64_t from = store->allocated > store->high_water ? store->allocated : store->high_water;
    int fd;
    int rc;

    if (mdb_env_get_fd(store->env, &fd) != 0)
        return -1;
    do
        rc = fallocate(fd, 0, (off_t)from, (off_t)(to - from));
    while (rc < 0 && errno == EINTR);
    if (rc < 0 && (errno == EOPNOTSUPP || errno == ENOSYS))
        rc = write_zeros(fd, from, to);
    if (rc == 0)
        store->allocated = to;
    return rc;
}

/* Extends the file so that `need` and a step fit behind the high water; false: the disk is full. */
static bool extend(struct store *store, uint64_t need, int64_t now_ms)
{
    uint64_t wanted = store->high_water + need + store->step;

    if (wanted > store->map_size)
        wanted = store->map_size;
    if (store->allocated >= wanted)
        return true;
    if (now_ms < store->next_try_ms)
        return false;
    wanted = (wanted + store->step - 1) / store->step * store->step;
    if (wanted > store->map_size)
        wanted = store->map_size;
    if (allocate(store, wanted) == 0)
        return true;
    store->next_try_ms = now_ms + RETRY_EXTEND_MS;
    return false;
}

/* What can be written behind the high water: in the map and with blocks under it. */
static uint64_t room_ahead(const struct store *store)
{
    uint64_t end = store->allocated < store->map_size ? store->allocated : store->map_size;

    return end > store->high_water ? end - store->high_water : 0;
}

/* Pages below the high water that LMDB may use again, as far as it finds them in one piece. */
static uint64_t room_inside(const struct store *store)
{
    return store->high_water > store->used ? store->high_water - store->used : 0;
}

/*
 * Freed pages carry on when the file cannot grow. A long record may not find its pages in one piece
 * there and need some ahead; when most of the file is free it may try all the same, because a
 * commit that meets the end of the disk is only refused.
 */
static bool fits_inside(const struct store *store, uint64_t need, uint64_t spare)
{
    uint64_t inside = room_inside(store);
    uint64_t margin = store->step / 2;

    return inside >= 2 * need + margin + spare &&
           (room_ahead(store) >= need + margin / 4 + spare || inside >= store->high_water / 2);
}

enum store_room store_room_for_events(struct store *store, uint64_t need, uint64_t spare,
                                      int64_t now_ms)
{
    bool extended;

    need += COMMIT_OVERHEAD;
    if (store->used + need + spare > store->max_size)
        return STORE_IS_FULL;
    extended = extend(store, need, now_ms);
    if (room_ahead(store) >= need + spare + store->step / 2 || fits_inside(store, need, spare))
        return STORE_HAS_ROOM;
    return extended ? STORE_IS_FULL : STORE_DISK_IS_FULL;
}

bool store_has_room_for_letters(struct store *store, uint64_t need, int64_t now_ms)
{
    need += COMMIT_OVERHEAD;
    if (store->used + need > store->max_size + store->reserve / 2)
        return false;
    extend(store, need, now_ms);
    return room_ahead(store) >= need + store->step / 16 || fits_inside(store, need, 0);
}

bool store_has_room_for_dead(const struct store *store, uint64_t need)
{
    return store->dead_used + need <= store->max_size / STORE_DEAD_SHARE;
}
