"""The file of signing keys is gone while Close keeps sending: the bridge gets a key again, and nothing accepted is lost."""
import pytest

from tests.e2e.subscriber import Subscriber
from tests.peers.process import wait_until


def accepted_count(close, count):
    wait_until(lambda: len(close.accepted()) >= count, 30, lambda: f"{count} are accepted: {close.delivery.statuses()}")


@pytest.mark.parametrize("key_in_get", [True, False], ids=["asked", "replaced"])
def test_a_lost_key_is_recovered_under_load(kafka, bridge, make_close_server, topic, key_in_get):
    close = make_close_server(key_in_get=key_in_get)
    close.add_foreign()
    kafka.create_topics(topic)
    subscriber = Subscriber(bridge, close, topic).start()
    first = subscriber.wait_synced()
    with close.sending(rate=100) as sending:
        accepted_count(close, 100)
        assert bridge.terminate() == 0
        subscriber.keys_path.unlink()
        mark = len(close.calls)
        active = []  # subscriptions of ours at each step
        close.on_request = lambda call: active.append(sum(one.is_active for one in subscriber.own))
        subscriber.start()
        subscriber.wait_synced()
        wait_until(lambda: subscriber.keys_path.exists(), 30, "a key is stored again")
        known_at = len(sending.events)
        accepted_count(close, len(close.accepted()) + 100)
    close.delivery.wait_idle()
    [now] = subscriber.own
    assert (now.id == first.id) == key_in_get, "asked for, or replaced"
    assert ("DELETE" in " ".join(close.requests(mark))) != key_in_get
    close.check_foreign()
    assert min(active) == 1 and max(active) == (1 if key_in_get else 2), "at no time there is none"
    emitted = [event["id"] for event in sending.events]
    assert set(emitted[known_at:]) <= close.accepted(), "since the key is known, all are accepted"
    if key_in_get:
        assert set(emitted) == close.accepted(), "what was refused meanwhile came again"
    with kafka.reader(topic) as reader:
        reader.until(lambda records: close.accepted() <= {record.event_id for record in records}, 30)
    subscriber.check_key_is_known()


def test_at_the_limit_of_forty_the_old_one_gives_its_place_to_the_new_one(bridge, close_server, topic):
    close_server.add_foreign(39)
    subscriber = Subscriber(bridge, close_server, topic).start()
    first = subscriber.wait_synced()
    assert bridge.terminate() == 0
    subscriber.keys_path.unlink()
    subscriber.start()
    wait_until(lambda: subscriber.own and subscriber.own[0].id != first.id, 30, lambda: f"it is replaced: {bridge.log()[-3000:]}")
    subscriber.wait_synced()
    subscriber.check_key_is_known()
    close_server.check_foreign()
