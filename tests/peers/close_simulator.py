#!/usr/bin/env python3
"""A simulator of Close: makes events of every pair of the catalog, signs and posts them as Close does.

True to what is known of Close's webhooks (its documents and real deliveries): one event per POST, the real order of
keys, json.dumps with its default separators, dates without a zone, the headers of `Close Webhooks 2.0`, the
hex-decoded signature key, retries with back-off (scaled down here). Standard library only.

    close_simulator.py --url http://localhost:8080/webhooks/main --key-env CLOSE_SIGNATURE_KEY --rate 2
"""
import argparse
import csv
import datetime
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

CATALOG = pathlib.Path(__file__).resolve().parents[2] / "schemas" / "catalog.csv"
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ANSWER_WITHIN = 15  # seconds; Close waits so long
FIRST_RETRY = 60.0  # seconds
MAX_RETRY = 20 * 60.0


def catalog():
    """Every (object_type, action, category, label, status) that Close has."""
    with open(CATALOG, newline="") as file:
        return [(row["object_type"], row["action"], row["category"], row["label"], row["status"])
                for row in csv.DictReader(file)]


def sign(key, timestamp, body):
    """The value of close-sig-hash: HMAC-SHA256 over timestamp and body with the hex-decoded key."""
    return hmac.new(bytes.fromhex(key), timestamp.encode() + body, hashlib.sha256).hexdigest()


class Maker:
    """Makes events that look like Close's."""

    prefixes = {
        "lead": "lead", "contact": "cont", "opportunity": "oppo", "task": "task", "activity": "acti",
        "membership": "memb", "group": "group", "custom_fields": "cf", "status": "stat", "bulk_action": "bulkact",
        "email_template": "tmpl", "sms_template": "smstmpl", "saved_search": "save", "phone_number": "phon",
        "export": "expo", "import": "impo", "sequence": "seq", "sequence_subscription": "sub",
        "custom_activity_type": "actitype", "custom_object_type": "cotype", "custom_object": "cobj",
        "comment": "comm", "comment_thread": "commthread", "unsubscribed_email": "unsub",
    }
    without_lead = {"membership", "group", "custom_fields", "status", "bulk_action", "email_template", "sms_template",
                    "saved_search", "phone_number", "export", "import", "sequence", "custom_activity_type",
                    "custom_object_type", "unsubscribed_email"}

    def __init__(self, seed=None):
        self.random = random.Random(seed)
        self.organization = self.id("orga", 43)
        self.user = self.id("user", 43)
        self.subscription = self.id("whsub", 22)

    def id(self, prefix, length):
        return prefix + "_" + "".join(self.random.choices(ALPHABET, k=length))

    def event(self, object_type="lead", action="created", lead_id=None, event_id=None, **changes):
        """The event object. `changes` replace or add members."""
        family = object_type.split(".")[0]
        now = datetime.datetime.now(datetime.timezone.utc)
        stamp = now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{now.microsecond // 1000:03d}000"
        lead_id = lead_id or (None if family in self.without_lead else self.id("lead", 43))
        object_id = lead_id if object_type == "lead" else self.id(self.prefixes.get(family, "obj"), 43)
        data = self.data(object_type, object_id, lead_id, stamp)
        path = "/api/v1/" + object_type.replace("activity.", "activity/").replace(".", "/") + "/"
        event = {
            "id": event_id or self.id("ev", 22),
            "date_created": stamp,
            "date_updated": stamp,
            "organization_id": self.organization,
            "user_id": self.user,
            "request_id": self.id("req", 22),
            "api_key_id": None,
            "oauth_client_id": None,
            "oauth_scope": None,
            "object_type": object_type,
            "object_id": object_id,
            "lead_id": lead_id,
            "action": action,
            "changed_fields": ["date_updated", "name"] if action == "updated" else [],
            "meta": {"request_path": path, "request_method": {"created": "POST", "deleted": "DELETE"}.get(action, "PUT")},
            "data": {} if action == "deleted" else data,
            "previous_data": data if action == "deleted" else {"name": "before"} if action == "updated" else {},
        }
        event.update(changes)
        return event

    def data(self, object_type, object_id, lead_id, stamp):
        data = {
            "id": object_id,
            "organization_id": self.organization,
            "created_by": self.user,
            "updated_by": self.user,
            "date_created": stamp + "+00:00",
            "date_updated": stamp + "+00:00",
        }
        if lead_id and object_type != "lead":
            data["lead_id"] = lead_id
        data.update(self.fields(object_type))
        return data

    def fields(self, object_type):
        pick = self.random.choice
        name = pick(["Bluth Company", "Müller & Söhne", "株式会社テスト", "O'Neill \"Quotes\" Ltd"])
        exact = {
            "lead": {"name": name, "display_name": name, "status_label": "Potential", "contact_ids": [],
                     "addresses": [], "url": None, "description": "", "custom.cf_" + "a" * 43: "Phone"},
            "contact": {"name": "Gob Bluth", "title": "President", "emails": [
                {"type": "office", "email": "gob@example.com"}], "phones": []},
            "opportunity": {"value": self.random.randrange(10 ** 6), "value_currency": "USD", "confidence": 50,
                            "status_type": "active", "note": "", "date_won": None},
            "activity.call": {"duration": self.random.randrange(3600), "direction": "outbound", "disposition": "answered",
                              "recording_url": None, "phone": "+16505551234"},
            "activity.email": {"subject": "Hello", "body_text": "Hi,\r\nthere \u2013 " * 10, "status": "sent",
                               "direction": "outgoing", "attachments": []},
            "activity.sms": {"text": "On my way \U0001F697", "status": "sent", "cost": "0.0075"},
            "activity.meeting": {"title": "Demo", "attendees": [], "duration": 1800, "status": "upcoming"},
            "activity.note": {"note": "My note.", "_type": "Note"},
            "activity.custom_activity": {"custom_activity_type_id": "actitype_" + "b" * 43, "status": pick(["draft", "published"])},
        }
        if object_type in exact:
            return exact[object_type]
        if object_type.startswith("task."):
            return {"_type": object_type.split(".")[1], "text": "Call back", "is_complete": False, "due_date": "2026-11-23"}
        if object_type.startswith("bulk_action."):
            return {"status": "done", "n_leads": 3, "n_objects_processed": 3}
        return {"name": name}

    def body(self, event):
        """The request's body, byte for byte as Close writes it."""
        return json.dumps({"subscription_id": self.subscription, "event": event}).encode()


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

    def __init__(self, url, key, seed=None, retry_scale=0.001):
        self.url = urllib.parse.urlsplit(url)
        self.key = key
        self.maker = Maker(seed)
        self.retry_scale = retry_scale
        self.local = threading.local()

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

    def _connection(self):
        connection = getattr(self.local, "connection", None)
        if connection is None:
            kind = http.client.HTTPSConnection if self.url.scheme == "https" else http.client.HTTPConnection
            connection = kind(self.url.hostname, self.url.port, timeout=ANSWER_WITHIN)
            self.local.connection = connection
        return connection

    def forget_connections(self):
        self.local = threading.local()

    def post_body(self, body, headers=None):
        """One attempt. Raises OSError or HTTPException when there is no answer."""
        connection = self._connection()
        try:
            connection.request("POST", self.url.path, body=body, headers=headers or self.headers(body))
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        except (OSError, http.client.HTTPException):
            connection.close()
            self.local.connection = None
            raise

    def post(self, event):
        return self.post_body(self.maker.body(event))

    def deliver(self, event, give_up_after=72 * 3600.0):
        """As Close does: again with back-off until a 2xx comes. Returns the answer, or None when it gave up."""
        body = self.maker.body(event)
        waited = 0.0
        for attempt in itertools.count():
            try:
                answer = self.post_body(body)
                if 200 <= answer.status < 300:
                    return answer
            except (OSError, http.client.HTTPException):
                pass
            pause = min(FIRST_RETRY * 2 ** attempt, MAX_RETRY)
            waited += pause
            if waited > give_up_after:
                return None
            time.sleep(pause * self.retry_scale)

    def events_of_all_pairs(self):
        for object_type, action, *_ in catalog():
            yield self.maker.event(object_type, action)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True, help="where the bridge listens, with /webhooks/ACCOUNT")
    parser.add_argument("--key-env", default="CLOSE_SIGNATURE_KEY", help="environment variable with the signature key")
    parser.add_argument("--rate", type=float, default=2.0, help="events per second")
    parser.add_argument("--once", action="store_true", help="one event of every pair, then stop")
    parser.add_argument("--duplicates", type=float, default=0.0, help="share of events that are delivered twice")
    parser.add_argument("--quiet", action="store_true")
    arguments = parser.parse_args()
    key = os.environ.get(arguments.key_env)
    if not key:
        sys.exit(f"close_simulator: set {arguments.key_env} to the signature key (64 hex digits)")
    close = Close(arguments.url, key)
    endless = itertools.chain(close.events_of_all_pairs(),
                              (close.maker.event(*random.choice(catalog())[:2]) for _ in itertools.count()))
    for event in close.events_of_all_pairs() if arguments.once else endless:
        answer = close.deliver(event)
        if not arguments.quiet:
            print(f"{event['object_type']:40} {event['action']:12} {answer.status} {answer.json['status']}", flush=True)
        if random.random() < arguments.duplicates:
            close.deliver(event)
        time.sleep(1 / arguments.rate)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
