#include "bridge/journal/journal_chunks.h"

#include <string.h>

#include "schemas/event.h"

size_t chunk_fill(struct event *const *events, size_t count, size_t *out_bytes)
{
    size_t bytes = events[0]->record->size;
    size_t taken = 1;

    while (taken < count && bytes + events[taken]->record->size <= CHUNK_BYTES)
        bytes += events[taken++]->record->size;
    *out_bytes = bytes;
    return taken;
}

/* The size of the record that seems to begin here; 0 when none does. */
static size_t record_size(const char *at, size_t room, uint64_t last, uint64_t *out_seq)
{
    struct event_record head;

    if (room < sizeof(head))
        return 0;
    memcpy(&head, at, sizeof(head));
    if (head.magic != EVENT_MAGIC || head.size < sizeof(head) || head.size > room ||
        head.seq == 0 || head.seq > last)
        return 0;
    *out_seq = head.seq;
    return head.size;
}

/* The first place from `at` on where a record seems to begin; `end` when there is none. */
static const char *find_record(const char *at, const char *end, uint64_t last)
{
    static const uint32_t magic = EVENT_MAGIC;
    uint64_t seq;

    while (at < end) {
        at = memmem(at, (size_t)(end - at), &magic, sizeof(magic));
        if (!at)
            return end;
        if (record_size(at, (size_t)(end - at), last, &seq))
            return at;
        at++;
    }
    return end;
}

/*
 * No record begins at `at`: it is damaged, or the size of the one before is. Returns where to go on
 * and makes what lies before that place one damaged record.
 */
static const char *pass_damage(struct chunk_record *records, size_t *count, const char *at,
                               const char *end, uint64_t last)
{
    struct chunk_record *before = *count ? &records[*count - 1] : NULL;
    const char *from = before ? before->bytes.data + sizeof(struct event_record) : at;
    const char *next = find_record(from < at ? from : at, end, last);
    uint64_t next_seq = last + 1;

    record_size(next, (size_t)(end - next), last, &next_seq);
    if (before && next < at)
        before->bytes.size = (size_t)(next - before->bytes.data);
    else
        records[(*count)++] = (struct chunk_record){next_seq - 1, {at, (size_t)(next - at)}};
    return next;
}

size_t chunk_split(struct text value, uint64_t last, struct chunk_record out[CHUNK_RECORDS])
{
    const char *end = value.data + value.size;
    const char *at = value.data;
    size_t count = 0;

    while (at < end && count < CHUNK_RECORDS) {
        uint64_t seq;
        size_t size = record_size(at, (size_t)(end - at), last, &seq);

        if (size == 0) {
            at = pass_damage(out, &count, at, end, last);
            continue;
        }
        out[count++] = (struct chunk_record){seq, {at, size}};
        at += size;
    }
    return count;
}

uint64_t chunk_first(struct text value, uint64_t last)
{
    const char *end = value.data + value.size;
    const char *first = find_record(value.data, end, last);
    uint64_t seq = last;

    record_size(first, (size_t)(end - first), last, &seq);
    return seq;
}
