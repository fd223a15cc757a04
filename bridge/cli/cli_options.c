#include "bridge/cli/cli_options.h"

#include <assert.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/base/suggest.h"
#include "bridge/base/text.h"
#include "bridge/cli/cli.h"
#include "bridge/config/moment.h"

/* What getopt_long() returns for the first option of a table; no letter reaches so far. */
enum { FIRST = 256 };

/* The table as getopt_long() wants it. */
struct getopt_table {
    char letters[2 + 2 * CLI_OPTIONS_MAX]; /* begins with ':', so that nothing else is printed */
    struct option names[CLI_OPTIONS_MAX];
};

static void fill(struct getopt_table *table, const struct cli_option *options)
{
    size_t size = 0;
    int count = 0;

    *table = (struct getopt_table){0};
    table->letters[size++] = ':';
    for (; options[count].name; count++) {
        const struct cli_option *option = &options[count];

        assert(count < CLI_OPTIONS_MAX - 1);
        table->names[count] = (struct option){
            option->name, option->flag ? no_argument : required_argument, NULL, FIRST + count};
        if (!option->letter)
            continue;
        table->letters[size++] = option->letter;
        if (!option->flag)
            table->letters[size++] = ':';
    }
}

/* NULL when it is none of the table's. */
static const struct cli_option *find(const struct cli_option *options, int result)
{
    if (result >= FIRST)
        return &options[result - FIRST];
    while (options->name && options->letter != result)
        options++;
    return options->name ? options : NULL;
}

/* What getopt_long() stopped at: it names a short option only by its letter. */
static struct text stopped_at(char **argv)
{
    const char *argument = optind > 0 ? argv[optind - 1] : "";

    return (struct text){argument, strcspn(argument, "=")};
}

/* After getopt_long() returned '?' or ':'. */
static int refuse(const char *command, int result, char **argv, const struct cli_option *options)
{
    struct text written = stopped_at(argv);
    struct suggestion nearest = {.word = written};
    char names[CLI_OPTIONS_MAX][32];

    if (optopt && optopt < FIRST)
        return cli_usage_error(command, result == ':' ? "-%c needs a value" : "no option -%c",
                               optopt);
    if (result == ':')
        return cli_usage_error(command, "%.*s needs a value", (int)written.size, written.data);
    if (optopt)
        return cli_usage_error(command, "%.*s takes no value", (int)written.size, written.data);
    for (size_t i = 0; options[i].name; i++) {
        snprintf(names[i], sizeof(names[i]), "--%s", options[i].name);
        suggestion_offer(&nearest, names[i]);
    }
    return cli_usage_error(command, "no option %.*s%s%s%s", (int)written.size, written.data,
                           nearest.name ? " (did you mean " : "", nearest.name ? nearest.name : "",
                           nearest.name ? "?)" : "");
}

static int take(const char *command, const struct cli_option *option, const char *value)
{
    uint64_t number;

    if (option->flag) {
        *option->flag = true;
    } else if (!*value) { /* a variable of the shell that is not set must not mean all */
        return cli_usage_error(command, "the value of --%s is empty", option->name);
    } else if (option->value) {
        *option->value = value;
    } else {
        if (!text_to_u64(text_of(value), &number) || number < option->min || number > option->max)
            return cli_usage_error(command,
                                   "--%s is a whole number from %" PRIu64 " to %" PRIu64 ", not %s",
                                   option->name, option->min, option->max, value);
        *option->number = number;
    }
    return EX_OK;
}

int cli_read_options(const char *command, const struct cli_option *options, int *argc, char ***argv)
{
    struct getopt_table table;
    int rc = EX_OK;
    int result;

    fill(&table, options);
    while (rc == EX_OK &&
           (result = getopt_long(*argc, *argv, table.letters, table.names, NULL)) != -1) {
        const struct cli_option *option = find(options, result);

        rc = option ? take(command, option, optarg) : refuse(command, result, *argv, options);
    }
    *argc -= optind;
    *argv += optind;
    return rc;
}

int cli_read_only_options(const char *command, const struct cli_option *options, int argc,
                          char **argv)
{
    int rc = cli_read_options(command, options, &argc, &argv);

    return rc == EX_OK && argc > 0 ? cli_extra_argument(command, argv[0]) : rc;
}

int cli_read_moment(const char *command, const char *option, const char *written, int64_t *out_ms)
{
    struct error err = {0};

    if (!written || moment_parse(text_of(written), clock_wall_ms(&clock_system), out_ms, &err) == 0)
        return EX_OK;
    return cli_usage_error(command, "--%s %s %s", option, written, err.message);
}
