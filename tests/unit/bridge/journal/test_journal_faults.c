/*
 * Failing disks and kill -9. This program defines the calls that LMDB makes to its file, so that
 * they can fail on command; the executable exports them (-rdynamic), which puts them before libc's.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "bridge/base/error.h"
#include "bridge/base/text.h"
#include "bridge/base/thread.h"
#include "bridge/journal/journal_store.h"
#include "schemas/event.h"
#include "tests/unit/bridge/journal/journal_fixture.h"

/* ---- the calls ---- */

enum call { CALL_FDATASYNC = 1, CALL_PWRITE = 2, CALL_WRITEV = 4, CALL_META = 8 };

static struct {
    atomic_uint calls;     /* which calls count */
    atomic_int countdown;  /* the call that brings it to 0 fails; 0: none */
    atomic_bool for_ever;  /* all from there on fail */
    atomic_int error;      /* errno, or 0 for a short write */
    atomic_bool lands;     /* the meta page is written all the same, and taking it back fails */
    atomic_bool drop_next; /* the next write fails as well */
    atomic_int fired;      /* how often something failed */
    atomic_llong disk_end; /* the disk ends here; 0: never */
    atomic_int past_end;   /* writes that met the end of the disk */
} fault;

static void arm(unsigned calls, int countdown, int error, bool for_ever)
{
    atomic_store(&fault.fired, 0);
    atomic_store(&fault.error, error);
    atomic_store(&fault.for_ever, for_ever);
    atomic_store(&fault.calls, calls);
    atomic_store(&fault.countdown, countdown);
}

static void disarm(void)
{
    atomic_store(&fault.countdown, 0);
    atomic_store(&fault.lands, false);
}

static int reset(void **state)
{
    disarm();
    atomic_store(&fault.drop_next, false);
    atomic_store(&fault.disk_end, 0);
    return fixture_setup(state);
}

static bool fires(enum call call)
{
    int left = atomic_load(&fault.countdown);

    if (left == 0 || !(atomic_load(&fault.calls) & call))
        return false;
    if (left > 1) {
        atomic_store(&fault.countdown, left - 1);
        return false;
    }
    if (!atomic_load(&fault.for_ever))
        atomic_store(&fault.countdown, 0);
    atomic_fetch_add(&fault.fired, 1);
    return true;
}

static bool meets_end(off_t offset, size_t size)
{
    long long end = atomic_load(&fault.disk_end);

    return end && offset + (long long)size > end;
}

static bool is_meta(int fd)
{
    return (fcntl(fd, F_GETFL) & O_DSYNC) != 0;
}

/* What a write that fails returns; -2 when it does not fail. */
static ssize_t failure(enum call call, off_t offset, size_t size)
{
    if (meets_end(offset, size)) {
        atomic_fetch_add(&fault.past_end, 1);
        errno = ENOSPC;
        return -1;
    }
    if (!fires(call))
        return -2;
    errno = atomic_load(&fault.error);
    return errno ? -1 : (ssize_t)(size / 2);
}

/* libc's headers use reserved names for the parameters.
 * NOLINTBEGIN(readability-inconsistent-declaration-parameter-name) */

int fdatasync(int fd)
{
    if (fires(CALL_FDATASYNC)) {
        errno = atomic_load(&fault.error);
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
    ssize_t n;

    if (atomic_exchange(&fault.drop_next, false)) {
        errno = EIO;
        return -1;
    }
    n = failure(is_meta(fd) ? CALL_META : CALL_PWRITE, offset, size);
    if (n == -2)
        return syscall(SYS_pwrite64, fd, bytes, size, offset);
    if (atomic_load(&fault.lands)) {
        syscall(SYS_pwrite64, fd, bytes, size, offset);
        atomic_store(&fault.drop_next, true);
        errno = EIO;
        return -1;
    }
    return n > 0 ? syscall(SYS_pwrite64, fd, bytes, (size_t)n, offset) : n;
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    size_t size = 0;
    ssize_t n;

    for (int i = 0; i < count; i++)
        size += parts[i].iov_len;
    n = failure(CALL_WRITEV, lseek(fd, 0, SEEK_CUR), size);
    return n == -2 ? syscall(SYS_writev, fd, parts, count) : n;
}

int fallocate(int fd, int mode, off_t offset, off_t size)
{
    if (meets_end(offset, (size_t)size)) {
        errno = ENOSPC;
        return -1;
    }
    return (int)syscall(SYS_fallocate, fd, mode, offset, size);
}

/* NOLINTEND(readability-inconsistent-declaration-parameter-name) */

/* ---- helpers ---- */

static bool accepts(struct fixture *fixture)
{
    return fixture_numbers(fixture).can_accept;
}

static bool refuses(struct fixture *fixture)
{
    return !accepts(fixture);
}

static bool has_once(struct fixture *fixture, const char *id)
{
    char *ids = malloc(1 << 20);
    const char *at = ids;
    size_t found = 0;

    fixture_read_ids(fixture, 0, ids, 1 << 20);
    for (at = strstr(at, id); at; at = strstr(at + 1, id)) {
        char end = at[strlen(id)];

        found += (at == ids || at[-1] == ' ') && (end == ' ' || end == '\0');
    }
    free(ids);
    return found == 1;
}

/* ---- failing calls ---- */

enum { POSTS = 12 };

/*
 * Posts events one after the other while the n-th call fails. Whatever is answered 2xx is there,
 * now and after a restart; what is refused can be sent again, is stored then, and once.
 */
static int post_through_fault(struct fixture *fixture, unsigned calls, int n, int error)
{
    bool accepted[POSTS];
    char id[32];
    int refused = 0;

    fixture_open_with(fixture, &clock_system);
    arm(calls, n, error, false);
    for (int i = 0; i < POSTS; i++) {
        enum delivery_outcome outcome;

        snprintf(id, sizeof(id), "e%u_%d_%d_%d", calls, n, error, i);
        outcome = fixture_post(fixture, fixture_event(id, "", id, (size_t)i * 900));
        accepted[i] = outcome == DELIVERY_ACCEPTED;
        refused += !accepted[i];
        assert_true(accepted[i] || outcome == DELIVERY_UNAVAILABLE);
    }
    disarm();
    assert_true(fixture_until(fixture, accepts));
    for (int i = 0; i < POSTS; i++) {
        snprintf(id, sizeof(id), "e%u_%d_%d_%d", calls, n, error, i);
        assert_int_equal(fixture_post(fixture, fixture_event(id, "", id, (size_t)i * 900)),
                         accepted[i] ? DELIVERY_DUPLICATE : DELIVERY_ACCEPTED);
        assert_true(has_once(fixture, id));
    }
    fixture_close(fixture);
    fixture_open_with(fixture, &clock_system);
    for (int i = 0; i < POSTS; i++) {
        snprintf(id, sizeof(id), "e%u_%d_%d_%d", calls, n, error, i);
        assert_true(has_once(fixture, id));
    }
    fixture_close(fixture);
    return refused;
}

static void a_failed_sync_is_never_answered_2xx(void **state)
{
    struct fixture *fixture = *state;
    int fired = 0;

    for (int n = 1; n <= 30; n++) {
        int refused = post_through_fault(fixture, CALL_FDATASYNC, n, EIO);

        /* every commit of this test is of one event, so the failed one is refused and no other */
        assert_int_equal(refused, atomic_load(&fault.fired));
        fired += refused;
    }
    assert_true(fired >= POSTS);
}

static void a_failed_write_is_never_answered_2xx(void **state)
{
    static const unsigned calls[] = {CALL_PWRITE, CALL_WRITEV, CALL_META};
    static const int errors[] = {EIO, ENOSPC, 0};
    struct fixture *fixture = *state;
    int fired = 0;

    for (size_t c = 0; c < 3; c++) {
        for (size_t e = 0; e < 3; e++) {
            for (int n = 1; n <= 10; n++) {
                int refused = post_through_fault(fixture, calls[c], n, errors[e]);

                assert_true(refused <= 1);
                assert_true(refused || atomic_load(&fault.fired) == 0);
                fired += refused;
            }
        }
    }
    assert_true(fired >= 60);
}

/*
 * The worst of a failing meta page: the write is reported failed but is on the disk, and LMDB's
 * taking back fails too. The commit is there after the reopening although it was refused.
 */
static void a_refused_commit_that_landed_is_taken_out_again(void **state)
{
    struct fixture *fixture = *state;

    fixture_open_with(fixture, &clock_system);
    assert_int_equal(fixture_post_id(fixture, "before"), DELIVERY_ACCEPTED);
    atomic_store(&fault.lands, true);
    arm(CALL_META, 1, EIO, false);
    assert_int_equal(fixture_post_id(fixture, "refused"), DELIVERY_UNAVAILABLE);
    disarm();
    assert_true(fixture_until(fixture, accepts));
    assert_false(fixture_has_id(fixture, "refused"));
    assert_int_equal(fixture_post_id(fixture, "other"), DELIVERY_ACCEPTED);
    assert_int_equal(fixture_post_id(fixture, "refused"), DELIVERY_ACCEPTED);
    fixture_close(fixture);
    fixture_open_with(fixture, &clock_system);
    assert_true(has_once(fixture, "before"));
    assert_true(has_once(fixture, "other"));
    assert_true(has_once(fixture, "refused"));
    assert_int_equal(fixture_count(fixture), 3);
}

static struct note bury_note(struct event *event)
{
    return (struct note){.kind = NOTE_BURY,
                         .publisher = "kafka",
                         .topic = "t",
                         .reason = "too_large",
                         .event = event};
}

struct reading {
    struct fixture *fixture;
    atomic_bool stop;
};

/* A reader in its own thread, as the dispatcher is. */
static void count_cursor(void *context, const char *publisher, uint64_t seq)
{
    (void)seq;
    *(int *)context += strcmp(publisher, "mqtt") == 0;
}

/* Else it would pin events, for a publisher that nobody configured. */
static void a_cursor_that_could_not_be_stored_is_not_there(void **state)
{
    struct fixture *fixture = *state;
    struct error err = {0};
    uint64_t seq = 77;
    int cursors = 0;

    fixture_open_with(fixture, &clock_system);
    assert_int_equal(fixture_post_id(fixture, "before"), DELIVERY_ACCEPTED);
    arm(CALL_PWRITE | CALL_WRITEV, 1, EIO, true);
    assert_int_equal(journal_add_cursor(fixture->journal, "mqtt", &seq, &err), -1);
    assert_int_equal(err.kind, ERROR_TRANSIENT);
    assert_string_equal(err.message, "the journal cannot store a cursor for mqtt now");
    assert_int_equal(seq, 77);
    disarm();
    assert_true(fixture_until(fixture, accepts));
    fixture_close(fixture);
    fixture->journal = journal_open(&fixture->options, &clock_system, &err);
    assert_non_null(fixture->journal);
    journal_visit_cursors(fixture->journal, count_cursor, &cursors);
    assert_int_equal(cursors, 0);
}

static void *read_all_the_time(void *argument)
{
    struct reading *reading = argument;
    struct event *events[16];
    struct error err;
    struct journal_reader *reader = journal_reader_open(reading->fixture->journal, &err);

    while (!atomic_load(&reading->stop)) {
        int count = journal_read(reader, 0, 16, 1 << 20, events, &err);

        while (count > 0)
            event_unref(events[--count]);
    }
    journal_reader_close(reader);
    return NULL;
}

static void while_the_disk_fails_it_says_so_and_then_goes_on_by_itself(void **state)
{
    struct fixture *fixture = *state;
    struct reading reading = {.fixture = fixture};
    struct error err = {0};
    struct event *event = fixture_event("dead", "", "x", 10);
    pthread_t thread;

    fixture_open_with(fixture, &clock_system);
    assert_int_equal(fixture_post_id(fixture, "before"), DELIVERY_ACCEPTED);
    assert_int_equal(thread_start(&thread, "reader", read_all_the_time, &reading, &err), 0);
    for (int round = 0; round < 5; round++) {
        char id[16];

        snprintf(id, sizeof(id), "e%d", round);
        arm(CALL_FDATASYNC | CALL_META | CALL_PWRITE, 1, EIO, true);
        assert_int_equal(fixture_post_id(fixture, id), DELIVERY_UNAVAILABLE);
        assert_true(fixture_until(fixture, refuses));
        assert_string_equal(fixture_numbers(fixture).trouble,
                            "the journal cannot write to its disk");
        assert_int_equal(fixture_post_id(fixture, id), DELIVERY_UNAVAILABLE);
        assert_int_equal(fixture_post_id(fixture, "before"), DELIVERY_DUPLICATE);
        assert_int_equal(fixture_note(fixture, bury_note(event)), NOTE_FAILED);
        assert_int_equal(fixture_settle(fixture, 1), NOTE_FAILED);
        disarm();
        assert_true(fixture_until(fixture, accepts));
        assert_int_equal(fixture_post_id(fixture, id), DELIVERY_ACCEPTED);
        assert_int_equal(fixture_note(fixture, bury_note(event)), NOTE_STORED);
    }
    atomic_store(&reading.stop, true);
    pthread_join(thread, NULL);
    assert_int_equal(fixture_count(fixture), 6);
    assert_int_equal(fixture_numbers(fixture).tail, 6);
    assert_int_equal(fixture_numbers(fixture).dead_count, 5);
    event_unref(event);
}

static void a_failing_disk_does_not_hinder_the_end(void **state)
{
    struct fixture *fixture = *state;

    fixture_open_with(fixture, &clock_system);
    assert_int_equal(fixture_post_id(fixture, "before"), DELIVERY_ACCEPTED);
    arm(CALL_FDATASYNC | CALL_META | CALL_PWRITE | CALL_WRITEV, 1, EIO, true);
    assert_int_equal(fixture_post_id(fixture, "e"), DELIVERY_UNAVAILABLE);
    fixture_close(fixture);
    disarm();
    fixture_open_with(fixture, &clock_system);
    assert_int_equal(fixture_count(fixture), 1);
}

static void count_damage(void *context)
{
    atomic_fetch_add((atomic_int *)context, 1);
}

static bool is_damaged(struct fixture *fixture)
{
    const char *trouble = fixture_numbers(fixture).trouble;

    return trouble && strcmp(trouble, "the file of the journal is damaged") == 0;
}

/* Both meta pages, past the calls that the test can make fail. */
static void wipe_meta_pages(const struct fixture *fixture)
{
    char name[400];
    void *pages;
    int fd;

    snprintf(name, sizeof(name), "%s/data.mdb", fixture->path);
    fd = open(name, O_RDWR);
    assert_true(fd >= 0);
    pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(pages, MAP_FAILED);
    memset(pages, 0, 8192);
    munmap(pages, 8192);
    close(fd);
}

static void a_file_that_is_damaged_meanwhile_is_not_waited_for(void **state)
{
    struct fixture *fixture = *state;
    atomic_int told = 0;

    fixture->options.on_damaged = count_damage;
    fixture->options.on_damaged_context = &told;
    fixture_open_with(fixture, &clock_system);
    assert_int_equal(fixture_post_id(fixture, "before"), DELIVERY_ACCEPTED);
    arm(CALL_FDATASYNC | CALL_META | CALL_PWRITE | CALL_WRITEV, 1, EIO, true);
    assert_int_equal(fixture_post_id(fixture, "refused"), DELIVERY_UNAVAILABLE);
    assert_int_equal(atomic_load(&told), 0); /* a disk that fails may recover */
    wipe_meta_pages(fixture);
    assert_true(fixture_until(fixture, is_damaged));
    disarm();
    assert_int_equal(fixture_post_id(fixture, "refused"), DELIVERY_UNAVAILABLE);
    assert_int_equal(atomic_load(&told), 1);
    fixture_close(fixture);
    assert_false(store_is_clean(fixture->path));
}

/* ---- a full disk ---- */

static void a_full_disk_refuses_before_any_write_fails_and_resumes(void **state)
{
    struct fixture *fixture = *state;
    struct event *event = fixture_event("dead", "", "x", 10);
    size_t accepted;

    fixture->options.max_size = UINT64_C(256) << 20;
    atomic_store(&fault.disk_end, 24 << 20);
    atomic_store(&fault.past_end, 0);
    fixture_open_with(fixture, &clock_system);
    accepted = fixture_fill(fixture, "a", 20000);
    assert_int_equal(atomic_load(&fault.past_end), 0);
    assert_in_range(accepted, 500, 1200);
    assert_string_equal(fixture_numbers(fixture).trouble, "the disk of the journal is full");
    assert_int_equal(fixture_note(fixture, bury_note(event)), NOTE_STORED);
    assert_int_equal(fixture_settle(fixture, accepted / 2), NOTE_STORED);
    /* delivered events give way although their retention is not over */
    assert_true(fixture_until(fixture, accepts));
    assert_int_equal(fixture_post_id(fixture, "b"), DELIVERY_ACCEPTED);
    for (int round = 0; round < 8; round++) {
        char prefix[16];

        snprintf(prefix, sizeof(prefix), "r%d_", round);
        fixture_fill(fixture, prefix, (size_t)(round % 5) * 9000 + 3000);
        assert_int_equal(fixture_note(fixture, bury_note(event)), NOTE_STORED);
        assert_int_equal(fixture_settle(fixture, fixture_numbers(fixture).tail - 50), NOTE_STORED);
        assert_true(fixture_until(fixture, accepts));
    }
    fixture_fill(fixture, "full", 3000);
    print_message("writes that met the end of the disk: %d\n", atomic_load(&fault.past_end));
    atomic_store(&fault.disk_end, 0); /* somebody made room */
    assert_true(fixture_until(fixture, accepts));
    assert_int_equal(fixture_post_id(fixture, "c"), DELIVERY_ACCEPTED);
    event_unref(event);
}

/* The blocks that were promised are not there: a copy on write or a thin disk. */
static void a_disk_that_breaks_its_promise_loses_nothing(void **state)
{
    struct fixture *fixture = *state;
    size_t accepted;

    fixture_open_with(fixture, &clock_system);
    assert_int_equal(fixture_post_id(fixture, "before"), DELIVERY_ACCEPTED);
    atomic_store(&fault.disk_end, 600 << 10);
    accepted = fixture_fill(fixture, "a", 3000);
    assert_true(refuses(fixture));
    atomic_store(&fault.disk_end, 0);
    assert_true(fixture_until(fixture, accepts));
    assert_int_equal(fixture_post_id(fixture, "after"), DELIVERY_ACCEPTED);
    fixture_close(fixture);
    fixture_open_with(fixture, &clock_system);
    assert_int_equal(fixture_count(fixture), accepted + 2);
}

/* ---- kill -9 ---- */

struct answer {
    uint32_t round;
    uint32_t number;
};

enum { AT_ONCE = 64, ROUNDS = 20 };

static void child(struct fixture *fixture, uint32_t round, int pipe_fd)
{
    static struct post posts[AT_ONCE];

    fixture_open_with(fixture, &clock_system);
    for (uint32_t number = 0;; number += AT_ONCE) {
        for (uint32_t i = 0; i < AT_ONCE; i++) {
            char id[32];

            snprintf(id, sizeof(id), "k%u_%u", round, number + i);
            fixture_send(fixture, &posts[i], fixture_event(id, "", id, (number + i) % 5000));
        }
        for (uint32_t i = 0; i < AT_ONCE; i++) {
            struct answer answer = {round, number + i};

            if (fixture_wait(&posts[i]) != DELIVERY_ACCEPTED ||
                write(pipe_fd, &answer, sizeof(answer)) != sizeof(answer))
                _exit(1);
        }
        if (number % (AT_ONCE * 4) == 0)
            fixture_settle(fixture, fixture_numbers(fixture).tail / 2);
    }
}

/* Runs a child until it is killed after `ms`; returns how many answers it had reported in order. */
static uint32_t kill_after(struct fixture *fixture, uint32_t round, long ms)
{
    struct answer answer;
    uint32_t count = 0;
    int fds[2];
    int status;
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    assert_int_equal(fcntl(fds[1], F_SETPIPE_SZ, 1 << 20) > 0, 1);
    pid = fork();
    if (pid == 0) {
        close(fds[0]);
        child(fixture, round, fds[1]);
        _exit(1);
    }
    close(fds[1]);
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL); /* the length of the run */
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    while (read(fds[0], &answer, sizeof(answer)) == sizeof(answer)) {
        assert_int_equal(answer.number, count);
        count++;
    }
    close(fds[0]);
    return count;
}

static void every_answered_event_survives_kill_9(void **state)
{
    struct fixture *fixture = *state;
    unsigned seed = (unsigned)time(NULL);
    uint32_t answered[ROUNDS];
    uint32_t total = 0;

    print_message("seed %u\n", seed);
    fixture->options.max_size = UINT64_C(1) << 30;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        size_t stored;

        answered[round] = kill_after(fixture, round, 5 + rand_r(&seed) % 120);
        total += answered[round];
        fixture_open_with(fixture, &clock_system);
        stored = fixture_count(fixture);
        /* an answer may be lost with its process, an event may not */
        assert_true(stored >= total && stored <= total + (round + 1) * AT_ONCE);
        fixture_close(fixture);
    }
    assert_true(total > 0);
    fixture_open_with(fixture, &clock_system);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t number = 0; number < answered[round]; number++) {
            char id[32];

            snprintf(id, sizeof(id), "k%u_%u", round, number);
            assert_int_equal(fixture_post(fixture, fixture_event(id, "", id, number % 5000)),
                             DELIVERY_DUPLICATE);
        }
    }
}

#define FAULT_TEST(name) cmocka_unit_test_setup_teardown(name, reset, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAULT_TEST(a_failed_sync_is_never_answered_2xx),
        FAULT_TEST(a_failed_write_is_never_answered_2xx),
        FAULT_TEST(a_refused_commit_that_landed_is_taken_out_again),
        FAULT_TEST(a_cursor_that_could_not_be_stored_is_not_there),
        FAULT_TEST(while_the_disk_fails_it_says_so_and_then_goes_on_by_itself),
        FAULT_TEST(a_failing_disk_does_not_hinder_the_end),
        FAULT_TEST(a_file_that_is_damaged_meanwhile_is_not_waited_for),
        FAULT_TEST(a_full_disk_refuses_before_any_write_fails_and_resumes),
        FAULT_TEST(a_disk_that_breaks_its_promise_loses_nothing),
        FAULT_TEST(every_answered_event_survives_kill_9),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
