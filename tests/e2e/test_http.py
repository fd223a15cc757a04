"""The answers of the webhook listener: DESIGN section 5."""
import gzip
import json
import socket
import threading
import time

import pytest


@pytest.fixture
def running(bridge, topic):
    return bridge.start(listen={"max_body": "64KiB", "health_path": "/health"},
                        topic_map=[{"object_type": "lead", "kafka": {"topic": topic}}])


def request(bridge, body=None, method="POST", path="/webhooks/main", length="Content-Length: {}", extra=(), drop=()):
    """The bytes of a signed request."""
    body = bridge.body(bridge.event()) if body is None else body
    headers = {name: value for name, value in bridge.close.headers(body).items() if name not in drop}
    lines = [f"{method} {path} HTTP/1.1", "Host: bridge.example.com", *[f"{n}: {v}" for n, v in headers.items()]]
    lines += [length.format(len(body))] if length else []
    return ("\r\n".join([*lines, *extra]) + "\r\n\r\n").encode() + body


def chunks(body, size=100):
    parts = [body[start:start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def status(answer):
    assert answer.startswith(b"HTTP/1.1 "), answer[:200]
    return int(answer[9:12])


def json_of(answer):
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def expect(bridge, data, wanted):
    answer = bridge.raw(data)
    assert status(answer) == wanted, answer[:300]
    assert answer.count(b"HTTP/1.1 ") == 1, "one request, one answer"
    body = json_of(answer)
    assert set(body) == ({"status"} if wanted == 200 else {"error", "message"})
    return body


def test_every_error_is_json_with_a_code_and_a_sentence(running):
    b = running
    cases = {
        "no such account": (request(b, path="/webhooks/other"), 404),
        "no such path": (request(b, path="/"), 404),
        "deeper path": (request(b, path="/webhooks/main/more"), 404),
        "GET": (request(b, b"", method="GET"), 405),
        "PUT": (request(b, method="PUT"), 405),
        "too large": (request(b, b" " * (64 * 1024 + 1)), 413),
        "Content-Encoding": (request(b, gzip.compress(b"{}"), extra=["Content-Encoding: gzip"]), 415),
        "headers too large": (request(b, extra=["X-Long: " + "a" * 40000]), 431),
        "expectation": (request(b, extra=["Expect: magic"]), 417),
        "unsigned": (request(b, drop=["Close-Sig-Hash"]), 401),
    }
    for what, (data, wanted) in cases.items():
        answer = b.raw(data)
        assert answer and status(answer) == wanted, (what, answer[:300])
        assert set(json_of(answer)) == {"error", "message"}, (what, answer)
    reasons = {refusal["reason"] for refusal in b.control("/control/refusals").json["refusals"]}
    assert reasons == {"not_found", "method_not_allowed", "too_large", "unsupported_encoding", "headers_too_large", "expectation",
                       "missing_signature"}, "named as in webhooks_total"


def framing(bridge):
    """Requests that two parsers could read differently."""
    body = bridge.body(bridge.event())
    size = f"Content-Length: {len(body)}"
    chunked = "Transfer-Encoding: chunked"
    good = request(bridge, body)
    return {
        "length and chunked": request(bridge, body, extra=[chunked]),
        "chunked and length": request(bridge, body, length=chunked, extra=[size]),
        "two lengths": request(bridge, body, extra=[f"Content-Length: {len(body) + 1}"]),
        "the same length twice": request(bridge, body, extra=[size]),
        "a list of lengths": request(bridge, body, length=f"{size}, {len(body)}"),
        "a length with a sign": request(bridge, body, length="Content-Length: +{}"),
        "a negative length": request(bridge, body, length="Content-Length: -1"),
        "a hexadecimal length": request(bridge, body, length="Content-Length: 0x10"),
        "an empty length": request(bridge, body, length="Content-Length: "),
        "a space before the colon": request(bridge, body, length="Content-Length : {}"),
        "chunked twice": request(bridge, body, length=chunked, extra=[chunked]),
        "another coding": request(bridge, body, length="Transfer-Encoding: gzip, chunked"),
        "identity": request(bridge, body, length="Transfer-Encoding: identity"),
        "chunked in disguise": request(bridge, body, length="Transfer-Encoding: xchunked"),
        "a folded line": request(bridge, body, extra=["X-A: b", " folded"]),
        "a NUL": good.replace(b"Host: bridge", b"Host: bri\0dge"),
        "a bare CR": good.replace(b"Host: bridge", b"Host: bri\rdge"),
        "no length": request(bridge, body, length="X-Length: none"),
        "two hosts": request(bridge, body, extra=["Host: other.example.com"]),
    }


def test_ambiguous_framing_is_refused_and_the_connection_closed(running, kafka, topic):
    smuggled = b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n"
    for what, data in framing(running).items():
        answer = running.raw(data + smuggled)
        assert answer == b"" or status(answer) == 400, (what, answer[:300])
        assert answer.count(b"HTTP/1.1 ") <= 1, f"{what}: bytes behind the request were read as another"
    assert running.request("GET", "/health").status == 200
    assert running.metrics().value("webhooks_total", result="accepted") == 0


def test_a_lone_chunked_body_is_accepted(running, kafka, topic):
    event = running.event()
    body = running.body(event)
    data = request(running, body, length="Transfer-Encoding: chunked")
    data = data[:len(data) - len(body)] + chunks(body)
    assert expect(running, data, 200) == {"status": "accepted"}
    assert [record.event_id for record in kafka.read(topic, count=1)] == [event["id"]]


def test_a_chunked_body_may_not_be_larger_either(running):
    body = b" " * (64 * 1024 + 1)
    data = request(running, body, length="Transfer-Encoding: chunked")
    answer = running.raw(data[:len(data) - len(body)] + chunks(body, 4096))
    assert answer == b"" or status(answer) == 413


@pytest.mark.parametrize("event, wanted", [
    ({"id": ""}, "dead_lettered"), ({"id": None}, "dead_lettered"), ({"id": 7}, "dead_lettered"),
    ({"id": "a\nb"}, "dead_lettered"), ({"id": "x" * 257}, "dead_lettered"), ({"id": "x" * 256}, "accepted"),
    ({"object_type": "lead/../x"}, "dead_lettered"), ({"object_type": "lead..x"}, "dead_lettered"),
    ({"action": "a b"}, "dead_lettered"), ({"action": ""}, "dead_lettered"), ({"action": "x" * 129}, "dead_lettered"),
    ({"action": "some_new-thing.later"}, "accepted"), ({"object_type": "contact"}, "ignored"),
    ({"lead_id": None, "object_id": None, "data": None, "previous_data": None, "meta": None}, "accepted"),
])
def test_what_is_an_event(running, event, wanted):
    answer = running.post_signed(running.event(**event))
    assert (answer.status, answer.json) == (200, {"status": wanted})


def test_only_id_object_type_and_action_are_needed_in_any_order(running, kafka, topic):
    body = b'{"event":{"action":"updated","object_type":"lead","id":"ev_least"}}'
    assert running.post_signed(body).json == {"status": "accepted"}
    [record] = kafka.read(topic, count=1)
    assert (record.value, record.key) == (body[9:-1], "ev_least")


@pytest.mark.parametrize("body", [
    b"", b"{", b"null", b"[]", b'"text"', b'{"event":{"id":"a","object_type":"lead","action":"created",}}',
    b'{"event":{"id":"a","object_type":"lead","action":"created"}} trailing', b"\xff\xfe{}",
    b'{"event":{"id":"\xff","object_type":"lead","action":"created"}}', b"[" * 10000,
    b'{"event":{"id":"a","object_type":"lead","action":"created","n":01}}',
])
def test_what_is_signed_but_no_event_is_kept(running, body):
    answer = running.post_signed(body)
    assert (answer.status, answer.json) == (200, {"status": "dead_lettered"})


def test_the_health_path_says_200_and_nothing_else(running):
    answer = running.request("GET", "/health")
    assert answer.status == 200
    assert len(answer.body) <= 2 or "status" in answer.json


def test_requests_on_one_connection_are_answered_in_order(running):
    first, second = running.body(running.event()), running.body(running.event("contact"))
    with_close = request(running, second, extra=["Connection: close"])
    answer = running.raw(request(running, first) + with_close)
    assert answer.count(b"HTTP/1.1 200") == 2, answer
    assert answer.index(b"accepted") < answer.index(b"ignored")


def test_a_request_in_single_bytes_is_accepted(running):
    data = request(running, running.body({"id": "ev_slow", "object_type": "lead", "action": "created"}),
                   extra=["Connection: close"])
    host, port = running.address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in data:
            connection.send(bytes([byte]))
        assert status(connection.recv(65536)) == 200


def test_a_sender_that_goes_away_does_no_harm(running, kafka, topic):
    """The connection ends after each part of the request, and right after its last byte."""
    event = running.event()
    data = request(running, running.body(event))
    host, port = running.address.rsplit(":", 1)
    for size in [1, 20, 200, len(data) // 2, len(data) - 1, len(data)]:
        connection = socket.create_connection((host, int(port)))
        connection.sendall(data[:size])
        connection.close()
    answer = running.close.deliver(event)
    assert answer.status == 200
    assert [record.event_id for record in kafka.read(topic, count=1)] == [event["id"]]


def test_slow_senders_do_not_hold_up_honest_ones(running):
    host, port = running.address.rsplit(":", 1)
    slow = [socket.create_connection((host, int(port))) for _ in range(200)]
    try:
        for connection in slow:
            connection.sendall(b"POST /webhooks/main HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n{")
        times = []
        for _ in range(50):
            before = time.monotonic()
            assert running.close.post(running.event()).status == 200
            times.append(time.monotonic() - before)
        assert sorted(times)[48] < 1.0
    finally:
        for connection in slow:
            connection.close()


@pytest.mark.row("F6")
def test_a_journal_that_is_full_gives_503_and_takes_events_again_when_there_is_room(own_kafka, make_bridge, topic):
    kafka = own_kafka()
    bridge = make_bridge(kafka).start(journal={"max_size": "8MiB"},
                                      topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    accepted = []
    for _ in range(2000):
        event = bridge.event()
        event["data"]["description"] = bridge.maker.id("text", 20000)
        answer = bridge.close.post(event)
        if answer.status != 200:
            break
        accepted.append(event["id"])
    assert answer.status == 503
    assert answer.json["error"] == "unavailable"
    assert len(accepted) > 50
    assert bridge.readyz().status == 503
    [trouble] = [line for line in bridge.log().splitlines() if "event=journal.trouble" in line]
    assert "max_bytes=8388608 " in trouble and "error=" not in trouble, "what is full, and how much"
    assert "see the publishers in /readyz" in trouble, "what to do"
    kafka.start()
    with kafka.reader(topic) as reader:
        reader.until(lambda records: set(accepted) <= {record.event_id for record in records}, 60)
    answer = bridge.close.deliver(event)
    assert answer.status == 200, "without a restart"


def test_parallel_posts_are_all_accepted(running, kafka, topic):
    ids, errors = [], []

    def post():
        for _ in range(25):
            event = running.event()
            answer = running.close.post(event)
            (ids if answer.status == 200 else errors).append(event["id"])

    threads = [threading.Thread(target=post) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert sorted(record.event_id for record in kafka.read(topic, count=500)) == sorted(ids)
