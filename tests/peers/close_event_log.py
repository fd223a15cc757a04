"""Close's Event Log: every event at once, newest first by date_updated, fifty a page, for thirty days.

Updates and deletions of one object within the consolidation delay become one event: it keeps its id, its date_created and
what was before the first of the changes, and gets a new date_updated; its webhook comes when the delay is over.
"""
import bisect
import datetime
import itertools
import math
import secrets
import threading
import time

from tests.peers.close_subscriptions import error, invalid, stamp

PAGE = 50
FILTERS = ("object_type", "object_id", "action", "lead_id", "user_id", "request_id")
BOUNDS = ("date_updated__gt", "date_updated__gte", "date_updated__lt", "date_updated__lte")
# Which filters may stand together, besides none at all; the bounds may join any of them.
COMBINATIONS = {frozenset(names.split()) for names in (
    "object_type object_id", "object_type action", "object_id action", "lead_id object_type", "lead_id object_type action",
    "lead_id user_id object_type", "lead_id user_id object_type action", "lead_id user_id", "user_id object_id",
    "user_id object_id action", "user_id object_type", "user_id object_type action", "lead_id", "user_id", "request_id", "")}
# The documents' older names: the first two stand in examples of the log, the third follows from the second.
OLDER_NAMES = {
    "activity.note": "note",
    "activity.opportunity_status_change": "status_change.opportunity",
    "activity.lead_status_change": "status_change.lead",
}
NOT_IN_EXAMPLES = ("api_key_id", "oauth_client_id", "oauth_scope")


def spelled(event, spelling):
    """The event as the log shows it: as the webhook does, as the documents do, or with older names of object types, too."""
    if spelling == "webhook":
        return event
    shown = {name: event[name] for name in sorted(event) if name not in NOT_IN_EXAMPLES}
    if event["action"] == "deleted":
        shown["data"] = None
    if spelling == "older":
        shown["object_type"] = OLDER_NAMES.get(event["object_type"], event["object_type"])
    return shown


class EventLog:
    """Safe for threads."""

    def __init__(self, behaviour, now):
        self.behaviour = behaviour
        self.now = now
        self.lock = threading.RLock()
        self.entries = []  # (date_updated, number, event), sorted
        self.places = {}  # by id: the first two of its entry
        self.open = {}  # by (object_type, object_id, action): the id of an event that later changes join
        self.cursors = {}  # by cursor: (place, is_older, bounds, monotonic time of issue)
        self.numbers = itertools.count()

    # ---- what happens in Close ----

    def record(self, event):
        """Keeps a new event, or the newer version of one with the same id."""
        with self.lock:
            known = self.places.pop(event["id"], None)
            if known:
                del self.entries[bisect.bisect_left(self.entries, known)]
            place = (event["date_updated"], next(self.numbers))
            bisect.insort(self.entries, (*place, event))
            self.places[event["id"]] = place

    def consolidate(self, event):
        """(the event as it is in the log now, whether it begins a delay). seal() ends the delay."""
        with self.lock:
            key = (event["object_type"], event["object_id"], event["action"])
            first = self.event(self.open[key]) if key in self.open else None
            if first:
                event = {**event, "id": first["id"], "date_created": first["date_created"],
                         "changed_fields": sorted({*first["changed_fields"], *event["changed_fields"]}),
                         "previous_data": {**event["previous_data"], **first["previous_data"]}}
            self.record(event)
            self.open[key] = event["id"]
            return event, first is None

    def seal(self, event):
        """Later changes become an event of their own. Returns the version that goes out."""
        with self.lock:
            del self.open[event["object_type"], event["object_id"], event["action"]]
            return self.event(event["id"])

    def event(self, identifier):
        """The newest version, or None."""
        with self.lock:
            place = self.places.get(identifier)
            return self.entries[bisect.bisect_left(self.entries, place)][2] if place else None

    def events(self):
        """The newest version of all, oldest first."""
        with self.lock:
            return [event for _, _, event in self.entries]

    def expire_cursors(self):
        with self.lock:
            self.cursors.clear()

    # ---- the REST API ----

    def list(self, identity, query):
        self._check_limit(query)
        filters = {name: query[name] for name in FILTERS if name in query}
        if frozenset(filters) not in COMBINATIONS:
            raise error(400, f"The combination of the filters {', '.join(sorted(filters))} is not supported.")
        with self.lock:
            place, is_older, bounds = self._start(query)
            page = self._page(place, is_older, bounds, filters, int(query.get("_limit", PAGE)))
            return self._answer(identity, page, bounds, filters)

    def get(self, identity, identifier):
        event = self.event(identifier)
        if not event or event["date_updated"] < self._oldest():
            raise error(404, "Object not found.")
        return self._shown(identity, event)

    # ---- rules ----

    @staticmethod
    def _check_limit(query):
        limit = query.get("_limit", "1")
        if not limit.isdecimal() or int(limit) < 1:
            raise error(400, "_limit has to be a positive number.")
        if int(limit) > PAGE:
            raise error(400, f"The limit of {limit} is too large: max_limit={PAGE}.")

    def _start(self, query):
        """(place, whether older ones follow, bounds) of the request: of its cursor, which stands for the bounds, too."""
        if "_cursor" not in query:
            return None, True, {name: moment_of(name, query[name]) for name in BOUNDS if name in query}
        place, is_older, bounds, issued = self.cursors.get(query["_cursor"], (None, None, None, 0.0))
        lifetime = self.behaviour.cursor_lifetime
        if bounds is None or lifetime is not None and time.monotonic() - issued > lifetime:
            raise error(400, "The cursor is invalid or has expired.")
        return place, is_older, bounds

    def _page(self, place, is_older, bounds, filters, limit):
        """Newest first: the `limit` entries after `place` among the older ones, or before it among the newer ones."""
        low, high = self._range(bounds)
        if place and is_older:
            high = min(high, bisect.bisect_left(self.entries, place))
        elif place:
            low = max(low, bisect.bisect_left(self.entries, (place[0], place[1] + 1)))
        indexes = reversed(range(low, high)) if is_older else range(low, high)
        candidates = (self.entries[index] for index in indexes)
        wanted = (entry for entry in candidates if all(entry[2][name] == value for name, value in filters.items()))
        page = list(itertools.islice(wanted, limit))
        return page if is_older else page[::-1]

    def _range(self, bounds):
        """The indexes of the first entry within the bounds and the retention, and of the first behind them."""
        lows = [(self._oldest(),)]
        highs = []
        for name, date in bounds.items():
            edge = (date, math.inf) if name.endswith(("__gt", "__lte")) else (date,)  # behind this date, or before it
            (lows if "__gt" in name else highs).append(edge)
        high = min((bisect.bisect_left(self.entries, edge) for edge in highs), default=len(self.entries))
        return max(bisect.bisect_left(self.entries, edge) for edge in lows), high

    def _answer(self, identity, page, bounds, filters):
        has_older = page and self._page(page[-1][:2], True, bounds, filters, 1)
        return {
            "cursor_next": self._cursor(page[-1][:2], True, bounds) if has_older else None,
            "cursor_previous": self._cursor(page[0][:2], False, bounds) if page else None,
            "data": [self._shown(identity, event) for _, _, event in page],
        }

    def _cursor(self, place, is_older, bounds):
        cursor = secrets.token_urlsafe(24)
        self.cursors[cursor] = (place, is_older, bounds, time.monotonic())
        return cursor

    def _oldest(self):
        return stamp(self.now() - self.behaviour.log_retention)

    def _shown(self, identity, event):
        shown = spelled(event, self.behaviour.log_spelling)
        if identity.is_admin or event["date_updated"] > stamp(self.now() - self.behaviour.data_for_others):
            return shown
        return {name: value for name, value in shown.items() if name not in ("data", "previous_data")}


def moment_of(name, text):
    """A date as the log writes it; without a zone it is UTC."""
    try:
        moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise invalid(name, "Not a valid datetime.") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.timezone.utc)
    return stamp(moment.timestamp())
