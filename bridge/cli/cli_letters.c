/*
 * dead-letters: list them, show one, send them again, drop them.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include <openssl/evp.h>

#include "bridge/base/buf.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/cli/cli.h"
#include "bridge/cli/cli_control.h"
#include "bridge/cli/cli_json.h"
#include "bridge/cli/cli_options.h"
#include "bridge/cli/cli_store.h"
#include "bridge/config/config.h"
#include "bridge/control/dead_letters.h"
#include "bridge/journal/journal.h"
#include "schemas/json_scan.h"

enum { PAGE = 100, PAGE_MAX = 1000 };

enum action { LIST, SHOW, RETRY, DROP };

struct request {
    enum action action;
    const char *config_path;
    const char *publisher;
    const char *topic;
    const char *reason;
    uint64_t limit;
    uint64_t after;
    uint64_t id; /* the one that is at hand */
    bool all;
    bool as_json;
    bool as_body;
};

static const char command_name[] = "dead-letters";

/* ---- without a daemon ---- */

static void forget_events(void *context, struct event *const *events, size_t count)
{
    (void)context;
    (void)events;
    (void)count;
}

static int act(const struct request *request, struct journal *journal,
               struct journal_reader *reader, struct buf *json, struct error *err)
{
    struct letter_query query = {.publisher = request->publisher,
                                 .topic = request->topic,
                                 .reason = request->reason,
                                 .after_id = request->after,
                                 .max_count = request->limit};
    uint64_t dropped = 1;
    int found = 1;

    if (request->action == LIST)
        return dead_letters_render(reader, &query, json, err);
    if (request->action == SHOW)
        found = dead_letters_render_one(reader, request->id, json, err);
    else if (request->id)
        found = dead_letters_drop_one(journal, reader, request->id, NULL, err);
    else if (dead_letters_drop(journal, reader, &query, NULL, &dropped, err) < 0)
        found = -1;
    if (found == 0)
        error_set(err, ERROR_INPUT, "no dead letter has number %" PRIu64, request->id);
    if (found == 1 && request->action == DROP)
        buf_printf(json, "{\"dropped\":%" PRIu64 "}", dropped);
    return found == 1 ? 0 : -1;
}

static int use_journal(void *context, const struct config *config, struct buf *json)
{
    const struct request *request = context;
    struct journal_reader *reader = NULL;
    struct error err = {0};
    struct journal *journal;
    int rc;

    if (request->action == RETRY) {
        fprintf(stderr, "close-bridge %s: no bridge runs that could send them: start it\n",
                command_name);
        return EX_UNAVAILABLE;
    }
    journal = cli_open_journal(command_name, config, &rc);
    if (!journal)
        return rc;
    reader = journal_reader_open(journal, &err);
    if (!reader || journal_start(journal, forget_events, NULL, &err) < 0 ||
        act(request, journal, reader, json, &err) < 0) {
        fprintf(stderr, "close-bridge %s: %s\n", command_name, err.message);
        rc = err.kind == ERROR_INPUT ? EX_DATAERR : EX_IOERR;
    }
    journal_reader_close(reader);
    journal_close(journal);
    return rc;
}

/* ---- asking ---- */

static void append_path(const struct request *request, struct buf *path)
{
    buf_append_string(path, request->action == RETRY ? "/control/dead-letters/retry?"
                                                     : "/control/dead-letters?");
    if (request->id)
        buf_printf(path, "id=%" PRIu64, request->id);
    else if (request->action == LIST)
        buf_printf(path, "limit=%" PRIu64 "&after=%" PRIu64, request->limit, request->after);
    else
        buf_append_string(path, "all=true");
    cli_control_append_parameter(path, "publisher", request->publisher);
    cli_control_append_parameter(path, "topic", request->topic);
    cli_control_append_parameter(path, "reason", request->reason);
}

static int ask(const struct request *request, const struct config *config, struct buf *json)
{
    static const char *const methods[] = {
        [LIST] = "GET", [SHOW] = "GET", [RETRY] = "POST", [DROP] = "DELETE"};
    struct request copy = *request;
    struct buf path = {0};
    int rc;

    append_path(request, &path);
    rc = cli_ask(&(struct cli_question){command_name, methods[request->action],
                                        buf_text(&path).data, use_journal, &copy},
                 config, json);
    buf_release(&path);
    return rc;
}

/* ---- for people ---- */

/* A body that is no event has neither type nor id. */
static void print_event(struct text letter)
{
    if (cli_json_member(letter, "object_type").size) {
        cli_json_print(letter, "object_type", 0);
        putchar('.');
        cli_json_print(letter, "action", 0);
        putchar(' ');
    }
    cli_json_print(letter, "event_id", 0);
    putchar('\n');
}

static int print_list(struct text answer)
{
    struct json_cursor letters;
    struct text document;
    struct text letter;
    struct text next;
    size_t count = 0;

    if (!cli_json_check_list(command_name, answer, "dead_letters", &document, &letters))
        return EX_PROTOCOL;
    for (; json_array_next(&letters, &letter); count++) {
        if (count == 0)
            printf("%-7s %-25s %-9s %-24s %-16s %s\n", "NUMBER", "LAST", "PUBLISHER", "TOPIC",
                   "REASON", "EVENT");
        cli_json_print(letter, "id", 8);
        cli_json_print(letter, "last", 26);
        cli_json_print(letter, "publisher", 10);
        cli_json_print(letter, "topic", 24);
        putchar(' ');
        cli_json_print(letter, "reason", 16);
        putchar(' ');
        print_event(letter);
    }
    next = cli_json_member(document, "next");
    if (next.size && !json_is_null(next))
        printf("there may be more: --after %.*s\n", (int)next.size, next.data);
    else if (count == 0)
        puts("no dead letters");
    return EX_OK;
}

static int print_binary(struct text base64)
{
    unsigned char *bytes = malloc(base64.size / 4 * 3 + 3);
    int size =
        bytes ? EVP_DecodeBlock(bytes, (const unsigned char *)base64.data, (int)base64.size) : -1;

    if (size > 0) {
        size -= base64.data[base64.size - 1] == '=';
        size -= base64.size > 1 && base64.data[base64.size - 2] == '=';
        fwrite(bytes, 1, (size_t)size, stdout);
    }
    free(bytes);
    return size < 0 ? EX_PROTOCOL : EX_OK;
}

/* Byte for byte as it came. */
static int print_body(struct text answer)
{
    struct buf body = {0};
    struct text document;
    struct text text;
    struct text base64;
    int rc = EX_OK;

    if (!cli_json_check(command_name, answer, &document))
        return EX_PROTOCOL;
    text = cli_json_member(document, "body");
    base64 = cli_json_member(document, "body_base64");
    if (json_is_string(base64)) {
        rc = print_binary(json_string_inside(base64));
    } else if (json_is_string(text)) {
        json_unescape(json_string_inside(text), &body);
        fwrite(buf_text(&body).data, 1, body.size, stdout);
    }
    buf_release(&body);
    return rc;
}

static int print_retry(struct text answer)
{
    struct text document;

    if (!cli_json_check(command_name, answer, &document))
        return EX_PROTOCOL;
    fputs("delivered ", stdout);
    cli_json_print(document, "delivered", 0);
    fputs(", failed again ", stdout);
    cli_json_print(document, "buried_again", 0);
    if (cli_json_member(document, "reason").size) {
        fputs(" (", stdout);
        cli_json_print(document, "reason", 0);
        putchar(')');
    }
    if (!text_equal_string(cli_json_member(document, "not_events"), "0")) {
        fputs(", no events ", stdout);
        cli_json_print(document, "not_events", 0);
    }
    puts(text_equal_string(cli_json_member(document, "done"), "true")
             ? ""
             : "; it goes on in the background");
    return text_equal_string(cli_json_member(document, "buried_again"), "0") ? EX_OK : EX_DATAERR;
}

static int print_dropped(struct text answer)
{
    struct text document;

    if (!cli_json_check(command_name, answer, &document))
        return EX_PROTOCOL;
    fputs("dropped ", stdout);
    cli_json_print(document, "dropped", 0);
    putchar('\n');
    return EX_OK;
}

static int print(const struct request *request, struct text answer)
{
    if (request->as_json || (request->action == SHOW && !request->as_body)) {
        puts(answer.data);
        return EX_OK;
    }
    switch (request->action) {
    case LIST:
        return print_list(answer);
    case SHOW:
        return print_body(answer);
    case RETRY:
        return print_retry(answer);
    case DROP:
        break;
    }
    return print_dropped(answer);
}

/* ---- the command ---- */

static int do_one(const struct request *request, const struct config *config)
{
    struct buf json = {0};
    int rc = ask(request, config, &json);

    if (rc == EX_OK)
        rc = print(request, buf_text(&json));
    buf_release(&json);
    return rc;
}

/* For every number that was given, or once. */
static int do_all(struct request *request, const struct config *config, char **numbers, int count)
{
    int rc = EX_OK;

    if (count == 0)
        return do_one(request, config);
    for (int i = 0; i < count; i++) {
        int one;

        text_to_u64(text_of(numbers[i]), &request->id); /* looked at already */
        one = do_one(request, config);
        rc = rc == EX_OK ? one : rc;
    }
    return rc;
}

static bool read_number(const char *text, uint64_t *out)
{
    return text_to_u64(text_of(text), out) && *out > 0 && *out < UINT64_MAX;
}

static bool find_action(const char *name, enum action *out_action)
{
    static const char *const names[] = {"list", "show", "retry", "drop"};

    for (size_t i = 0; name && i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i]) != 0)
            continue;
        *out_action = (enum action)i;
        return true;
    }
    return false;
}

static int read_options(struct request *request, int *argc, char ***argv)
{
    const struct cli_option options[] = {
        CLI_OPTION_CONFIG(&request->config_path),
        {.name = "publisher", .value = &request->publisher},
        {.name = "topic", .value = &request->topic},
        {.name = "reason", .value = &request->reason},
        {.name = "limit", .number = &request->limit, .min = 1, .max = PAGE_MAX},
        {.name = "after", .number = &request->after, .max = UINT64_MAX},
        {.name = "all", .flag = &request->all},
        {.name = "json", .flag = &request->as_json},
        {.name = "body", .flag = &request->as_body},
        {0}};

    return cli_read_options(command_name, options, argc, argv);
}

/* Checks what stands behind the options: the action, and numbers. */
static int read_arguments(int argc, char **argv, struct request *request)
{
    int numbers = argc - 1;

    if (!find_action(argc > 0 ? argv[0] : NULL, &request->action))
        return cli_usage_error(command_name, "say list, show, retry or drop");
    for (int i = 1; i < argc; i++) {
        if (!read_number(argv[i], &request->id))
            return cli_usage_error(command_name, "%s is not the number of a dead letter", argv[i]);
    }
    request->id = 0;
    if (request->action == LIST && (numbers || request->all))
        return cli_usage_error(command_name, "list takes neither numbers nor --all");
    if (request->action == SHOW && (numbers != 1 || request->all))
        return cli_usage_error(command_name, "show takes one number");
    if (request->action > SHOW && (numbers > 0) == request->all)
        return cli_usage_error(command_name,
                               "say the numbers, or --all, which --publisher, --topic and "
                               "--reason may narrow");
    return EX_OK;
}

static int run(int argc, char **argv)
{
    struct request request = {.limit = PAGE};
    struct config *config;
    int rc = read_options(&request, &argc, &argv);

    if (rc == EX_OK)
        rc = read_arguments(argc, argv, &request);
    if (rc != EX_OK)
        return rc;
    config = cli_load_config(cli_config_path(request.config_path), &rc);
    if (!config)
        return rc;
    log_configure(LOG_ERROR, LOG_LOGFMT);
    rc = do_all(&request, config, argv + 1, argc - 1);
    config_free(config);
    return rc;
}

const struct command cli_dead_letters = {
    "dead-letters", "look at dead letters, send them again, drop them",
    "usage: close-bridge dead-letters [-c FILE] list [--limit N] [--after NUMBER] [filters]\n"
    "       close-bridge dead-letters [-c FILE] show NUMBER [--body]\n"
    "       close-bridge dead-letters [-c FILE] retry NUMBER... | --all [filters]\n"
    "       close-bridge dead-letters [-c FILE] drop NUMBER... | --all [filters]\n"
    "filters: --publisher NAME, --topic NAME, --reason CODE; all but --body: --json\n"
    "\n"
    "A dead letter is a record that its broker will not take, or a body that is no event. It is\n"
    "kept with its reason until it is delivered or dropped.\n"
    "retry sends it again, to its topic or to those that the topic map has for it by now; what\n"
    "fails again stays. A body that is no event has no topic: show it, drop it.\n"
    "show --body prints the body byte for byte.\n"
    "Asks the running bridge; when none runs, list, show and drop use the journal.\n"
    "\n"
    "exit codes: 0, 64 usage, 65 no such letter, or some failed again, 69 no answer, or the\n"
    "journal cannot be opened, 77 the control token is wrong, 66 and 78 as for check.\n"
    "\n"
    "example: close-bridge dead-letters retry --all --reason unknown_topic\n",
    run};
