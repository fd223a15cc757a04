#include "tests/faults/script.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/base/error.h"
#include "schemas/event.h"
#include "tests/faults/shim.h"

extern __typeof__(shim_mark) shim_mark __attribute__((weak));

struct journal_options script_options(const char *path)
{
    return (struct journal_options){
        .path = path,
        .max_size = UINT64_C(8) << 20,
        .retention_ms = 0,
        .dedupe_window_ms = INT64_C(96) * 3600 * 1000,
        .dedupe_max = 100000,
    };
}

/* A small hash: sizes and bytes that look random and follow from the number alone. */
static uint64_t mix(uint64_t value)
{
    value = (value + 1) * UINT64_C(0x9e3779b97f4a7c15);
    value ^= value >> 29;
    value *= UINT64_C(0xbf58476d1ce4e5b9);
    return value ^ value >> 32;
}

bool script_is_opaque(size_t i)
{
    return mix(i) % 20 == 0;
}

char *script_body(size_t i, size_t *out_size)
{
    size_t size = 40 + (size_t)(mix(i) % 7 ? mix(i) % 3000 : mix(i) % 14000);
    char *body = malloc(size + 1);
    uint64_t noise;
    int head;

    if (!body)
        abort();
    head = snprintf(body, 40, "body of %zu ", i);
    for (size_t at = (size_t)head; at < size; at += sizeof(noise)) {
        noise = mix(i * 131 + at);
        memcpy(body + at, &noise, size - at < sizeof(noise) ? size - at : sizeof(noise));
    }
    body[size] = '\0';
    *out_size = size;
    return body;
}

struct event *script_event(size_t i)
{
    struct event_origin origin = {.account = text_of("main"),
                                  .received_ms = 1700000000000,
                                  .flags = script_is_opaque(i) ? EVENT_IS_OPAQUE : 0};
    size_t size;
    char *body = script_body(i, &size);
    struct event *event = event_new(&origin, (struct text){body, size}, 64);
    char id[32];

    snprintf(id, sizeof(id), "e%zu", i);
    if (!event || (!script_is_opaque(i) && !event_add_field(event, EVENT_ID, text_of(id))))
        abort();
    if (!script_is_opaque(i))
        event_set_slice(event, EVENT_OBJECT, event_text(event, EVENT_BODY));
    free(body);
    return event;
}

size_t script_number(const struct event *event)
{
    struct text stored = event_text(event, EVENT_BODY);
    char start[40] = "";
    size_t number;
    size_t size;
    char *body;
    bool is_same;

    memcpy(start, stored.data, stored.size < sizeof(start) ? stored.size : sizeof(start) - 1);
    if (sscanf(start, "body of %zu ", &number) != 1)
        return SIZE_MAX;
    body = script_body(number, &size);
    is_same = size == stored.size && memcmp(body, stored.data, size) == 0;
    free(body);
    return is_same ? number : SIZE_MAX;
}

static void mark(char kind, size_t number)
{
    char text[32];

    snprintf(text, sizeof(text), "%c %zu", kind, number);
    if (shim_mark)
        shim_mark(text);
}

static void answered(struct delivery *delivery)
{
    sem_post(&container_of(delivery, struct script_post, delivery)->answered);
}

/* On the journal's thread: from here on the sender may know. */
static void answered_and_marked(struct delivery *delivery)
{
    if (delivery->outcome != DELIVERY_UNAVAILABLE)
        mark('A', container_of(delivery, struct script_post, delivery)->number);
    answered(delivery);
}

void script_post(struct journal *journal, struct script_post *post, size_t i, bool marked)
{
    struct intake *intake = journal_intake(journal);

    sem_init(&post->answered, 0, 0);
    post->number = i;
    post->delivery = (struct delivery){.event = script_event(i),
                                       .done = marked ? answered_and_marked : answered};
    intake->identify(intake, post->delivery.event);
    if (marked)
        mark('S', i);
    intake->accept(intake, &post->delivery);
}

enum delivery_outcome script_wait(struct script_post *post)
{
    while (sem_wait(&post->answered) != 0) {
    }
    sem_destroy(&post->answered);
    event_unref(post->delivery.event);
    return post->delivery.outcome;
}

struct waited_note {
    struct note note;
    sem_t done;
};

static void note_done(struct note *note)
{
    sem_post(&container_of(note, struct waited_note, note)->done);
}

enum note_result script_note(struct journal *journal, struct note note)
{
    struct waited_note waited = {.note = note};

    sem_init(&waited.done, 0, 0);
    waited.note.done = note_done;
    journal_note(journal, &waited.note);
    while (sem_wait(&waited.done) != 0) {
    }
    sem_destroy(&waited.done);
    return waited.note.result;
}
