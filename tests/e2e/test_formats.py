"""One event of every pair of the catalog in every format on both brokers, read as consumers read: with confluent-kafka,
paho, msgpack and the Python SDK of CloudEvents."""
import datetime
import itertools
import json

import msgpack

from tests.peers import foreign, schemas
from tests.peers.asyncapi import Document
from tests.peers.close_simulator import catalog, resolved

foreign.use_pypi()

from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka  # noqa: E402
from cloudevents.core.formats.json import JSONFormat  # noqa: E402
from cloudevents.core.v1.event import CloudEvent  # noqa: E402

TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "vendor=1"}
TYPES = {"event": "application/json", "raw": "application/json", "msgpack": "application/vnd.msgpack",
         "cloudevents": "application/cloudevents+json"}
# The key of each format's records: as the configuration writes it, and what it is of an event.
KEYS = {
    "event": ("lead_id", lambda event: event["lead_id"] or event["object_id"]),
    "raw": ("object_id", lambda event: event["object_id"]),
    "cloudevents": ("{object_type}.{action}:{event_id}",
                    lambda event: f"{resolved(event['object_type'])}.{event['action']}:{event['id']}"),
    "msgpack": ("none", lambda event: None),
}
# Values that readers and writers of JSON and MessagePack get wrong.
HARD_VALUES = {"max": 2 ** 64 - 1, "min": -2 ** 63, "beyond": 10 ** 30, "half": 0.5, "one": 1.0, "zero": -0.0, "tiny": 5e-324,
               "text": "Müller \U0001F697 \u0000\u2028\"\\", "": {"": [[], {}, None, True, False]}, "deep": []}
for _ in range(30):
    HARD_VALUES["deep"] = [HARD_VALUES["deep"]]


def targets(form, topic):
    key, _ = KEYS[form]
    mqtt = {"topic": f"{topic}/{form}/{{object_type}}/{{action}}", "qos": 1, "format": form}
    kafka = {"topic": f"{topic}.{form}." + ("{object_type}" if form == "event" else "{category}"), "key": key, "format": form,
             "timestamp": "event" if form == "raw" else "received"}
    return {"kafka": kafka, "mqtt": mqtt}


def kafka_topics(form, topic):
    """The topic of every pair."""
    return {(resolved(pair.object_type), pair.action):
            f"{topic}.{form}.{resolved(pair.object_type) if form == 'event' else pair.category}" for pair in catalog()}


def for_every_pair(entry):
    """An entry for the pairs that a wildcard stands for, and one for each of the others."""
    return [{"object_type": "*", **entry}] + [{"object_type": pair.object_type, "action": pair.action, **entry}
                                              for pair in catalog() if pair.status in ("disputed", "discouraged")]


def make_events(maker):
    """One of every pair; each third one is a consolidated update, whose date is later than its beginning."""
    for number, pair in enumerate(catalog()):
        event = maker.event(pair.object_type, pair.action)
        event["data"] = {**event["data"], "hard": HARD_VALUES} if number % 5 == 0 else event["data"]
        if number % 3 == 0:
            event["date_created"] = "2026-11-20T08:00:00.000000"
            event["date_updated"] = "2026-11-21T09:00:00.123000"
        yield event


def moment(event):
    return datetime.datetime.fromisoformat(event["date_updated"]).replace(tzinfo=datetime.timezone.utc)


def as_msgpack(value):
    """What MessagePack says instead: its integers have 64 bits."""
    if isinstance(value, dict):
        return {name: as_msgpack(member) for name, member in value.items()}
    if isinstance(value, list):
        return [as_msgpack(element) for element in value]
    is_beyond = isinstance(value, int) and not -2 ** 63 <= value < 2 ** 64
    return str(value) if is_beyond else value


def exact(value):
    """1 and 1.0 are equal in Python, but not what was sent."""
    return json.dumps(value, sort_keys=True)


def check_attributes(cloudevent, event, bridge):
    """What every consumer learns beside or inside the payload."""
    object_type = resolved(event["object_type"])
    is_later = event["date_updated"] > event["date_created"]
    assert cloudevent.get_specversion() == "1.0"
    assert cloudevent.get_id() == event["id"] + ("/" + event["date_updated"] if is_later else "")
    assert cloudevent.get_source() == "/close/" + event["organization_id"]
    assert cloudevent.get_type() == f"com.close.{object_type}.{event['action']}"
    assert cloudevent.get_subject() == event["object_id"]
    assert cloudevent.get_time() == moment(event)
    expected = {"closeeventid": event["id"], "closeaccount": "main", "closesubscription": bridge.maker.subscription,
                "closedateupdated": event["date_updated"], "closeorigin": "webhook", "closereplay": None, "closetest": None}
    assert {name: cloudevent.get_extension(name) for name in expected} == expected


def check_data(form, data, event, bridge):
    """`data` is what the SDK or msgpack made of the payload."""
    if form == "raw":
        schemas.check("body", data)
        expected = {"subscription_id": bridge.maker.subscription, "event": event}
    else:
        expected = as_msgpack(event) if form == "msgpack" else event
        schemas.check(schemas.of_type(resolved(event["object_type"])), data)
    assert exact(data) == exact(expected), (form, event["object_type"], event["action"])


def data_of(form, cloudevent):
    data = cloudevent.get_data()
    return msgpack.unpackb(data, strict_map_key=False) if form == "msgpack" else data


def from_mqtt(message):
    """By CloudEvents' binding of MQTT 5, for which the SDK has the event but not the message."""
    if message.content_type.startswith("application/cloudevents+json"):
        return JSONFormat().read(None, message.payload)
    attributes = {name: datetime.datetime.fromisoformat(value.replace("Z", "+00:00")) if name == "time" else value
                  for name, value in message.attribute_list}
    return CloudEvent({**attributes, "datacontenttype": message.content_type},
                      JSONFormat().read_data(message.payload, message.content_type))


def check_record(form, record, events, bridge, topics):
    cloudevent = from_kafka(KafkaMessage({name: value.encode() for name, value in record.header_list}, None, record.value),
                            JSONFormat())
    event = events[cloudevent.get_extension("closeeventid")]
    assert record.headers["content-type"] == TYPES[form] + ("; charset=UTF-8" if form == "cloudevents" else "")
    assert len(record.header_list) == len(record.headers), "a header occurs twice"
    schemas.check("kafka-headers", record.headers)
    if form == "cloudevents":
        schemas.check("cloudevent", json.loads(record.value))
        assert set(record.headers) == {"content-type", *TRACE}
    assert {name: record.headers[name] for name in TRACE} == TRACE
    check_attributes(cloudevent, event, bridge)
    check_data(form, data_of(form, cloudevent), event, bridge)
    assert record.topic == topics[resolved(event["object_type"]), event["action"]]
    assert record.key == KEYS[form][1](event)
    if form == "raw":
        assert record.timestamp == round(moment(event).timestamp() * 1000)
    else:
        assert abs(record.timestamp - datetime.datetime.now().timestamp() * 1000) < 300_000
    return event["id"]


def check_message(form, message, events, bridge, topic):
    cloudevent = from_mqtt(message)
    event = events[cloudevent.get_extension("closeeventid")]
    assert message.content_type == TYPES[form] + ("; charset=utf-8" if form == "cloudevents" else "")
    assert message.format_indicator == (None if form == "msgpack" else 1)
    assert len(message.attribute_list) == len(message.attributes), "a property occurs twice"
    schemas.check("mqtt-properties", message.attributes)
    if form == "cloudevents":
        schemas.check("cloudevent", json.loads(message.payload))
        assert message.attributes == TRACE
    assert {name: message.attributes[name] for name in TRACE} == TRACE
    check_attributes(cloudevent, event, bridge)
    check_data(form, data_of(form, cloudevent), event, bridge)
    levels = resolved(event["object_type"]).replace(".", "/")
    assert (message.topic, message.qos) == (f"{topic}/{form}/{levels}/{event['action']}", 1)
    return event["id"]


def check_described(document, publisher, place, name, is_sample, *found):
    """The AsyncAPI document has what was found, as one message of its topic and (of samples, for it takes long) no other."""
    messages = document.channels[publisher, place]["messages"]
    mistakes = document.mistakes_of(messages[name], *found)
    assert not mistakes, (publisher, place, name, mistakes[:3])
    if is_sample:
        assert [other for other in messages if not document.mistakes_of(messages[other], *found)] == [name]


def check_records_described(document, form, records):
    for number, record in enumerate(records):
        value = record.value and (msgpack.unpackb if form == "msgpack" else json.loads)(record.value)
        kind = record.headers.get("ce_type") or value["type"]
        check_described(document, "kafka", record.topic, kind.removeprefix("com.close."), value and number % 16 == 0,
                        record.headers["content-type"], record.headers, value, record.key)


def check_messages_described(document, form, messages):
    for message in messages:
        payload = (msgpack.unpackb if form == "msgpack" else json.loads)(message.payload)
        kind = message.attributes.get("type") or payload["type"]
        check_described(document, "mqtt", message.topic, kind.removeprefix("com.close."), True,
                        message.content_type, message.attributes, payload)


def check_compacted(records, events):
    """Deletions have no value, whatever the format; their attributes are in headers."""
    for record in records:
        event = events[record.headers["ce_closeeventid"] if record.value is None else json.loads(record.value)["closeeventid"]]
        assert record.key == event["object_id"]
        assert (record.value is None) == (event["action"] == "deleted")
        if record.value is None:
            assert record.headers["content-type"] == "application/json"
            schemas.check("kafka-headers", record.headers)
            assert record.headers["ce_type"] == f"com.close.{resolved(event['object_type'])}.deleted"


def test_every_pair_in_every_format_on_both_brokers(kafka, mosquitto, make_bridge, topic):
    topics = {form: kafka_topics(form, topic) for form in TYPES}
    compacted = f"{topic}.compacted"
    kafka.create_topics(compacted, *set(itertools.chain(*(names.values() for names in topics.values()))))
    entries = [targets(form, topic) for form in TYPES] + [
        {"kafka": {"topic": compacted, "key": "object_id", "format": "cloudevents", "tombstone": True}}]
    bridge = make_bridge(kafka, mosquitto.start()).start(topic_map=[entry for kind in entries for entry in for_every_pair(kind)])
    described = bridge.run("asyncapi", "-c", bridge.config_path)
    assert described.returncode == 0, described.stderr
    document = Document(described.stdout)
    subscribers = {form: mosquitto.subscribe(f"{topic}/{form}/#") for form in TYPES}
    events = {event["id"]: event for event in make_events(bridge.maker)}
    assert len(events) == len(catalog()) > 150
    for event in events.values():
        answer = bridge.post_signed(event, headers=TRACE)
        assert (answer.status, answer.json["status"]) == (200, "accepted"), (event["object_type"], event["action"])
    for form in TYPES:
        records = kafka.read(*set(topics[form].values()), count=len(events), timeout=60)
        assert sorted(check_record(form, record, events, bridge, topics[form]) for record in records) == sorted(events)
        messages = subscribers[form].wait(len(events))
        assert sorted(check_message(form, message, events, bridge, topic) for message in messages) == sorted(events)
        check_records_described(document, form, records)
        check_messages_described(document, form, messages)
    records = kafka.read(compacted, count=len(events))
    check_compacted(records, events)
    assert sum(record.value is None for record in records) > 40
    check_records_described(document, "cloudevents", records)


def test_structured_events_over_mqtt_3(mosquitto, make_bridge, topic):
    bridge = make_bridge(mosquitto=mosquitto.start())
    bridge.configure(publishers={"mqtt": {**bridge.config["publishers"]["mqtt"], "version": "3.1.1"}},
                     topic_map=for_every_pair({"mqtt": {"topic": topic + "/{object_type}/{action}", "qos": 1,
                                                        "format": "cloudevents"}}))
    bridge.start()
    subscriber = mosquitto.subscribe(topic + "/#")
    events = {event["id"]: event for event in make_events(bridge.maker)}
    for event in events.values():
        assert bridge.close.post(event).json["status"] == "accepted"
    messages = subscriber.wait(len(events))
    for message in messages:
        cloudevent = JSONFormat().read(None, message.payload)
        event = events[cloudevent.get_extension("closeeventid")]
        check_attributes(cloudevent, event, bridge)
        check_data("cloudevents", cloudevent.get_data(), event, bridge)
        schemas.check("cloudevent", json.loads(message.payload))
        assert (message.attribute_list, message.content_type, message.format_indicator) == ([], None, None)
        assert message.topic == f"{topic}/{resolved(event['object_type']).replace('.', '/')}/{event['action']}"
    assert len({json.loads(message.payload)["closeeventid"] for message in messages}) == len(events)
