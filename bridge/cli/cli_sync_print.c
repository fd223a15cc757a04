/*
 * How the command line shows what a sync did, or would do.
 */
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "bridge/base/buf.h"
#include "bridge/cli/cli_json.h"
#include "bridge/cli/cli_sync.h"
#include "schemas/json_scan.h"

static void print_string(struct text string)
{
    struct buf text = {0};

    fputs(cli_json_plain(string, &text), stdout);
    buf_release(&text);
}

/* Pairs of one object type after the other share a line: "  + lead: created, updated". */
static void print_pairs(struct text list, char sign)
{
    struct text previous = {NULL, 0};
    struct json_cursor cursor;
    struct text pair;

    if (!json_array_begin(&cursor, list))
        return;
    while (json_array_next(&cursor, &pair)) {
        struct json_cursor parts;
        struct text type = {NULL, 0};
        struct text action = {NULL, 0};

        if (!json_array_begin(&parts, pair) || !json_array_next(&parts, &type) ||
            !json_array_next(&parts, &action))
            continue;
        if (text_equal(type, previous)) {
            fputs(", ", stdout);
        } else {
            printf("%s  %c ", previous.data ? "\n" : "", sign);
            print_string(type);
            fputs(": ", stdout);
        }
        print_string(action);
        previous = type;
    }
    if (previous.data)
        putchar('\n');
}

static void print_sentences(struct text list, const char *before)
{
    struct json_cursor cursor;
    struct text sentence;

    if (!json_array_begin(&cursor, list))
        return;
    while (json_array_next(&cursor, &sentence)) {
        fputs(before, stdout);
        print_string(sentence);
        putchar('\n');
    }
}

static void print_gap(struct text gap)
{
    if (!gap.data)
        return;
    fputs("  ! events from ", stdout);
    print_string(cli_json_member(gap, "since"));
    fputs(" until ", stdout);
    print_string(cli_json_member(gap, "until"));
    fputs(" may be missing: catch up with Close's Event Log\n", stdout);
}

static void print_headline(struct text account, const char *result, bool is_dry_run)
{
    struct text pairs = cli_json_member(account, "pairs");

    print_string(cli_json_member(account, "account"));
    printf(": %s%s", is_dry_run && strcmp(result, "unchanged") != 0 ? "would be " : "", result);
    if (json_is_string(cli_json_member(account, "subscription_id"))) {
        fputs(", ", stdout);
        print_string(cli_json_member(account, "subscription_id"));
        printf(", %.*s pairs", (int)pairs.size, pairs.data ? pairs.data : "");
    }
    putchar('\n');
}

/* True unless it failed. */
static bool print_account(const char *command, struct text account, bool is_dry_run)
{
    struct text error = cli_json_member(account, "error");
    struct buf result = {0};
    struct buf reason = {0};
    bool has_failed;

    has_failed = strcmp(cli_json_plain(cli_json_member(account, "result"), &result), "failed") == 0;
    print_headline(account, result.data ? result.data : "", is_dry_run && !has_failed);
    if (is_dry_run)
        print_sentences(cli_json_member(account, "steps"), "  > ");
    print_pairs(cli_json_member(account, "added"), '+');
    print_pairs(cli_json_member(account, "removed"), '-');
    print_sentences(cli_json_member(account, "changes"), "  ~ ");
    print_gap(cli_json_member(account, "gap"));
    fflush(stdout);
    if (json_is_string(error))
        fprintf(stderr, "close-bridge %s: %s\n", command, cli_json_plain(error, &reason));
    buf_release(&result);
    buf_release(&reason);
    return !has_failed;
}

/* What the daemon says of Kafka's topics that were, or are, not as events need them. */
static void print_topics(struct text topics)
{
    struct json_cursor cursor;
    struct text topic;

    if (topics.size && json_is_null(topics))
        puts("topics: not looked at, for no Kafka broker answers");
    if (!json_array_begin(&cursor, topics))
        return;
    while (json_array_next(&cursor, &topic)) {
        fputs("topic ", stdout);
        print_string(cli_json_member(topic, "topic"));
        fputs(": ", stdout);
        print_string(cli_json_member(topic, "state"));
        fputs(json_is_string(cli_json_member(topic, "detail")) ? ": " : "", stdout);
        print_string(cli_json_member(topic, "detail"));
        putchar('\n');
    }
}

int cli_sync_print(const char *command, struct text answer)
{
    struct json_cursor cursor;
    struct text document;
    struct text account;
    size_t count = 0;
    bool all_well = true;

    if (!cli_json_check_list(command, answer, "accounts", &document, &cursor))
        return EX_PROTOCOL;
    for (; json_array_next(&cursor, &account); count++)
        all_well = print_account(command, account,
                                 text_equal_string(cli_json_member(document, "dry_run"), "true")) &&
                   all_well;
    if (count == 0) {
        fprintf(stderr,
                "close-bridge %s: no account has webhook_url, and api_key or oauth_token: there is "
                "nothing to do\n",
                command);
        return EX_CONFIG;
    }
    print_topics(cli_json_member(document, "topics"));
    return all_well ? EX_OK : EX_UNAVAILABLE;
}
