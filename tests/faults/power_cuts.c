/*
 * A power cut at every operation of a trace: rebuilds what the disk could hold, lets the product
 * recover it, and compares with what the world knew at that moment.
 *
 *     power_cuts TRACE WORK SEED DAMAGES
 *
 * WORK is an empty folder, best in memory. One line of JSON with figures; exit code 1 and a
 * sentence for the first state that breaks the promise.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "schemas/event.h"
#include "tests/faults/disk.h"
#include "tests/faults/recovered.h"
#include "tests/faults/script.h"

enum { MAX_EVENTS = 100000 };

/* What the world knows of an event. */
enum { SENT = 1, ANSWERED = 2, DELIVERED = 4 };

/* Shared with the child that does the work, so that its death can be told. */
struct progress {
    size_t operation;
    unsigned damage;
    uint64_t states;
    uint64_t recovered_events;
    char failure[512];
};

struct cuts {
    struct trace trace;
    struct disk *disk;
    const char *work;
    uint64_t seed;
    unsigned damages;
    unsigned char known[MAX_EVENTS];
    size_t known_count; /* events below this may be known */
    struct progress *progress;
};

static bool broken(struct cuts *cuts, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Always false. */
static bool broken(struct cuts *cuts, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(cuts->progress->failure, sizeof(cuts->progress->failure), format, arguments);
    va_end(arguments);
    return false;
}

/* ---- what was found ---- */

static bool check_sequence(struct cuts *cuts, const struct recovered *recovered)
{
    struct journal_numbers numbers;
    uint64_t cursor = recovered_cursor(recovered, SCRIPT_PUBLISHER);

    for (size_t i = 1; i < recovered->event_count; i++) {
        if (recovered->events[i]->record->seq != recovered->events[i - 1]->record->seq + 1)
            return broken(cuts, "lost: no event between %" PRIu64 " and %" PRIu64,
                          recovered->events[i - 1]->record->seq, recovered->events[i]->record->seq);
    }
    if (recovered->event_count && recovered->events[0]->record->seq > cursor + 1)
        return broken(cuts,
                      "lost: the events from %" PRIu64 " on are kept, the cursor is at %" PRIu64,
                      recovered->events[0]->record->seq, cursor);
    journal_numbers(recovered->journal, &numbers);
    if (numbers.damaged)
        return broken(cuts, "%" PRIu64 " records are damaged", numbers.damaged);
    return true;
}

/* Marks an event as kept; false when it is none that was sent, or other bytes. */
static bool keep(struct cuts *cuts, const struct event *event, unsigned char *kept)
{
    size_t number = script_number(event);

    if (number >= cuts->known_count || !(cuts->known[number] & SENT))
        return broken(cuts, "invented: number %" PRIu64 " is no event that was sent",
                      event->record->seq);
    kept[number] = 1;
    return true;
}

/* `kept`: what will be published, is parked or is dead. */
static bool collect(struct cuts *cuts, const struct recovered *recovered, unsigned char *kept)
{
    uint64_t cursor = recovered_cursor(recovered, SCRIPT_PUBLISHER);
    unsigned char *there = calloc(1, MAX_EVENTS);
    bool is_good = there != NULL;

    for (size_t i = 0; i < recovered->event_count && is_good; i++)
        is_good = keep(cuts, recovered->events[i],
                       recovered->events[i]->record->seq > cursor ? kept : there);
    for (size_t i = 0; i < recovered->parked_count && is_good; i++)
        is_good = keep(cuts, recovered->parked[i].event, kept);
    for (size_t i = 0; i < recovered->dead_count && is_good; i++)
        is_good = keep(cuts, recovered->dead[i].event, kept);
    free(there);
    return is_good;
}

static bool check_kept(struct cuts *cuts, const unsigned char *kept)
{
    for (size_t i = 0; i < cuts->known_count; i++) {
        if ((cuts->known[i] & ANSWERED) && !(cuts->known[i] & DELIVERED) && !kept[i])
            return broken(cuts, "lost: event %zu was answered 2xx", i);
    }
    return true;
}

/* Close delivers everything again: what is there is a duplicate, what is not is accepted now. */
static bool check_answer(struct cuts *cuts, size_t number, enum delivery_outcome outcome,
                         const unsigned char *kept)
{
    bool is_here = kept[number] || (cuts->known[number] & DELIVERED);

    if (outcome == DELIVERY_UNAVAILABLE)
        return broken(cuts, "event %zu is not taken after the recovery", number);
    if (outcome == DELIVERY_DUPLICATE && !is_here)
        return broken(cuts, "lost: event %zu is called a duplicate and is not there", number);
    if (outcome != DELIVERY_DUPLICATE && (cuts->known[number] & ANSWERED))
        return broken(cuts, "duplicated: event %zu was answered 2xx before and is accepted again",
                      number);
    return true;
}

static void ignore_stored(void *context, struct event *const *events, size_t count)
{
    (void)context;
    (void)events;
    (void)count;
}

static bool redeliver(struct cuts *cuts, const struct recovered *recovered,
                      const unsigned char *kept)
{
    struct script_post *posts = calloc(cuts->known_count + 1, sizeof(*posts));
    struct error err = {0};
    bool is_good = true;

    if (!posts || journal_start(recovered->journal, ignore_stored, NULL, &err) < 0)
        return broken(cuts, "%s", err.message);
    for (size_t i = 0; i < cuts->known_count; i++) {
        if (cuts->known[i] & SENT)
            script_post(recovered->journal, &posts[i], i, false);
    }
    for (size_t i = 0; i < cuts->known_count; i++) {
        if (cuts->known[i] & SENT) {
            enum delivery_outcome outcome = script_wait(&posts[i]);

            is_good = is_good && check_answer(cuts, i, outcome, kept);
        }
    }
    free(posts);
    return is_good;
}

static bool check_recovery(struct cuts *cuts, const char *path)
{
    struct journal_options options = script_options(path);
    unsigned char *kept = calloc(1, MAX_EVENTS);
    struct recovered recovered;
    struct error err = {0};
    bool is_good;

    if (!kept)
        return broken(cuts, "out of memory");
    if (recovered_open(&recovered, &options, &err) < 0)
        is_good = broken(cuts, "not recovered: %s", err.message);
    else
        is_good = check_sequence(cuts, &recovered) && collect(cuts, &recovered, kept) &&
                  check_kept(cuts, kept) && redeliver(cuts, &recovered, kept);
    cuts->progress->recovered_events += recovered.event_count;
    recovered_release(&recovered);
    free(kept);
    return is_good;
}

/* ---- all states ---- */

static void learn(struct cuts *cuts, const struct operation *operation)
{
    char text[64] = "";
    char kind;
    size_t number;

    memcpy(text, operation->bytes,
           operation->entry.size < sizeof(text) ? operation->entry.size : sizeof(text) - 1);
    if (sscanf(text, "%c %zu", &kind, &number) != 2 || number >= MAX_EVENTS)
        return;
    cuts->known[number] |= kind == 'S' ? SENT : kind == 'A' ? ANSWERED : DELIVERED;
    if (number >= cuts->known_count)
        cuts->known_count = number + 1;
}

static void empty_folder(const char *path)
{
    static const char *const names[] = {"journal/data.mdb", "journal/lock.mdb", "journal/pid",
                                        "journal"};
    char full[4096];

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        snprintf(full, sizeof(full), "%s/%s", path, names[i]);
        if (unlink(full) < 0)
            rmdir(full);
    }
}

static bool cut(struct cuts *cuts, size_t at, unsigned damage)
{
    const struct operation *current = at < cuts->trace.count ? &cuts->trace.operations[at] : NULL;
    char path[4096];

    cuts->progress->operation = at;
    cuts->progress->damage = damage;
    empty_folder(cuts->work);
    disk_write_remains(cuts->disk, current, damage, cuts->seed * 1000003 + at, cuts->work);
    snprintf(path, sizeof(path), "%s/journal", cuts->work);
    cuts->progress->states++;
    return check_recovery(cuts, path);
}

/* Where nothing is unsynced all kinds of damage leave the same. */
static bool cut_in_all_ways(struct cuts *cuts, size_t at)
{
    bool is_stable =
        disk_unsynced(cuts->disk) == 0 &&
        (at == cuts->trace.count || cuts->trace.operations[at].entry.kind == TRACE_SYNC ||
         cuts->trace.operations[at].entry.kind == TRACE_SYNC_DIR);
    unsigned damages = is_stable ? 1 : cuts->damages;

    for (unsigned damage = 0; damage < damages; damage++) {
        if (!cut(cuts, at, damage))
            return false;
    }
    return true;
}

static bool cut_everywhere(struct cuts *cuts)
{
    for (size_t at = 0; at < cuts->trace.count; at++) {
        const struct operation *operation = &cuts->trace.operations[at];

        if (operation->entry.kind == TRACE_MARK)
            learn(cuts, operation);
        else if (!cut_in_all_ways(cuts, at))
            return false;
        disk_apply(cuts->disk, operation);
    }
    return cut_in_all_ways(cuts, cuts->trace.count);
}

static void tell_failure(const struct cuts *cuts, int status)
{
    const struct progress *progress = cuts->progress;
    char what[128] = "the end";

    if (progress->operation < cuts->trace.count)
        operation_describe(&cuts->trace.operations[progress->operation], what, sizeof(what));
    if (WIFSIGNALED(status))
        fprintf(stderr, "the recovery died of signal %d", WTERMSIG(status));
    else
        fprintf(stderr, "%s", progress->failure);
    fprintf(stderr, "; power cut at operation %zu of %zu (%s), damage %u, seed %" PRIu64 "\n",
            progress->operation, cuts->trace.count, what, progress->damage, cuts->seed);
}

/* A recovery that dies must not take the report with it. */
static int run(struct cuts *cuts)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        cuts->disk = disk_new();
        _exit(cut_everywhere(cuts) ? EXIT_SUCCESS : EXIT_FAILURE);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return EXIT_FAILURE;
    printf("{\"operations\": %zu, \"states\": %" PRIu64 ", \"events\": %" PRIu64 "}\n",
           cuts->trace.count, cuts->progress->states, cuts->progress->recovered_events);
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS)
        return EXIT_SUCCESS;
    tell_failure(cuts, status);
    return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    static struct cuts cuts;
    int rc;

    if (argc != 5) {
        fprintf(stderr, "usage: power_cuts TRACE WORK SEED DAMAGES\n");
        return 64;
    }
    log_configure(LOG_ERROR, LOG_LOGFMT);
    cuts.work = argv[2];
    cuts.seed = strtoull(argv[3], NULL, 10);
    cuts.damages = (unsigned)strtoul(argv[4], NULL, 10);
    cuts.progress = mmap(NULL, sizeof(*cuts.progress), PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (cuts.progress == MAP_FAILED || !trace_read(argv[1], &cuts.trace))
        return EXIT_FAILURE;
    rc = run(&cuts);
    trace_release(&cuts.trace);
    return rc;
}
