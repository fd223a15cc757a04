"""Replicas in acknowledge: broker behind a balancer: one sync gives all of them the key of one subscription."""
import pytest

from tests.e2e.close_client import HOOK
from tests.e2e.subscriber import PAIRS
from tests.peers.balancer import Balancer
from tests.peers.process import wait_until

RATE = 200


@pytest.fixture
def balanced(close_server):
    """balanced(bridges): Close reaches them through a balancer."""
    made = []

    def balance(bridges):
        made.append(Balancer([lambda bridge=bridge: bridge.address for bridge in bridges]))
        close_server.routes["https://hooks.example.com"] = "http://" + made[-1].address

    yield balance
    for one in made:
        one.close()


@pytest.fixture
def replicas(kafka, make_bridge, close_server, topic, tmp_path):
    """Three, configured alike, not started; and the file through which they get the keys."""
    keys = tmp_path / "keys"
    keys.touch(mode=0o600)
    kafka.create_topics(topic, topic + "-dead", partitions=3)
    bridges = [make_bridge(kafka, name=f"replica-{number}") for number in range(3)]
    for bridge in bridges:
        bridge.configure(
            journal={"acknowledge": "broker"}, dead_letters={"kafka": {"topic": topic + "-dead"}},
            accounts=[{"name": "main", "api_key": close_server.api_key, "api_url": close_server.url, "webhook_url": HOOK,
                       "sync": "manual", "signature_keys": "${file:%s}" % keys}],
            topic_map=[{"object_type": kind, "action": action, "kafka": {"topic": topic}} for kind, action in PAIRS])
    return bridges, keys


def accepted_more(close, count):
    wanted = len(close.accepted()) + count
    wait_until(lambda: len(close.accepted()) >= wanted, 60, lambda: f"{wanted} are accepted: {close.delivery.statuses()}")


def test_three_share_one_subscription_and_one_of_them_may_die(kafka, replicas, balanced, close_server, topic):
    bridges, keys = replicas
    close_server.add_foreign()
    sync = ("sync", "-c", bridges[0].config_path, "--keys-out", keys)
    first = bridges[0].run(*sync)
    assert first.returncode == 0, first.stdout + first.stderr
    [mine] = close_server.own()
    assert mine.key in keys.read_text() and mine.key not in first.stdout + first.stderr
    for bridge in bridges:
        bridge.start().wait_up("kafka")
    balanced(bridges)
    with close_server.sending(RATE) as sending:
        accepted_more(close_server, RATE)
        again = bridges[2].run(*sync)
        assert again.returncode == 0 and close_server.own() == [mine], again
        bridges[1].kill()
        accepted_more(close_server, 2 * RATE)
        bridges[1].start().wait_up("kafka")
        balanced(bridges)  # connections are made anew, so the third gets its share again
        accepted_more(close_server, RATE)
    close_server.delivery.wait_idle()
    statuses = close_server.delivery.statuses()
    assert (statuses[401], statuses[404]) == (0, 0), statuses
    emitted = {event["id"] for event in sending.events}
    assert close_server.accepted() == emitted
    assert all(bridge.metrics().value("webhooks_total", result="accepted") > 0 for bridge in bridges)
    with kafka.reader(topic) as reader:
        reader.until(lambda records: emitted <= {record.event_id for record in records}, 30)
    close_server.check_foreign()
