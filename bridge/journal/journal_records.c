#include "bridge/journal/journal_records.h"

#include <stdio.h>
#include <string.h>

#include <xxhash.h>

/* Magic, a number, checksum: what every record but the marks begins with. */
struct prefix {
    uint32_t magic;
    uint32_t number;
    uint64_t checksum;
};

_Static_assert(offsetof(struct journal_state, checksum) == offsetof(struct prefix, checksum), "");
_Static_assert(offsetof(struct secret_record, checksum) == offsetof(struct prefix, checksum), "");
_Static_assert(offsetof(struct cursor_record, checksum) == offsetof(struct prefix, checksum), "");
_Static_assert(offsetof(struct letter_head, checksum) == offsetof(struct prefix, checksum), "");

static struct prefix prefix_of(const void *bytes)
{
    struct prefix prefix;

    memcpy(&prefix, bytes, sizeof(prefix));
    return prefix;
}

/* Over the number and what follows the prefix. */
static uint64_t checksum(const void *bytes, size_t size)
{
    return XXH3_64bits_withSeed((const char *)bytes + sizeof(struct prefix),
                                size - sizeof(struct prefix), prefix_of(bytes).number);
}

static bool is_sound(const void *bytes, size_t size, uint32_t magic)
{
    struct prefix prefix = prefix_of(bytes);

    return prefix.magic == magic && prefix.checksum == checksum(bytes, size);
}

/* A record without texts behind it. */
static bool check_plain(const void *bytes, size_t size, uint32_t magic, void *out_record,
                        size_t record_size)
{
    if (size < record_size || !is_sound(bytes, record_size, magic))
        return false;
    memcpy(out_record, bytes, record_size);
    return true;
}

void state_seal(struct journal_state *state)
{
    state->magic = STATE_MAGIC;
    state->checksum = checksum(state, sizeof(*state));
}

bool state_check(const void *bytes, size_t size, struct journal_state *out_state)
{
    return check_plain(bytes, size, STATE_MAGIC, out_state, sizeof(*out_state));
}

void secret_seal(struct secret_record *record)
{
    record->magic = SECRET_MAGIC;
    record->checksum = checksum(record, sizeof(*record));
}

bool secret_check(const void *bytes, size_t size, struct secret_record *out_record)
{
    return check_plain(bytes, size, SECRET_MAGIC, out_record, sizeof(*out_record));
}

void cursor_seal(struct cursor_record *record)
{
    record->magic = CURSOR_MAGIC;
    record->checksum = checksum(record, sizeof(*record));
}

bool cursor_check(const void *bytes, size_t size, struct cursor_record *out_record)
{
    struct cursor_record record;

    if (!check_plain(bytes, size, CURSOR_MAGIC, &record, sizeof(record)) ||
        record.publisher[PUBLISHER_SIZE - 1] != '\0' || record.publisher[0] == '\0')
        return false;
    *out_record = record;
    return true;
}

static const char first_prefix[] = "@first.";

bool cursor_pins_events(const char *name)
{
    return name[0] != '@';
}

bool cursor_is_of_letters(const char *name)
{
    return name[0] == '@' && strncmp(name, first_prefix, sizeof(first_prefix) - 1) != 0;
}

void cursor_name_first(const char *publisher, char out_name[PUBLISHER_SIZE])
{
    snprintf(out_name, PUBLISHER_SIZE, "%s%s", first_prefix, publisher);
}

/* ---- marks ---- */

static uint32_t marks_checksum(const void *value, const struct marks_head *head)
{
    uint64_t seed = (uint64_t)head->age_s << 32 | head->count;

    return (uint32_t)XXH3_64bits_withSeed((const char *)value + sizeof(*head),
                                          (size_t)head->count * MARK_SIZE, seed);
}

void marks_seal(void *value, uint32_t age_s, uint32_t count)
{
    struct marks_head head = {.magic = MARKS_MAGIC, .age_s = age_s, .count = count};

    head.checksum = marks_checksum(value, &head);
    memcpy(value, &head, sizeof(head));
}

bool marks_check(const void *bytes, size_t size, struct marks_head *out_head)
{
    struct marks_head head;

    if (size < sizeof(head))
        return false;
    memcpy(&head, bytes, sizeof(head));
    if (head.magic != MARKS_MAGIC || head.count > (size - sizeof(head)) / MARK_SIZE ||
        head.checksum != marks_checksum(bytes, &head))
        return false;
    *out_head = head;
    return true;
}

struct dedupe_mark marks_at(const void *value, uint32_t i)
{
    const char *bytes = (const char *)value + sizeof(struct marks_head) + (size_t)i * MARK_SIZE;
    struct marks_head head;
    struct dedupe_mark mark;

    memcpy(&head, value, sizeof(head));
    memcpy(mark.identity, bytes, sizeof(mark.identity));
    memcpy(&mark.content, bytes + sizeof(mark.identity), sizeof(mark.content));
    memcpy(&mark.place, bytes + sizeof(mark.identity) + sizeof(mark.content), sizeof(mark.place));
    mark.age_s = head.age_s;
    return mark;
}

void marks_put(void *value, uint32_t i, const struct dedupe_mark *mark)
{
    char *bytes = (char *)value + sizeof(struct marks_head) + (size_t)i * MARK_SIZE;

    memcpy(bytes, mark->identity, sizeof(mark->identity));
    memcpy(bytes + sizeof(mark->identity), &mark->content, sizeof(mark->content));
    memcpy(bytes + sizeof(mark->identity) + sizeof(mark->content), &mark->place,
           sizeof(mark->place));
}

/* ---- letters ---- */

size_t letter_prefix_size(const struct letter_head *head)
{
    return sizeof(*head) + head->publisher_size + head->topic_size + head->reason_size;
}

void letter_seal(void *value, struct letter_head head)
{
    head.magic = LETTER_MAGIC;
    head.checksum = 0;
    memcpy(value, &head, sizeof(head));
    head.checksum = checksum(value, letter_prefix_size(&head));
    memcpy(value, &head, sizeof(head));
}

bool letter_check(const void *bytes, size_t size, struct letter_head *out_head)
{
    struct letter_head head;

    if (size < sizeof(head))
        return false;
    memcpy(&head, bytes, sizeof(head));
    if (head.magic != LETTER_MAGIC || size < letter_prefix_size(&head) ||
        head.publisher_size >= PUBLISHER_SIZE || head.topic_size >= TOPIC_SIZE ||
        head.reason_size >= REASON_SIZE ||
        !is_sound(bytes, letter_prefix_size(&head), LETTER_MAGIC))
        return false;
    *out_head = head;
    return true;
}

bool letter_view(const void *bytes, size_t size, struct letter_view *out_view)
{
    const char *at = (const char *)bytes + sizeof(struct letter_head);
    struct letter_view view;

    if (!letter_check(bytes, size, &view.head))
        return false;
    view.publisher = (struct text){at, view.head.publisher_size};
    at += view.head.publisher_size;
    view.topic = (struct text){at, view.head.topic_size};
    at += view.head.topic_size;
    view.reason = (struct text){at, view.head.reason_size};
    at += view.head.reason_size;
    view.record = (struct text){at, size - letter_prefix_size(&view.head)};
    *out_view = view;
    return true;
}
