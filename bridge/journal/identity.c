#include "bridge/journal/identity.h"

#include <string.h>

#include <xxhash.h>

#include "schemas/date.h"
#include "schemas/event.h"

enum { USUAL_SIZE = 26 }; /* 2025-09-04T07:27:17.674000 */

/* The date as Close's webhooks spell it; made in `spelled` when it is spelled in another way. */
static struct text usual_date(struct text date, char *spelled)
{
    struct instant instant;

    if ((date.size == USUAL_SIZE && date.data[19] == '.' && date.data[USUAL_SIZE - 1] != 'Z') ||
        !date_parse(date, &instant))
        return date;
    instant.fraction_digits = instant.nanoseconds % 1000 == 0 ? 6 : 9;
    return (struct text){spelled, date_format(&instant, spelled) - 1};
}

static XXH128_canonical_t hash_text(const unsigned char *secret, struct text text)
{
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
    char spelled[DATE_MAX];
    XXH128_canonical_t parts[3];
    XXH128_canonical_t identity;

    parts[0] = hash_text(secret, event_text(event, EVENT_ACCOUNT));
    parts[1] = hash_text(secret, event_text(event, is_opaque ? EVENT_BODY : EVENT_ID));
    parts[2] = hash_text(secret, usual_date(event_text(event, EVENT_DATE_UPDATED), spelled));
    XXH128_canonicalFromHash(
        &identity, XXH3_128bits_withSecret(parts, sizeof(parts), secret, IDENTITY_SECRET_SIZE));
    memcpy(event->identity, identity.digest, sizeof(event->identity));
    event->content = XXH3_64bits(content.data, content.size);
    event->has_identity = true;
}
