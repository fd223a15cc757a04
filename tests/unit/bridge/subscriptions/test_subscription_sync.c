/*
 * Syncs against a Close that says what the test wants: what somebody else does in between, and
 * answers that a simulator of good manners does not give.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bridge/base/alloc.h"
#include "bridge/base/clock.h"
#include "bridge/close/account_settings.h"
#include "bridge/close/close_api.h"
#include "bridge/close/pair_list.h"
#include "bridge/http/http_server.h"
#include "bridge/subscriptions/key_store.h"
#include "bridge/subscriptions/stored_account.h"
#include "bridge/subscriptions/subscription_sync.h"

#define URL "https://hooks.example.com/webhooks/main"
#define KEY "058bfb6a3d8cfdc4da7c3be5901b16ae11da982b46a25fb2cd7016e97a140a1c"
#define CREATED "{\"object_type\":\"lead\",\"action\":\"created\"}"
#define UPDATED "{\"object_type\":\"lead\",\"action\":\"updated\"}"
#define SUB(id, events, more)                                                                      \
    "{\"id\":\"" id "\",\"url\":\"" URL "\",\"status\":\"active\",\"verify_ssl\":true,"            \
    "\"events\":[" events "]" more "}"
#define LIST(items) "{\"has_more\":false,\"data\":[" items "]}"
#define BOTH CREATED "," UPDATED
#define DUPLICATE "{\"error\":\"Duplicate active subscription. Existing duplicates are: d1.\"}"
#define WITH_KEY ",\"signature_key\":\"" KEY "\""

/* One request that has to come, and its answer. */
struct exchange {
    const char *request; /* "METHOD PATH"; NULL ends the script */
    int status;
    const char *body;
};

static struct http_server *server;
static struct close_api *api;
static struct key_store *store;
static struct account_settings account;
static struct sync_memory memory;
static struct sync_report report;
static char folder[64];
static char api_url[64];
static const struct exchange *script;
static _Atomic size_t position;
static char surprise[256]; /* a request that was not in the script */
static int64_t later_ms;   /* added to the clock */

static int64_t monotonic_us(const struct clock *self)
{
    (void)self;
    return clock_monotonic_us(&clock_system) + later_ms * 1000;
}

static int64_t wall_ms(const struct clock *self)
{
    (void)self;
    return clock_wall_ms(&clock_system) + later_ms;
}

static const struct clock clock = {monotonic_us, wall_ms};

static void handle(void *context, unsigned thread, struct http_request *request)
{
    const struct exchange *exchange = &script[position];
    struct text method = http_request_method(request);
    struct text path = http_request_path(request);
    char line[256];

    (void)context;
    (void)thread;
    snprintf(line, sizeof(line), "%.*s %.*s", (int)method.size, method.data, (int)path.size,
             path.data);
    if (!exchange->request || strcmp(line, exchange->request) != 0) {
        snprintf(surprise, sizeof(surprise), "%s", line);
        http_respond(request, &(struct http_response){.status = 418});
        return;
    }
    position++;
    http_respond(request, &(struct http_response){.status = exchange->status,
                                                  .body = text_of(exchange->body)});
}

static int set_up(void **state)
{
    struct error err = {0};
    char path[96];

    (void)state;
    strcpy(folder, "/tmp/test_subscription_sync.XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof(path), "%s/journal", folder);
    server = http_server_start(&(struct http_server_options){.name = "close",
                                                             .host = "127.0.0.1",
                                                             .threads = 1,
                                                             .max_body = 65536,
                                                             .clock = &clock_system,
                                                             .handle = handle},
                               &err);
    api = close_api_new(&(struct close_api_options){.clock = &clock_system, .first_pause_ms = 1},
                        &err);
    store = key_store_open(path, KEY_STORE_OWN, &clock, &err);
    if (!server || !api || !store)
        return -1;
    snprintf(api_url, sizeof(api_url), "http://127.0.0.1:%u", http_server_port(server));
    account = (struct account_settings){
        .name = "main",
        .api_url = api_url,
        .api_key = "k",
        .webhook_url = URL,
        .verify_ssl = true,
        .access = {.url = api_url, .api_key = "k"},
    };
    pair_list_put(&account.wanted, &(struct subscribed_pair){"lead", "created", NULL});
    pair_list_put(&account.wanted, &(struct subscribed_pair){"lead", "updated", NULL});
    later_ms = 0;
    surprise[0] = '\0';
    return 0;
}

static int tear_down(void **state)
{
    char command[96];

    (void)state;
    subscribed_pairs_release(&account.wanted);
    sync_report_release(&report);
    sync_memory_release(&memory);
    key_store_close(store);
    close_api_free(api);
    http_server_free(server);
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command);
}

/* Syncs against the script, all of which has to be asked for. */
static void sync_with(enum sync_mode mode, const struct exchange *exchanges,
                      enum sync_result expected)
{
    const struct sync_tools tools = {.api = api, .store = store, .clock = &clock};

    script = exchanges;
    position = 0;
    sync_report_release(&report);
    sync_account(&tools, &account, &memory, mode, &report);
    if (surprise[0])
        fail_msg("%s was not expected after %zu exchanges", surprise, (size_t)position);
    if (report.result != expected || script[position].request)
        fail_msg("%s, expected %s; %s; not asked: %s", sync_result_name(report.result),
                 sync_result_name(expected), report.error.message,
                 script[position].request ? script[position].request : "nothing");
}

#define SYNC(mode, expected, ...)                                                                  \
    sync_with(mode, (const struct exchange[]){__VA_ARGS__, {NULL, 0, NULL}}, expected)

static void create(void)
{
    SYNC(SYNC_SCHEDULED, SYNC_CREATED, {"GET /webhook/", 200, LIST("")},
         {"POST /webhook/", 201, SUB("w1", BOTH, WITH_KEY)});
    assert_string_equal(key_store_find(store, "main")->subscription_id, "w1");
}

static void scheduled_syncs_do_not_fight_for_ever(void **state)
{
    (void)state;
    create();
    /* Somebody takes a pair out, again and again. */
    for (int i = 0; i < 2; i++)
        SYNC(SYNC_SCHEDULED, SYNC_UPDATED, {"GET /webhook/", 200, LIST(SUB("w1", CREATED, ""))},
             {"PUT /webhook/w1/", 200, SUB("w1", BOTH, "")});
    SYNC(SYNC_SCHEDULED, SYNC_FAILED, {"GET /webhook/", 200, LIST(SUB("w1", CREATED, ""))});
    assert_non_null(strstr(report.error.message, "somebody else keeps changing"));
    assert_non_null(strstr(report.error.message, "w1 was changed"));
    SYNC(SYNC_SCHEDULED, SYNC_FAILED, {"GET /webhook/", 200, LIST(SUB("w1", CREATED, ""))});
    assert_non_null(strstr(report.error.message, "w1 was changed"));
    /* As it should be, nothing is to be said. */
    SYNC(SYNC_SCHEDULED, SYNC_UNCHANGED, {"GET /webhook/", 200, LIST(SUB("w1", BOTH, ""))});
    SYNC(SYNC_SCHEDULED, SYNC_FAILED, {"GET /webhook/", 200, LIST(SUB("w1", CREATED, ""))});
    /* Whoever asks for a sync gets it, and the account of disturbances begins anew. */
    SYNC(SYNC_EXPLICIT, SYNC_UPDATED, {"GET /webhook/", 200, LIST(SUB("w1", CREATED, ""))},
         {"PUT /webhook/w1/", 200, SUB("w1", BOTH, "")});
    for (int i = 0; i < 2; i++)
        SYNC(SYNC_SCHEDULED, SYNC_UPDATED, {"GET /webhook/", 200, LIST(SUB("w1", CREATED, ""))},
             {"PUT /webhook/w1/", 200, SUB("w1", BOTH, "")});
    SYNC(SYNC_SCHEDULED, SYNC_FAILED, {"GET /webhook/", 200, LIST(SUB("w1", CREATED, ""))});
    later_ms = INT64_C(25) * 3600 * 1000; /* a day later it is tried again */
    SYNC(SYNC_SCHEDULED, SYNC_UPDATED, {"GET /webhook/", 200, LIST(SUB("w1", CREATED, ""))},
         {"PUT /webhook/w1/", 200, SUB("w1", BOTH, "")});
}

/* A bridge with a keys file of its own, on the same URL, does what we do. */
static void another_bridge_on_our_url_is_not_fought(void **state)
{
    (void)state;
    create();
    SYNC(SYNC_SCHEDULED, SYNC_RECREATED, {"GET /webhook/", 200, LIST(SUB("x1", BOTH, ""))},
         {"GET /webhook/x1/", 200, SUB("x1", BOTH, "")},
         {"PUT /webhook/x1/", 200, SUB("x1", CREATED, "")},
         {"POST /webhook/", 201, SUB("w2", BOTH, WITH_KEY)}, {"DELETE /webhook/x1/", 200, "{}"});
    SYNC(SYNC_SCHEDULED, SYNC_RECREATED, {"GET /webhook/", 200, LIST(SUB("x2", BOTH, ""))},
         {"GET /webhook/x2/", 200, SUB("x2", BOTH, "")},
         {"PUT /webhook/x2/", 200, SUB("x2", CREATED, "")},
         {"POST /webhook/", 201, SUB("w3", BOTH, WITH_KEY)}, {"DELETE /webhook/x2/", 200, "{}"});
    SYNC(SYNC_SCHEDULED, SYNC_FAILED, {"GET /webhook/", 200, LIST(SUB("x3", BOTH, ""))},
         {"GET /webhook/x3/", 200, SUB("x3", BOTH, "")});
    assert_non_null(strstr(report.error.message, "perhaps another bridge"));
}

static void our_own_unfinished_changes_are_no_disturbance(void **state)
{
    static const char *const listed[] = {
        LIST(SUB("w1", BOTH, "")),
        LIST("{\"id\":\"w1\",\"url\":\"" URL "\",\"status\":\"active\",\"verify_ssl\":false,"
             "\"events\":[" BOTH "]}"),
    };

    (void)state;
    create();
    for (int i = 0; i < 4; i++) {
        account.verify_ssl = !account.verify_ssl;
        SYNC(SYNC_SCHEDULED, SYNC_FAILED, {"GET /webhook/", 200, listed[i % 2]},
             {"PUT /webhook/w1/", 200, "garbage, but it was done"});
        SYNC(SYNC_SCHEDULED, SYNC_UNCHANGED, {"GET /webhook/", 200, listed[(i + 1) % 2]});
    }
}

static void a_key_that_the_creation_did_not_tell_is_asked_for(void **state)
{
    (void)state;
    SYNC(SYNC_SCHEDULED, SYNC_CREATED, {"GET /webhook/", 200, LIST("")},
         {"POST /webhook/", 201, SUB("w1", BOTH, "")},
         {"GET /webhook/w1/", 200, SUB("w1", BOTH, WITH_KEY)});
    assert_non_null(stored_account_key(key_store_find(store, "main"), "w1"));
}

static void a_subscription_without_a_key_is_deleted_again(void **state)
{
    (void)state;
    SYNC(SYNC_SCHEDULED, SYNC_FAILED, {"GET /webhook/", 200, LIST("")},
         {"POST /webhook/", 201, SUB("w1", BOTH, "")},
         {"GET /webhook/w1/", 200, SUB("w1", BOTH, "")}, {"DELETE /webhook/w1/", 200, "{}"});
    assert_non_null(strstr(report.error.message, "w1 was deleted again"));
    assert_null(key_store_find(store, "main"));
}

static void a_duplicate_that_was_not_listed_is_looked_for_once(void **state)
{
    (void)state;
    SYNC(SYNC_SCHEDULED, SYNC_CREATED, {"GET /webhook/", 200, LIST("")},
         {"POST /webhook/", 400, DUPLICATE}, {"GET /webhook/", 200, LIST(SUB("d1", BOTH, ""))},
         {"GET /webhook/d1/", 200, SUB("d1", BOTH, "")},
         {"PUT /webhook/d1/", 200, SUB("d1", CREATED, "")},
         {"POST /webhook/", 201, SUB("w1", BOTH, WITH_KEY)}, {"DELETE /webhook/d1/", 200, "{}"});
    SYNC(SYNC_EXPLICIT, SYNC_FAILED, {"GET /webhook/", 200, LIST("")},
         {"POST /webhook/", 400, DUPLICATE}, {"GET /webhook/", 200, LIST("")},
         {"POST /webhook/", 400, DUPLICATE});
    assert_non_null(strstr(report.error.message, "key of an administrator"));
}

/* Ours, whose key is stored, cannot get the pairs that one has which was made elsewhere. */
static void a_duplicate_that_may_be_meant_is_named(void **state)
{
    static const char both[] = LIST(SUB("w1", CREATED, "") "," SUB("d1", BOTH, ""));

    (void)state;
    create();
    account.has_configured_keys = true;
    for (int i = 0; i < 2; i++) {
        SYNC(SYNC_EXPLICIT, SYNC_FAILED, {"GET /webhook/", 200, both},
             {"PUT /webhook/w1/", 400, DUPLICATE}, {"GET /webhook/", 200, both},
             {"PUT /webhook/w1/", 400, DUPLICATE});
        assert_non_null(strstr(report.error.message, "d1 has this URL and these pairs already"));
    }
    /* Without configured keys it is surplus. */
    account.has_configured_keys = false;
    SYNC(SYNC_EXPLICIT, SYNC_UPDATED, {"GET /webhook/", 200, both},
         {"DELETE /webhook/d1/", 200, "{}"}, {"PUT /webhook/w1/", 200, SUB("w1", BOTH, "")});
}

static void a_duplicate_that_is_never_listed_is_explained(void **state)
{
    static const char ours[] = LIST(SUB("w1", CREATED, ""));

    (void)state;
    create();
    SYNC(SYNC_EXPLICIT, SYNC_FAILED, {"GET /webhook/", 200, ours},
         {"PUT /webhook/w1/", 400, DUPLICATE}, {"GET /webhook/", 200, ours},
         {"PUT /webhook/w1/", 400, DUPLICATE});
    assert_non_null(strstr(report.error.message, "key of an administrator"));
}

static void what_close_does_not_keep_ends_with_an_error(void **state)
{
    (void)state;
    create();
    SYNC(SYNC_SCHEDULED, SYNC_FAILED, {"GET /webhook/", 200, LIST(SUB("w1", CREATED, ""))},
         {"PUT /webhook/w1/", 200, SUB("w1", CREATED, "")});
    assert_non_null(strstr(report.error.message, "does not keep what is written"));
}

static void a_subscription_that_goes_meanwhile_is_made_again(void **state)
{
    (void)state;
    create();
    SYNC(SYNC_SCHEDULED, SYNC_RECREATED, {"GET /webhook/", 200, LIST(SUB("w1", CREATED, ""))},
         {"PUT /webhook/w1/", 404, "{}"}, {"POST /webhook/", 201, SUB("w2", BOTH, WITH_KEY)});
    assert_string_equal(key_store_find(store, "main")->subscription_id, "w2");
    /* What the old one still had under way can be verified. */
    assert_non_null(stored_account_key(key_store_find(store, "main"), "w1"));
    later_ms = INT64_C(73) * 3600 * 1000;
    SYNC(SYNC_SCHEDULED, SYNC_UNCHANGED, {"GET /webhook/", 200, LIST(SUB("w2", BOTH, ""))});
    assert_null(stored_account_key(key_store_find(store, "main"), "w1"));
}

static void refused_pairs_are_not_offered_again_for_a_day(void **state)
{
    (void)state;
    pair_list_put(&account.wanted, &(struct subscribed_pair){"lead", "vanished", NULL});
    SYNC(SYNC_SCHEDULED, SYNC_CREATED, {"GET /webhook/", 200, LIST("")},
         {"POST /webhook/", 400, "{\"errors\":[\"Invalid events.\"]}"},
         {"POST /webhook/", 201, SUB("w1", BOTH, WITH_KEY)},
         {"PUT /webhook/w1/", 400, "{\"errors\":[\"Invalid events.\"]}"});
    assert_int_equal(report.refused.count, 1);
    SYNC(SYNC_SCHEDULED, SYNC_UNCHANGED, {"GET /webhook/", 200, LIST(SUB("w1", BOTH, ""))});
    assert_int_equal(report.refused.count, 1);
    assert_int_equal(subscription_view_drift(&memory.view), 0);
    SYNC(SYNC_EXPLICIT, SYNC_UPDATED, {"GET /webhook/", 200, LIST(SUB("w1", BOTH, ""))},
         {"PUT /webhook/w1/", 400, "{}"}, {"PUT /webhook/w1/", 200, SUB("w1", BOTH, "")});
    later_ms = INT64_C(25) * 3600 * 1000;
    SYNC(SYNC_SCHEDULED, SYNC_UPDATED, {"GET /webhook/", 200, LIST(SUB("w1", BOTH, ""))},
         {"PUT /webhook/w1/", 200,
          SUB("w1", BOTH ",{\"object_type\":\"lead\",\"action\":\"vanished\"}", "")});
    assert_int_equal(report.refused.count, 0);
}

static void a_refusal_of_everything_is_not_blamed_on_the_pairs(void **state)
{
    static const char bad_url[] = "{\"errors\":[],\"field-errors\":{\"url\":\"Not allowed.\"}}";

    (void)state;
    pair_list_put(&account.wanted, &(struct subscribed_pair){"contact", "created", NULL});
    SYNC(SYNC_SCHEDULED, SYNC_FAILED, {"GET /webhook/", 200, LIST("")},
         {"POST /webhook/", 400, bad_url}, {"POST /webhook/", 400, bad_url},
         {"POST /webhook/", 400, bad_url}, {"POST /webhook/", 400, bad_url},
         {"POST /webhook/", 400, bad_url});
    assert_non_null(strstr(report.error.message, "url: Not allowed."));
    assert_int_equal(report.refused.count, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(scheduled_syncs_do_not_fight_for_ever),
        TEST(another_bridge_on_our_url_is_not_fought),
        TEST(our_own_unfinished_changes_are_no_disturbance),
        TEST(a_key_that_the_creation_did_not_tell_is_asked_for),
        TEST(a_subscription_without_a_key_is_deleted_again),
        TEST(a_duplicate_that_was_not_listed_is_looked_for_once),
        TEST(a_duplicate_that_may_be_meant_is_named),
        TEST(a_duplicate_that_is_never_listed_is_explained),
        TEST(what_close_does_not_keep_ends_with_an_error),
        TEST(a_subscription_that_goes_meanwhile_is_made_again),
        TEST(refused_pairs_are_not_offered_again_for_a_day),
        TEST(a_refusal_of_everything_is_not_blamed_on_the_pairs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
