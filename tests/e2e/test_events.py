"""Where is my event? GET /control/events answers for each publisher (DESIGN section 7)."""
import threading
import time

from tests.e2e.openapi import check_against_openapi
from tests.peers.process import free_port, wait_until


def events(bridge, query=""):
    answer = bridge.control("/control/events" + query)
    assert answer.status == 200, answer
    check_against_openapi("Events", answer.json)
    return answer.json["events"]


def one(bridge, event, **more):
    found = events(bridge, f"?id={event['id']}")
    assert len(found) == 1, found
    return found[0]


def places(found):
    return {place["publisher"]: place for place in found["publishers"]}


def wait_state(bridge, event, state, publisher="kafka", timeout=30):
    wait_until(lambda: places(one(bridge, event))[publisher]["state"] == state, timeout,
               lambda: f"the event is {state} at {publisher}: {one(bridge, event)}")
    return places(one(bridge, event))[publisher]


def test_an_event_is_followed_from_its_arrival_to_its_place(own_kafka, mosquitto, make_bridge, topic):
    kafka = own_kafka()
    bridge = make_bridge(kafka, mosquitto.start())
    bridge.start(topic_map=[{"object_type": "lead", "kafka": {"topic": topic},
                             "mqtt": {"topic": topic + "/{action}", "qos": 1}},
                            {"object_type": "contact", "kafka": {"topic": topic}}])
    before = time.time()
    event, contact = bridge.event("lead"), bridge.event("contact")
    for sent in (event, contact, event, event):
        assert bridge.post_signed(sent).status == 200
    at_mqtt = wait_state(bridge, event, "delivered", "mqtt")
    assert at_mqtt["records"][0]["topic"] == topic + "/created"
    found = one(bridge, event)
    assert {name: found[name] for name in ("id", "account", "object_type", "action", "lead_id", "origin", "duplicates",
                                           "in_journal")} == {
        "id": event["id"], "account": "main", "object_type": "lead", "action": "created",
        "lead_id": event["lead_id"], "origin": "webhook", "duplicates": 2, "in_journal": True}
    received = time.mktime(time.strptime(found["received"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    assert before - 2 <= received <= time.time() + 1
    assert places(found)["kafka"] == {"publisher": "kafka", "state": "pending", "records": []}
    wait_state(bridge, contact, "none", "mqtt")
    kafka.start()
    at_kafka = wait_state(bridge, event, "delivered")
    record, = [record for record in kafka.read(topic, count=2) if record.event_id == event["id"]]
    assert len(at_kafka["records"]) == 1
    assert {name: at_kafka["records"][0][name] for name in ("state", "topic", "partition", "offset")} == {
        "state": "delivered", "topic": topic, "partition": record.partition, "offset": record.offset}
    bridge.restart()
    assert places(one(bridge, event))["kafka"] == {"publisher": "kafka", "state": "delivered", "records": []}
    assert one(bridge, event)["duplicates"] == 0, "counted in memory"


def test_what_came_before_a_publisher_went_nowhere_there(kafka, mosquitto, make_bridge, topic):
    bridge = make_bridge(kafka).start(topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    early, late = bridge.event(), bridge.event()
    assert bridge.post_signed(early).status == 200
    wait_state(bridge, early, "delivered")
    bridge.config["publishers"]["mqtt"] = {"url": mosquitto.start().url}
    bridge.config["control"]["address"] = f"127.0.0.1:{free_port()}"
    for _ in range(2):
        bridge.terminate()
        bridge.start(topic_map=[{"object_type": "*", "kafka": {"topic": topic}, "mqtt": {"topic": topic, "qos": 1}}])
    assert bridge.post_signed(late).status == 200
    for publisher in ("kafka", "mqtt"):
        wait_state(bridge, late, "delivered", publisher)
    states = lambda event: {name: place["state"] for name, place in places(one(bridge, event)).items()}
    assert states(early) == {"kafka": "delivered", "mqtt": "none"}
    assert states(late) == {"kafka": "delivered", "mqtt": "delivered"}
    bridge.terminate()
    shown = bridge.run("events", "-c", bridge.config_path, "--id", early["id"]).stdout
    assert [line.split() for line in shown.splitlines()[1:]] == [["kafka", "delivered"], ["mqtt", "none"]]


def test_it_is_found_by_lead_type_and_time_and_in_pages(kafka, bridge, topic):
    bridge.start(topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    leads = [bridge.maker.id("lead", 43) for _ in range(2)]
    sent = []
    for number in range(30):
        event = bridge.event("lead" if number % 3 else "contact", "updated", lead_id=leads[number % 2])
        assert bridge.close.deliver(event).status == 200
        sent.append(event)
    newest_first = [event["id"] for event in reversed(sent)]
    ids = lambda query: [event["id"] for event in events(bridge, query)]
    assert ids("?limit=200") == newest_first
    assert ids("") == newest_first[:20]
    assert ids(f"?lead_id={leads[1]}") == [e["id"] for e in reversed(sent) if e["lead_id"] == leads[1]]
    assert ids("?object_type=contact&limit=3") == [e["id"] for e in reversed(sent) if e["object_type"] == "contact"][:3]
    assert ids("?id=ev_none") == ids(f"?id={sent[0]['id']}&object_type=contact&lead_id={leads[1]}") == []
    seen, next_page = [], "18446744073709551615"
    while next_page:
        page = bridge.control(f"/control/events?limit=7&before={next_page}").json
        assert page["complete"]
        seen += [event["id"] for event in page["events"]]
        next_page = page["next"]
    assert seen == newest_first
    middle = events(bridge, f"?id={sent[15]['id']}")[0]["received"]
    assert set(ids(f"?since={middle}&limit=200")) >= {e["id"] for e in sent[15:]}
    assert ids("?since=1h&limit=200") == newest_first
    assert ids("?since=2999-01-01T00:00:00Z") == []
    for query in ("since=yesterday", "limit=0", "limit=201", "before=0", "ids=1", "id=" + "x" * 300):
        assert bridge.control("/control/events?" + query).status == 400, query


def test_parked_and_dead_records_are_named_with_their_reason(own_kafka, make_bridge, topic):
    kafka = own_kafka(auto_create_topics_enable="false").start()
    kafka.create_topics(topic, max_message_bytes="4000")
    bridge = make_bridge(kafka)
    bridge.config["publishers"]["kafka"]["topic.metadata.propagation.max.ms"] = 1000
    bridge.start(topic_map=[{"object_type": "*", "kafka": {"topic": topic}},
                            {"object_type": "contact", "kafka": {"topic": topic + "-new"}}])
    lead, contact = bridge.event("lead"), bridge.event("contact")
    lead["data"]["description"] = bridge.maker.id("noise", 20000)
    for event in (lead, contact):
        assert bridge.post_signed(event).status == 200
    dead = wait_state(bridge, lead, "dead")["records"][0]
    assert (dead["state"], dead["topic"], dead["reason"]) == ("dead", topic, "too_large")
    assert bridge.control(f"/control/dead-letters?id={dead['dead_letter']}").json["event_id"] == lead["id"]
    parked = wait_state(bridge, contact, "parked")["records"]
    assert {(record["state"], record["topic"]) for record in parked} == {
        ("delivered", topic), ("parked", topic + "-new")}
    assert [record["reason"] for record in parked if record["state"] == "parked"] == ["unknown_topic"]
    # Letters outlive their events: retention of 0 deletes those that are settled.
    bridge.terminate()
    bridge.start(journal={"retention": "0"})
    for _ in range(3):
        assert bridge.post_signed(bridge.event("group")).status == 200
    wait_until(lambda: not one(bridge, lead)["in_journal"], 30, lambda: f"{one(bridge, lead)}")
    assert places(one(bridge, lead))["kafka"]["state"] == "dead"
    assert places(one(bridge, contact))["kafka"]["state"] == "parked"
    kafka.create_topics(topic + "-new")
    wait_until(lambda: bridge.metrics().value("parked_events", publisher="kafka") == 0, 60, "it follows")
    assert events(bridge, f"?id={contact['id']}") == [], "delivered, and not kept"


def test_the_control_listener_answers_while_a_search_runs(kafka, bridge, topic):
    bridge.start(topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    for _ in range(20):
        assert bridge.close.deliver(bridge.event()).status == 200
    done = threading.Event()

    def search():
        while not done.is_set():
            events(bridge, "?id=ev_none")
    searching = threading.Thread(target=search)
    searching.start()
    took = []
    started = time.monotonic()
    while time.monotonic() - started < 1 or len(took) < 20:
        asked = time.monotonic()
        assert bridge.control("/healthz").status == 200
        took.append(time.monotonic() - asked)
    done.set()
    searching.join()
    assert sorted(took)[len(took) // 2] < 0.5, "a machine that is busy for a moment delays a few"


def test_without_a_journal_there_are_none(kafka, make_bridge, topic):
    bridge = make_bridge(kafka).start(journal={"acknowledge": "broker"}, dead_letters={"kafka": {"topic": topic}},
                                      topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    answer = bridge.control("/control/events")
    assert (answer.status, answer.json["error"]) == (409, "no_journal")


def test_the_command_asks_the_bridge_and_reads_the_journal_when_none_runs(kafka, bridge, topic):
    bridge.start(control={"address": f"127.0.0.1:{free_port()}"},
                 topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    run = lambda *arguments: bridge.run("events", "-c", bridge.config_path, *arguments)
    assert run().stdout == "no such event is in the journal\n"
    event, other = bridge.event("lead"), bridge.event("contact")
    for sent in (event, event, other):
        assert bridge.post_signed(sent).status == 200
    wait_state(bridge, other, "delivered")
    record, = [record for record in kafka.read(topic, count=2) if record.event_id == event["id"]]
    shown = run("--id", event["id"])
    assert shown.returncode == 0
    first, at_kafka, place = shown.stdout.splitlines()
    assert f"lead.created {event['id']} of main {event['lead_id']}, duplicates 1" in first
    assert at_kafka.split() == ["kafka", "delivered"]
    assert place.split()[:6] == ["delivered", topic, "partition", str(record.partition), "offset", f"{record.offset},"]
    for query in (("--type", "contact"), ("--lead", other["lead_id"], "--since", "1h", "--limit", "1")):
        assert other["id"] in run(*query).stdout and event["id"] not in run(*query).stdout
    assert other["id"] in run("--json").stdout
    for wrong in (("--since", "yesterday"), ("--limit", "0"), ("ev_1",), ("--ids", "1")):
        assert run(*wrong).returncode == 64, wrong
    bridge.terminate()
    assert [line.split() for line in run("--id", event["id"]).stdout.splitlines()[1:]] == [["kafka", "delivered"]]
