"""The topic map: what it says it does, it does: DESIGN section 4, docs/topic-map.md."""
import json

import msgpack
import yaml

from tests.e2e.bridge import ROOT
from tests.e2e.openapi import check_against_openapi
from tests.peers.close_simulator import catalog

DEAD_REASON = "closebridge_reason"


def accessor(field, **filter_):
    return {"type": "field_accessor", "field": field, "filter": filter_}


def test_events_go_where_the_report_says(kafka, mosquitto, make_bridge, topic):
    bridge = make_bridge(kafka, mosquitto.start())
    bridge.config["accounts"].append({"name": "second", "signature_keys": [bridge_key(bridge)], "sync": "manual"})
    bridge.start(topic_map=[
        {"category": "lead", "kafka": {"topic": topic + "-lead.{action}"},
         "mqtt": {"topic": topic + "/{object_type}/{action}/{lead_id}"}},
        {"object_type": "activity.*", "action": ["created", "updated"], "account": "main",
         "kafka": {"topic": topic + "-activity.{account}", "key": "object_id"}},
        {"object_type": "activity.email", "action": "updated", "kafka": {"topic": topic + "-edits"}},
        {"category": "bulk_action", "labels": ["Bulk Action Created"],
         "mqtt": {"topic": topic + "/bulk/{account}", "qos": 2, "format": "msgpack"}},
        {"object_type": "shiny", "action": ["made", "lost"], "kafka": {"topic": topic + "-shiny"}},
        {"object_type": "opportunity", "kafka": {"topic": topic + "-mine"},
         "extra_filter": accessor("user_id", type="non_null")},
        {"object_type": "opportunity", "fallback": True, "kafka": {"topic": topic + "-rest"}},
        {"object_type": "task.*", "fallback": True, "mqtt": {"topic": topic + "/rest"}},
    ])
    report = bridge.control("/control/topic-map").json
    check_against_openapi("TopicMap", report)
    printed = bridge.run("topics", "-c", bridge.config_path, "--json")
    assert (printed.returncode, json.loads(printed.stdout)) == (0, report)
    assert [(pair["object_type"], pair["action"]) for pair in report["pairs"] if pair["account"] in (None, "main")] == [
        (pair.object_type, pair.action) for pair in catalog()] + [("shiny", "made"), ("shiny", "lost")]

    subscriber = mosquitto.subscribe(topic + "/#")
    expected = set()
    for number, pair in enumerate(report["pairs"]):
        for account in [pair["account"]] if pair["account"] else ["main", "second"]:
            event = bridge.event(pair["object_type"], pair["action"])
            event["user_id"] = event["user_id"] or "user_1"
            if number % 2:
                event["user_id"] = None
            taken = [place for place in pair["destinations"]
                     if not place["conditional"] or (event["user_id"] is None) == place["fallback"]]
            answer = bridge.post_signed(event, account=account)
            assert answer.json["status"] == ("accepted" if taken else "ignored"), (pair, account)
            expected |= {(event["id"], place["publisher"], place["topic"].format_map(event)) for place in taken}
    topics = {name for _, publisher, name in expected if publisher == "kafka"}
    records = kafka.read(*topics, count=len([1 for _, publisher, _ in expected if publisher == "kafka"]), timeout=60)
    messages = subscriber.wait(len([1 for _, publisher, _ in expected if publisher == "mqtt"]))
    assert {(record.event_id, "kafka", record.topic) for record in records} | {
        (message.event_id, "mqtt", message.topic) for message in messages} == expected


def bridge_key(bridge):
    return bridge.config["accounts"][0]["signature_keys"][0]


def test_the_table_says_the_same(bridge, topic):
    bridge.configure(topic_map=[
        {"object_type": "lead", "action": "created", "kafka": {"topic": topic, "key": "none", "format": "msgpack"}},
        {"object_type": "lead", "fallback": True, "extra_filter": accessor("user_id", type="non_null"),
         "kafka": {"topic": topic + "-rest"}}])
    done = bridge.run("topics", "-c", bridge.config_path)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert lines[:4] == [
        "OBJECT-TYPE ACTION ACCOUNT SUBSCRIBED PUBLISHER TOPIC KEY FORMAT QOS WHEN LINE".replace("-", " ").split(),
        ["lead", "created", "*", "yes", "kafka", topic, "none", "msgpack", "always", lines[1][-1]],
        ["lead", "updated", "*", "filtered", "kafka", topic + "-rest", "lead_id", "event", "fallback+filter", lines[2][-1]],
        ["lead", "deleted", "*", "filtered", "kafka", topic + "-rest", "lead_id", "event", "fallback+filter", lines[3][-1]]]
    assert bridge.config_path.read_text().splitlines()[int(lines[1][-1]) - 1].strip() == "{"
    assert ["contact", "created", "*", "no", "nowhere"] in lines
    assert lines[-1] == f"{len(catalog())} pairs, of which {len(catalog()) - 4} go nowhere".split()


def test_mistakes_keep_the_table_from_being_shown(bridge, topic):
    bridge.configure(topic_map=[{"object_type": "lead", "kafka": {"topic": "a b"}}])
    done = bridge.run("topics", "-c", bridge.config_path)
    assert (done.returncode, done.stdout) == (78, "") and "kafka.topic" in done.stderr
    assert bridge.run("topics", "-c", "not-there.yaml").returncode == 66
    assert bridge.run("topics", "--jsn").returncode == 64


def test_a_filtered_entry_beside_one_that_takes_everything(kafka, mosquitto, make_bridge, topic):
    bridge = make_bridge(kafka, mosquitto.start()).start(topic_map=[
        {"object_type": "contact", "extra_filter": accessor("title", type="equals", value="CEO"),
         "kafka": {"topic": topic + "-some"}, "mqtt": {"topic": topic + "/some"}},
        {"object_type": "contact", "kafka": {"topic": topic + "-all"}, "mqtt": {"topic": topic + "/all"}}])
    some, all_ = mosquitto.subscribe(topic + "/some"), mosquitto.subscribe(topic + "/all")
    sent = {}
    for number in range(30):
        event = bridge.event("contact", ("created", "updated", "deleted")[number % 3])
        # What a deletion was of is in previous_data.
        there, other = ("previous_data", "data") if event["action"] == "deleted" else ("data", "previous_data")
        event[there] = {"title": "CEO" if number % 2 else "CTO"}
        event[other] = {"title": "CTO" if number % 2 else "CEO"} if event["action"] != "deleted" else None
        assert bridge.close.post(event).json["status"] == "accepted"
        sent[event["id"]] = bool(number % 2)
    wanted = {event_id for event_id, passes in sent.items() if passes}
    assert {record.event_id for record in kafka.read(topic + "-all", count=30)} == set(sent)
    assert {message.event_id for message in all_.wait(30)} == set(sent)
    bridge.wait_published("kafka", 45)
    bridge.wait_published("mqtt", 45)
    assert {record.event_id for record in kafka.read_all(topic + "-some")} == wanted
    assert {message.event_id for message in some.wait(15)} == wanted
    assert (len(some.messages), len(all_.messages)) == (15, 30)


def test_custom_activities_only_once_published(kafka, bridge):
    """The example of docs/topic-map.md, as it stands there."""
    blocks = (ROOT / "docs" / "topic-map.md").read_text().split("```yaml\n")[1:]
    [example] = [code for code in (block.split("```")[0] for block in blocks) if "published" in code]
    settings = yaml.safe_load(example)
    bridge.start(**settings)

    def activity(action, status, changed=()):
        event = bridge.event("activity.custom_activity", action)
        event["data"]["status"] = status
        event["changed_fields"] = list(changed)
        return event

    events = {
        "draft": (activity("created", "draft"), False),
        "autosave": (activity("updated", "draft", ["custom.cf_x"]), False),
        "published": (activity("updated", "published", ["custom.cf_x", "status", "last_published_at"]), True),
        "edited later": (activity("updated", "published", ["custom.cf_x"]), False),
        "back to a draft": (activity("updated", "draft", ["status"]), False),
        "made as published": (activity("created", "published"), True),
        "deleted": (activity("deleted", "published"), False),
    }
    for name, (event, is_wanted) in events.items():
        assert bridge.close.post(event).json["status"] == ("accepted" if is_wanted else "ignored"), name
    wanted = {event["id"] for event, is_wanted in events.values() if is_wanted}
    name = settings["topic_map"][0]["kafka"]["topic"]
    assert {record.event_id for record in kafka.read(name, count=2)} == wanted
    rows = bridge.control("/control/topic-map").json["pairs"]
    asked = {row["action"]: row["extra_filter"] for row in rows if row["subscribed"]}
    assert set(asked) == {"created", "updated"}
    assert asked["created"]["filters"][0] == {  # Close finds it in data
        "type": "field_accessor", "field": "data", "filter": accessor("status", type="equals", value="published")}


# A body that a parser would write differently, and what is left of it.
CONTACT = (b'{"subscription_id": "whsub_1",\n "event" : { "id":"%s" ,"object_type":"contact","action":"updated",\n'
           b' "lead_id" :"lead_1", "meta":{ "request_path":"/\\u0061" }, "changed_fields":["emails"],\n'
           b' "data" :{ "id":"cont_1" , "emails":[ {"email":"a@example.com"} ], "n":1.10e+2,\n'
           b'  "phones":[{"phone":"+49","type":"office"},{"phone":"+1"}], "custom.cf_a":"s" }, '
           b'"previous_data":{ "emails":[] , "n":1e400 } } }')
DROPPED = (b'{ "id":"%s" ,"object_type":"contact","action":"updated",\n'
           b' "lead_id" :"lead_1", "changed_fields":["emails"],\n'
           b' "data" :{ "id":"cont_1", "n":1.10e+2,\n'
           b'  "phones":[{"type":"office"},{}] }, "previous_data":{ "n":1e400 } }')
DROP = ["data.emails", "data.phones.phone", "data.custom", "meta"]


def test_fields_are_cut_in_every_format_and_elsewhere_nothing(kafka, mosquitto, make_bridge, topic):
    bridge = make_bridge(kafka, mosquitto.start()).start(topic_map=[
        {"object_type": "contact", "fields": {"drop": DROP}, "kafka": {"topic": topic + "-event"},
         "mqtt": {"topic": topic + "/msgpack", "format": "msgpack"}},
        {"object_type": "contact", "fields": {"drop": DROP}, "kafka": {"topic": topic + "-cloudevents", "format": "cloudevents"}},
        {"object_type": "contact", "fields": {"keep": ["data.id", "data.phones.type"]}, "kafka": {"topic": topic + "-keep"}},
        {"object_type": "contact", "kafka": {"topic": topic + "-whole"}, "mqtt": {"topic": topic + "/whole", "format": "raw"}},
        {"object_type": "contact", "action": "deleted", "fields": {"drop": DROP},
         "kafka": {"topic": topic + "-tombstone", "key": "object_id", "tombstone": True}},
    ])
    subscriber = mosquitto.subscribe(topic + "/#")
    body = CONTACT % b"ev_1"
    whole = body[body.index(b'{ "id"'):-2]
    assert bridge.close.post_body(body).json["status"] == "accepted"
    messages = {message.topic: message.payload for message in subscriber.wait(2)}
    left = json.loads(DROPPED % b"ev_1")
    assert kafka.read(topic + "-whole", count=1)[0].value == whole
    assert messages[topic + "/whole"] == body
    assert kafka.read(topic + "-event", count=1)[0].value == DROPPED % b"ev_1"
    assert json.loads(kafka.read(topic + "-cloudevents", count=1)[0].value)["data"] == left
    left["previous_data"]["n"] = "1e400"  # beyond a double: its digits, DESIGN section 6
    assert msgpack.unpackb(messages[topic + "/msgpack"]) == left
    kept = json.loads(kafka.read(topic + "-keep", count=1)[0].value)
    assert (kept["data"], kept["previous_data"]) == ({"id": "cont_1", "phones": [{"type": "office"}, {}]}, {})
    assert kept["meta"] == json.loads(whole)["meta"]
    deleted = bridge.event("contact", "deleted")
    assert bridge.close.post(deleted).json["status"] == "accepted"
    assert kafka.read(topic + "-tombstone", count=1)[0].value is None


def dead_letter(records, event_id):
    [record] = [record for record in records if record.event_id == event_id]
    return record


def test_copies_of_dead_letters_show_no_more_and_the_journal_keeps_all(own_kafka, make_bridge, topic):
    kafka = own_kafka()
    bridge = make_bridge(kafka).start(
        dead_letters={"kafka": {"topic": "dead"}},
        topic_map=[{"object_type": "contact", "fields": {"drop": ["data.emails"]}, "kafka": {"topic": "first"}}])
    for event_id in (b"ev_kept", b"ev_unrouted"):
        body = CONTACT % event_id
        if event_id == b"ev_unrouted":
            body = body.replace(b'"updated"', b'"created"')
        assert bridge.close.post_body(body).json["status"] == "accepted"
    bridge.terminate()

    kafka.start()
    kafka.create_topics("small", max_message_bytes=1000)
    small = {"topic": "small", "key": "none"}
    bridge.start(topic_map=[
        {"object_type": "contact", "action": "updated", "fields": {"drop": ["data.phones"]}, "kafka": {"topic": "second"}},
        {"object_type": "lead", "fields": {"drop": ["data.emails"]}, "kafka": small},
        {"object_type": "group", "kafka": small},
        {"object_type": "task.*", "fields": {"keep": ["data.id", "data.emails"]}, "kafka": {"topic": "third"}}])
    # It was accepted under another policy, and published under this one.
    [kept] = kafka.read("second", count=1, timeout=60)
    whole = json.loads(CONTACT % b"ev_kept")["event"]
    del whole["data"]["phones"]
    assert json.loads(kept.value) == whole

    for object_type in ("lead", "group"):
        event = bridge.event(object_type, "created", event_id="ev_" + object_type)
        event["data"] = {"id": "x", "emails": "secret", "filling": bridge.maker.id("f", 4000)}
        assert bridge.close.post(event).json["status"] == "accepted"
    assert bridge.close.post_body(b'{"event":{"emails":"secret"}}').json["status"] == "dead_lettered"
    copies = kafka.read("dead", count=4, timeout=60)
    of_lead = dead_letter(copies, "ev_lead")
    assert (of_lead.headers[DEAD_REASON], of_lead.headers["closebridge_topic"]) == ("too_large", "small")
    assert set(json.loads(of_lead.value)["data"]) == {"id", "filling"}
    assert json.loads(dead_letter(copies, "ev_group").value)["data"]["emails"] == "secret", "its entry has no policy"
    unrouted = dead_letter(copies, "ev_unrouted")
    assert unrouted.headers[DEAD_REASON] == "unrouted"
    assert json.loads(unrouted.value)["data"] == {"id": "cont_1"}, "the policies of all entries count"
    opaque = dead_letter(copies, None)
    assert (opaque.value, opaque.headers["closebridge_withheld"]) == (None, "field_policy")
    assert not any("closebridge_withheld" in copy.headers for copy in copies if copy is not opaque)
    assert bridge.readyz().json["journal"]["dead_letters"] == 4


def test_in_broker_mode_copies_are_cut_too(kafka, make_bridge, topic):
    kafka.create_topics(topic + "-small", max_message_bytes=1000)
    bridge = make_bridge(kafka).start(
        journal={"acknowledge": "broker"}, dead_letters={"kafka": {"topic": topic + "-dead"}},
        topic_map=[{"object_type": "lead", "fields": {"drop": ["data.emails"]}, "kafka": {"topic": topic + "-small"}}])
    bridge.wait_up("kafka")
    event = bridge.event("lead", "created")
    event["data"] = {"id": "x", "emails": "secret", "filling": bridge.maker.id("f", 4000)}
    assert bridge.close.deliver(event).status == 200
    assert bridge.close.post_body(b'{"event":{"emails":"secret"}}').json["status"] == "dead_lettered"
    copies = kafka.read(topic + "-dead", count=2)
    assert set(json.loads(dead_letter(copies, event["id"]).value)["data"]) == {"id", "filling"}
    assert dead_letter(copies, None).value == b'{"event":{"emails":"secret"}}', "nothing else keeps it"
    assert "whatever the fields of topic_map" in bridge.run("check", "-c", bridge.config_path).stderr
