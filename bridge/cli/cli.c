#include "bridge/cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "bridge/base/buf.h"
#include "bridge/base/suggest.h"
#include "bridge/config/config.h"

static const struct command *const commands[] = {
    &cli_serve,   &cli_check,  &cli_sync,         &cli_unsubscribe, &cli_catch_up, &cli_send,
    &cli_status,  &cli_events, &cli_dead_letters, &cli_replay,      &cli_catalog,  &cli_topics,
    &cli_journal, &cli_keys,   &cli_asyncapi,     &cli_version};

enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void print_help(FILE *out)
{
    fputs("close-bridge streams the webhooks of Close into Kafka and MQTT, and loses none.\n\n"
          "usage: close-bridge COMMAND [options]\n\ncommands:\n",
          out);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-12s %s\n", commands[i]->name, commands[i]->summary);
    fputs("\n`close-bridge COMMAND --help` explains a command.\n"
          "The configuration is ./close-bridge.yaml unless -c or CLOSE_BRIDGE_CONFIG names another "
          "file.\n",
          out);
}

int cli_usage_error(const char *command, const char *fmt, ...)
{
    va_list args;

    fprintf(stderr, "close-bridge %s: ", command);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fprintf(stderr, "; see close-bridge %s --help\n", command);
    return EX_USAGE;
}

int cli_extra_argument(const char *command, const char *argument)
{
    return cli_usage_error(command, "it takes no argument such as %s", argument);
}

const char *cli_config_path(const char *option)
{
    const char *from_environment = getenv("CLOSE_BRIDGE_CONFIG");

    if (option)
        return option;
    return from_environment && *from_environment ? from_environment : "close-bridge.yaml";
}

/* Why there is nothing to read at `path`, or NULL. A pipe is as good as a file. */
static const char *trouble_at(const char *path)
{
    struct stat found;

    if (access(path, R_OK) != 0 || stat(path, &found) != 0)
        return strerror(errno);
    if (S_ISDIR(found.st_mode))
        return "it is a directory";
    return S_ISSOCK(found.st_mode) ? "it is a socket" : NULL;
}

struct config *cli_load_config(const char *path, int *out_exit_code)
{
    const char *trouble = trouble_at(path);
    struct buf messages = {0};
    struct config *config;

    if (trouble) {
        fprintf(stderr, "%s: cannot read the configuration: %s; name another file with -c\n", path,
                trouble);
        *out_exit_code = EX_NOINPUT;
        return NULL;
    }
    config = config_load(path, &messages);
    if (messages.size > 0)
        fputs(messages.data, stderr);
    buf_release(&messages);
    *out_exit_code = config ? EX_OK : EX_CONFIG;
    return config;
}

static bool is_help(const char *argument)
{
    return strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0;
}

static int unknown_command(const char *name)
{
    struct suggestion nearest = {.word = text_of(name)};

    for (size_t i = 0; i < COMMANDS; i++)
        suggestion_offer(&nearest, commands[i]->name);
    if (name[0] == '-') {
        fprintf(stderr,
                "close-bridge: options such as %s stand behind the command; see close-bridge "
                "--help\n",
                name);
        return EX_USAGE;
    }
    fprintf(stderr, "close-bridge: there is no command %s", name);
    if (nearest.name)
        fprintf(stderr, " (did you mean %s?)", nearest.name);
    fputs("; see close-bridge --help\n", stderr);
    return EX_USAGE;
}

/* What was printed and did not arrive is a failure, as with `catalog > /dev/full`. */
static int check_output(int exit_code)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return exit_code;
    fprintf(stderr, "close-bridge: cannot write the output: %s\n", strerror(errno));
    return exit_code ? exit_code : EX_IOERR;
}

static int run_command(const struct command *command, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (is_help(argv[i])) {
            fputs(command->help, stdout);
            return check_output(EX_OK);
        }
    }
    return check_output(command->run(argc, argv));
}

int cli_main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return EX_USAGE;
    }
    if (is_help(argv[1]) || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return EX_OK;
    }
    if (strcmp(argv[1], "--version") == 0)
        return run_command(&cli_version, 1, argv + 1);
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(argv[1], commands[i]->name) == 0)
            return run_command(commands[i], argc - 1, argv + 1);
    }
    return unknown_command(argv[1]);
}
