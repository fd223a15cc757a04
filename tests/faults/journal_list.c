/*
 * Prints what the journal of a stopped bridge holds, a line of JSON each, for
 * tests/faults/journal.py.
 *
 *     journal_list PATH MAX_SIZE
 *
 * Texts are in hexadecimal. `sha`: the first half of SHA-256 of the event object, or of the whole
 * body of what is no event.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>

#include <openssl/evp.h>

#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "schemas/event.h"
#include "tests/faults/recovered.h"

enum { SHA_BYTES = 16 };

static void print_hex(const char *name, struct text text)
{
    printf(", \"%s\": \"", name);
    for (size_t i = 0; i < text.size; i++)
        printf("%02x", (unsigned char)text.data[i]);
    printf("\"");
}

static void print_event(const struct event *event)
{
    unsigned char sha[EVP_MAX_MD_SIZE];
    struct text bytes =
        event_text(event, event_has(event, EVENT_IS_OPAQUE) ? EVENT_BODY : EVENT_OBJECT);

    if (!EVP_Digest(bytes.data, bytes.size, sha, NULL, EVP_sha256(), NULL))
        abort();
    print_hex("id", event_text(event, EVENT_ID));
    print_hex("sha", (struct text){(const char *)sha, SHA_BYTES});
    printf("}\n");
}

static void print_letter(const char *kind, const struct letter *letter)
{
    printf("{\"kind\": \"%s\", \"seq\": %" PRIu64 ", \"nth\": %u", kind, letter->id, letter->nth);
    print_hex("publisher", text_of(letter->publisher));
    print_hex("topic", text_of(letter->topic));
    print_hex("reason", text_of(letter->reason));
    print_event(letter->event);
}

static void print_all(const struct recovered *recovered)
{
    struct journal_numbers numbers;

    for (size_t i = 0; i < recovered->cursor_count; i++)
        printf("{\"kind\": \"cursor\", \"publisher\": \"%s\", \"seq\": %" PRIu64 "}\n",
               recovered->cursors[i].publisher, recovered->cursors[i].seq);
    for (size_t i = 0; i < recovered->event_count; i++) {
        printf("{\"kind\": \"event\", \"seq\": %" PRIu64, recovered->events[i]->record->seq);
        print_event(recovered->events[i]);
    }
    for (size_t i = 0; i < recovered->parked_count; i++)
        print_letter("parked", &recovered->parked[i]);
    for (size_t i = 0; i < recovered->dead_count; i++)
        print_letter("dead", &recovered->dead[i]);
    journal_numbers(recovered->journal, &numbers);
    printf("{\"kind\": \"damaged\", \"count\": %" PRIu64 "}\n", numbers.damaged);
}

int main(int argc, char **argv)
{
    struct journal_options options = {.dedupe_window_ms = 1000, .dedupe_max = 1000000};
    struct recovered recovered;
    struct error err = {0};

    if (argc != 3)
        return EX_USAGE;
    log_configure(LOG_ERROR, LOG_LOGFMT);
    options.path = argv[1];
    options.max_size = strtoull(argv[2], NULL, 10);
    if (recovered_open(&recovered, &options, &err) < 0) {
        fprintf(stderr, "journal_list: %s\n", err.message);
        recovered_release(&recovered);
        return EX_UNAVAILABLE;
    }
    print_all(&recovered);
    recovered_release(&recovered);
    return EX_OK;
}
