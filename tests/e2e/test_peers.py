"""The peers themselves: a simulator that is not true to Close would prove nothing."""
import collections
import json

import pytest

from tests.e2e.bridge import KEY
from tests.peers.close_simulator import Close, catalog, sign


@pytest.fixture
def close(receiver):
    return Close(f"http://127.0.0.1:{receiver.server_port}/webhooks/main", KEY)


def test_the_signature_is_the_one_of_the_known_vector(payload):
    key = "b9260244ef33625f9b4b26a27db08758cdd39478b852c73f2d33ab042eb8abb4"
    assert sign(key, "1557751596", payload("vector-A-thermondo.body.json")) == (
        "e6cf27a55de463dc46d8b5c16d2afe74d766e8f0c9892422c93573521cd377ed")


def test_events_have_the_shape_and_headers_of_a_real_delivery(receiver, close, payload):
    close.post(close.maker.event())
    [(headers, body, is_signed)] = receiver.received
    wire = payload("real-lead.created-2025-09-04.wire.json")
    real, real_headers = json.loads(wire), json.loads(payload("real-lead.created-2025-09-04.headers.json"))
    event = json.loads(body)["event"]
    assert is_signed
    assert list(json.loads(body)) == list(real)
    assert list(event) == list(real["event"])
    assert json.dumps(real).encode() == wire, "real bodies are what json.dumps writes"
    assert [len(event[name]) for name in ("id", "date_created", "organization_id", "object_id")] == [
        len(real["event"][name]) for name in ("id", "date_created", "organization_id", "object_id")]
    added_on_the_way = {name for name in real_headers if name.startswith("X-")}
    assert set(real_headers) - added_on_the_way <= set(headers)
    for name in ("User-Agent", "Accept", "Accept-Encoding", "content-type"):
        assert headers[name] == real_headers[name]


def test_every_pair_is_delivered_once_and_signed(receiver, close):
    close.run(close.events_of_all_pairs(), rate=10000)
    pairs = [(json.loads(body)["event"]["object_type"], json.loads(body)["event"]["action"])
             for _, body, _ in receiver.received]
    assert sorted(pairs) == sorted((pair.object_type, pair.action) for pair in catalog())
    assert all(is_signed for _, _, is_signed in receiver.received)


def test_it_retries_until_a_2xx_and_remembers_the_answers(receiver, close):
    event = close.maker.event()
    receiver.statuses[event["id"]] = [503, 404, 401]
    assert close.deliver(event).status == 200
    assert close.answers[event["id"]] == [503, 404, 401, 200]
    assert len({body for _, body, _ in receiver.received}) == 1, "a retry is the same delivery"


def test_duplicates_come_on_request(receiver, close):
    events = [close.maker.event() for _ in range(5)]
    close.run(events, rate=1000, duplicates=1.0)
    counts = collections.Counter(json.loads(body)["event"]["id"] for _, body, _ in receiver.received)
    assert counts == {event["id"]: 2 for event in events}


def test_it_gives_up_when_nobody_ever_answers():
    close = Close("http://127.0.0.1:1/webhooks/main", KEY, retry_scale=0.0)
    event = close.maker.event()
    assert close.deliver(event) is None
    assert set(close.answers[event["id"]]) == {None}
