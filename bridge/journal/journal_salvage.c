#include "bridge/journal/journal_salvage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/journal/journal_chunks.h"
#include "bridge/journal/journal_image.h"
#include "bridge/journal/journal_internal.h"
#include "bridge/journal/journal_plan.h"
#include "bridge/journal/journal_rebuild.h"
#include "bridge/journal/journal_records.h"
#include "schemas/event.h"

/*
 * In the journal's folder: the file, the folder in which a new one is built, the new one once it is
 * whole. From then on the salvage can only be finished, by whoever comes next.
 */
static const char data_name[] = "data.mdb";
static const char lock_name[] = "lock.mdb";
static const char build_name[] = "salvage";
static const char build_data[] = "salvage/data.mdb";
static const char build_lock[] = "salvage/lock.mdb";
static const char whole_name[] = "data.mdb.salvaged";

static int system_error(const struct store *store, const char *what, struct error *err)
{
    return error_set(err, ERROR_TRANSIENT, "journal %s: %s: %s", store->path, what,
                     strerror(errno));
}

static bool exists(const struct store *store, const char *name)
{
    return faccessat(store->dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Whether there is anything in the folder, before it would be made. */
static bool has_journal(const char *path)
{
    char name[4200];

    snprintf(name, sizeof(name), "%s/%s", path, data_name);
    if (access(name, F_OK) == 0)
        return true;
    snprintf(name, sizeof(name), "%s/%s", path, whole_name);
    return access(name, F_OK) == 0;
}

/* ---- the file as a source ---- */

enum { AHEAD = 8 * 1024 * 1024 };

struct file {
    int fd;
    uint64_t asked_for; /* the disk was asked to read up to there */
};

/* A tree lies in the file in about its order: the disk reads on while we look at what came. Without
 * this a cold file of small reads takes twice as long. */
static void read_on(struct file *file, uint64_t offset)
{
    if (offset + AHEAD <= file->asked_for || offset > file->asked_for + AHEAD)
        return;
    posix_fadvise(file->fd, (off_t)file->asked_for, 2 * AHEAD, POSIX_FADV_WILLNEED);
    file->asked_for += 2 * AHEAD;
}

static bool read_file(void *context, uint64_t offset, void *to, size_t size)
{
    struct file *file = context;
    char *at = to;

    read_on(file, offset);
    while (size > 0) {
        ssize_t n = pread(file->fd, at, size, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        at += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return true;
}

/* The caller closes `file->fd` when it is not -1. */
static int open_source(const struct store *store, struct file *file,
                       struct image_source *out_source, struct error *err)
{
    struct stat st;

    *file =
        (struct file){.fd = openat(store->dir_fd, data_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC)};
    if (file->fd < 0 || fstat(file->fd, &st) < 0)
        return system_error(store, "cannot open data.mdb", err);
    *out_source = (struct image_source){file, (uint64_t)st.st_size, read_file};
    return 0;
}

/* ---- verifying ---- */

static bool is_event(struct text bytes, uint64_t seq)
{
    struct event *event = event_from_record(bytes.data, bytes.size, NULL);
    bool is_sound = event && event->record->seq == seq;

    event_unref(event);
    return is_sound;
}

/* Every record of a chunk, of which `last` is the last. */
static bool is_chunk(struct text value, uint64_t last, uint64_t *events)
{
    struct chunk_record records[CHUNK_RECORDS];
    size_t count = chunk_split(value, last, records);

    for (size_t i = 0; i < count; i++) {
        if (!is_event(records[i].bytes, records[i].seq))
            return false;
    }
    *events += count;
    return count > 0 && records[count - 1].seq == last;
}

static bool is_dead_letter(struct text bytes, uint64_t id)
{
    struct letter_view view;

    return letter_view(bytes.data, bytes.size, &view) && view.head.id == id &&
           is_event(view.record, view.head.seq);
}

static bool is_parked(struct text key, struct text bytes)
{
    struct letter_view view;

    return letter_view(bytes.data, bytes.size, &view) && view.head.id == 0 &&
           parked_key_is_of(key.data, key.size, &view) && is_event(view.record, view.head.seq);
}

static bool is_meta(struct text key, struct text value)
{
    struct secret_record secret;
    struct journal_state state;

    if (text_equal_string(key, "state"))
        return state_check(value.data, value.size, &state);
    return !text_equal_string(key, "secret") || secret_check(value.data, value.size, &secret);
}

_Static_assert(IMAGE_BEGINNING >= sizeof(struct event_record), "the head of a chunk's first event");

struct checks {
    enum verify_depth depth;
    uint64_t events;
    uint64_t last;     /* key of the chunk before; 0: none */
    uint64_t next_seq; /* as the journal's state says; 0: it does not */
    uint64_t settled;  /* by every publisher; UINT64_MAX: nothing was heard of any */
    bool is_doubtful;
};

static struct checks checks_of(enum verify_depth depth)
{
    return (struct checks){.depth = depth, .settled = UINT64_MAX};
}

static uint64_t number_of(enum store_db db, struct text key)
{
    uint64_t number = 0;

    if (store_has_integer_keys(db))
        memcpy(&number, key.data, sizeof(number));
    return number;
}

/* Of a chunk that ends with event `last`. */
static bool reads_chunk(const struct checks *checks, uint64_t last)
{
    return checks->depth == VERIFY_ALL ||
           (checks->depth == VERIFY_PENDING &&
            (checks->settled == UINT64_MAX || last > checks->settled));
}

static enum image_want wants(void *context, enum store_db db, struct text key)
{
    const struct checks *checks = context;

    switch (db) {
    case STORE_EVENTS:
        return reads_chunk(checks, number_of(db, key)) ? WANT_ALL : WANT_BEGINNING;
    case STORE_PARKED:
    case STORE_DEAD:
        return checks->depth == VERIFY_PAGES ? WANT_NOTHING : WANT_ALL;
    case STORE_META:
    case STORE_CURSORS:
    case STORE_MARKS:
    case STORE_DB_COUNT:
        break;
    }
    return WANT_ALL;
}

/*
 * A bit in a key of a chunk leaves the keys in order when it hits one of the lowest. Numbers have
 * no gaps but those that a salvage left, so the beginnings of the chunks tell when a key does not
 * say the last number of its own: then all is to be read.
 */
static void check_beginning(struct checks *checks, struct text value, uint64_t last)
{
    struct event_record head;

    if (value.size < sizeof(head)) {
        checks->is_doubtful = true;
        return;
    }
    memcpy(&head, value.data, sizeof(head));
    if (head.magic != EVENT_MAGIC || head.seq > last ||
        (checks->last && head.seq != checks->last + 1))
        checks->is_doubtful = true;
    checks->last = last;
}

static bool check_events(struct checks *checks, struct text value, uint64_t last)
{
    check_beginning(checks, value, last);
    return !reads_chunk(checks, last) || is_chunk(value, last, &checks->events);
}

static bool check_meta(struct checks *checks, struct text key, struct text value)
{
    struct journal_state state;

    if (!is_meta(key, value))
        return false;
    if (text_equal_string(key, "state") && state_check(value.data, value.size, &state)) {
        checks->next_seq = state.next_seq;
        if (state.flags & STATE_CURSORS_UNKNOWN)
            checks->settled = 0;
    }
    return true;
}

static bool check_cursor(struct checks *checks, struct text key, struct text value)
{
    struct cursor_record cursor;

    if (!cursor_check(value.data, value.size, &cursor) || !text_equal_string(key, cursor.publisher))
        return false;
    if (cursor_pins_events(cursor.publisher) && cursor.seq < checks->settled)
        checks->settled = cursor.seq;
    return true;
}

static bool check_row(void *context, enum store_db db, struct text key, struct text value)
{
    struct checks *checks = context;
    struct marks_head marks;

    switch (db) {
    case STORE_META:
        return check_meta(checks, key, value);
    case STORE_EVENTS:
        return check_events(checks, value, number_of(db, key));
    case STORE_CURSORS:
        return check_cursor(checks, key, value);
    case STORE_MARKS:
        return marks_check(value.data, value.size, &marks);
    case STORE_PARKED:
        return is_parked(key, value);
    case STORE_DEAD:
        return is_dead_letter(value, number_of(db, key));
    case STORE_DB_COUNT:
        break;
    }
    return true;
}

static int check(struct image *image, const struct image_source *source, struct checks *checks,
                 struct error *err)
{
    struct image_rows rows = {.context = checks, .wants = wants, .row = check_row};
    int rc = image_read(image, source, &rows, err);

    if (checks->last && checks->last + 1 != checks->next_seq)
        checks->is_doubtful = true;
    if (rc < 0 || !image_is_sound(image) || checks->depth == VERIFY_ALL || !checks->is_doubtful)
        return rc;
    image_release(image);
    *image = (struct image){.problems = 0};
    *checks = checks_of(VERIFY_ALL);
    return check(image, source, checks, err);
}

/* In a damaged journal a wrong root may lead to names that are not ours. */
static bool is_foreign(const struct image *image)
{
    return image->is_foreign && image_is_sound(image);
}

static int verify(const struct store *store, enum verify_depth depth, struct verify_report *report,
                  struct error *err)
{
    struct checks checks = checks_of(depth);
    struct image_source source;
    struct image image = {.problems = 0};
    struct file file;
    int rc = open_source(store, &file, &source, err);

    if (rc == 0)
        rc = check(&image, &source, &checks, err);
    if (rc == 0) {
        *report = (struct verify_report){.is_sound = image_is_sound(&image),
                                         .is_foreign = is_foreign(&image),
                                         .problems = image.problems,
                                         .events = checks.events,
                                         .bytes = source.size};
        memcpy(report->first_problem, image.first_problem, sizeof(report->first_problem));
        memcpy(report->entries, image.entries, sizeof(report->entries));
    }
    image_release(&image);
    if (file.fd >= 0)
        close(file.fd);
    return rc;
}

bool store_is_damaged(const struct store *store)
{
    struct checks checks = checks_of(VERIFY_PAGES);
    struct image image = {.problems = 0};
    struct image_source source;
    struct file file;
    bool is_damaged = open_source(store, &file, &source, NULL) == 0 &&
                      check(&image, &source, &checks, NULL) == 0 && !image_is_sound(&image) &&
                      image.unreadable == 0;

    image_release(&image);
    if (file.fd >= 0)
        close(file.fd);
    return is_damaged;
}

int journal_verify(const char *path, enum verify_depth depth, struct verify_report *out_report,
                   struct error *err)
{
    struct store store;
    int rc = 1;

    if (!has_journal(path))
        return 0;
    if (store_lock(&store, path, err) < 0)
        rc = -1;
    else if (exists(&store, whole_name))
        *out_report =
            (struct verify_report){.problems = 1, .first_problem = "a salvage was interrupted"};
    else if (verify(&store, depth, out_report, err) < 0)
        rc = -1;
    store_release(&store);
    return rc;
}

/* ---- files ---- */

static int sync_folder(const struct store *store, struct error *err)
{
    return fsync(store->dir_fd) < 0 ? system_error(store, "cannot sync the folder", err) : 0;
}

/* What an earlier salvage has not finished building. */
static void remove_build(const struct store *store)
{
    unlinkat(store->dir_fd, build_data, 0);
    unlinkat(store->dir_fd, build_lock, 0);
    unlinkat(store->dir_fd, build_name, AT_REMOVEDIR);
}

/* A name for the damaged file that no other has. */
static void choose_name(const struct store *store, const struct clock *clock, char *out_name)
{
    time_t now = (time_t)(clock_wall_ms(clock) / 1000);
    struct tm utc = {0};
    char date[32];

    gmtime_r(&now, &utc);
    strftime(date, sizeof(date), "%Y%m%dT%H%M%SZ", &utc);
    snprintf(out_name, SALVAGE_NAME_SIZE, "data.mdb.damaged-%s", date);
    for (int i = 2; exists(store, out_name) && i < 1000; i++)
        snprintf(out_name, SALVAGE_NAME_SIZE, "data.mdb.damaged-%s-%d", date, i);
}

static int put_aside(const struct store *store, const struct clock *clock, char *out_name,
                     struct error *err)
{
    out_name[0] = '\0';
    if (!exists(store, data_name))
        return 0;
    choose_name(store, clock, out_name);
    if (renameat(store->dir_fd, data_name, store->dir_fd, out_name) < 0)
        return system_error(store, "cannot put data.mdb aside", err);
    unlinkat(store->dir_fd, lock_name, 0);
    return sync_folder(store, err);
}

/* Puts the new file, which is whole, into the place of the old one. */
static int finish(const struct store *store, const struct clock *clock, char *out_name,
                  struct error *err)
{
    if (put_aside(store, clock, out_name, err) < 0)
        return -1;
    if (renameat(store->dir_fd, whole_name, store->dir_fd, data_name) < 0)
        return system_error(store, "cannot put the salvaged file in its place", err);
    return sync_folder(store, err);
}

/* ---- salvaging ---- */

static int build(const struct store *store, const struct plan *plan, struct salvage_report *report,
                 struct error *err)
{
    char path[4200];
    int fd;
    int rc = -1;

    remove_build(store);
    snprintf(path, sizeof(path), "%s/%s", store->path, build_name);
    if (mkdirat(store->dir_fd, build_name, 0700) < 0)
        return system_error(store, "cannot make a folder for the salvage", err);
    if (plan_write(plan, path, report, err) < 0)
        goto out;
    fd = openat(store->dir_fd, build_data, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        system_error(store, "cannot sync the salvaged file", err);
    else if (renameat(store->dir_fd, build_data, store->dir_fd, whole_name) < 0)
        system_error(store, "cannot name the salvaged file", err);
    else
        rc = sync_folder(store, err);
    if (fd >= 0)
        close(fd);
out:
    remove_build(store);
    return rc;
}

static void describe(const struct plan *plan, struct salvage_report *report)
{
    report->lost = plan->lost;
    report->lost_since_ms = plan->lost_since_ms;
    report->lost_until_ms = plan->lost_until_ms;
    report->cursors = plan->cursor_count;
    report->are_cursors_known = plan->image->is_known[STORE_CURSORS];
    report->is_whole = plan->is_whole;
}

static int refuse_foreign(const struct store *store, struct error *err)
{
    return error_set(err, ERROR_CONFIG,
                     "journal %s: data.mdb is a database of something else; give the journal a "
                     "folder of its own",
                     store->path);
}

/* When there is nothing of ours in it, a database with other names is somebody's, damaged or not.
 */
static int salvage_nothing(const struct store *store, const struct image *image,
                           const struct clock *clock, struct salvage_report *report,
                           struct error *err)
{
    return image->is_foreign ? refuse_foreign(store, err)
                             : put_aside(store, clock, report->set_aside, err);
}

static int salvage_image(const struct store *store, const struct image *image,
                         const struct clock *clock, struct salvage_report *report,
                         struct error *err)
{
    struct plan plan;
    int rc = plan_make(&plan, image, err);

    if (rc == 0) {
        describe(&plan, report);
        if (plan_is_empty(&plan))
            rc = salvage_nothing(store, image, clock, report, err);
        else if (build(store, &plan, report, err) < 0)
            rc = -1;
        else
            rc = finish(store, clock, report->set_aside, err);
    }
    plan_release(&plan);
    return rc;
}

static int salvage(const struct store *store, const struct clock *clock,
                   struct salvage_report *report, struct error *err)
{
    struct checks checks = checks_of(VERIFY_PAGES);
    struct image_source source;
    struct image image = {.problems = 0};
    struct file file;
    int rc = open_source(store, &file, &source, err);

    if (rc == 0)
        rc = check(&image, &source, &checks, err);
    if (rc == 0 && is_foreign(&image))
        rc = refuse_foreign(store, err);
    else if (rc == 0)
        rc = salvage_image(store, &image, clock, report, err);
    image_release(&image);
    if (file.fd >= 0)
        close(file.fd);
    return rc;
}

int journal_salvage(const char *path, const struct clock *clock, struct salvage_report *out_report,
                    struct error *err)
{
    struct salvage_report report = {.is_whole = true, .are_cursors_known = true};
    struct store store;
    int rc;

    if (!has_journal(path))
        return 0;
    rc = store_lock(&store, path, err);
    if (rc == 0 && exists(&store, whole_name))
        rc = finish(&store, clock, report.set_aside, err);
    else if (rc == 0)
        rc = salvage(&store, clock, &report, err);
    store_release(&store);
    if (rc < 0)
        return -1;
    *out_report = report;
    return 1;
}

int journal_set_aside(const char *path, const struct clock *clock, char *out_name,
                      struct error *err)
{
    struct store store;
    int rc = store_lock(&store, path, err);

    if (rc == 0)
        rc = put_aside(&store, clock, out_name, err);
    store_release(&store);
    return rc;
}
