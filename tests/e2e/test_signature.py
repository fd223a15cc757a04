"""What is not Close's, or too old, is refused without a word about why, and nothing of it is published."""
import hashlib
import hmac
import json
import time

import pytest

from tests.e2e.bridge import KEY
from tests.peers.close_simulator import sign


@pytest.fixture(scope="module")
def now():
    return int(time.time())


def headers(timestamp, signature, **more):
    return {"Close-Sig-Timestamp": str(timestamp), "Close-Sig-Hash": signature, "content-type": "application/json", **more}


def test_refused_requests_get_401_and_nothing_is_published(kafka, make_bridge, real_payload, now):
    bridge = make_bridge(kafka).start()
    right = sign(KEY, str(now), real_payload)
    as_ascii = hmac.new(KEY.encode(), str(now).encode() + real_payload, hashlib.sha256).hexdigest()
    old = now - 81 * 3600
    cases = {
        "wrong key": (real_payload, headers(now, sign("00" * 32, str(now), real_payload))),
        "key taken as ASCII": (real_payload, headers(now, as_ascii)),
        "tampered body": (real_payload.replace(b"Potential", b"potential"), headers(now, right)),
        "other timestamp": (real_payload, headers(now - 1, right)),
        "no hash": (real_payload, {"Close-Sig-Timestamp": str(now)}),
        "no timestamp": (real_payload, {"Close-Sig-Hash": right}),
        "stale": (real_payload, headers(old, sign(KEY, str(old), real_payload))),
        "from the future": (real_payload, headers(now + 81 * 3600, sign(KEY, str(now + 81 * 3600), real_payload))),
        "63 digits": (real_payload, headers(now, right[:-1])),
        "65 digits": (real_payload, headers(now, right + "0")),
        "not hex": (real_payload, headers(now, "g" + right[1:])),
        "timestamp is no number": (real_payload, headers("1e9", sign(KEY, "1e9", real_payload))),
    }
    answers = {name: bridge.close.post_body(body, h) for name, (body, h) in cases.items()}
    assert {name: a.status for name, a in answers.items()} == dict.fromkeys(cases, 401)
    assert len({a.body for a in answers.values()}) == 1
    assert bridge.metric("webhooks_total", account="main", result="bad_signature") == len(cases) - 2
    assert bridge.metric("webhooks_total", account="main", result="stale") == 2
    # The right one is the only one that arrives.
    assert bridge.post_signed(real_payload).json["status"] == "accepted"
    assert len(kafka.read(bridge.topic("close.lead"), 1, extra=1)) == 1
    assert KEY not in bridge.log() and "REDACTED" not in bridge.log()


def test_two_headers_of_a_kind_are_refused(kafka, make_bridge, real_payload, now):
    bridge = make_bridge(kafka).start()
    right = sign(KEY, str(now), real_payload)
    for double in (f"close-sig-hash: {right}", f"close-sig-timestamp: {now}"):
        head = (f"POST /webhooks/main HTTP/1.1\r\nHost: x\r\nContent-Length: {len(real_payload)}\r\n"
                f"close-sig-hash: {right}\r\nclose-sig-timestamp: {now}\r\n{double}\r\n\r\n").encode()
        assert bridge.post_raw(head + real_payload).startswith(b"HTTP/1.1 401")


def test_a_retry_of_seventy_hours_ago_and_upper_case_hex_are_accepted(kafka, make_bridge, now):
    bridge = make_bridge(kafka).start()
    body = bridge.close.maker.body(bridge.close.maker.event())
    timestamp = now - 70 * 3600
    answer = bridge.close.post_body(body, headers(timestamp, sign(KEY, str(timestamp), body).upper()))
    assert answer.json["status"] == "accepted"


def test_every_configured_key_is_valid(kafka, make_bridge, now):
    bridge = make_bridge(kafka)
    other = "a1" * 32
    bridge.start(accounts=[{"name": "main", "signature_keys": [other, KEY]}, {"name": "second", "signature_keys": [other]}])
    for key in (KEY, other):
        body = bridge.close.maker.body(bridge.close.maker.event())
        assert bridge.close.post_body(body, headers(now, sign(key, str(now), body))).json["status"] == "accepted"
    body = bridge.close.maker.body(bridge.close.maker.event())
    bridge.close.url = bridge.close.url._replace(path="/webhooks/second")
    assert bridge.close.post_body(body, headers(now, sign(KEY, str(now), body))).status == 401
    assert bridge.close.post_body(body, headers(now, sign(other, str(now), body))).json["status"] == "accepted"
    accounts = {json.loads(r.value)["id"]: r.headers["ce_closeaccount"] for r in kafka.read(bridge.topic("close.lead"), 3)}
    assert sorted(accounts.values()) == ["main", "main", "second"]
