"""How Close delivers: to every active subscription that wants the event, from several threads, again until a 2xx comes.

A delivery that fails waits and does not hold up the others. A subscription none of whose deliveries succeeded for three
days (scaled), or with too long a queue, is paused and its queue is cleared.
"""
import collections
import dataclasses
import heapq
import http.client
import itertools
import json
import ssl
import threading
import time
import urllib.parse

from tests.peers.close_simulator import FIRST_RETRY, GIVE_UP_AFTER, MAX_RETRY, Close
from tests.peers.process import wait_until

HOUR = 3600.0

Outcome = collections.namedtuple("Outcome", "event_id date_updated subscription_id attempt status answer")


@dataclasses.dataclass
class Delivery:
    subscription: object
    event: dict
    body: bytes
    generation: int  # of the subscription's queue; cleared queues have a newer one
    attempt: int = 0
    waited: float = 0.0  # as Close counts, not scaled
    timestamp: str = None  # of the first attempt


class DeliveryEngine:
    """Safe for threads. `routes` maps the scheme and host of a URL to where it is in truth, or to a function that says so."""

    def __init__(self, behaviour, subscriptions, routes, now):
        self.behaviour = behaviour
        self.subscriptions = subscriptions
        self.routes = routes
        self.now = now
        self.outcomes = []  # of every attempt
        self.condition = threading.Condition()
        self.due = []  # heap of (monotonic time, number, Delivery or function)
        self.scheduled = 0  # functions in it
        self.held = collections.defaultdict(list)  # by id: of subscriptions that were paused by the API
        self.generations = collections.Counter()  # by id
        self.backlog = collections.Counter()  # by id: queued and in flight
        self.attempts = 0  # that are being made, also those for a queue that was cleared meanwhile
        self.numbers = itertools.count()
        self.stopped = False
        self.local = threading.local()
        self.threads = [threading.Thread(target=self._work, daemon=True) for _ in range(behaviour.delivery_threads)]
        subscriptions.on_changed = self._changed
        for thread in self.threads:
            thread.start()

    def stop(self):
        with self.condition:
            self.stopped = True
            self.condition.notify_all()
        for thread in self.threads:
            thread.join(20)

    @staticmethod
    def body(subscription, event):
        return json.dumps({"subscription_id": subscription.id, "event": event}).encode()

    # ---- the queue ----

    def queue(self, event):
        """For every subscription that is active and wants it, now."""
        for subscription in self.subscriptions.takers(event):
            if subscription.is_foreign:
                continue
            body = self.body(subscription, event)
            with self.condition:
                delivery = Delivery(subscription, event, body, self.generations[subscription.id])
                self.backlog[subscription.id] += 1
                self._push(delivery, 0.0)
                is_too_long = self.backlog[subscription.id] > self.behaviour.pause_backlog
            if is_too_long:
                self.subscriptions.pause(subscription.id)

    def later(self, delay, action):
        """Calls action() after `delay` seconds on one of the threads."""
        with self.condition:
            self.scheduled += 1
            self._push(action, delay)

    @property
    def pending(self):
        with self.condition:
            return sum(self.backlog.values()) + self.scheduled

    def wait_idle(self, timeout=60):
        wait_until(lambda: self.pending == 0 and self.attempts == 0, timeout,
                   lambda: f"all is delivered; {self.pending} are not: {self.statuses()}")

    def statuses(self):
        """How often each status came; None for no answer."""
        return collections.Counter(outcome.status for outcome in list(self.outcomes))

    def _push(self, item, delay):
        heapq.heappush(self.due, (time.monotonic() + delay, next(self.numbers), item))
        self.condition.notify()

    def _changed(self, subscription):
        """After PUT, DELETE and Close's own pauses."""
        with self.condition:
            if subscription.is_active:
                for delivery in self.held.pop(subscription.id, []):
                    self._push(delivery, 0.0)
            elif subscription.status == "deleted":
                if not self.behaviour.keeps_queue_of_deleted:
                    self._clear(subscription)
            elif subscription.pause_reason != "api":
                self._clear(subscription)

    def _clear(self, subscription):
        self.generations[subscription.id] += 1
        self.backlog[subscription.id] = 0
        self.held.pop(subscription.id, None)

    # ---- the threads ----

    def _work(self):
        while True:
            item = self._next()
            if item is None:
                return
            if isinstance(item, Delivery):
                self._attempt(item)
                with self.condition:
                    self.attempts -= 1
                continue
            item()
            with self.condition:
                self.scheduled -= 1

    def _next(self):
        with self.condition:
            while not self.stopped:
                item = self._pop()
                if item:
                    self.attempts += isinstance(item, Delivery)
                    return item
                self.condition.wait(max(0.0, self.due[0][0] - time.monotonic()) if self.due else None)
        return None

    def _pop(self):
        """The first that is due and, if it is a delivery, still wanted."""
        while self.due and self.due[0][0] <= time.monotonic():
            delivery = heapq.heappop(self.due)[2]
            if not isinstance(delivery, Delivery):
                return delivery
            subscription = delivery.subscription
            if delivery.generation != self.generations[subscription.id]:
                continue
            if subscription.status == "paused":
                self.held[subscription.id].append(delivery)
                continue
            return delivery
        return None

    def _attempt(self, delivery):
        delivery.attempt += 1
        status, answer, failure = self._post(delivery)
        event = delivery.event
        self.outcomes.append(Outcome(event["id"], event["date_updated"], delivery.subscription.id, delivery.attempt,
                                     status, answer))
        is_success = status is not None and 200 <= status < 300
        must_pause = self._account(delivery, status, failure, is_success)
        if must_pause:
            self.subscriptions.pause(delivery.subscription.id)
        with self.condition:
            if delivery.generation != self.generations[delivery.subscription.id]:
                return
            if is_success or not self._retry(delivery):
                self.backlog[delivery.subscription.id] -= 1

    def _retry(self, delivery):
        """False when it was tried for 72 hours."""
        pause = min(FIRST_RETRY * 2 ** (delivery.attempt - 1), MAX_RETRY)
        delivery.waited += pause
        if delivery.waited > GIVE_UP_AFTER:
            return False
        self._push(delivery, pause * self.behaviour.retry_scale)
        return True

    def _post(self, delivery):
        """(status, the answer's word, name of the failure)."""
        now = str(int(self.now()))
        delivery.timestamp = delivery.timestamp or now
        timestamp = now if self.behaviour.retries_are_signed_anew else delivery.timestamp
        try:
            close = self._close(delivery.subscription)
            answer = close.post_body(delivery.body, close.headers(delivery.body, timestamp=timestamp))
        except TimeoutError:
            return None, None, "Timeout"
        except (OSError, http.client.HTTPException):
            return None, None, "ConnectionError"
        try:
            word = answer.json.get("status")
        except (ValueError, AttributeError):
            word = None
        return answer.status, word, "HTTPError"

    def _close(self, subscription):
        """The sender of this thread for the subscription as it is now. Every thread keeps its connections."""
        senders = self.local.__dict__.setdefault("senders", {})
        target = (subscription.id, self._route(subscription.url), subscription.verify_ssl)
        if target not in senders:
            senders[target] = Close(target[1], subscription.key, tls=self._tls(subscription))
        return senders[target]

    def _tls(self, subscription):
        if subscription.verify_ssl:
            return ssl.create_default_context(cafile=self.behaviour.ca_file)
        return ssl._create_unverified_context()

    def _route(self, url):
        parts = urllib.parse.urlsplit(url)
        target = self.routes.get(f"{parts.scheme}://{parts.netloc}")
        if target is None:
            if parts.hostname not in ("127.0.0.1", "localhost"):
                raise ConnectionError(f"there is no route to {url}: the simulator stays on this machine")
            return url
        base = target() if callable(target) else target
        return base.rstrip("/") + parts.path + ("?" + parts.query if parts.query else "")

    # ---- what GET shows ----

    def _account(self, delivery, status, failure, is_success):
        """True when the subscription has failed for too long."""
        subscription = delivery.subscription
        with self.subscriptions.lock:
            self._keep_history(subscription, delivery, status, None if is_success else failure)
            if is_success:
                name = "first_success" if delivery.attempt == 1 else "retry_success"
                subscription.counters[name] = subscription.counters.get(name, 0) + 1
                subscription.failing_since = None
                subscription.fail_buckets = 0
                return False
            if delivery.attempt == 1:
                subscription.counters["first_fail"] = subscription.counters.get("first_fail", 0) + 1
            subscription.latest_error = f"Exception name: {failure}" + (f", Status code: {status}" if status else "")
            subscription.failing_since = subscription.failing_since or time.monotonic()
            failing = (time.monotonic() - subscription.failing_since) / self.behaviour.retry_scale
            subscription.fail_buckets = int(failing / HOUR)
            return subscription.is_active and failing > self.behaviour.pause_after

    def _keep_history(self, subscription, delivery, status, failure):
        entries = subscription.successes if failure is None else subscription.errors
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(self.now())) + ".%06d+00:00" % (self.now() % 1 * 1e6)
        entries.insert(0, {"attempt_number": delivery.attempt, "datetime": moment, "error": failure,
                           "event_id": delivery.event["id"], "response_status_code": status})
        del entries[self.behaviour.history_length:]
