#include <stdlib.h>
#include <string.h>

#include <netinet/in.h>

#include "bridge/base/alloc.h"
#include "bridge/http/http_internal.h"

/* An IPv6 host commands a whole /64, so that is what counts as one address. */
static void key_of(const struct sockaddr *peer, unsigned char key[16])
{
    memset(key, 0, 16);
    if (peer->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)peer;
        bool is_mapped = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);

        memcpy(key, &in6->sin6_addr, is_mapped ? 16 : 8);
    } else if (peer->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)peer;

        key[10] = key[11] = 0xff;
        memcpy(key + 12, &in->sin_addr, 4);
    }
}

static struct http_address **bucket_of(struct http_address_table *table,
                                       const unsigned char key[16])
{
    uint32_t hash = 2166136261U;

    for (size_t i = 0; i < 16; i++)
        hash = (hash ^ key[i]) * 16777619U;
    return &table->buckets[hash % HTTP_ADDRESS_BUCKETS];
}

bool http_address_enter(struct http_server *server, const struct sockaddr *peer,
                        struct http_address **out_address)
{
    struct http_address_table *table = &server->addresses;
    struct http_address **slot;
    unsigned char key[16];
    bool has_room;

    key_of(peer, key);
    pthread_mutex_lock(&table->lock);
    slot = bucket_of(table, key);
    while (*slot && memcmp((*slot)->key, key, sizeof(key)) != 0)
        slot = &(*slot)->next;
    if (!*slot) {
        *slot = alloc_zeroed(1, sizeof(**slot));
        memcpy((*slot)->key, key, sizeof(key));
    }
    has_room = (*slot)->count < server->options.max_connections_per_address;
    if (has_room) {
        (*slot)->count++;
        *out_address = *slot;
    }
    pthread_mutex_unlock(&table->lock);
    return has_room;
}

void http_address_leave(struct http_server *server, struct http_address *address)
{
    struct http_address_table *table = &server->addresses;
    struct http_address **slot;

    pthread_mutex_lock(&table->lock);
    if (--address->count == 0) {
        slot = bucket_of(table, address->key);
        while (*slot != address)
            slot = &(*slot)->next;
        *slot = address->next;
        free(address);
    }
    pthread_mutex_unlock(&table->lock);
}
