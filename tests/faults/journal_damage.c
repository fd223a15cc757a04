/*
 * One flipped bit in a journal's file, anywhere: what a start does about it, and what is left.
 *
 *     journal_damage JOURNAL WORK SEED STRIDE
 *     journal_damage JOURNAL WORK BYTE.BIT      one bit
 *
 * JOURNAL is the folder of a journal that journal_script made; WORK an empty folder, best in
 * memory. Of each page the head is damaged byte by byte, of the rest one byte in STRIDE, of each of
 * these bytes one bit. With STRIDE 0: every bit of what leads to the events, which is the meta
 * pages, what is used of those of the trees, and the heads of long values. The journal is verified,
 * salvaged when that finds damage, opened and read, each time in a process of its own. One line of
 * JSON with figures; exit code 1 and a sentence for each bit, of the first ones, that breaks the
 * promise.
 *
 * Left out is the number of a commit in its meta page: when a bit makes that of the newest one
 * lower by two, the file is as LMDB leaves it after a write that failed, and the commit before
 * counts.
 */
#include <dirent.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/journal/journal_image.h"
#include "bridge/journal/journal_salvage.h"
#include "schemas/event.h"
#include "tests/faults/recovered.h"
#include "tests/faults/script.h"

enum {
    PAGE = 4096,
    PAGE_HEAD = 16,
    META_SIZE = 152, /* of a meta page, what is used; at its end there is ... */
    COMMIT = 144,    /* ... the number of the commit */
    MAX_EVENTS = 100000,
    ENDS_WITHIN_S = 20,
    SAID_AT_MOST = 20,
};

/* Where an event is. */
enum { PENDING = 1, PARKED = 2, DEAD = 4 };

struct result {
    bool is_salvaged;
    unsigned missing;
    char failure[400];
};

struct damage {
    unsigned char *bytes; /* of the sound file */
    size_t size;
    size_t used; /* behind it there are zeros */
    const char *work;
    unsigned char *places; /* by event of the script, in the sound journal */
    uint64_t cursor;
    struct result *result; /* shared with the child */
    uint64_t states;
    uint64_t salvaged;
    uint64_t with_loss;
    uint64_t broken;
};

static void fail(struct damage *damage, const char *what, const char *why)
{
    snprintf(damage->result->failure, sizeof(damage->result->failure), "%s%s", what, why);
}

static void place(struct damage *damage, const struct event *event, unsigned char where,
                  unsigned char *places)
{
    size_t number = script_number(event);

    if (number >= MAX_EVENTS)
        fail(damage, "invented: an event is none that was stored", "");
    else
        places[number] |= where;
}

static void find_places(struct damage *damage, const struct recovered *recovered,
                        unsigned char *places)
{
    uint64_t cursor = recovered_cursor(recovered, SCRIPT_PUBLISHER);

    for (size_t i = 0; i < recovered->event_count; i++) {
        if (recovered->events[i]->record->seq > cursor)
            place(damage, recovered->events[i], PENDING, places);
    }
    for (size_t i = 0; i < recovered->parked_count; i++)
        place(damage, recovered->parked[i].event, PARKED, places);
    for (size_t i = 0; i < recovered->dead_count; i++)
        place(damage, recovered->dead[i].event, DEAD, places);
}

/* One bit is in one event or letter; whatever else it hits, the others are still there. */
static void compare(struct damage *damage, const unsigned char *places)
{
    unsigned missing = 0;

    for (size_t i = 0; i < MAX_EVENTS; i++)
        missing += damage->places[i] != 0 && places[i] == 0;
    damage->result->missing = missing;
    if (missing > 1)
        fail(damage, "lost: more than the event that was hit", "");
}

static void take_events(void *context, struct event *const *events, size_t count)
{
    (void)context;
    (void)events;
    (void)count;
}

static void check_use(struct damage *damage, const struct recovered *recovered)
{
    static struct script_post post;
    struct error err = {0};

    if (journal_start(recovered->journal, take_events, NULL, &err) < 0) {
        fail(damage, "it cannot be used: ", err.message);
        return;
    }
    script_post(recovered->journal, &post, MAX_EVENTS - 1, false);
    if (script_wait(&post) == DELIVERY_UNAVAILABLE)
        fail(damage, "it takes no events: ", post.delivery.reason);
}

static void read_and_compare(struct damage *damage, const char *path)
{
    struct journal_options options = script_options(path);
    unsigned char *places = calloc(1, MAX_EVENTS);
    struct recovered recovered;
    struct error err = {0};

    if (recovered_open(&recovered, &options, &err) < 0) {
        fail(damage, "it cannot be opened: ", err.message);
    } else {
        find_places(damage, &recovered, places);
        compare(damage, places);
        check_use(damage, &recovered);
    }
    recovered_release(&recovered);
    free(places);
}

/* What a start does (bridge/journal/journal_guard.h). */
static void recover(struct damage *damage, const char *path)
{
    struct verify_report verified = {0};
    struct salvage_report salvaged = {0};
    struct error err = {0};

    if (journal_verify(path, VERIFY_PENDING, &verified, &err) < 0) {
        fail(damage, "it is not verified: ", err.message);
        return;
    }
    damage->result->is_salvaged = !verified.is_sound;
    if (!verified.is_sound && journal_salvage(path, &clock_system, &salvaged, &err) < 0) {
        fail(damage, "it is not salvaged: ", err.message);
        return;
    }
    read_and_compare(damage, path);
}

static void write_journal(const struct damage *damage, const char *path)
{
    char name[4200];
    FILE *file;

    mkdir(path, 0700);
    snprintf(name, sizeof(name), "%s/data.mdb", path);
    file = fopen(name, "wb");
    if (!file || fwrite(damage->bytes, 1, damage->used, file) != damage->used ||
        ftruncate(fileno(file), (off_t)damage->size) < 0 || fclose(file) != 0) {
        perror(name);
        exit(EXIT_FAILURE);
    }
}

/* With what a salvage may have put beside the file. */
static void remove_folder(const char *path)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;

    if (!dir)
        return;
    while ((entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            unlinkat(dirfd(dir), entry->d_name, 0);
    }
    closedir(dir);
    if (rmdir(path) < 0) {
        perror(path);
        exit(EXIT_FAILURE);
    }
}

/* False when the promise is broken. */
static bool holds(struct damage *damage, size_t at, unsigned bit, const char *path)
{
    int status;
    pid_t pid;

    damage->bytes[at] ^= (unsigned char)(1U << bit);
    write_journal(damage, path);
    damage->bytes[at] ^= (unsigned char)(1U << bit);
    memset(damage->result, 0, sizeof(*damage->result));
    pid = fork();
    if (pid == 0) {
        alarm(ENDS_WITHIN_S);
        recover(damage, path);
        _exit(EXIT_SUCCESS);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return false;
    if (WIFSIGNALED(status))
        snprintf(damage->result->failure, sizeof(damage->result->failure), "it %s",
                 WTERMSIG(status) == SIGALRM ? "does not end" : "kills who reads it");
    damage->states++;
    damage->salvaged += damage->result->is_salvaged;
    damage->with_loss += damage->result->missing > 0;
    remove_folder(path);
    return damage->result->failure[0] == '\0';
}

static void try_bit(struct damage *damage, size_t at, unsigned bit, const char *path)
{
    bool is_commit = at / PAGE < 2 && at % PAGE >= COMMIT && at % PAGE < META_SIZE;

    if (is_commit || holds(damage, at, bit, path) || damage->broken++ >= SAID_AT_MOST)
        return;
    fprintf(stderr, "%s; bit %u of byte %zu of the file (%zu of page %zu)\n",
            damage->result->failure, bit, at, at % PAGE, at / PAGE);
}

static void sweep(struct damage *damage, uint64_t seed, size_t stride, const char *path)
{
    uint64_t random = seed * 2 + 1;

    for (size_t at = 0; at < damage->used; at++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        if (at % PAGE < PAGE_HEAD || random % stride == 0)
            try_bit(damage, at, (unsigned)(random >> 20) % 8, path);
    }
}

/* ---- what leads to the events ---- */

static bool read_bytes(void *context, uint64_t offset, void *to, size_t size)
{
    const struct damage *damage = context;

    memcpy(to, damage->bytes + offset, size);
    return true;
}

/* Whether the byte `at` of a page leads somewhere, by what the page is used for. */
static bool leads(const unsigned char *page, enum image_page kind, size_t at)
{
    uint16_t lower;
    uint16_t upper;

    memcpy(&lower, page + 12, sizeof(lower)); /* of a tree: between them lies nothing */
    memcpy(&upper, page + 14, sizeof(upper));
    switch (kind) {
    case PAGE_META:
        return at < META_SIZE;
    case PAGE_BRANCH:
    case PAGE_LEAF:
        return at < lower || at >= upper;
    case PAGE_LONG:
        return at < PAGE_HEAD;
    case PAGE_LONG_REST:
    case PAGE_FREE:
    case PAGE_UNKNOWN:
        break;
    }
    return false;
}

static void sweep_structure(struct damage *damage, const char *path)
{
    struct image_source source = {damage, damage->size, read_bytes};
    struct image image;

    if (image_read(&image, &source, NULL, NULL) < 0)
        exit(EXIT_FAILURE);
    for (size_t at = 0; at < damage->used; at++) {
        if (!leads(damage->bytes + at / PAGE * PAGE, (enum image_page)image.pages[at / PAGE],
                   at % PAGE))
            continue;
        for (unsigned bit = 0; bit < 8; bit++)
            try_bit(damage, at, bit, path);
    }
    image_release(&image);
}

static void read_sound(struct damage *damage, const char *journal)
{
    struct journal_options options = script_options(journal);
    struct recovered recovered;
    struct error err = {0};

    if (recovered_open(&recovered, &options, &err) < 0) {
        fprintf(stderr, "%s\n", err.message);
        exit(EXIT_FAILURE);
    }
    find_places(damage, &recovered, damage->places);
    damage->cursor = recovered_cursor(&recovered, SCRIPT_PUBLISHER);
    recovered_release(&recovered);
}

static void load(struct damage *damage, const char *journal)
{
    char name[4200];
    struct stat st;
    FILE *file;

    snprintf(name, sizeof(name), "%s/data.mdb", journal);
    file = fopen(name, "rb");
    if (!file || fstat(fileno(file), &st) < 0) {
        perror(name);
        exit(EXIT_FAILURE);
    }
    damage->size = (size_t)st.st_size;
    damage->bytes = malloc(damage->size);
    if (!damage->bytes || fread(damage->bytes, 1, damage->size, file) != damage->size)
        exit(EXIT_FAILURE);
    fclose(file);
    damage->used = damage->size;
    while (damage->used && damage->bytes[damage->used - 1] == 0)
        damage->used--;
}

int main(int argc, char **argv)
{
    static struct damage damage;
    char path[4100];
    uint64_t seed;
    size_t stride;
    char *rest;

    if (argc != 5 && argc != 4)
        return 64;
    log_configure(LOG_ERROR + 1, LOG_LOGFMT);
    snprintf(path, sizeof(path), "%s/journal", argv[2]);
    damage.work = argv[2];
    damage.places = calloc(1, MAX_EVENTS);
    damage.result = mmap(NULL, sizeof(*damage.result), PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!damage.places || damage.result == MAP_FAILED)
        return EXIT_FAILURE;
    read_sound(&damage, argv[1]);
    load(&damage, argv[1]);
    seed = strtoull(argv[3], &rest, 10);
    stride = argc == 5 ? strtoul(argv[4], NULL, 10) : 0;
    if (argc == 4 && *rest == '.' && seed < damage.used)
        try_bit(&damage, (size_t)seed, (unsigned)strtoul(rest + 1, NULL, 10) % 8, path);
    else if (stride)
        sweep(&damage, seed, stride, path);
    else
        sweep_structure(&damage, path);
    printf("{\"bytes\": %zu, \"states\": %" PRIu64 ", \"salvaged\": %" PRIu64
           ", \"with_loss\": %" PRIu64 "}\n",
           damage.used, damage.states, damage.salvaged, damage.with_loss);
    free(damage.bytes);
    free(damage.places);
    return damage.broken ? EXIT_FAILURE : EXIT_SUCCESS;
}
