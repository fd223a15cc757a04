#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "bridge/base/clock.h"
#include "bridge/base/error.h"
#include "bridge/subscriptions/key_store.h"
#include "bridge/subscriptions/stored_account.h"

/* Comes before libc's: counts, and fails when it is told to. */
static int synced_files;
static int synced_folders;
static bool fails_for_folders;

int fsync(int fd)
{
    struct stat info;

    fstat(fd, &info);
    if (S_ISDIR(info.st_mode) && fails_for_folders) {
        errno = EIO;
        return -1;
    }
    synced_files += S_ISREG(info.st_mode);
    synced_folders += S_ISDIR(info.st_mode);
    return 0;
}

static char folder[64];
static char journal_path[96];
static char keys_path[128];
static const unsigned char key_1[SIGNATURE_KEY_SIZE] = "11111111111111111111111111111111";
static const unsigned char key_2[SIGNATURE_KEY_SIZE] = {0, 255, 2};

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/test_key_store.XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(journal_path, sizeof(journal_path), "%s/journal/", folder);
    snprintf(keys_path, sizeof(keys_path), "%s/journal.keys", folder);
    return 0;
}

static int remove_folder(void **state)
{
    char command[96];

    (void)state;
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command);
}

static struct key_store *open_store(void)
{
    struct error err = {0};
    struct key_store *store = key_store_open(journal_path, KEY_STORE_OWN, &clock_system, &err);

    if (!store)
        fail_msg("%s", err.message);
    return store;
}

static void fail_to_open(enum key_store_use use, enum error_kind kind, const char *says)
{
    struct error err = {0};

    assert_null(key_store_open(journal_path, use, &clock_system, &err));
    assert_int_equal(err.kind, kind);
    if (!strstr(err.message, says))
        fail_msg("%s: not in: %s", says, err.message);
}

static void put_two(struct key_store *store)
{
    struct stored_account record = stored_account_copy(NULL, "main");
    struct error err;

    stored_account_set_subscription(&record, "whsub_1", "https://hooks.example.com/\"main\"");
    stored_account_set_key(&record, "whsub_1", key_1);
    stored_account_set_key(&record, "whsub_0", key_2);
    record.keys[1].retired_ms = 1700000000000;
    assert_int_equal(key_store_put(store, &record, &err), 0);
    stored_account_release(&record);
    record = stored_account_copy(NULL, "other");
    record.is_unsubscribed = true;
    assert_int_equal(key_store_put(store, &record, &err), 0);
    stored_account_release(&record);
}

static void check_two(const struct key_store *store)
{
    const struct stored_account *record = key_store_find(store, "main");

    assert_int_equal(key_store_count(store), 2);
    assert_non_null(record);
    assert_string_equal(record->subscription_id, "whsub_1");
    assert_string_equal(record->webhook_url, "https://hooks.example.com/\"main\"");
    assert_false(record->is_unsubscribed);
    assert_int_equal(record->key_count, 2);
    assert_memory_equal(stored_account_key(record, "whsub_1")->key, key_1, sizeof(key_1));
    assert_memory_equal(stored_account_key(record, "whsub_0")->key, key_2, sizeof(key_2));
    assert_int_equal(stored_account_key(record, "whsub_0")->retired_ms, 1700000000000);
    record = key_store_find(store, "other");
    assert_non_null(record);
    assert_null(record->subscription_id);
    assert_true(record->is_unsubscribed);
    assert_null(key_store_find(store, "third"));
}

static void what_was_put_is_there_again(void **state)
{
    struct key_store *store = open_store();
    struct stat info;
    struct error err;

    (void)state;
    assert_false(key_store_exists(journal_path));
    assert_int_equal(key_store_count(store), 0);
    put_two(store);
    check_two(store);
    assert_true(key_store_exists(journal_path));
    assert_int_equal(stat(keys_path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    key_store_close(store);
    store = open_store();
    check_two(store);
    assert_int_equal(key_store_remove(store, "main", &err), 0);
    assert_int_equal(key_store_remove(store, "main", &err), 0);
    key_store_close(store);
    store = open_store();
    assert_int_equal(key_store_count(store), 1);
    assert_null(key_store_find(store, "main"));
    key_store_close(store);
}

static void one_process_at_a_time_changes_it(void **state)
{
    struct key_store *store = open_store();
    struct key_store *reader;
    struct error err;

    (void)state;
    put_two(store);
    fail_to_open(KEY_STORE_OWN, ERROR_TRANSIENT, "another close-bridge uses it");
    reader = key_store_open(journal_path, KEY_STORE_READ, &clock_system, &err);
    assert_non_null(reader);
    check_two(reader);
    assert_int_equal(key_store_remove(reader, "main", &err), -1);
    check_two(reader);
    key_store_close(reader);
    key_store_close(store);
}

/* The bytes of the file, changed by the caller and written back. */
static size_t read_file(char *bytes, size_t capacity)
{
    FILE *file = fopen(keys_path, "rb");
    size_t size;

    assert_non_null(file);
    size = fread(bytes, 1, capacity, file);
    fclose(file);
    return size;
}

static void write_file(const char *bytes, size_t size)
{
    FILE *file = fopen(keys_path, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
    assert_int_equal(chmod(keys_path, 0600), 0);
}

/* A flipped bit anywhere that leaves JSON must be noticed, but for white space. */
static void damage_is_set_aside_and_nothing_false_is_read(void **state)
{
    struct key_store *store = open_store();
    char bytes[4096];
    size_t size;

    (void)state;
    put_two(store);
    key_store_close(store);
    size = read_file(bytes, sizeof(bytes));
    for (size_t i = 0; i < size; i++) {
        bytes[i] ^= 1;
        write_file(bytes, size);
        bytes[i] ^= 1;
        store = open_store();
        if (key_store_count(store) > 0)
            check_two(store);
        else
            assert_false(key_store_exists(journal_path));
        key_store_close(store);
    }
    for (size_t cut = 0; cut + 1 < size; cut++) {
        write_file(bytes, cut);
        fail_to_open(KEY_STORE_READ, ERROR_CONFIG, "damaged");
        store = open_store();
        assert_int_equal(key_store_count(store), 0);
        key_store_close(store);
    }
    store = open_store();
    put_two(store); /* it can be written again */
    key_store_close(store);
}

static void a_file_that_is_not_ours_alone_is_refused(void **state)
{
    struct key_store *store = open_store();
    char other[160];

    (void)state;
    put_two(store);
    key_store_close(store);
    chmod(keys_path, 0640);
    fail_to_open(KEY_STORE_OWN, ERROR_CONFIG, "chmod 600");
    chmod(keys_path, 0600);
    if (geteuid() == 0) {
        assert_int_equal(chown(keys_path, 1234, (gid_t)-1), 0);
        fail_to_open(KEY_STORE_OWN, ERROR_CONFIG, "belongs to another user (1234)");
        assert_int_equal(chown(keys_path, 0, (gid_t)-1), 0);
    }
    snprintf(other, sizeof(other), "%s/elsewhere", folder);
    assert_int_equal(rename(keys_path, other), 0);
    assert_int_equal(symlink(other, keys_path), 0);
    fail_to_open(KEY_STORE_OWN, ERROR_TRANSIENT, "symbolic link");
    unlink(keys_path);
    assert_int_equal(mkdir(keys_path, 0700), 0);
    fail_to_open(KEY_STORE_OWN, ERROR_CONFIG, "is not a file");
    rmdir(keys_path);
    strcpy(journal_path, "/nonexistent/journal");
    fail_to_open(KEY_STORE_OWN, ERROR_CONFIG, "/nonexistent/journal.keys");
}

static void a_later_version_is_left_alone(void **state)
{
    static const char later[] = "{\"version\":2,\"check\":\"\",\"accounts\":[]}";

    (void)state;
    write_file(later, sizeof(later) - 1);
    fail_to_open(KEY_STORE_OWN, ERROR_CONFIG, "a later version");
    assert_true(key_store_exists(journal_path));
}

static void a_change_that_cannot_be_written_is_none(void **state)
{
    struct key_store *store = open_store();
    struct stored_account record = stored_account_copy(NULL, "main");
    char fresh[160];
    struct error err;

    (void)state;
    put_two(store);
    snprintf(fresh, sizeof(fresh), "%s.new", keys_path);
    assert_int_equal(mkdir(fresh, 0700), 0); /* in the way of the new file, also for root */
    assert_int_equal(key_store_put(store, &record, &err), -1);
    assert_non_null(strstr(err.message, "journal.keys: cannot write it"));
    check_two(store);
    assert_int_equal(key_store_remove(store, "main", &err), -1);
    check_two(store);
    rmdir(fresh);
    assert_int_equal(key_store_put(store, &record, &err), 0);
    assert_int_equal(key_store_find(store, "main")->key_count, 0);
    stored_account_release(&record);
    key_store_close(store);
}

static void a_change_is_synced_to_the_disk(void **state)
{
    struct key_store *store = open_store();
    struct stored_account record = stored_account_copy(NULL, "main");
    struct error err;

    (void)state;
    synced_files = synced_folders = 0;
    assert_int_equal(key_store_put(store, &record, &err), 0);
    assert_int_equal(synced_files, 1);
    assert_int_equal(synced_folders, 1);
    fails_for_folders = true;
    record.is_unsubscribed = true;
    assert_int_equal(key_store_put(store, &record, &err), -1);
    assert_non_null(strstr(err.message, "sync its folder"));
    assert_false(key_store_find(store, "main")->is_unsubscribed);
    fails_for_folders = false;
    assert_int_equal(key_store_put(store, &record, &err), 0);
    assert_true(key_store_find(store, "main")->is_unsubscribed);
    stored_account_release(&record);
    key_store_close(store);
}

static void keys_of_subscriptions_that_went_are_dropped_later(void **state)
{
    struct stored_account record = stored_account_copy(NULL, "main");

    (void)state;
    stored_account_set_key(&record, "a", key_1);
    stored_account_set_key(&record, "b", key_2);
    stored_account_set_key(&record, "c", key_1);
    record.keys[0].retired_ms = 1000;
    record.keys[2].retired_ms = 2000;
    stored_account_drop_retired(&record, 999);
    assert_int_equal(record.key_count, 3);
    stored_account_drop_retired(&record, 1000);
    assert_int_equal(record.key_count, 2);
    assert_null(stored_account_key(&record, "a"));
    stored_account_set_key(&record, "c", key_2); /* it stands again */
    stored_account_drop_retired(&record, 5000);
    assert_int_equal(record.key_count, 2);
    stored_account_release(&record);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_was_put_is_there_again),
        TEST(one_process_at_a_time_changes_it),
        TEST(damage_is_set_aside_and_nothing_false_is_read),
        TEST(a_file_that_is_not_ours_alone_is_refused),
        TEST(a_later_version_is_left_alone),
        TEST(a_change_that_cannot_be_written_is_none),
        TEST(a_change_is_synced_to_the_disk),
        TEST(keys_of_subscriptions_that_went_are_dropped_later),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
