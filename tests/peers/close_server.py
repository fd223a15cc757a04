"""A simulator of Close's side of a webhook: its REST API on loopback, and deliveries to those who subscribed through it.

    close = CloseServer()
    close.url                       what `api_url` of an account has to be
    close.api_key, close.token      of an admin
    close.routes["https://hooks.example.com"] = lambda: f"http://{bridge.address}"
    close.emit(close.maker.event("lead", "created"))

Close is asked over HTTP as a bridge asks it; a test looks into it, and moves it, through the members of CloseServer.
Standard library only. Everything here is safe for threads.
"""
import itertools
import secrets
import threading
import time

from tests.peers.close_behaviour import Behaviour
from tests.peers.close_delivery import DeliveryEngine
from tests.peers.close_event_log import EventLog
from tests.peers.close_events import Maker
from tests.peers.close_faults import Faults
from tests.peers.close_http import PREFIX, Identity, Listener, RateLimiter
from tests.peers.close_subscriptions import Subscription, Subscriptions, error, stamp


class CloseServer:
    def __init__(self, port=0, seed=None, certificate=None, **behaviour):
        """`certificate`: two files, of a certificate and its key, that make it https. `behaviour` sets members of Behaviour."""
        self.behaviour = Behaviour(**behaviour)
        self.maker = Maker(seed)
        self.maker.now = self.now
        self.faults = Faults()
        self.limiter = RateLimiter(self.behaviour)
        self.log = EventLog(self.behaviour, self.now)
        self.subscriptions = Subscriptions(self.behaviour, self.maker, self.now)
        self.routes = {}
        self.delivery = DeliveryEngine(self.behaviour, self.subscriptions, self.routes, self.now)
        self.calls = []
        self.numbers = itertools.count(1)
        self.on_request = None
        self.credentials = {}
        self.api_key = self.add_key("admin")
        self.token = self.add_key("admin by OAuth", kind="token")
        self.untouched = {}  # by id: what the foreign subscriptions were
        self.stopping = threading.Event()
        self.listener = Listener(self, port, certificate)
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.listener.server_port}{PREFIX}"
        threading.Thread(target=self.listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self):
        self.stopping.set()
        self.delivery.stop()
        self.listener.shutdown()
        self.listener.server_close()

    def now(self):
        return time.time() + self.behaviour.clock_skew

    # ---- credentials ----

    def add_key(self, name, is_admin=True, kind="key", user=None):
        """A new API key, or with kind="token" an OAuth token. Both are shown to nobody but its owner."""
        credential = f"api_{secrets.token_urlsafe(16)}.{secrets.token_urlsafe(16)}" if kind == "key" else secrets.token_urlsafe(48)
        self.credentials[credential] = Identity(name, user or (self.maker.user if is_admin else self.maker.id("user")), is_admin)
        return credential

    def revoke(self, credential):
        del self.credentials[credential]

    def identify(self, credential):
        if credential not in self.credentials:
            raise error(401, "The API key or the access token is not valid.")
        return self.credentials[credential]

    # ---- the REST API ----

    def handle(self, call):
        """(status, JSON), or Refused."""
        parts = call.path.split("/")  # "", "webhook", id, ""
        if parts[0] or parts[-1] or len(parts) not in (3, 4):
            raise error(404, "Not found.")
        if parts[1] == "webhook":
            return self._collection(call) if len(parts) == 3 else self._one(call, parts[2])
        if parts[1] != "event":
            raise error(404, "Not found.")
        if call.method != "GET":
            raise error(405, "Method not allowed.")
        if len(parts) == 3:
            return 200, self.log.list(call.identity, call.query)
        return 200, self.log.get(call.identity, parts[2])

    def _collection(self, call):
        if call.method == "GET":
            return 200, self.subscriptions.list(call.identity, number(call, "_skip", 0), number(call, "_limit", None))
        if call.method == "POST":
            return self.behaviour.created_status, self.subscriptions.create(call.identity, json_of(call))
        raise error(405, "Method not allowed.")

    def _one(self, call, identifier):
        if call.method == "GET":
            return 200, self.subscriptions.get(call.identity, identifier)
        if call.method == "PUT":
            return 200, self.subscriptions.update(call.identity, identifier, json_of(call))
        if call.method == "DELETE":
            return 200, self.subscriptions.delete(call.identity, identifier)
        raise error(405, "Method not allowed.")

    def note(self, call, phase):
        """Keeps the request log and calls on_request(call) three times: the request has `arrived`, has been `applied`
        (or refused), has been `answered`. Meanwhile nobody goes on with this request, so a test may do what it likes."""
        call.phase = phase
        if phase == "arrived":
            self.calls.append(call)
        if self.on_request:
            self.on_request(call)

    def requests(self, since=0):
        """The request log as ["GET /webhook/", ...], without the first `since`."""
        return [str(call) for call in list(self.calls)[since:]]

    def fail_next(self, status=None, count=1, where=("*", "*"), **fault):
        """The next `count` requests that match `where` fail: see Fault. count=None: until heal()."""
        self.faults.add(status, count, where, **fault)

    def heal(self):
        self.faults.heal()

    # ---- subscriptions, from the inside ----

    def own(self, url=None):
        """The subscriptions that are not foreign, of one URL or of all."""
        return [one for one in self.subscriptions.all() if not one.is_foreign and url in (None, one.url)]

    def subscribe(self, url, pairs, identity=None, **members):
        """As if somebody had made it through the API. Returns the Subscription."""
        body = {"url": url, "events": [{"object_type": kind, "action": action} for kind, action in pairs], **members}
        made = self.subscriptions.create(identity or self.credentials[self.api_key], body)
        return self.subscriptions.by_id[made["id"]]

    def edit(self, subscription, **members):
        """As if an admin had sent a PUT."""
        self.subscriptions.update(self.credentials[self.api_key], subscription.id, members)

    def pause(self, subscription, reason=None):
        """As Close does after three days of failures: its queue is cleared."""
        self.subscriptions.pause(subscription.id, reason)

    def remove(self, subscription):
        """As if somebody had deleted it."""
        self.subscriptions.delete(self.credentials[self.api_key], subscription.id)

    def add_foreign(self, count=5, like="https://hooks.example.com/webhooks/main"):
        """Subscriptions of others, some of whose URLs look like ours; nothing is delivered to them."""
        urls = ["https://webhook.site/12345678-abcd-efgh-ijkl-123456789012", like + "/", like + "-2", like + "?x=1",
                like.replace("https:", "http:")]
        for index in range(count):
            url = urls[index] if index < len(urls) else f"https://example.com/{index}"
            events = [{"action": action, "extra_filter": None, "object_type": kind}
                      for kind, action in (("contact", "updated"), ("lead", "created"))]
            made = Subscription(self.maker.id("whsub", 22), url, events, index % 2 == 0, self.maker.id("user"), self.now())
            if index == count - 1:
                made.status, made.pause_reason = "paused", "api"
            made.is_foreign = True
            with self.subscriptions.lock:
                self.subscriptions.by_id[made.id] = made
            self.untouched[made.id] = made.json(shows_key=True)

    def check_foreign(self):
        """Fails when one of them was changed or deleted."""
        now = {one.id: one.json(shows_key=True) for one in self.subscriptions.all() if one.is_foreign}
        assert now == self.untouched, "subscriptions of others were touched"

    # ---- events ----

    def emit(self, event=None, **members):
        """Something happened in Close: it is in the Event Log at once and goes to every subscription that wants it,
        updates and deletions after the consolidation delay. Returns the event; one with a known id is a newer version."""
        event = event or self.maker.event(**members)
        if self.behaviour.consolidation_delay and event["action"] in ("updated", "deleted"):
            event, is_first = self.log.consolidate(event)
            if is_first:
                self.delivery.later(self.behaviour.consolidation_delay, lambda: self.delivery.queue(self.log.seal(event)))
        else:
            self.log.record(event)
            self.delivery.queue(event)
        return event

    def ago(self, seconds):
        """A date of an event, so long ago."""
        return stamp(self.now() - seconds)

    def accepted(self):
        """The ids of the events that some delivery got a 2xx for."""
        return {outcome.event_id for outcome in list(self.delivery.outcomes) if outcome.status and outcome.status // 100 == 2}

    def sending(self, rate=100.0, make=None):
        """`with close.sending(rate) as sending:` emits make() that often per second from a thread until the end."""
        return Sending(self, rate, make or (lambda: self.maker.event("lead", "created")))


class Sending:
    def __init__(self, close, rate, make):
        self.close = close
        self.rate = rate
        self.make = make
        self.events = []
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.stopped.set()
        self.thread.join()

    def _run(self):
        start = time.monotonic()
        for count in itertools.count(1):
            self.events.append(self.close.emit(self.make()))
            if self.stopped.wait(max(0.0, start + count / self.rate - time.monotonic())):
                return


def json_of(call):
    try:
        return call.json
    except ValueError:
        raise error(400, "The body is not JSON.") from None


def number(call, name, default):
    try:
        return int(call.query.get(name, default)) if name in call.query else default
    except ValueError:
        raise error(400, f"{name} has to be a number.") from None
