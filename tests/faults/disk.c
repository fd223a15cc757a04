#include "tests/faults/disk.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SECTOR = 512, MAX_FILES = 1024, MAX_NAMES = 64, NAME_SIZE = 256 };

/* A change of a file's content. */
struct change {
    uint64_t offset;
    uint64_t size;     /* of `bytes`; 0 when only the file's size changes */
    uint64_t new_size; /* the file's size is at least this after it */
    bool is_cut;       /* the file's size is exactly new_size after it */
    const char *bytes;
};

struct file {
    char *bytes; /* what lasts; beyond `size` it is zero */
    uint64_t size;
    uint64_t capacity;
    struct change *changes; /* not synced, in order */
    size_t change_count;
    size_t change_capacity;
};

struct name {
    char text[NAME_SIZE];
    uint32_t file;
    bool is_dir;
};

struct names {
    struct name *list;
    size_t count;
};

struct disk {
    struct file files[MAX_FILES];
    struct names lasting;
    const struct operation *name_changes[MAX_NAMES]; /* not synced, in order */
    size_t name_change_count;
};

static void *grow(void *memory, size_t size)
{
    memory = realloc(memory, size ? size : 1);
    if (!memory) {
        fprintf(stderr, "out of memory\n");
        exit(EXIT_FAILURE);
    }
    return memory;
}

/* ---- the trace ---- */

static char *read_file(const char *path, size_t *out_size)
{
    struct stat st;
    char *memory;
    FILE *file = fopen(path, "rb");

    if (!file || fstat(fileno(file), &st) < 0) {
        perror(path);
        exit(EXIT_FAILURE);
    }
    memory = grow(NULL, (size_t)st.st_size);
    *out_size = fread(memory, 1, (size_t)st.st_size, file);
    fclose(file);
    return memory;
}

bool trace_read(const char *path, struct trace *out_trace)
{
    size_t size;
    size_t at = 0;
    struct trace trace = {.memory = read_file(path, &size)};

    while (at < size) {
        struct operation operation;

        memcpy(&operation.entry, trace.memory + at, sizeof(operation.entry));
        at += sizeof(operation.entry);
        operation.bytes = trace.memory + at;
        at += operation.entry.size;
        if (at > size) {
            fprintf(stderr, "%s: ends within an operation\n", path);
            trace_release(&trace);
            return false;
        }
        trace.operations = grow(trace.operations, (trace.count + 1) * sizeof(*trace.operations));
        trace.operations[trace.count++] = operation;
    }
    *out_trace = trace;
    return true;
}

void trace_release(struct trace *trace)
{
    free(trace->operations);
    free(trace->memory);
}

void operation_describe(const struct operation *operation, char *out, size_t size)
{
    static const char *const kinds[] = {
        [TRACE_MAKE_DIR] = "mkdir", [TRACE_CREATE] = "create",
        [TRACE_RENAME] = "rename",  [TRACE_UNLINK] = "unlink",
        [TRACE_WRITE] = "write",    [TRACE_WRITE_SYNCED] = "synced write",
        [TRACE_RESIZE] = "resize",  [TRACE_EXTEND] = "extend",
        [TRACE_SYNC] = "sync",      [TRACE_SYNC_DIR] = "sync of the folder",
        [TRACE_MARK] = "mark",
    };

    snprintf(out, size, "%s of file %u, %" PRIu64 " bytes at %" PRIu64,
             kinds[operation->entry.kind], operation->entry.file, operation->entry.size,
             operation->entry.offset);
}

/* ---- content ---- */

static void reserve(struct file *file, uint64_t size)
{
    uint64_t capacity = file->capacity ? file->capacity : 1 << 20;

    while (capacity < size)
        capacity *= 2;
    if (capacity == file->capacity)
        return;
    file->bytes = grow(file->bytes, capacity);
    memset(file->bytes + file->capacity, 0, capacity - file->capacity);
    file->capacity = capacity;
}

static void set_size(struct file *file, uint64_t size)
{
    reserve(file, size);
    if (size < file->size)
        memset(file->bytes + size, 0, file->size - size);
    file->size = size;
}

static void make_change(struct file *file, const struct change *change)
{
    if (change->is_cut || change->new_size > file->size)
        set_size(file, change->new_size);
    if (change->size)
        memcpy(file->bytes + change->offset, change->bytes, change->size);
}

static void remember(struct file *file, struct change change)
{
    if (file->change_count == file->change_capacity) {
        file->change_capacity = file->change_capacity ? 2 * file->change_capacity : 64;
        file->changes = grow(file->changes, file->change_capacity * sizeof(change));
    }
    file->changes[file->change_count++] = change;
}

static struct change change_of(const struct operation *operation)
{
    const struct trace_entry *entry = &operation->entry;
    bool is_write = entry->kind == TRACE_WRITE || entry->kind == TRACE_WRITE_SYNCED;

    return (struct change){
        .offset = entry->offset,
        .size = is_write ? entry->size : 0,
        .new_size = entry->offset + (is_write ? entry->size : 0),
        .is_cut = entry->kind == TRACE_RESIZE,
        .bytes = operation->bytes,
    };
}

static void make_all_changes(struct file *file)
{
    for (size_t i = 0; i < file->change_count; i++)
        make_change(file, &file->changes[i]);
    file->change_count = 0;
}

/* The part of a write from `from` to `to`; empty when it does not reach there. */
static struct change part_of(const struct change *change, uint64_t from, uint64_t to)
{
    uint64_t end = change->offset + change->size;
    uint64_t start = from > change->offset ? from : change->offset;

    if (to < end)
        end = to;
    if (start >= end)
        return (struct change){.size = 0};
    return (struct change){.offset = start,
                           .size = end - start,
                           .new_size = end,
                           .bytes = change->bytes + (start - change->offset)};
}

/* Where a synced write lies it is the last; of what was written elsewhere it says nothing. */
static void make_synced(struct file *file, const struct operation *operation)
{
    struct change synced = change_of(operation);
    size_t count = file->change_count;
    struct change *before = file->changes;

    file->changes = NULL;
    file->change_count = file->change_capacity = 0;
    for (size_t i = 0; i < count; i++) {
        struct change left = part_of(&before[i], 0, synced.offset);
        struct change right = part_of(&before[i], synced.new_size, UINT64_MAX);

        if (left.size || before[i].size == 0)
            remember(file, before[i].size ? left : before[i]);
        if (right.size)
            remember(file, right);
    }
    free(before);
    make_change(file, &synced);
}

/* ---- names ---- */

static struct name *find_name(struct names *names, const char *text, size_t size)
{
    for (size_t i = 0; i < names->count; i++) {
        if (strlen(names->list[i].text) == size && memcmp(names->list[i].text, text, size) == 0)
            return &names->list[i];
    }
    return NULL;
}

static void drop_name(struct names *names, const char *text, size_t size)
{
    struct name *name = find_name(names, text, size);

    if (name)
        *name = names->list[--names->count];
}

static void put_name(struct names *names, const char *text, size_t size, struct name name)
{
    if (size >= sizeof(name.text))
        exit(EXIT_FAILURE);
    drop_name(names, text, size);
    names->list = grow(names->list, (names->count + 1) * sizeof(name));
    memcpy(name.text, text, size);
    name.text[size] = '\0';
    names->list[names->count++] = name;
}

static void move_name(struct names *names, const struct operation *operation)
{
    size_t size = strlen(operation->bytes);
    const char *to = operation->bytes + size + 1;
    const struct name *from = find_name(names, operation->bytes, size);
    struct name moved;

    if (!from)
        return;
    moved = *from;
    drop_name(names, operation->bytes, size);
    put_name(names, to, operation->entry.size - size - 1, moved);
}

static void change_names(struct names *names, const struct operation *operation)
{
    const struct trace_entry *entry = &operation->entry;
    struct name name = {.file = entry->file, .is_dir = entry->kind == TRACE_MAKE_DIR};

    if (entry->kind == TRACE_MAKE_DIR || entry->kind == TRACE_CREATE)
        put_name(names, operation->bytes, entry->size, name);
    else if (entry->kind == TRACE_RENAME)
        move_name(names, operation);
    else if (entry->kind == TRACE_UNLINK)
        drop_name(names, operation->bytes, entry->size);
}

/* The size of the part before the last slash. */
static size_t parent_size(const char *name, size_t size)
{
    while (size && name[size - 1] != '/')
        size--;
    return size ? size - 1 : 0;
}

/* Whether a name lies directly in a directory. */
static bool lies_in(const char *name, size_t size, const char *dir, size_t dir_size)
{
    return parent_size(name, size) == dir_size && memcmp(name, dir, dir_size) == 0;
}

static void sync_names(struct disk *disk, const struct operation *operation)
{
    size_t kept = 0;

    for (size_t i = 0; i < disk->name_change_count; i++) {
        const struct operation *change = disk->name_changes[i];
        size_t size =
            change->entry.kind == TRACE_RENAME ? strlen(change->bytes) : (size_t)change->entry.size;

        if (lies_in(change->bytes, size, operation->bytes, operation->entry.size))
            change_names(&disk->lasting, change);
        else
            disk->name_changes[kept++] = change;
    }
    disk->name_change_count = kept;
}

/* ---- operations ---- */

struct disk *disk_new(void)
{
    struct disk *disk = grow(NULL, sizeof(*disk));

    memset(disk, 0, sizeof(*disk));
    return disk;
}

void disk_free(struct disk *disk)
{
    if (!disk)
        return;
    for (size_t i = 0; i < MAX_FILES; i++) {
        free(disk->files[i].bytes);
        free(disk->files[i].changes);
    }
    free(disk->lasting.list);
    free(disk);
}

static void remember_name(struct disk *disk, const struct operation *operation)
{
    if (disk->name_change_count == MAX_NAMES) {
        fprintf(stderr, "more than %d changes of names without a sync\n", MAX_NAMES);
        exit(EXIT_FAILURE);
    }
    disk->name_changes[disk->name_change_count++] = operation;
}

void disk_apply(struct disk *disk, const struct operation *operation)
{
    struct file *file = &disk->files[operation->entry.file];

    switch ((enum trace_kind)operation->entry.kind) {
    case TRACE_MAKE_DIR:
    case TRACE_CREATE:
    case TRACE_RENAME:
    case TRACE_UNLINK:
        remember_name(disk, operation);
        break;
    case TRACE_WRITE:
    case TRACE_RESIZE:
    case TRACE_EXTEND:
        remember(file, change_of(operation));
        break;
    case TRACE_WRITE_SYNCED:
        make_synced(file, operation);
        break;
    case TRACE_SYNC:
        make_all_changes(file);
        break;
    case TRACE_SYNC_DIR:
        sync_names(disk, operation);
        break;
    case TRACE_MARK:
        break;
    }
}

size_t disk_unsynced(const struct disk *disk)
{
    size_t count = disk->name_change_count;

    for (size_t i = 0; i < MAX_FILES; i++)
        count += disk->files[i].change_count;
    return count;
}

/* ---- the power cut ---- */

/* xorshift64*: the same for the same seed everywhere. */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(2685821657736338717);
}

static bool one_in(uint64_t *state, unsigned n)
{
    return next_random(state) % n == 0;
}

/* Of a write, only some sectors. */
static void tear(struct file *file, const struct change *change, uint64_t *state)
{
    uint64_t at = change->offset;
    uint64_t end = change->offset + change->size;

    while (at < end) {
        uint64_t next = (at / SECTOR + 1) * SECTOR;
        struct change part = part_of(change, at, next);

        if (one_in(state, 2))
            make_change(file, &part);
        at = next;
    }
}

/* Whether the n-th of `count` writes reaches the disk, by the kind of damage. */
static bool reaches(unsigned damage, size_t n, size_t count, size_t cut, uint64_t *state)
{
    switch (damage % 4) {
    case 0: /* in order, up to somewhere */
        return n < cut;
    case 1: /* the youngest first */
        return n >= cut;
    case 2: /* all but one */
        return n != cut % (count ? count : 1);
    default: /* any */
        return one_in(state, 2);
    }
}

static void damage_file(struct file *file, const struct change *changes, size_t count,
                        unsigned damage, uint64_t *state)
{
    size_t cut = (size_t)(next_random(state) % (count + 1));

    for (size_t i = 0; i < count; i++) {
        bool lasts = damage == DAMAGE_ALL_LASTS ||
                     (damage >= DAMAGE_RANDOM && reaches(damage, i, count, cut, state));

        if (damage >= DAMAGE_RANDOM && one_in(state, 4))
            tear(file, &changes[i], state);
        else if (lasts)
            make_change(file, &changes[i]);
    }
}

static void copy_file(struct file *copy, const struct file *file)
{
    set_size(copy, 0);
    set_size(copy, file->size);
    memcpy(copy->bytes, file->bytes, file->size);
}

static bool is_content(const struct operation *operation)
{
    return operation && operation->entry.kind >= TRACE_WRITE &&
           operation->entry.kind <= TRACE_EXTEND;
}

static void write_file(const char *path, struct file *file)
{
    static const char zeros[SECTOR];
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    uint64_t used = (file->size + SECTOR - 1) / SECTOR * SECTOR;

    reserve(file, used);
    while (used && memcmp(file->bytes + used - SECTOR, zeros, SECTOR) == 0)
        used -= SECTOR; /* the rest is a hole */
    if (used > file->size)
        used = file->size;
    if (fd < 0 || pwrite(fd, file->bytes, used, 0) != (ssize_t)used ||
        ftruncate(fd, (off_t)file->size) < 0) {
        perror(path);
        exit(EXIT_FAILURE);
    }
    close(fd);
}

/* The names at the moment of the cut. The caller frees the list. */
static struct names remaining_names(const struct disk *disk, const struct operation *current,
                                    unsigned damage, uint64_t *state)
{
    struct names names = {.count = 0};
    size_t count = disk->name_change_count;
    size_t lasting = damage == DAMAGE_ALL_LASTS ? count : 0;

    if (damage >= DAMAGE_RANDOM)
        lasting = (size_t)(next_random(state) % (count + 1));
    for (size_t i = 0; i < disk->lasting.count; i++)
        put_name(&names, disk->lasting.list[i].text, strlen(disk->lasting.list[i].text),
                 disk->lasting.list[i]);
    for (size_t i = 0; i < lasting; i++)
        change_names(&names, disk->name_changes[i]);
    if (current && current->entry.kind <= TRACE_UNLINK && lasting == count && one_in(state, 2))
        change_names(&names, current);
    return names;
}

static void write_remains_of(const struct disk *disk, const struct operation *current,
                             const struct name *name, unsigned damage, uint64_t *state,
                             const char *path)
{
    static struct file copy;
    const struct file *file = &disk->files[name->file];

    copy_file(&copy, file);
    damage_file(&copy, file->changes, file->change_count, damage, state);
    if (is_content(current) && current->entry.file == name->file) {
        struct change change = change_of(current);

        damage_file(&copy, &change, 1, damage, state);
    }
    write_file(path, &copy);
}

/* Shorter names first: a directory comes before what lies in it. */
static int by_length(const void *left, const void *right)
{
    const struct name *a = left;
    const struct name *b = right;

    return (int)strlen(a->text) - (int)strlen(b->text);
}

void disk_write_remains(const struct disk *disk, const struct operation *current, unsigned damage,
                        uint64_t seed, const char *path)
{
    uint64_t state = seed * UINT64_C(0x9e3779b97f4a7c15) + damage + 1;
    struct names names = remaining_names(disk, current, damage, &state);

    qsort(names.list, names.count, sizeof(*names.list), by_length);
    for (size_t i = 0; i < names.count; i++) {
        const struct name *name = &names.list[i];
        size_t parent = parent_size(name->text, strlen(name->text));
        char full[2 * PATH_MAX];

        if (parent && !find_name(&names, name->text, parent))
            continue; /* its directory did not last */

        snprintf(full, sizeof(full), "%s/%s", path, name->text);
        if (name->is_dir)
            mkdir(full, 0700);
        else
            write_remains_of(disk, current, name, damage, &state, full);
    }
    free(names.list);
}
