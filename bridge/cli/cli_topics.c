/*
 * The command topics: where every event goes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "bridge/base/buf.h"
#include "bridge/cli/cli.h"
#include "bridge/cli/cli_options.h"
#include "bridge/config/config.h"
#include "bridge/config/topic_report.h"
#include "schemas/encoder.h"

enum column {
    COLUMN_TYPE,
    COLUMN_ACTION,
    COLUMN_ACCOUNT,
    COLUMN_SUBSCRIBED,
    COLUMN_PUBLISHER,
    COLUMN_TOPIC,
    COLUMN_KEY,
    COLUMN_FORMAT,
    COLUMN_QOS,
    COLUMN_WHEN,
    COLUMN_LINE,
    COLUMN_COUNT
};

/* A line of the table; what is NULL is left empty. */
struct cells {
    const char *texts[COLUMN_COUNT];
    char line[16];
    char qos[16];
};

static void describe_pair(const struct topic_report_row *row, struct cells *out_cells)
{
    *out_cells = (struct cells){.texts = {
                                    [COLUMN_TYPE] = row->object_type,
                                    [COLUMN_ACTION] = row->action,
                                    [COLUMN_ACCOUNT] = row->account ? row->account : "*",
                                    [COLUMN_SUBSCRIBED] = !row->is_subscribed ? "no"
                                                          : row->extra_filter ? "filtered"
                                                                              : "yes",
                                    [COLUMN_PUBLISHER] = "nowhere",
                                }};
}

static const char *when(const struct topic_report_destination *destination)
{
    const struct config_entry *entry = destination->entry;

    if (entry->fallback)
        return entry->filter ? "fallback+filter" : "fallback";
    return entry->filter ? "filter" : "always";
}

static void describe_destination(const struct topic_report_destination *destination,
                                 struct cells *cells)
{
    const struct config_target *target = destination->target;

    cells->texts[COLUMN_PUBLISHER] = topic_report_publisher_name(destination->publisher);
    cells->texts[COLUMN_TOPIC] = destination->topic ? destination->topic : "(refused)";
    cells->texts[COLUMN_FORMAT] = format_name(target->format);
    cells->texts[COLUMN_WHEN] = when(destination);
    cells->texts[COLUMN_KEY] = target->key_source;
    snprintf(cells->line, sizeof(cells->line), "%d", destination->entry->line);
    cells->texts[COLUMN_LINE] = cells->line;
    if (destination->publisher != PUBLISHER_MQTT)
        return;
    snprintf(cells->qos, sizeof(cells->qos), "%d%s", target->qos, target->retain ? " retain" : "");
    cells->texts[COLUMN_QOS] = cells->qos;
}

/* What is done with every line of the table. */
typedef void visit_cells(const struct cells *cells, int *widths);

static void visit_table(const struct topic_report *report, visit_cells *visit, int *widths)
{
    static const struct cells heads = {.texts = {"OBJECT TYPE", "ACTION", "ACCOUNT", "SUBSCRIBED",
                                                 "PUBLISHER", "TOPIC", "KEY", "FORMAT", "QOS",
                                                 "WHEN", "LINE"}};
    struct cells cells;

    visit(&heads, widths);
    for (size_t i = 0; i < report->count; i++) {
        const struct topic_report_row *row = &report->rows[i];

        describe_pair(row, &cells);
        if (row->count == 0)
            visit(&cells, widths);
        for (size_t d = 0; d < row->count; d++) {
            describe_pair(row, &cells);
            describe_destination(&row->destinations[d], &cells);
            visit(&cells, widths);
        }
    }
}

static void measure(const struct cells *cells, int *widths)
{
    for (int c = 0; c < COLUMN_COUNT; c++) {
        int size = cells->texts[c] ? (int)strlen(cells->texts[c]) : 0;

        widths[c] = size > widths[c] ? size : widths[c];
    }
}

static void print(const struct cells *cells, int *widths)
{
    int last = COLUMN_COUNT - 1;

    while (last > 0 && !cells->texts[last])
        last--;
    for (int c = 0; c < last; c++)
        printf("%-*s  ", widths[c], cells->texts[c] ? cells->texts[c] : "");
    printf("%s\n", cells->texts[last]);
}

static void print_table(const struct topic_report *report)
{
    int widths[COLUMN_COUNT] = {0};
    size_t nowhere = 0;

    for (size_t i = 0; i < report->count; i++)
        nowhere += report->rows[i].count == 0;
    visit_table(report, measure, widths);
    visit_table(report, print, widths);
    printf("\n%zu pairs, of which %zu go nowhere\n", report->count, nowhere);
}

static void print_json(const struct topic_report *report)
{
    struct buf json = {0};

    topic_report_append_json(report, &json);
    puts(buf_text(&json).data);
    buf_release(&json);
}

static int run_topics(int argc, char **argv)
{
    const char *path = NULL;
    bool as_json = false;
    const struct cli_option options[] = {
        CLI_OPTION_CONFIG(&path), {.name = "json", .flag = &as_json}, {0}};
    struct config *config;
    struct topic_report *report;
    int rc = cli_read_only_options("topics", options, argc, argv);

    if (rc != EX_OK)
        return rc;
    config = cli_load_config(cli_config_path(path), &rc);
    if (!config)
        return rc;
    report = topic_report_make(config);
    if (as_json)
        print_json(report);
    else
        print_table(report);
    topic_report_free(report);
    config_free(config);
    return EX_OK;
}

const struct command cli_topics = {
    "topics", "print where every event goes",
    "usage: close-bridge topics [-c FILE] [--json]\n"
    "\n"
    "Prints the effective topic map of a configuration: for every pair of object type and action\n"
    "whether the bridge subscribes to it at Close, and on which topics it is published, with key,\n"
    "format and the line of the entry. Pairs that no entry takes go nowhere. Connects to nothing;\n"
    "GET /control/topic-map tells the same of the map that a running bridge has in force.\n"
    "\n"
    "WHEN: always; filter: what passes the entry's extra_filter; fallback: what no other entry\n"
    "took. --json prints the document that docs/control.openapi.yaml describes.\n"
    "\n"
    "exit codes: 0, 64 usage, 66 no configuration file, 78 mistakes in it.\n"
    "\n"
    "example: close-bridge topics -c close-bridge.yaml | grep nowhere\n",
    run_topics};
