"""Dead letters: kept with their reason, looked at, sent again, dropped; bounded, and never evicted (DESIGN section 6)."""
import base64
import threading
import time

import pytest

from tests.e2e.openapi import check_against_openapi
from tests.peers.process import free_port, wait_until


def letters(bridge, query=""):
    answer = bridge.control("/control/dead-letters" + query)
    assert answer.status == 200, answer
    check_against_openapi("DeadLetters", answer.json)
    return answer.json["dead_letters"]


def retry(bridge, query):
    answer = bridge.control("/control/dead-letters/retry?" + query, "POST")
    if answer.status < 300:
        check_against_openapi("Retried", answer.json)
    return answer


def drop(bridge, query):
    return bridge.control("/control/dead-letters?" + query, "DELETE")


def kept(bridge, publisher="kafka"):
    return bridge.metrics().value("dead_letters", publisher=publisher)


def wait_dead(bridge, count, publisher="kafka"):
    wait_until(lambda: kept(bridge, publisher) == count, 30,
               lambda: f"{count} dead letters of {publisher}: {bridge.control('/control/dead-letters').body}")


def large_event(bridge, size=20000, **changes):
    event = bridge.event(**changes)
    event["data"]["description"] = bridge.maker.id("noise", size)  # random: compression does not save it
    return event


def ids_of(records):
    return [record.event_id for record in records]


@pytest.mark.row("F22")
def test_they_are_listed_shown_sent_again_and_dropped(kafka, bridge, topic):
    kafka.create_topics(topic, max_message_bytes="4000")
    bridge.start(dead_letters={"kafka": {"topic": topic + "-dead"}},
                 topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    events = [large_event(bridge, lead_id="lead_1") for _ in range(3)]
    sent_at = time.time()
    for event in events:
        assert bridge.post_signed(event).json["status"] == "accepted"
    wait_dead(bridge, 3)

    listed = letters(bridge)
    assert [letter["event_id"] for letter in listed] == [event["id"] for event in events]
    first = listed[0]
    assert {name: first[name] for name in ("publisher", "topic", "reason", "account", "object_type", "action",
                                           "lead_id", "is_event")} == {
        "publisher": "kafka", "topic": topic, "reason": "too_large", "account": "main", "object_type": "lead",
        "action": "created", "lead_id": "lead_1", "is_event": True}
    assert first["first"] == first["last"]
    assert sent_at - 2 < time.mktime(time.strptime(first["last"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    shown = bridge.control(f"/control/dead-letters?id={first['id']}").json
    assert shown["body"].encode() == bridge.body(events[0]) and "body" not in first

    page = bridge.control("/control/dead-letters?limit=2").json
    assert [letter["id"] for letter in page["dead_letters"]] == [1, 2]
    page = bridge.control(f"/control/dead-letters?limit=2&after={page['next']}").json
    assert ([letter["id"] for letter in page["dead_letters"]], page["next"]) == ([3], None)
    assert len(letters(bridge, f"?publisher=kafka&reason=too_large&topic={topic}")) == 3
    for other in ("publisher=mqtt", "reason=unrouted", "topic=" + topic[1:]):
        assert letters(bridge, "?" + other) == [], other

    copies = kafka.read(topic + "-dead", count=3)
    assert ids_of(copies) == [event["id"] for event in events]
    assert {name: value for name, value in copies[0].headers.items() if name.startswith("closebridge_")} == {
        "closebridge_reason": "too_large", "closebridge_publisher": "kafka", "closebridge_topic": topic}

    again = retry(bridge, "all=true")  # nothing has changed
    assert (again.status, again.json) == (200, {"delivered": 0, "buried_again": 3, "not_events": 0, "done": True,
                                                "reason": "too_large"})
    renewed = letters(bridge)
    assert [(letter["id"], letter["first"]) for letter in renewed] == [(i["id"], i["first"]) for i in listed]
    assert all(new["last"] > old["last"] for new, old in zip(renewed, listed))
    assert kept(bridge) == 3

    kafka.set_topic_config(topic, max_message_bytes="1000000")
    assert retry(bridge, "id=3").json["delivered"] == 1
    assert drop(bridge, "id=1").json == {"dropped": 1}
    assert drop(bridge, "id=1").status == 404 and retry(bridge, "id=1").status == 404
    assert retry(bridge, "all=true&publisher=kafka").json["delivered"] == 1
    assert ids_of(kafka.read(topic, count=2)) == [events[2]["id"], events[1]["id"]]
    assert letters(bridge) == [] and kept(bridge) == 0
    bridge.restart()
    assert letters(bridge) == [] and kept(bridge) == 0
    assert ids_of(kafka.read_all(topic)) == [events[2]["id"], events[1]["id"]]
    assert len(kafka.read_all(topic + "-dead")) == 3


@pytest.mark.row("F22")
def test_what_a_kill_interrupts_stays_a_dead_letter_and_arrives_in_order(own_kafka, make_bridge, topic):
    kafka = own_kafka().start()
    kafka.create_topics(topic, max_message_bytes="2000")
    bridge = make_bridge(kafka).start(topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    events = [large_event(bridge, 4000, lead_id="lead_1") for _ in range(150)]  # more than are sent at a time
    for event in events:
        assert bridge.close.post(event).status == 200
    wait_dead(bridge, len(events))
    kafka.set_topic_config(topic, max_message_bytes="1000000")
    slow = {**bridge.config["publishers"]["kafka"], "linger.ms": 500}  # for each lot, so that the kill comes between two
    assert bridge.reload(publishers={"kafka": slow}).status == 200
    asked = threading.Thread(target=lambda: pytest.raises(OSError, retry, bridge, "all=true"))
    asked.start()
    with kafka.reader(topic) as reader:
        reader.until(lambda records: len(records) > 0, 30, "a letter sent again")
    bridge.kill()
    asked.join()
    bridge.start()
    left = letters(bridge, "?limit=1000")
    assert len(left) > 0, "the kill came in between"
    assert kept(bridge) == len(left)
    more = bridge.event()  # live events flow meanwhile
    answer = retry(bridge, "all=true")
    assert bridge.post_signed(more).status == 200
    assert answer.json["delivered"] == len(left), answer
    wait_until(lambda: more["id"] in ids_of(kafka.read_all(topic)), 30, "the live event")
    came = [event_id for event_id in ids_of(kafka.read_all(topic)) if event_id != more["id"]]
    assert list(dict.fromkeys(came)) == [event["id"] for event in events], "all of them, in their order"
    assert letters(bridge) == [] and kept(bridge) == 0


def test_a_full_store_stops_the_publisher_until_there_is_room(kafka, bridge, topic):
    kafka.create_topics(topic, max_message_bytes="4000")
    bridge.start(journal={"max_size": "4MiB"}, topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    bound = 1024 * 1024  # a quarter of max_size
    events = [large_event(bridge) for _ in range(60)]  # some 24 KiB each in the store
    for event in events:
        assert bridge.post_signed(event).json["status"] == "accepted"
    wait_until(lambda: "record.not_stored" in bridge.log(), 30, "the store is full")
    full = int(kept(bridge))
    assert bound / 2 < full * 24 * 1024 <= bound + 24 * 1024
    assert bridge.metrics().value("dead_letters_bytes") <= bridge.metrics().value("dead_letters_max_bytes") == bound
    bodies = [b"not an event %04d" % number * 250 for number in range(10)]  # small ones still find some room
    assert {bridge.post_signed(body).status for body in bodies} == {200, 503}
    bridge.kill()  # the rest is not lost: the cursor stands before it
    bridge.start()
    wait_until(lambda: kept(bridge) == full, 30, "as before")
    kept_ids = {letter["event_id"] for letter in letters(bridge, "?publisher=kafka")}
    assert len(kept_ids) == full and kept_ids <= {event["id"] for event in events}
    kafka.set_topic_config(topic, max_message_bytes="1000000")
    assert retry(bridge, "all=true").json["delivered"] >= full
    with kafka.reader(topic) as reader:  # those that found no room are buried first, then sent again
        wait_until(lambda: bridge.metrics().value("publisher_lag_events", publisher="kafka") == 0, 30, "it goes on")
        retry(bridge, "all=true")
        reader.until(lambda records: set(ids_of(records)) == {event["id"] for event in events}, 30)
    assert bridge.post_signed(bodies[-1]).json["status"] == "dead_lettered"


def test_a_body_that_is_no_event_can_be_shown_and_dropped_but_has_no_topic(bridge, topic):
    bridge.start(topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    for body in (b'{"event": 1}', b"\xff\xfe"):
        assert bridge.post_signed(body).json["status"] == "dead_lettered"
    assert bridge.metrics().value("events_dead_total", publisher="webhook", reason="not_an_event") == 2
    readable, binary = letters(bridge)
    assert (readable["publisher"], readable["reason"], readable["is_event"]) == ("webhook", "not_an_event", False)
    assert bridge.control(f"/control/dead-letters?id={readable['id']}").json["body"] == '{"event": 1}'
    shown = bridge.control(f"/control/dead-letters?id={binary['id']}").json
    check_against_openapi("DeadLetter", shown)
    assert base64.b64decode(shown["body_base64"]) == b"\xff\xfe"
    refused = retry(bridge, f"id={readable['id']}")
    assert (refused.status, refused.json["error"]) == (409, "not_an_event")
    assert retry(bridge, "all=true").json == {"delivered": 0, "buried_again": 0, "not_events": 2, "done": True}
    assert drop(bridge, "all=true&reason=unrouted").json == {"dropped": 0}
    assert drop(bridge, "all=true&publisher=webhook").json == {"dropped": 2}
    assert letters(bridge) == [] and kept(bridge, "webhook") == 0


def test_a_letter_follows_the_map_that_is_in_force(own_kafka, mosquitto, make_bridge, topic):
    """What matched nothing goes to every publisher; what has another topic now goes there."""
    kafka = own_kafka(auto_create_topics_enable="false")
    bridge = make_bridge(kafka, mosquitto.start())
    subscriber = mosquitto.subscribe(topic + "/#")
    bridge.config["publishers"]["kafka"] |= {"retry_for": "0", "topic.metadata.propagation.max.ms": 1000}
    both = {"object_type": "lead", "kafka": {"topic": topic}, "mqtt": {"topic": topic + "/lead"}}
    wrong = {"object_type": "contact", "kafka": {"topic": topic + "-wrong"}}
    bridge.start(topic_map=[both, wrong])
    lead, contact = bridge.event("lead"), bridge.event("contact")
    kafka.start()  # not before now: what is not settled yet meets the next map
    kafka.create_topics(topic)
    bridge.terminate()
    mosquitto.stop()
    kafka.stop()
    bridge.start()
    for event in (lead, contact):
        assert bridge.post_signed(event).json["status"] == "accepted"
    bridge.terminate()
    kafka.start()
    mosquitto.start()
    subscriber.wait_subscribed()
    bridge.start(topic_map=[wrong])
    wait_dead(bridge, 2)
    by_event = {letter["event_id"]: letter for letter in letters(bridge)}
    assert by_event[lead["id"]]["reason"] == "unrouted"
    assert by_event[contact["id"]]["topic"] == topic + "-wrong"
    assert by_event[contact["id"]]["reason"] == "unknown_topic"
    bridge.terminate()
    bridge.start(topic_map=[both, {"object_type": "contact", "kafka": {"topic": topic}}])
    assert retry(bridge, f"id={by_event[lead['id']]['id']}").json["delivered"] == 1
    assert retry(bridge, "all=true").json["delivered"] == 1
    assert ids_of(kafka.read(topic, count=2)) == [lead["id"], contact["id"]]
    assert [message.event_id for message in subscriber.wait(1)] == [lead["id"]]
    assert letters(bridge) == []


def test_parameters_are_checked_before_anything_is_done(bridge, topic):
    bridge.start(topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    assert bridge.post_signed(b"no event").json["status"] == "dead_lettered"
    for query in ("", "publisher=webhook", "all=false", "id=1&all=true", "all=true&publsher=kafka", "id=one", "id=0",
                  "all=yes", "all=true&topic=", "all=true&topic=" + "x" * 2000):
        for answer in (drop(bridge, query), retry(bridge, query)):
            assert answer.status == 400, (query, answer)
    for query in ("limit=0", "limit=1001", "after=-1", "all=true", "id="):
        assert bridge.control("/control/dead-letters?" + query).status == 400, query
    assert bridge.control("/control/dead-letters?id=7").status == 404
    assert bridge.control("/control/dead-letters/retry").status == 405
    assert len(letters(bridge)) == 1


def test_without_a_journal_there_are_none(kafka, make_bridge, topic):
    bridge = make_bridge(kafka).start(journal={"acknowledge": "broker"}, dead_letters={"kafka": {"topic": topic}},
                                      topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    for answer in (bridge.control("/control/dead-letters"), retry(bridge, "all=true"), drop(bridge, "all=true")):
        assert (answer.status, answer.json["error"]) == (409, "no_journal")


def test_the_command_asks_the_bridge_and_reads_the_journal_when_none_runs(kafka, bridge, topic):
    kafka.create_topics(topic, max_message_bytes="4000")
    bridge.start(control={"address": f"127.0.0.1:{free_port()}", "token": "a-token-of-enough-letters"},
                 topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    run = lambda *arguments: bridge.run("dead-letters", "-c", bridge.config_path, *arguments)
    assert run("list").stdout == "no dead letters\n"
    events = [large_event(bridge) for _ in range(3)]
    for body in [*events, b"\xff\x00\xfe"]:
        assert bridge.post_signed(body).status == 200
        wait_until(lambda: len(run("list").stdout.splitlines()) == 2 + events.index(body) if body in events else True,
                   30, "they are buried one after the other")
    listed = run("list").stdout.splitlines()
    assert len(listed) == 5 and listed[0].split() == ["NUMBER", "LAST", "PUBLISHER", "TOPIC", "REASON", "EVENT"]
    assert listed[1].split()[0] == "1" and listed[1].split()[2:] == [
        "kafka", topic, "too_large", "lead.created", events[0]["id"]]
    assert "--after 2" in run("list", "--limit", "2").stdout
    assert run("list", "--reason", "not_an_event").stdout.splitlines()[1].split()[2:] == ["webhook", "-", "not_an_event", "-"]
    other = bridge.folder / "other.yaml"
    other.write_text(bridge.config_path.read_text().replace("a-token-of-enough-letters", "another-token-than-the-bridge"))
    refused = bridge.run("dead-letters", "-c", other, "list")
    assert refused.returncode == 77 and "control.token is another one" in refused.stderr
    assert run("show", "1", "--body").stdout.encode() == bridge.body(events[0])
    retried = run("retry", "1")
    assert (retried.returncode, retried.stdout) == (65, "delivered 0, failed again 1 (too_large)\n")
    kafka.set_topic_config(topic, max_message_bytes="1000000")
    retried = run("retry", "1", "2")
    assert (retried.returncode, retried.stdout) == (0, "delivered 1, failed again 0\n" * 2)
    refused = run("retry", "4")
    assert refused.returncode == 65 and "no event" in refused.stderr
    assert run("retry", "1").returncode == run("show", "1").returncode == run("drop", "1").returncode == 65
    for wrong in ((), ("list", "1"), ("show",), ("retry",), ("drop", "--publisher", "kafka"), ("drop", "1", "--all"),
                  ("retry", "one"), ("list", "--limit", "0"), ("lst",),
                  ("drop", "--all", "--topic", "")):
        assert run(*wrong).returncode == 64, wrong
    bridge.terminate()
    assert events[2]["id"] in run("show", "3").stdout and run("show", "4", "--json").stdout.count("body_base64") == 1
    stopped = run("retry", "3")
    assert stopped.returncode == 69 and "no bridge runs" in stopped.stderr
    assert (run("drop", "3").stdout, run("drop", "3").returncode) == ("dropped 1\n", 65)
    assert run("drop", "--all").stdout == "dropped 1\n" and run("list").stdout == "no dead letters\n"
    bridge.start()
    assert bridge.metrics().value("dead_letters") == 0
    kafka.read(topic, count=2)
