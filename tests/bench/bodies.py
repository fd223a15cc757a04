"""Webhook bodies of four sizes, as Close writes them, for the load generator to send.

They differ from one another (ids, leads, texts), and there are enough of each size that compression finds in a batch
what it would find in real events: the common shape, not the same bytes again.
"""
import json
import pathlib

from tests.peers.close_events import Maker

SIZES = {"0.3": 300, "2": 2000, "20": 20000, "200": 200000}  # KB as the rows say it: bytes
COUNTS = {"0.3": 256, "2": 128, "20": 32, "200": 8}
LEADS = 64
WORDS = ("call back about the renewal next week and send the updated proposal with pricing for twelve seats before "
         "Friday they asked for a security review our team will join from Berlin thanks again for your time").split()


def _text(maker, size):
    words = []
    length = 0
    while length < size:
        words.append(maker.random.choice(WORDS))
        length += len(words[-1]) + 1
    return " ".join(words)[:size]


def _smallest(maker, lead):
    """What an event has at least: no data, no nulls."""
    event = maker.event("lead", "deleted", lead_id=lead)
    return {name: event[name] for name in ("id", "date_created", "date_updated", "object_type", "object_id", "action")}


def _email(maker, lead, size):
    """An email with as much text as makes the body `size` bytes."""
    event = maker.event("activity.email", "created", lead_id=lead)
    event["data"]["body_text"] = event["data"]["body_html"] = ""
    missing = max(0, size - len(maker.body(event)))
    event["data"]["body_text"] = _text(maker, missing // 2)
    event["data"]["body_html"] = _text(maker, missing - missing // 2)
    return event


def _opportunity(maker, lead, size):
    event = maker.event("opportunity", "updated", lead_id=lead)
    event["data"]["note"] = _text(maker, max(0, size - len(maker.body(event))))
    return event


def _event(maker, lead, size):
    if size < 1000:
        return _smallest(maker, lead)
    return _opportunity(maker, lead, size) if size < 5000 else _email(maker, lead, size)


def write(folder, size, seed=7):
    """Writes the bodies of one of SIZES into `folder`; returns their paths."""
    maker = Maker(seed)
    leads = [maker.id("lead") for _ in range(LEADS)]
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(COUNTS[size]):
        event = _event(maker, leads[number % LEADS], SIZES[size])
        body = maker.body(event)
        assert json.loads(body)["event"]["id"] == event["id"] and len(event["id"]) == 25
        paths.append(folder / f"{size}KB-{number}.json")
        paths[-1].write_bytes(body)
    return paths
