"""create_topics: what is missing is created, and what cannot be is said."""
import pytest
from confluent_kafka.admin import ConfigResource

from tests.peers.kafka import Kafka
from tests.peers.process import free_port, wait_until

NEEDED = 8 * 2 ** 20 + 64 * 1024  # what the default of max_body makes of a record


@pytest.fixture(scope="module")
def strict_kafka(tmp_path_factory):
    """Creates no topic by itself, and takes what Kafka's own default lets in."""
    broker = Kafka(tmp_path_factory.mktemp("strict-kafka"), auto_create_topics_enable="false",
                   message_max_bytes="1048588").start()
    yield broker
    broker.kill()


def entry(object_type, topic, **target):
    return {"object_type": object_type, "kafka": {"topic": topic, **target}}


def count(bridge, state):
    return bridge.metrics().value("kafka_topics", state=state)


def wait_counts(bridge, **states):
    wait_until(lambda: all(count(bridge, state) == number for state, number in states.items()), 40,
               lambda: f"{states} topics: {bridge.log()[-3000:]}")


def settings_of(kafka, name):
    admin = kafka.admin()
    [future] = admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, name)]).values()
    return {name: entry.value for name, entry in future.result(20).items()}


def partitions_of(kafka, name):
    return len(kafka.admin().list_topics(timeout=10).topics[name].partitions)


def test_missing_topics_are_created_with_what_is_asked_for_and_room_for_every_event(strict_kafka, make_bridge):
    others = strict_kafka.topics()
    bridge = make_bridge(strict_kafka)
    bridge.configure(
        dead_letters={"kafka": {"topic": "dead"}},
        topic_map=[entry("lead", "crm.{object_type}.{action}"), entry("task.*", "tasks.{account}")],
        publishers={"kafka": {**bridge.config["publishers"]["kafka"],
                              "create_topics": {"partitions": 3, "config": {"retention.ms": 123456789}}}})
    bridge.start()
    names = {"dead", "tasks.main"} | {f"crm.lead.{action}" for action in ("created", "updated", "deleted", "merged")}
    wait_counts(bridge, created=len(names))
    assert strict_kafka.topics() - others == names
    settings = settings_of(strict_kafka, "crm.lead.created")
    assert (settings["max.message.bytes"], settings["retention.ms"]) == (str(NEEDED), "123456789")
    assert partitions_of(strict_kafka, "crm.lead.created") == 3
    large = bridge.event(data={"text": "x" * 3_000_000})
    assert bridge.post_signed(large).status == 200
    assert [record.event_id for record in strict_kafka.read("crm.lead.created", count=1)] == [large["id"]]
    # A reload looks again; only what is new is created.
    bridge.reload(topic_map=[entry("lead", "crm.{object_type}.{action}"), entry("opportunity", "deals")])
    wait_counts(bridge, created=1, present=len(names) - 1, missing=0)
    assert strict_kafka.topics() - others == names | {"deals"}
    assert bridge.log().count("event=topics.created") == 2


def test_what_is_missing_or_too_small_is_said_and_left_alone(strict_kafka, make_bridge):
    strict_kafka.create_topics("small", max_message_bytes=20000)
    strict_kafka.create_topics("fits", max_message_bytes=NEEDED)
    present = strict_kafka.topics()
    bridge = make_bridge(strict_kafka).start(topic_map=[
        entry("lead", "small"), entry("lead", "fits"), entry("lead", "gone"), entry("opportunity", "gone.too")])
    wait_counts(bridge, missing=2, too_small=1, present=1, created=0, not_created=0)
    log = bridge.log()
    assert 'event=topics.missing count=2 topics="gone gone.too"' in log
    assert "create_topics" in log
    assert "event=topics.too_small count=1 topics=small" in log
    assert "at most 20000 bytes" in log and str(NEEDED) in log
    assert strict_kafka.topics() == present
    # An event that waited for its topic goes on once a reload lets it be created.
    event = bridge.event()
    assert bridge.post_signed(event).status == 200
    wait_until(lambda: bridge.metrics().value("parked_events", publisher="kafka") == 1, 40, "it is parked")
    kafka = bridge.config["publishers"]["kafka"]
    answer = bridge.reload(publishers={"kafka": {**kafka, "create_topics": True}})
    assert answer.json["changed"] == ["publishers.kafka.create_topics"]
    assert [record.event_id for record in strict_kafka.read("gone", count=1, timeout=60)] == [event["id"]]
    assert bridge.metrics().value("events_dead_total") == 0


def test_to_look_does_not_make_a_broker_create_topics(kafka, bridge, topic):
    """This one creates what it is asked for by name."""
    bridge.start(topic_map=[entry("lead", topic)])
    wait_counts(bridge, missing=1)
    assert topic not in kafka.topics()


def test_a_broker_that_forbids_it_is_quoted(own_kafka, make_bridge):
    """Who comes without a name is the administrator here; the bridge has a name and no rights."""
    port = free_port()
    login = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_bridge="secret";'
    broker = own_kafka(auto_create_topics_enable="false", super_users="User:ANONYMOUS",
                       authorizer_class_name="org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                       sasl_enabled_mechanisms="PLAIN", listener_name_sasl_plain_sasl_jaas_config=login)
    text = broker.config.read_text()
    text = text.replace("listeners=PLAINTEXT", f"listeners=SASL://127.0.0.1:{port},PLAINTEXT")
    broker.config.write_text(text.replace("CONTROLLER:PLAINTEXT\n", "CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT\n"))
    broker.start()
    bridge = make_bridge()
    bridge.start(topic_map=[entry("lead", "forbidden")],
                 publishers={"kafka": {"bootstrap.servers": f"127.0.0.1:{port}", "security.protocol": "sasl_plaintext",
                                       "sasl.mechanisms": "PLAIN", "sasl.username": "bridge",
                                       "sasl.password": "secret", "create_topics": {"replication_factor": 1}}})
    wait_counts(bridge, not_created=1, created=0)
    assert "event=topics.not_created count=1 topics=forbidden" in bridge.log()
    assert "authorization failed" in bridge.log().lower()
    assert "forbidden" not in broker.topics()


def test_a_cluster_that_comes_later_gets_its_topics(own_kafka, make_bridge):
    """In broker mode, too: nothing waits for it but the events."""
    strict = own_kafka(auto_create_topics_enable="false")
    bridge = make_bridge(strict)
    bridge.start(journal={"acknowledge": "broker"}, dead_letters={"kafka": {"topic": "dead"}},
                 topic_map=[entry("lead", "leads")],
                 publishers={"kafka": {**bridge.config["publishers"]["kafka"],
                                       "create_topics": {"replication_factor": 1}}})
    assert bridge.post_signed(bridge.event()).status == 503
    strict.start()
    wait_counts(bridge, created=2)
    bridge.wait_up("kafka")
    event = bridge.event()
    wait_until(lambda: bridge.post_signed(event).status == 200, 30, "the event is taken", interval=0.5)
    with strict.reader("leads") as reader:  # what was answered 503 may have come before it
        reader.until(lambda records: event["id"] in {record.event_id for record in records}, 30)
