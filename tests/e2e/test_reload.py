"""Another configuration while the bridge runs, by SIGHUP and POST /control/reload."""
import collections
import http.client
import re
import signal
import threading

import pytest

from tests.e2e.bridge import KEY
from tests.e2e.subscriber import PAIRS, Subscriber
from tests.e2e.test_topic_map import check_against_openapi
from tests.peers.mosquitto import Mosquitto
from tests.peers.process import wait_until

OTHER_KEY = "1f" * 32


class Senders:
    """Connections that post events one after the other, each on the one TCP connection that it began with.

    Whatever is not answered 200, and a connection that is closed, ends its sender and is kept in `failures`. So is
    an event that is ignored, unless all are `ignorable`.
    """

    def __init__(self, bridge, count=4, key=KEY, object_type="lead", ignorable=False):
        self.bridge = bridge
        self.key = key
        self.object_type = object_type
        self.ignorable = ignorable
        self.accepted = []
        self.failures = []
        self.stopped = threading.Event()
        self.rounds = [0] * count  # requests that were begun, by sender
        self.threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(count)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def _run(self, number):
        host, port = self.bridge.address.rsplit(":", 1)
        connection = http.client.HTTPConnection(host, int(port), timeout=15)
        connection.connect()
        connection.auto_open = 0  # a connection that the bridge closes stays closed
        try:
            while not self.stopped.is_set():
                self.rounds[number] += 1
                event = self.bridge.event(self.object_type)
                body = self.bridge.body(event)
                connection.request("POST", "/webhooks/main", body, self.bridge.close.headers(body, key=self.key))
                response = connection.getresponse()
                answer = response.read()
                if self.ignorable and b"ignored" in answer:
                    continue
                if response.status != 200 or b"accepted" not in answer:
                    self.failures.append((response.status, answer))
                    return
                self.accepted.append(event["id"])
        except (OSError, http.client.HTTPException) as error:
            self.failures.append(error)
        finally:
            connection.close()

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def check(self):
        assert not self.failures, self.failures

    def wait(self, count, timeout=60):
        """Until `count` more are accepted."""
        wanted = len(self.accepted) + count
        wait_until(lambda: self.failures or len(self.accepted) >= wanted, timeout,
                   lambda: f"{wanted} accepted; {len(self.accepted)} are")
        self.check()

    def use_key(self, key, timeout=60):
        """Returns when no request is under way that was signed with the key before."""
        self.key = key
        before = self.rounds[:]
        wait_until(lambda: self.failures or all(now > then for now, then in zip(self.rounds, before)), timeout, "every sender goes on")
        self.check()


def to_kafka(topic, **entry):
    return {"object_type": "*", **entry, "kafka": {"topic": topic}}


def to_mqtt(topic, **entry):
    return {"object_type": "*", **entry, "mqtt": {"topic": topic, "qos": 1}}


def check_each_once(came, accepted):
    counts = collections.Counter(came)
    assert set(accepted) <= set(counts), f"{len(set(accepted) - set(counts))} of {len(accepted)} are lost"
    assert {event: times for event, times in counts.items() if times > 1} == {}, "published twice"


def journal_order(bridge):
    """The ids of all events in the order of the journal, in which publishers get them."""
    newest_first, before = [], 2**64 - 1
    while before:
        page = bridge.control(f"/control/events?limit=200&before={before}").json
        assert page["complete"]
        newest_first += [event["id"] for event in page["events"]]
        before = page["next"]
    return newest_first[::-1]


def mistakes_of(bridge):
    """What `check` says of the file, without its place."""
    done = bridge.run("check", "-c", bridge.config_path)
    assert done.returncode == 78
    return done.stderr.splitlines()


def successful(bridge):
    return bridge.metrics().value("config_last_reload_successful")


@pytest.mark.row("F23")
def test_two_hundred_reloads_under_load_lose_nothing(kafka, bridge, topic):
    """Two maps in turn, a bad file now and then, by signal and by request."""
    maps = [[to_kafka(topic + "-a"), to_kafka(topic + "-tasks", object_type="task.lead")],
            [to_kafka(topic + "-b", object_type="lead"), to_kafka(topic + "-c")]]
    bridge.start(topic_map=maps[0])
    good = dict(bridge.config)
    with Senders(bridge) as senders:
        for number in range(200):
            if number % 5 == 4:
                bridge.config = {**good, "topic_map": [{"object_type": "lead", "kafka": {"topik": "x"}}]}
                answer = bridge.reload()
                assert (answer.status, answer.json["error"]) == (422, "bad_configuration"), answer
                bridge.config = dict(good)
            elif number % 5 == 3:
                bridge.config = {**good, "topic_map": maps[number % 2]}
                bridge.configure()
                bridge.process.signal(signal.SIGHUP)
            else:
                answer = bridge.reload(topic_map=maps[number % 2])
                assert answer.status == 200, answer
            senders.wait(1)
        senders.wait(50)
    senders.check()
    # The map in force at dispatch sends a lead event to one topic, or to two.
    by_topic = {topic + name: [] for name in ("-a", "-b", "-c")}
    with kafka.reader(*by_topic) as reader:
        def has_all(records):
            for came in by_topic.values():
                came.clear()
            for record in records:
                by_topic[record.topic].append(record.event_id)
            a, b, c = map(set, by_topic.values())
            return a | (b & c) >= set(senders.accepted)
        reader.until(has_all, 60, "all events")
    for name, came in by_topic.items():
        check_each_once(came, [])
        assert came, f"{name} never had its turn"
    assert sorted(by_topic[topic + "-b"]) == sorted(by_topic[topic + "-c"]), "entries of one map go together"
    assert not set(by_topic[topic + "-a"]) & set(by_topic[topic + "-b"]), "one event, one map"
    metrics = bridge.metrics()
    assert metrics.value("events_dead_total") == 0
    assert metrics.value("webhooks_total", result="accepted") == len(senders.accepted)


def test_an_entry_that_comes_under_load_misses_no_event_that_was_let_in(kafka, bridge, topic):
    """Not even those that are let in at the moment of the change: none is unrouted."""
    entries = [to_kafka(topic + "-lead", object_type="lead")]
    bridge.start(topic_map=entries)
    for object_type in ("contact", "opportunity", "activity.note", "activity.call", "user"):
        entries.append(to_kafka(f"{topic}-{object_type}", object_type=object_type))
        with Senders(bridge, object_type=object_type, ignorable=True) as senders:
            assert bridge.reload(topic_map=entries).status == 200
            senders.wait(20)
        senders.check()
        came = kafka.read(f"{topic}-{object_type}", count=len(senders.accepted))
        check_each_once([record.event_id for record in came], senders.accepted)
    assert bridge.metrics().value("events_dead_total") == 0


@pytest.mark.row("F23")
def test_a_bad_file_changes_nothing_and_every_mistake_is_said(kafka, bridge, topic):
    bridge.start(topic_map=[to_kafka(topic)])
    good = dict(bridge.config)
    assert successful(bridge) == 1
    bridge.config = {**good, "listen": {**good["listen"], "max_body": "2GiB"},
                     "topic_map": [to_kafka(topic + "-x", object_type="Lead!"), to_kafka("a/b")]}
    answer = bridge.reload()
    assert answer.status == 422
    check_against_openapi("NotReloaded", answer.json)
    assert len(answer.json["mistakes"]) >= 3
    assert answer.json["mistakes"] == mistakes_of(bridge), "as check says it"
    assert all(re.match(rf"{re.escape(str(bridge.config_path))}:\d+: ", line) for line in answer.json["mistakes"])
    assert successful(bridge) == 0
    for line in answer.json["mistakes"]:
        assert line in bridge.log().replace('\\"', '"'), "the log says it too"
    bridge.config_path.unlink()
    answer = bridge.control("/control/reload", method="POST")
    assert (answer.status, len(answer.json["mistakes"])) == (422, 1)
    assert "cannot be read" in answer.json["mistakes"][0]
    event = bridge.event()
    assert bridge.post_signed(event).json["status"] == "accepted"
    assert [record.event_id for record in kafka.read(topic, count=1)] == [event["id"]]
    bridge.config = good
    answer = bridge.reload()
    assert (answer.status, answer.json["result"], answer.json["changed"]) == (200, "unchanged", [])
    assert successful(bridge) == 1


def test_what_needs_a_restart_is_refused_by_name_with_all_the_rest(kafka, bridge, topic):
    bridge.start(topic_map=[to_kafka(topic)])
    good = dict(bridge.config)
    bridge.config = {**good,
                     "listen": {"address": "127.0.0.1:1", "threads": 3},
                     "control": {"address": f"unix:{bridge.folder}/c.sock"},
                     "journal": {"path": str(bridge.folder / "elsewhere"), "max_size": "128MiB",
                                 "dedupe_max": 1000},
                     "topic_map": [to_kafka(topic + "-new")]}
    answer = bridge.reload()
    assert answer.status == 422
    lines = bridge.config_path.read_text().splitlines()
    named = []
    for mistake in answer.json["mistakes"]:
        number, name = re.match(r".*:(\d+): ([a-z_.]+): cannot change while the bridge runs", mistake).groups()
        assert f'"{name.split(".")[1]}"' in lines[int(number) - 1], "the line of the setting"
        named.append(name)
    assert named == ["listen.address", "listen.threads", "control.address", "journal.path", "journal.max_size",
                     "journal.dedupe_max"]
    event = bridge.event()
    bridge.post_signed(event)
    assert [record.event_id for record in kafka.read(topic, count=1)] == [event["id"]], "the map before is in force"
    bridge.config = {**good, "journal": {"acknowledge": "broker"}, "dead_letters": {"kafka": {"topic": topic}}}
    assert any("journal.acknowledge: cannot change" in mistake for mistake in bridge.reload().json["mistakes"])


def test_the_answer_names_what_changed(bridge, topic):
    bridge.start(topic_map=[to_kafka(topic)])
    good = dict(bridge.config)
    account = good["accounts"][0]
    answer = bridge.reload(
        listen={"max_body": "1MiB", "health_path": "/up"}, journal={"retention": "1h", "dedupe_window": "100h"},
        dead_letters={"kafka": {"topic": topic + "-dead"}}, topic_map=[to_kafka(topic), to_kafka(topic + "-2")],
        accounts=[{**account, "replay_window": "1h"}, {**account, "name": "second"}],
        publishers={"kafka": {**good["publishers"]["kafka"], "window": 100, "linger.ms": 3}})
    check_against_openapi("Reloaded", answer.json)
    assert (answer.json["result"], answer.json["warnings"]) == ("reloaded", [])
    assert sorted(answer.json["changed"]) == [
        "accounts[main].replay_window", "accounts[second]", "dead_letters.kafka.topic", "journal.dedupe_window",
        "journal.retention", "listen.health_path", "listen.max_body", "publishers.kafka", "publishers.kafka.window",
        "topic_map"]
    assert bridge.request("GET", "/up").status == 200
    assert bridge.post_signed(bridge.event(), account="second").status == 200
    bridge.config = good
    answer = bridge.reload()
    assert "accounts[second]" in answer.json["changed"]
    assert bridge.post_signed(bridge.event(), account="second").status == 404


def test_limits_change_with_the_next_request(kafka, bridge, topic):
    bridge.start(listen={"max_body": "64KiB"}, topic_map=[to_kafka(topic)])
    large = bridge.event(data={"text": "x" * 200_000})
    assert bridge.post_signed(large).status == 413
    assert bridge.reload(listen={"max_body": "1MiB"}).json["changed"] == ["listen.max_body"]
    assert bridge.post_signed(large).status == 200
    assert [record.event_id for record in kafka.read(topic, count=1)] == [large["id"]], "the producer takes it, too"
    assert bridge.reload(listen={"max_body": "64KiB"}).status == 200
    assert bridge.post_signed(bridge.event(data={"text": "x" * 200_000})).status == 413


@pytest.mark.row("F23")
def test_keys_are_rotated_under_load_without_a_401(kafka, bridge, topic):
    account = {"name": "main", "signature_keys": [KEY], "sync": "manual"}
    bridge.start(topic_map=[to_kafka(topic)], accounts=[account])
    with Senders(bridge) as senders:
        senders.wait(20)
        assert bridge.reload(accounts=[{**account, "signature_keys": [KEY, OTHER_KEY]}]).status == 200
        senders.use_key(OTHER_KEY)
        senders.wait(20)
        assert bridge.reload(accounts=[{**account, "signature_keys": [OTHER_KEY]}]).status == 200
        senders.wait(20)
    senders.check()
    assert bridge.post_signed(bridge.event(), key=KEY).status == 401
    assert KEY not in bridge.log() and OTHER_KEY not in bridge.log()
    came = kafka.read(topic, count=len(senders.accepted))
    check_each_once([record.event_id for record in came], senders.accepted)


def test_a_publisher_comes_changes_goes_and_comes_back(kafka, mosquitto, make_bridge, topic, tmp_path):
    other = Mosquitto(tmp_path / "other").start()
    bridge = make_bridge(kafka).start(topic_map=[to_kafka(topic)])
    early = bridge.event()
    bridge.post_signed(early)
    kafka.read(topic, count=1)
    kafka_alone = dict(bridge.config["publishers"])
    subscribers = [broker.subscribe(topic + "/#") for broker in (mosquitto.start(), other)]
    try:
        with Senders(bridge) as senders:
            answer = bridge.reload(publishers={"mqtt": {"url": mosquitto.url}},
                                   topic_map=[to_kafka(topic), to_mqtt(topic + "/{action}")])
            assert answer.json["changed"] == ["publishers.mqtt", "topic_map"]
            bridge.wait_published("mqtt", 20)
            assert bridge.reload(publishers={"mqtt": {"url": other.url}}).json["changed"] == ["publishers.mqtt.url"]
            wait_until(lambda: len(subscribers[1].messages) >= 20, 30, "the other broker gets events")
            bridge.config["publishers"] = kafka_alone
            assert bridge.reload(topic_map=[to_kafka(topic)]).json["changed"] == ["publishers.mqtt", "topic_map"]
            wait_until(lambda: bridge.readyz().json["publishers"] == {"kafka": "up", "mqtt": "removed"}, 30, "removed")
            senders.wait(50)
            bridge.reload(publishers={"mqtt": {"url": mosquitto.url}},
                          topic_map=[to_kafka(topic), to_mqtt(topic + "/{action}")])
            senders.wait(20)
        senders.check()
        # From its first place in the journal on, MQTT got every event once, at one broker or the other.
        def at_mqtt():
            return [message.event_id for subscriber in subscribers for message in subscriber.messages]
        in_journal = journal_order(bridge)
        assert set(in_journal) == {early["id"], *senders.accepted}
        first = min(in_journal.index(event) for event in wait_until(at_mqtt, 30, "MQTT gets events"))
        wait_until(lambda: set(at_mqtt()) >= set(in_journal[first:]), 30,
                   lambda: f"all are at MQTT: {len(set(in_journal[first:]) - set(at_mqtt()))} are missing")
        check_each_once(at_mqtt(), in_journal[first:])
        assert early["id"] not in at_mqtt(), "what came before the publisher is not for it"
        came = kafka.read(topic, count=1 + len(senders.accepted))
        check_each_once([record.event_id for record in came], senders.accepted)
    finally:
        other.close()


def test_a_producer_with_other_properties_takes_over_without_a_duplicate(kafka, bridge, topic):
    bridge.start(topic_map=[to_kafka(topic)])
    properties = bridge.config["publishers"]["kafka"]
    with Senders(bridge) as senders:
        for number in range(4):
            senders.wait(20)
            answer = bridge.reload(publishers={"kafka": {**properties, "linger.ms": 5 + number}})
            assert answer.json["changed"] == ["publishers.kafka"]
            wait_until(lambda: bridge.log().count("event=publisher.opened") > number, 20, "it took over")
    senders.check()
    came = kafka.read(topic, count=len(senders.accepted))
    check_each_once([record.event_id for record in came], senders.accepted)


def test_a_window_may_grow_and_shrink_under_load(kafka, bridge, topic):
    bridge.start(topic_map=[to_kafka(topic)])
    properties = bridge.config["publishers"]["kafka"]
    with Senders(bridge) as senders:
        for window in (3, 700, 2, 4000, 1):
            senders.wait(30)
            answer = bridge.reload(publishers={"kafka": {**properties, "window": window}})
            assert answer.json["changed"] == ["publishers.kafka.window"]
        senders.wait(30)
    senders.check()
    came = kafka.read(topic, count=len(senders.accepted))
    check_each_once([record.event_id for record in came], senders.accepted)


def test_what_a_silent_broker_has_goes_to_the_next_one(mosquitto, make_bridge, topic, tmp_path):
    other = Mosquitto(tmp_path / "other").start()
    bridge = make_bridge(None, mosquitto.start()).start(topic_map=[to_mqtt(topic)])
    bridge.wait_up("mqtt")
    subscriber = other.subscribe(topic)
    try:
        mosquitto.pause()
        events = [bridge.event() for _ in range(30)]
        for event in events:
            assert bridge.post_signed(event).status == 200
        assert bridge.reload(publishers={"mqtt": {"url": other.url, "keepalive": "5s"}}).status == 200
        came = [message.event_id for message in subscriber.wait(30)]
        assert came == [event["id"] for event in events], "in their order"
    finally:
        mosquitto.resume()
        other.close()


def test_a_stop_in_the_middle_of_an_exchange_loses_nothing(kafka, bridge, topic):
    bridge.start(topic_map=[to_kafka(topic)])
    properties = bridge.config["publishers"]["kafka"]
    accepted = []
    for number in range(5):
        with Senders(bridge) as senders:
            senders.wait(20)
            bridge.configure(publishers={"kafka": {**properties, "linger.ms": 5 + number}})
            bridge.process.signal(signal.SIGHUP)
            if number % 2:
                wait_until(lambda: "event=config.reloaded" in bridge.log_since_start(), 20, "it is reloaded")
            accepted += senders.accepted
            assert bridge.terminate() == 0
        bridge.start()
    with kafka.reader(topic) as reader:
        reader.until(lambda records: set(accepted) <= {record.event_id for record in records}, 60, "all events")


def test_a_wrong_address_is_put_right(kafka, make_bridge, topic):
    """What waited for a broker that is not there goes to the one that is."""
    bridge = make_bridge().start(publishers={"kafka": {"bootstrap.servers": "127.0.0.1:1"}},
                                 topic_map=[to_kafka(topic)])
    events = [bridge.event() for _ in range(20)]
    for event in events:
        assert bridge.post_signed(event).status == 200
    bridge.wait_up("kafka", False)
    assert bridge.reload(publishers={"kafka": {"bootstrap.servers": kafka.bootstrap}}).status == 200
    came = kafka.read(topic, count=20)
    check_each_once([record.event_id for record in came], [event["id"] for event in events])


def test_a_publisher_added_by_reload_keeps_its_place_over_a_kill(kafka, mosquitto, make_bridge, topic):
    bridge = make_bridge(kafka).start(topic_map=[to_kafka(topic)])
    before = bridge.event()
    bridge.post_signed(before)
    bridge.reload(publishers={"mqtt": {"url": mosquitto.url}},  # not started: nothing can be delivered
                  topic_map=[to_kafka(topic), to_mqtt(topic + "/{action}")])
    after = bridge.event()
    bridge.post_signed(after)
    bridge.kill()
    mosquitto.start()
    subscriber = mosquitto.subscribe(topic + "/#")
    bridge.start()
    assert [message.event_id for message in subscriber.wait(1)] == [after["id"]]


def test_broker_mode_changes_map_and_publishers_without_a_503(kafka, mosquitto, make_bridge, topic):
    bridge = make_bridge(kafka).start(
        journal={"acknowledge": "broker"}, dead_letters={"kafka": {"topic": topic + "-dead"}},
        topic_map=[to_kafka(topic)])
    bridge.wait_up("kafka")
    subscriber = mosquitto.start().subscribe(topic + "/#")
    properties = bridge.config["publishers"]["kafka"]
    with Senders(bridge) as senders:
        senders.wait(10)
        assert bridge.reload(publishers={"mqtt": {"url": mosquitto.url}},
                             topic_map=[to_kafka(topic), to_mqtt(topic + "/{action}")]).status == 200
        senders.wait(20)
        assert bridge.reload(publishers={"kafka": {**properties, "linger.ms": 7}}).status == 200
        senders.wait(20)
        bridge.config["publishers"].pop("mqtt")
        assert bridge.reload(topic_map=[to_kafka(topic)]).status == 200
        senders.wait(20)
    senders.check()
    came = kafka.read(topic, count=len(senders.accepted))
    check_each_once([record.event_id for record in came], senders.accepted)
    assert 15 <= len({message.event_id for message in subscriber.messages}) < len(senders.accepted)
    assert bridge.metrics().value("events_dead_total") == 0


def test_in_broker_mode_a_new_publisher_is_waited_for_while_it_connects(kafka, mosquitto, make_bridge, topic):
    """Nothing is known of it yet: that is no reason for a 503."""
    bridge = make_bridge(kafka).start(
        journal={"acknowledge": "broker"}, dead_letters={"kafka": {"topic": topic + "-dead"}},
        topic_map=[to_kafka(topic)])
    bridge.wait_up("kafka")
    mosquitto.start()
    mosquitto.pause()
    bridge.reload(publishers={"mqtt": {"url": mosquitto.url}},
                  topic_map=[to_kafka(topic), to_mqtt(topic + "/{action}")])
    event = bridge.event()
    answers = []
    thread = threading.Thread(target=lambda: answers.append(bridge.post_signed(event).status), daemon=True)
    thread.start()
    kafka.read(topic, count=1)
    assert answers == [], "one destination is missing"
    mosquitto.resume()
    thread.join(30)
    assert answers == [200]


def test_close_sends_what_another_map_says_and_nothing_is_lost_meanwhile(kafka, bridge, close_server, topic):
    """The subscription is changed in place, by a reload, while Close goes on sending."""
    close_server.add_foreign()
    subscriber = Subscriber(bridge, close_server, topic).start()
    before = subscriber.wait_synced()
    identity, key = before.id, before.key
    wanted = PAIRS + [("opportunity", "created")]
    with close_server.sending(rate=50):
        wait_until(lambda: len(close_server.accepted()) > 20, 30, "Close sends")
        subscriber.topic_map.append({"object_type": "opportunity", "action": "created", "kafka": {"topic": topic}})
        subscriber.configure()
        bridge.process.signal(signal.SIGHUP)
        wait_until(lambda: subscriber.own[0].pairs == set(wanted), 30, "Close sends the new pair, too")
        late = close_server.emit(object_type="opportunity", action="created")
        wait_until(lambda: late["id"] in close_server.accepted(), 30, "an event of the new pair is accepted")
    close_server.delivery.wait_idle()
    [after] = subscriber.own
    assert (after.id, after.key) == (identity, key)
    assert set(close_server.delivery.statuses()) == {200}
    assert [call.method for call in close_server.calls if call.method in ("POST", "DELETE")] == ["POST"]
    accepted = close_server.accepted()
    came = kafka.read(topic, count=len(accepted))
    check_each_once([record.event_id for record in came], accepted)
    close_server.check_foreign()


def test_a_sync_says_what_became_of_the_topics(kafka, bridge, close_server, topic):
    kafka.create_topics(topic, max_message_bytes=9 * 2 ** 20)
    subscriber = Subscriber(bridge, close_server, topic, sync="manual")
    subscriber.topic_map.append({"object_type": "call", "action": "created", "kafka": {"topic": topic + "-calls"}})
    subscriber.start()
    answer = bridge.control("/control/sync", "POST")
    check_against_openapi("TopicStates", answer.json["topics"])
    [missing] = answer.json["topics"]
    assert (missing["topic"], missing["state"]) == (topic + "-calls", "missing")
    properties = bridge.config["publishers"]["kafka"]
    bridge.reload(publishers={"kafka": {**properties, "create_topics": {"partitions": 1}}})
    wait_until(lambda: topic + "-calls" in kafka.topics(), 30, "it is created")
    assert bridge.control("/control/sync", "POST").json["topics"] == []
