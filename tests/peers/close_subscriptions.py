"""The webhook subscriptions of one organization at Close: what its REST API lets people do with them.

The members and their spelling are those of the recorded answers; what Close refuses, it refuses with its two shapes of
an error: {"error": text} and {"errors": [...], "field-errors": {...}}.
"""
import datetime
import secrets
import threading
import urllib.parse

from tests.peers import close_filters
from tests.peers.close_events import catalog

UPDATABLE = {"url", "events", "status", "verify_ssl"}
CREATABLE = {"url", "events", "verify_ssl"}


class Refused(Exception):
    """The request is answered with this status and JSON."""

    def __init__(self, status, body):
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body


def error(status, text):
    return Refused(status, {"error": text})


def invalid(field, text):
    return Refused(400, {"errors": [], "field-errors": {field: text}})


def stamp(seconds):
    """Six digits, no zone, UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")


class Subscription:
    """Its members change under the lock of Subscriptions."""

    def __init__(self, identifier, url, events, verify_ssl, user, now):
        self.id = identifier
        self.key = secrets.token_hex(32)
        self.url = url
        self.events = events
        self.verify_ssl = verify_ssl
        self.status = "active"
        self.pause_reason = None
        self.created_by = self.updated_by = user
        self.date_created = self.date_updated = stamp(now)
        self.counters = {}
        self.errors = []
        self.successes = []
        self.latest_error = None
        self.failing_since = None  # monotonic; no delivery has succeeded since
        self.fail_buckets = 0
        self.is_foreign = False  # nothing is delivered to it

    @property
    def is_active(self):
        return self.status == "active"

    @property
    def pairs(self):
        return {(event["object_type"], event["action"]) for event in self.events}

    def takes(self, event):
        """Whether this event is one of those it asked for."""
        for wanted in self.events:
            if (wanted["object_type"], wanted["action"]) == (event["object_type"], event["action"]):
                extra_filter = wanted.get("extra_filter")
                return extra_filter is None or close_filters.matches(extra_filter, event)
        return False

    def json(self, shows_key=False):
        return {
            "counters": dict(self.counters),
            "created_by": self.created_by,
            "date_created": self.date_created,
            "date_updated": self.date_updated,
            "events": self.events,
            "health_status": None,
            "history": {"errors": list(self.errors), "successes": list(self.successes)},
            "id": self.id,
            "latest_error": self.latest_error,
            "pause_reason": self.pause_reason,
            "recent_consecutive_fail_buckets_cnt": self.fail_buckets,
            **({"signature_key": self.key} if shows_key else {}),
            "status": self.status,
            "updated_by": self.updated_by,
            "url": self.url,
            "verify_ssl": self.verify_ssl,
        }


class Subscriptions:
    """Safe for threads. `identity` has `user` and `is_admin`."""

    def __init__(self, behaviour, maker, now):
        self.behaviour = behaviour
        self.maker = maker
        self.now = now
        self.lock = threading.RLock()
        self.by_id = {}  # in the order of their creation
        self.known_pairs = {(pair.object_type, pair.action) for pair in catalog()
                            if pair.status in ("documented", "discouraged")}
        self.on_changed = lambda subscription: None  # called after PUT and DELETE, with the lock held

    # ---- the REST API ----

    def list(self, identity, skip=0, limit=None):
        with self.lock:
            visible = [one for one in self.by_id.values() if identity.is_admin or one.created_by == identity.user]
            page = visible[skip:skip + (limit or self.behaviour.list_page)]
            return {"data": [one.json() for one in page], "has_more": skip + len(page) < len(visible)}

    def get(self, identity, identifier):
        with self.lock:
            return self._find(identity, identifier).json(self.behaviour.key_in_get)

    def create(self, identity, body):
        with self.lock:
            self._check_members(body, CREATABLE)
            for name in ("url", "events"):
                if body.get(name) is None:
                    raise invalid(name, "This field is required.")
            values = self._validated(body)
            self._refuse_duplicate(values["url"], values["events"])
            if len(self.by_id) >= self.behaviour.subscription_limit:
                raise error(self.behaviour.limit_status, "Maximum number of webhook subscriptions reached: "
                            f"{self.behaviour.subscription_limit}.")
            made = Subscription(self.maker.id("whsub", 22), values["url"], values["events"],
                                values.get("verify_ssl", True), identity.user, self.now())
            self.by_id[made.id] = made
            return made.json(shows_key=True)

    def update(self, identity, identifier, body):
        """Every PUT is a patch."""
        with self.lock:
            found = self._find(identity, identifier)
            self._check_members(body, UPDATABLE)
            values = self._validated(body)
            if values.get("status", found.status) == "active":
                self._refuse_duplicate(values.get("url", found.url), values.get("events", found.events), found)
            was_active = found.is_active
            for name, value in values.items():
                setattr(found, name, value)
            if found.is_active and not was_active:
                self._reactivated(found)
            elif was_active and not found.is_active:
                found.pause_reason = "api"
            found.updated_by = identity.user
            found.date_updated = stamp(self.now())
            self.on_changed(found)
            return found.json(self.behaviour.key_in_get)

    def delete(self, identity, identifier):
        with self.lock:
            found = self._find(identity, identifier)
            del self.by_id[identifier]
            found.status = "deleted"
            self.on_changed(found)
            return {}

    # ---- what Close does by itself ----

    def pause(self, identifier, reason=None):
        """As after three days of failures; whoever delivers clears the queue."""
        with self.lock:
            found = self.by_id[identifier]
            found.status = "paused"
            found.pause_reason = reason or self.behaviour.pause_reason
            found.date_updated = stamp(self.now())
            self.on_changed(found)

    def takers(self, event):
        """The active subscriptions that want this event."""
        with self.lock:
            return [one for one in self.by_id.values() if one.is_active and one.takes(event)]

    def all(self):
        with self.lock:
            return list(self.by_id.values())

    # ---- rules ----

    def _find(self, identity, identifier):
        found = self.by_id.get(identifier)
        if not found:
            raise error(404, "Object not found.")
        if not identity.is_admin and found.created_by != identity.user:
            raise error(self.behaviour.others_status, "You do not have permission to manage this webhook subscription.")
        return found

    @staticmethod
    def _reactivated(subscription):
        subscription.pause_reason = None
        subscription.failing_since = None
        subscription.fail_buckets = 0

    def _check_members(self, body, allowed):
        if not isinstance(body, dict):
            raise error(400, "The body has to be a JSON object.")
        unknown = sorted(set(body) - allowed)
        if unknown and self.behaviour.refuses_unknown_fields:
            raise invalid(unknown[0], "Unknown field.")

    def _validated(self, body):
        """The members of `body` that may be set, checked and spelled as Close spells them."""
        values = {name: body[name] for name in UPDATABLE if name in body}
        if "url" in values:
            self._check_url(values["url"])
        if "verify_ssl" in values and not isinstance(values["verify_ssl"], bool):
            raise invalid("verify_ssl", "Not a valid boolean.")
        if "status" in values and values["status"] not in ("active", "paused"):
            raise invalid("status", "Not a valid choice.")
        if "events" in values:
            values["events"] = self._events(values["events"])
        return values

    @staticmethod
    def _check_url(url):
        parts = urllib.parse.urlsplit(url) if isinstance(url, str) else None
        if not parts or parts.scheme not in ("http", "https") or not parts.hostname:
            raise invalid("url", "Not a valid URL.")

    def _events(self, events):
        if not isinstance(events, list) or not events:
            raise invalid("events", "At least one event is required.")
        checked = []
        for index, event in enumerate(events):
            if not isinstance(event, dict) or set(event) - {"object_type", "action", "extra_filter"}:
                raise invalid("events", "An event has object_type, action and extra_filter.")
            pair = (event.get("object_type"), event.get("action"))
            if pair not in self.known_pairs:
                raise self._unknown_pair(index, pair)
            if event.get("extra_filter") is not None:
                self._check_filter(event["extra_filter"])
            checked.append({"action": pair[1], "extra_filter": event.get("extra_filter"), "object_type": pair[0]})
        return checked

    @staticmethod
    def _check_filter(extra_filter):
        try:
            close_filters.check(extra_filter)
        except close_filters.BadFilter as wrong:
            raise invalid("events", str(wrong)) from None

    def _unknown_pair(self, index, pair):
        shape = self.behaviour.unknown_pair_shape
        if shape == "named":
            return invalid("events", f"Unknown event: {pair[0]} {pair[1]}.")
        if shape == "index":
            return invalid("events", {str(index): {"object_type": "Not a valid choice."}})
        if shape == "generic":
            return Refused(400, {"errors": ["Invalid events."], "field-errors": {}})
        return error(400, "Invalid value for events.")

    def _refuse_duplicate(self, url, events, besides=None):
        """Close has no two active subscriptions with the same URL and pairs."""
        pairs = {(event["object_type"], event["action"]) for event in events}
        same = [one.id for one in self.by_id.values()
                if one is not besides and one.is_active and one.url == url and one.pairs == pairs]
        if not same:
            return
        text = f"Duplicate active subscription. Existing duplicates are: {', '.join(same)}."
        if self.behaviour.duplicate_member == "errors":
            raise Refused(400, {"errors": [text], "field-errors": {}})
        raise Refused(400, {self.behaviour.duplicate_member: text})
