#include "bridge/identity.h"

#include <string.h>

#include <xxhash.h>

#include "schemas/event.h"

static XXH128_canonical_t hash_field(const unsigned char *secret, const struct event *event,
                                     enum event_field field)
{
    struct text text = event_text(event, field);
    XXH128_canonical_t canonical;

    XXH128_canonicalFromHash(
        &canonical, XXH3_128bits_withSecret(text.data, text.size, secret, IDENTITY_SECRET_SIZE));
    return canonical;
}

/*
 * A keyed hash over the hashes of its parts, so that no two lists of parts read the same. What is
 * not an event is known by its whole body: a copy of it replayed a million times must not fill the
 * store for dead letters.
 */
void identity_set(const unsigned char *secret, struct event *event)
{
    bool is_opaque = event_has(event, EVENT_IS_OPAQUE);
    struct text content = event_text(event, is_opaque ? EVENT_BODY : EVENT_OBJECT);
    XXH128_canonical_t parts[3];
    XXH128_canonical_t identity;

    parts[0] = hash_field(secret, event, EVENT_ACCOUNT);
    parts[1] = hash_field(secret, event, is_opaque ? EVENT_BODY : EVENT_ID);
    parts[2] = hash_field(secret, event, EVENT_DATE_UPDATED);
    XXH128_canonicalFromHash(
        &identity, XXH3_128bits_withSecret(parts, sizeof(parts), secret, IDENTITY_SECRET_SIZE));
    memcpy(event->identity, identity.digest, sizeof(event->identity));
    event->content = XXH3_64bits(content.data, content.size);
    event->has_identity = true;
}
