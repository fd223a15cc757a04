/*
 * journal: what the journal of a bridge that does not run holds, and forgetting a publisher that
 * was removed.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/log.h"
#include "bridge/cli.h"
#include "bridge/config.h"
#include "bridge/journal.h"

static void print_cursor(void *context, const char *publisher, uint64_t seq)
{
    const struct journal_numbers *numbers = context;

    printf("publisher %-10s at event %" PRIu64 ", %" PRIu64 " behind\n", publisher, seq,
           numbers->tail - seq);
}

static void print_stats(struct journal *journal)
{
    struct journal_numbers numbers;

    journal_numbers(journal, &numbers);
    printf("events %" PRIu64 " to %" PRIu64 "\nspace %" PRIu64 " of %" PRIu64
           " bytes\ndead letters %" PRIu64 "\n",
           numbers.head, numbers.tail, numbers.bytes, numbers.max_bytes, numbers.dead_count);
    journal_visit_cursors(journal, print_cursor, &numbers);
}

static bool is_configured(const struct config *config, const char *publisher)
{
    return (config->kafka.is_configured && strcmp(publisher, "kafka") == 0) ||
           (config->mqtt.is_configured && strcmp(publisher, "mqtt") == 0);
}

static int drop_publisher(struct journal *journal, const struct config *config,
                          const char *publisher)
{
    struct error err = {0};

    if (is_configured(config, publisher)) {
        fprintf(stderr,
                "close-bridge journal: %s is configured: remove it from the configuration first\n",
                publisher);
        return EX_USAGE;
    }
    if (journal_drop_publisher(journal, publisher, &err) < 0) {
        fprintf(stderr, "close-bridge journal: %s\n", err.message);
        return err.kind == ERROR_INPUT ? EX_DATAERR : EX_IOERR;
    }
    printf("%s is forgotten; events that were kept for it alone will be deleted\n", publisher);
    return EX_OK;
}

static int use_journal(const struct config *config, const char *publisher)
{
    struct journal_options options = {.path = config->journal.path,
                                      .max_size = config->journal.max_size,
                                      .retention_ms = config->journal.retention_ms,
                                      .dedupe_window_ms = config->journal.dedupe_window_ms,
                                      .dedupe_max = config->journal.dedupe_max};
    struct error err = {0};
    struct journal *journal = journal_open(&options, &clock_system, &err);
    int rc = EX_OK;

    if (!journal) {
        fprintf(stderr, "close-bridge journal: %s; stop the bridge first\n", err.message);
        return EX_UNAVAILABLE;
    }
    if (publisher)
        rc = drop_publisher(journal, config, publisher);
    else
        print_stats(journal);
    journal_close(journal);
    return rc;
}

static int run(int argc, char **argv)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {NULL, 0, NULL, 0}};
    const char *path = NULL;
    struct config *config;
    bool drops;
    int option;
    int rc;

    while ((option = getopt_long(argc, argv, "c:", options, NULL)) != -1) {
        if (option != 'c')
            return cli_usage_error("journal", "wrong option");
        path = optarg;
    }
    drops = argc - optind == 2 && strcmp(argv[optind], "drop-publisher") == 0;
    if (!drops && (argc - optind != 1 || strcmp(argv[optind], "stats") != 0))
        return cli_usage_error("journal", "say stats, or drop-publisher NAME");
    config = cli_load_config(cli_config_path(path), &rc);
    if (!config)
        return rc;
    if (config->journal.acknowledge == ACKNOWLEDGE_BROKER) {
        fprintf(stderr, "close-bridge journal: with acknowledge: broker there is no journal\n");
        config_free(config);
        return EX_CONFIG;
    }
    log_configure(LOG_ERROR, LOG_LOGFMT);
    rc = use_journal(config, drops ? argv[optind + 1] : NULL);
    config_free(config);
    return rc;
}

const struct command cli_journal = {"journal",
                                    "look into the journal of a bridge that does not run",
                                    "usage: close-bridge journal [-c FILE] stats\n"
                                    "       close-bridge journal [-c FILE] drop-publisher NAME\n"
                                    "\n"
                                    "stats says what the journal holds and how far each publisher "
                                    "is. drop-publisher forgets one that\n"
                                    "is configured no more: until then its events are kept for it, "
                                    "and /readyz shows it as removed.\n"
                                    "The bridge must not be running.\n"
                                    "\n"
                                    "exit codes: 0 done, 64 usage, 65 no such publisher, 66 and 78 "
                                    "as for check, 69 the journal cannot be\n"
                                    "opened.\n",
                                    run};
