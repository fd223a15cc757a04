#include "schemas/catalog.h"

#include <pthread.h>
#include <stdint.h>
#include <string.h>

enum { BUCKETS = 1024 };

/* Index into catalog_pairs plus one, by open addressing; filled once. */
static uint16_t table[BUCKETS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static uint32_t add_to_hash(uint32_t hash, struct text part)
{
    for (size_t i = 0; i < part.size; i++)
        hash = (hash ^ (unsigned char)part.data[i]) * 16777619u; /* FNV-1a */
    return hash;
}

static uint32_t hash_of(struct text object_type, struct text action)
{
    uint32_t hash = add_to_hash(2166136261u, object_type);

    return add_to_hash(hash * 16777619u, action);
}

static void fill_table(void)
{
    for (size_t i = 0; i < catalog_size; i++) {
        uint32_t at =
            hash_of(text_of(catalog_pairs[i].object_type), text_of(catalog_pairs[i].action));

        while (table[at % BUCKETS])
            at++;
        table[at % BUCKETS] = (uint16_t)(i + 1);
    }
}

const struct catalog_pair *catalog_find(struct text object_type, struct text action)
{
    uint32_t at = hash_of(object_type, action);

    pthread_once(&once, fill_table);
    for (; table[at % BUCKETS]; at++) {
        const struct catalog_pair *pair = &catalog_pairs[table[at % BUCKETS] - 1];

        if (text_equal_string(object_type, pair->object_type) &&
            text_equal_string(action, pair->action))
            return pair;
    }
    return NULL;
}

const char *catalog_status_name(enum catalog_status status)
{
    switch (status) {
    case CATALOG_DOCUMENTED:
        return "documented";
    case CATALOG_OBSERVED:
        return "observed";
    case CATALOG_DISPUTED:
        return "disputed";
    case CATALOG_DISCOURAGED:
        return "discouraged";
    }
    return "unknown";
}
