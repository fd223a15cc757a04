/*
 * events: where events are.
 */
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "bridge/base/buf.h"
#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/cli/cli.h"
#include "bridge/cli/cli_control.h"
#include "bridge/cli/cli_json.h"
#include "bridge/cli/cli_options.h"
#include "bridge/cli/cli_store.h"
#include "bridge/config/config.h"
#include "bridge/config/moment.h"
#include "bridge/control/event_search.h"
#include "bridge/journal/journal.h"
#include "schemas/json_scan.h"

enum { PAGE = 20, PAGE_MAX = 200 };

struct request {
    const char *config_path;
    const char *id;
    const char *lead_id;
    const char *object_type;
    const char *since;
    int64_t since_ms;
    uint64_t limit;
    bool as_json;
};

/* ---- without a daemon ---- */

static void take_cursor(void *context, const char *publisher, uint64_t seq)
{
    struct event_search *search = context;

    if (strcmp(publisher, "kafka") == 0)
        search->settled[PUBLISHER_KAFKA] = seq;
    else if (strcmp(publisher, "mqtt") == 0)
        search->settled[PUBLISHER_MQTT] = seq;
}

static int search_journal(void *context, const struct config *config, struct buf *json)
{
    const struct request *request = context;
    struct event_search search = {
        .config = config,
        .clock = &clock_system,
        .query = {request->id, request->lead_id, request->object_type, request->since_ms},
        .before = UINT64_MAX,
        .limit = request->limit,
        .is_configured = {config->kafka.is_configured, config->mqtt.is_configured},
    };
    struct error err = {0};
    int rc;

    search.journal = cli_open_journal("events", config, &rc);
    if (!search.journal)
        return rc;
    journal_visit_cursors(search.journal, take_cursor, &search);
    search.reader = journal_reader_open(search.journal, &err);
    if (!search.reader || event_search_run(&search, json, &err) < 0) {
        fprintf(stderr, "close-bridge events: %s\n", err.message);
        rc = EX_IOERR;
    }
    journal_reader_close(search.reader);
    journal_close(search.journal);
    return rc;
}

/* ---- for people ---- */

static void print_record(struct text record)
{
    struct text partition = cli_json_member(record, "partition");
    struct text offset = cli_json_member(record, "offset");
    struct text letter = cli_json_member(record, "dead_letter");

    fputs("    ", stdout);
    cli_json_print(record, "state", 10);
    cli_json_print(record, "topic", 0);
    if (partition.size)
        printf(" partition %.*s", (int)partition.size, partition.data);
    if (offset.size)
        printf(" offset %.*s", (int)offset.size, offset.data);
    if (cli_json_member(record, "reason").size) {
        fputs(": ", stdout);
        cli_json_print(record, "reason", 0);
    }
    if (letter.size)
        printf(", dead letter %.*s", (int)letter.size, letter.data);
    fputs(", ", stdout);
    cli_json_print(record, "time", 0);
    putchar('\n');
}

static void print_publisher(struct text place)
{
    struct json_cursor records;
    struct text record;

    fputs("  ", stdout);
    cli_json_print(place, "publisher", 6);
    cli_json_print(place, "state", 0);
    putchar('\n');
    if (!json_array_begin(&records, cli_json_member(place, "records")))
        return;
    while (json_array_next(&records, &record))
        print_record(record);
}

static void print_event(struct text event)
{
    struct text duplicates = cli_json_member(event, "duplicates");
    struct json_cursor places;
    struct text place;

    cli_json_print(event, "received", 0);
    putchar(' ');
    cli_json_print(event, "object_type", 0);
    putchar('.');
    cli_json_print(event, "action", 0);
    putchar(' ');
    cli_json_print(event, "id", 0);
    fputs(" of ", stdout);
    cli_json_print(event, "account", 0);
    if (cli_json_member(event, "lead_id").size) {
        putchar(' ');
        cli_json_print(event, "lead_id", 0);
    }
    if (!text_equal_string(duplicates, "0"))
        printf(", duplicates %.*s", (int)duplicates.size, duplicates.data);
    putchar('\n');
    if (!json_array_begin(&places, cli_json_member(event, "publishers")))
        return;
    while (json_array_next(&places, &place))
        print_publisher(place);
}

static int print_all(struct text answer)
{
    struct json_cursor events;
    struct text document;
    struct text event;
    size_t count = 0;

    if (!cli_json_check_list("events", answer, "events", &document, &events))
        return EX_PROTOCOL;
    for (; json_array_next(&events, &event); count++)
        print_event(event);
    if (count == 0)
        puts("no such event is in the journal");
    if (text_equal_string(cli_json_member(document, "complete"), "false"))
        fputs("close-bridge events: the search took too long: there may be more\n", stderr);
    return EX_OK;
}

/* ---- the command ---- */

static int search(const struct request *request, const struct config *config)
{
    struct request copy = *request;
    struct buf path = {0};
    struct buf json = {0};
    int rc;

    buf_printf(&path, "/control/events?limit=%llu", (unsigned long long)request->limit);
    cli_control_append_parameter(&path, "id", request->id);
    cli_control_append_parameter(&path, "lead_id", request->lead_id);
    cli_control_append_parameter(&path, "object_type", request->object_type);
    cli_control_append_parameter(&path, "since", request->since);
    rc = cli_ask(
        &(struct cli_question){"events", "GET", buf_text(&path).data, search_journal, &copy},
        config, &json);
    if (rc == EX_OK && request->as_json)
        puts(buf_text(&json).data);
    else if (rc == EX_OK)
        rc = print_all(buf_text(&json));
    buf_release(&path);
    buf_release(&json);
    return rc;
}

static int read_request(int argc, char **argv, struct request *request)
{
    const struct cli_option options[] = {
        CLI_OPTION_CONFIG(&request->config_path),
        {.name = "id", .value = &request->id},
        {.name = "lead", .value = &request->lead_id},
        {.name = "type", .value = &request->object_type},
        {.name = "since", .value = &request->since},
        {.name = "limit", .number = &request->limit, .min = 1, .max = PAGE_MAX},
        {.name = "json", .flag = &request->as_json},
        {0}};
    int rc = cli_read_only_options("events", options, argc, argv);

    return rc == EX_OK ? cli_read_moment("events", "since", request->since, &request->since_ms)
                       : rc;
}

static int run(int argc, char **argv)
{
    struct request request = {.limit = PAGE, .since_ms = INT64_MIN};
    struct config *config;
    int rc = read_request(argc, argv, &request);

    if (rc != EX_OK)
        return rc;
    config = cli_load_config(cli_config_path(request.config_path), &rc);
    if (!config)
        return rc;
    log_configure(LOG_ERROR, LOG_LOGFMT);
    rc = search(&request, config);
    config_free(config);
    return rc;
}

const struct command cli_events = {
    "events", "say where events are",
    "usage: close-bridge events [-c FILE] [--id ID] [--lead ID] [--type OBJECT_TYPE]\n"
    "                           [--since WHEN] [--limit N] [--json]\n"
    "\n"
    "Finds events in the journal, the newest first (20, or N), and says of each when it came and\n"
    "what became of it at every publisher: pending, delivered (with topic, partition and offset\n"
    "for the latest ones), parked, dead, or none when the topic map sends it nowhere or it came\n"
    "before the publisher was configured. WHEN is a date, or how long ago, such as 15m. Asks the\n"
    "running bridge; when none runs, reads the journal.\n"
    "\n"
    "exit codes: 0, 64 usage, 65 the bridge refuses, 69 no answer, or the journal cannot be\n"
    "opened, 77 the control token is wrong, 66 and 78 as for check.\n"
    "\n"
    "example: close-bridge events --lead lead_bwwbjGyKCCpmFdrFQsHcXvyWqTXz97Sdr3SqSvTcbmL\n",
    run};
