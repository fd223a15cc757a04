#!/usr/bin/env python3
"""A simulator of Close: signs and posts events of every pair of the catalog, as Close does.

True to what is known of Close's webhooks (its documents and real deliveries): one event per POST, the headers of
`Close Webhooks 2.0`, the hex-decoded signature key, an answer within 15 seconds, retries with a back-off from one to
twenty minutes for 72 hours (scaled down here), duplicates. Standard library only.

    close_simulator.py --url http://localhost:8080/webhooks/main --key-env CLOSE_SIGNATURE_KEY --rate 2
"""
import argparse
import collections
import hashlib
import hmac
import http.client
import itertools
import json
import os
import pathlib
import random
import sys
import threading
import time
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from tests.peers.close_events import Maker, catalog, resolved  # noqa: E402

__all__ = ["Close", "Maker", "catalog", "resolved", "sign"]

CONNECT_WITHIN = 5.0  # seconds
ANSWER_WITHIN = 15.0  # Close waits so long
FIRST_RETRY = 60.0
MAX_RETRY = 20 * 60.0
GIVE_UP_AFTER = 72 * 3600.0


def sign(key, timestamp, body):
    """The value of close-sig-hash: HMAC-SHA256 over timestamp and body with the hex-decoded key."""
    return hmac.new(bytes.fromhex(key), timestamp.encode() + body, hashlib.sha256).hexdigest()


class Answer:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)


class Close:
    """Posts to one webhook URL. Safe for threads; every thread keeps its own connection."""

    def __init__(self, url, key, seed=None, retry_scale=0.001, tls=None):
        """`retry_scale` shortens the pauses between retries: 0.001 makes milliseconds of seconds. `tls`: an SSLContext."""
        self.url = urllib.parse.urlsplit(url)
        self.key = key
        self.tls = tls
        self.maker = Maker(seed)
        self.retry_scale = retry_scale
        self.answers = collections.defaultdict(list)  # event id: the status of every attempt, None without an answer
        self.stopped = threading.Event()
        self.local = threading.local()

    # ---- one attempt ----

    def headers(self, body, timestamp=None, key=None):
        timestamp = str(int(time.time())) if timestamp is None else str(timestamp)
        trace = "%032x" % random.getrandbits(128)
        return {
            "Accept": "*/*",
            "Accept-Encoding": "gzip, deflate",
            "baggage": f"sentry-trace_id={trace},sentry-environment=production",
            "Close-Sig-Hash": sign(key or self.key, timestamp, body),
            "Close-Sig-Timestamp": timestamp,
            "content-type": "application/json",
            "sentry-trace": f"{trace}-{random.getrandbits(64):016x}",
            "User-Agent": "Close Webhooks 2.0",
        }

    @property
    def target(self):
        return self.url.path + ("?" + self.url.query if self.url.query else "")

    def forget_connections(self):
        self.local = threading.local()

    def _connection(self):
        connection = getattr(self.local, "connection", None)
        if connection is None or connection.sock is None:
            if self.url.scheme == "https":
                connection = http.client.HTTPSConnection(self.url.hostname, self.url.port, timeout=CONNECT_WITHIN, context=self.tls)
            else:
                connection = http.client.HTTPConnection(self.url.hostname, self.url.port, timeout=CONNECT_WITHIN)
            connection.connect()
            connection.sock.settimeout(ANSWER_WITHIN)
            connection.auto_open = False  # it would come without the time to answer
            self.local.connection = connection
        return connection

    def post_body(self, body, headers=None):
        """Raises OSError or HTTPException when there is no answer."""
        connection = self._connection()
        try:
            connection.request("POST", self.target, body=body, headers=headers or self.headers(body))
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        except (OSError, http.client.HTTPException):
            connection.close()
            self.local.connection = None
            raise

    def post(self, event):
        """One attempt. What came of it is kept in `answers`."""
        try:
            answer = self.post_body(self.maker.body(event))
        except (OSError, http.client.HTTPException):
            self.answers[event["id"]].append(None)
            raise
        self.answers[event["id"]].append(answer.status)
        return answer

    # ---- as Close delivers ----

    def deliver(self, event):
        """Again with back-off until a 2xx comes. Returns that answer, or None when it gave up or was stopped."""
        waited = 0.0
        for attempt in itertools.count():
            try:
                answer = self.post(event)
                if 200 <= answer.status < 300:
                    return answer
            except (OSError, http.client.HTTPException):
                pass
            pause = min(FIRST_RETRY * 2 ** attempt, MAX_RETRY)
            waited += pause
            if waited > GIVE_UP_AFTER or self.stopped.wait(pause * self.retry_scale):
                return None

    def events_of_all_pairs(self):
        for pair in catalog():
            yield self.maker.event(pair.object_type, pair.action)

    def random_events(self):
        pairs = catalog()
        while True:
            pair = random.choice(pairs)
            yield self.maker.event(pair.object_type, pair.action)

    def run(self, events, rate, threads=4, duplicates=0.0, on_delivered=None):
        """Delivers `events` at `rate` per second from several threads, so not in order; some of them twice.

        Returns when all are delivered, or after stop(). on_delivered(event, answer) runs on those threads.
        """
        source, lock, start, taken = iter(events), threading.Lock(), time.monotonic(), itertools.count()

        def work():
            while not self.stopped.is_set():
                with lock:
                    event = next(source, None)
                    due = start + next(taken) / rate
                if event is None or self.stopped.wait(max(0.0, due - time.monotonic())):
                    return
                for _ in range(2 if random.random() < duplicates else 1):
                    answer = self.deliver(event)
                    if answer and on_delivered:
                        on_delivered(event, answer)

        workers = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            while worker.is_alive():
                worker.join(0.2)  # so that Ctrl-C gets through

    def stop(self):
        self.stopped.set()


def read_key(arguments):
    if arguments.key_file:
        key = pathlib.Path(arguments.key_file).read_text(encoding="ascii").strip()
        source = arguments.key_file
    else:
        key = os.environ.get(arguments.key_env, "")
        source = "the environment variable " + arguments.key_env
    try:
        if len(bytes.fromhex(key)) != 32:
            raise ValueError
    except ValueError:
        sys.exit(f"close_simulator: {source} has to hold the signature key, 64 hex digits")
    return key


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True, help="where the bridge listens, with /webhooks/ACCOUNT")
    keys = parser.add_mutually_exclusive_group()
    keys.add_argument("--key-env", default="CLOSE_SIGNATURE_KEY", help="environment variable with the signature key")
    keys.add_argument("--key-file", help="file with the signature key")
    parser.add_argument("--pairs", choices=["all", "random"], default=None,
                        help="one event of every pair, or random ones; without it all pairs and then random ones")
    parser.add_argument("--once", action="store_true", help="the same as --pairs all")
    parser.add_argument("--rate", type=float, default=2.0, help="events per second")
    parser.add_argument("--duplicates", type=float, default=0.0, help="share of events that are delivered twice")
    parser.add_argument("--retry-scale", type=float, default=0.01, help="factor for the pauses between retries")
    parser.add_argument("--quiet", action="store_true")
    arguments = parser.parse_args()
    if arguments.rate <= 0:
        parser.error("--rate has to be above 0")
    return arguments


def main():
    arguments = parse_arguments()
    close = Close(arguments.url, read_key(arguments), retry_scale=arguments.retry_scale)

    def show(event, answer):
        if not arguments.quiet:
            print(f"{event['object_type']:36} {event['action']:10} {answer.status} {answer.json.get('status')}", flush=True)

    if arguments.once or arguments.pairs == "all":
        events = list(close.events_of_all_pairs())
    elif arguments.pairs == "random":
        events = close.random_events()
    else:
        events = itertools.chain(close.events_of_all_pairs(), close.random_events())
    try:
        close.run(events, arguments.rate, duplicates=arguments.duplicates, on_delivered=show)
    except KeyboardInterrupt:
        close.stop()
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
