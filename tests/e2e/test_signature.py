"""Only what Close signed is published: DESIGN section 5."""
import hashlib
import hmac
import time

import pytest

from tests.e2e.bridge import KEY

OTHER_KEY = "00" * 32


@pytest.fixture
def running(bridge, topic):
    return bridge.start(topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])


def ascii_key_hash(body, timestamp):
    return hmac.new(KEY.encode(), timestamp.encode() + body, hashlib.sha256).hexdigest()


def attempts(bridge):
    """(what is wrong, the arguments of post_signed) of requests that are not Close's."""
    body = bridge.body(bridge.event())
    now = str(int(time.time()))
    good = bridge.close.headers(body, timestamp=now)["Close-Sig-Hash"]
    forged = {"Close-Sig-Timestamp": now}
    return {
        "another key": dict(key=OTHER_KEY),
        "the key as text": dict(headers={**forged, "Close-Sig-Hash": ascii_key_hash(body, now)}),
        "another body": dict(headers={**forged, "Close-Sig-Hash": bridge.close.headers(body + b" ")["Close-Sig-Hash"]}),
        "another timestamp": dict(headers={"Close-Sig-Timestamp": str(int(now) + 1), "Close-Sig-Hash": good}),
        "no hash": dict(without=["close-sig-hash"]),
        "no timestamp": dict(without=["close-sig-timestamp"]),
        "an empty hash": dict(headers={**forged, "Close-Sig-Hash": ""}),
        "half a hash": dict(headers={**forged, "Close-Sig-Hash": good[:32]}),
        "a hash and more": dict(headers={**forged, "Close-Sig-Hash": good + "00"}),
        "no hex": dict(headers={**forged, "Close-Sig-Hash": "z" * 64}),
        "too old": dict(timestamp=int(now) - 81 * 3600),
        "from the future": dict(timestamp=int(now) + 81 * 3600),
        "no number": dict(timestamp="now"),
        "a negative number": dict(timestamp="-5"),
        "an immense number": dict(timestamp="9" * 40),
    }, body


def test_what_close_did_not_sign_is_refused_and_not_published(running, kafka, topic):
    wrong, body = attempts(running)
    for what, arguments in wrong.items():
        answer = running.post_signed(body, **arguments)
        assert (answer.status, answer.json["error"]) == (401, "unauthorized"), what
    true = running.event()
    assert running.post_signed(true).json["status"] == "accepted"
    running.wait_published("kafka", 1)
    assert [record.event_id for record in kafka.read_all(topic)] == [true["id"]]
    metrics = running.metrics()
    assert metrics.value("webhooks_total", result="accepted") == 1
    assert metrics.value("webhooks_total", result="bad_signature") + metrics.value("webhooks_total", result="stale") == len(wrong)
    assert metrics.value("webhooks_total", result="stale") >= 2


def test_a_signature_header_that_comes_twice_is_refused(running):
    body = running.body(running.event())
    headers = running.close.headers(body)
    for name in ("Close-Sig-Hash", "Close-Sig-Timestamp"):
        lines = [f"{key}: {value}" for key, value in headers.items()] + [f"{name}: {headers[name]}"]
        head = f"POST /webhooks/main HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
        answer = running.raw((head + "\r\n".join(lines) + "\r\n\r\n").encode() + body)
        assert answer.startswith(b"HTTP/1.1 401"), answer[:200]


def test_header_names_and_hex_digits_may_be_in_any_case(running):
    for change in (str.lower, str.upper):
        body = running.body(running.event())
        headers = {change(name): value for name, value in running.close.headers(body).items()}
        answer = running.request("POST", "/webhooks/main", body, headers)
        assert (answer.status, answer.json["status"]) == (200, "accepted")


def test_a_retry_of_seventy_hours_ago_is_accepted(running):
    answer = running.post_signed(running.event(), timestamp=int(time.time()) - 70 * 3600)
    assert (answer.status, answer.json["status"]) == (200, "accepted")


def test_every_key_of_the_account_is_tried_and_none_of_another(make_bridge, kafka, topic):
    bridge = make_bridge(kafka)
    third = "11" * 32
    bridge.start(accounts=[{"name": "main", "signature_keys": [OTHER_KEY, KEY], "sync": "manual"},
                           {"name": "second", "signature_keys": [third], "sync": "manual"}],
                 topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    assert bridge.post_signed(bridge.event(), key=KEY).status == 200
    assert bridge.post_signed(bridge.event(), key=OTHER_KEY).status == 200
    assert bridge.post_signed(bridge.event(), key=third).status == 401
    assert bridge.post_signed(bridge.event(), key=third, account="second").status == 200
    assert bridge.post_signed(bridge.event(), key=KEY, account="second").status == 401
    accounts = [record.headers["ce_closeaccount"] for record in kafka.read(topic, count=3)]
    assert sorted(accounts) == ["main", "main", "second"]


def test_no_secret_and_no_payload_is_logged(running):
    event = running.event()
    event["data"]["name"] = "a-name-that-nobody-may-read"
    running.post_signed(event)
    running.post_signed(event, key=OTHER_KEY)
    running.post_signed(b'{"a-name-that-nobody-may-read"')
    assert running.terminate() == 0
    for secret in (KEY, OTHER_KEY, "a-name-that-nobody-may-read"):
        assert secret not in running.log()
