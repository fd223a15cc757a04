"""Replicas in acknowledge: broker behind a balancer, with the key of one subscription at Close."""
import pytest

from tests.e2e.close_client import HOOK
from tests.peers.balancer import Balancer
from tests.peers.process import wait_until


@pytest.fixture
def balancer():
    made = []

    def make(bridges):
        made.append(Balancer([lambda bridge=bridge: bridge.address for bridge in bridges]))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_three_replicas_share_one_subscription_and_one_may_die(kafka, make_bridge, close_server, balancer, topic):
    kafka.create_topics(topic, topic + "-dead", partitions=3)
    [mine] = [close_server.subscribe(HOOK, [("lead", "created"), ("lead", "updated")])]
    bridges = [make_bridge(kafka, name=f"replica-{number}") for number in range(3)]
    for bridge in bridges:
        bridge.start(
            journal={"acknowledge": "broker"}, dead_letters={"kafka": {"topic": topic + "-dead"}},
            accounts=[{"name": "main", "signature_keys": [mine.key], "sync": "manual"}],
            topic_map=[{"object_type": "lead", "kafka": {"topic": topic}}])
        bridge.wait_up("kafka")
    close_server.routes["https://hooks.example.com"] = f"http://{balancer(bridges).address}"
    with close_server.sending(rate=200) as sending:
        wait_until(lambda: len(close_server.accepted()) >= 300, 30, lambda: f"300 accepted {close_server.delivery.statuses()}")
        bridges[1].kill()
        killed_at = len(sending.events)
        wait_until(lambda: len(close_server.accepted()) >= killed_at + 300, 30, lambda: f"more accepted {close_server.delivery.statuses()}")
    close_server.delivery.wait_idle()
    emitted = {event["id"] for event in sending.events}
    assert close_server.accepted() == emitted
    assert 401 not in close_server.delivery.statuses()
    with kafka.reader(topic) as reader:
        reader.until(lambda records: emitted <= {record.event_id for record in records}, 30)
    print(close_server.delivery.statuses(), [bridge.metrics().value("webhooks_total") for bridge in (bridges[0], bridges[2])])
