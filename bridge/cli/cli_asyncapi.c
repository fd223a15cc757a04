/*
 * The command asyncapi: the topics as a document that programs read.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "bridge/base/buf.h"
#include "bridge/cli/asyncapi.h"
#include "bridge/cli/cli.h"
#include "bridge/cli/cli_options.h"
#include "bridge/config/config.h"

static int write_file(const char *path, struct text document)
{
    FILE *file = fopen(path, "w");
    bool is_written;

    if (!file) {
        fprintf(stderr, "close-bridge asyncapi: cannot create %s: %s\n", path, strerror(errno));
        return EX_CANTCREAT;
    }
    is_written = fwrite(document.data, 1, document.size, file) == document.size;
    is_written = fclose(file) == 0 && is_written;
    if (is_written)
        return EX_OK;
    fprintf(stderr, "close-bridge asyncapi: cannot write %s: %s\n", path, strerror(errno));
    return EX_IOERR;
}

static int run_asyncapi(int argc, char **argv)
{
    const char *path = NULL;
    const char *output = NULL;
    const struct cli_option options[] = {
        CLI_OPTION_CONFIG(&path), {.name = "output", .value = &output, .letter = 'o'}, {0}};
    struct buf document = {0};
    struct config *config;
    int rc = cli_read_only_options("asyncapi", options, argc, argv);

    if (rc != EX_OK)
        return rc;
    config = cli_load_config(cli_config_path(path), &rc);
    if (!config)
        return rc;
    asyncapi_write(config, &document);
    if (output)
        rc = write_file(output, buf_text(&document));
    else
        fputs(buf_text(&document).data, stdout);
    buf_release(&document);
    config_free(config);
    return rc;
}

const struct command cli_asyncapi = {
    "asyncapi", "describe the topics for their consumers",
    "usage: close-bridge asyncapi [-c FILE] [-o OUTPUT]\n"
    "\n"
    "Writes an AsyncAPI 3.0 document of the effective topic map: brokers (without credentials),\n"
    "topics, and for every pair of object type and action its key, headers, content type and the\n"
    "JSON Schema of its payload. The document is complete in itself. It is JSON, and so YAML too.\n"
    "Connects to nothing.\n"
    "\n"
    "exit codes: 0, 64 usage, 66 no configuration file, 73 or 74 the output cannot be written, 78\n"
    "mistakes in the configuration.\n"
    "\n"
    "example: close-bridge asyncapi -c close-bridge.yaml -o asyncapi.json\n",
    run_asyncapi};
