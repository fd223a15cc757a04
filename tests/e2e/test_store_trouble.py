"""Damage to the journal's file: it is put aside, what is sound in it is delivered, and the bridge runs (RELIABILITY F8)."""
import os
import random
import shutil

import pytest

from tests.peers.process import free_port, wait_until

pytestmark = pytest.mark.row("F8")

PAGE = 4096


@pytest.fixture
def seed():
    value = int(os.environ.get("SEED", random.randrange(10 ** 9)))
    print(f"SEED={value}")
    return random.Random(value)


@pytest.fixture
def stopped(kafka, bridge, topic):
    """A bridge that was stopped with 200 events, small and large, that no Kafka has got yet; their ids."""
    bridge.config["publishers"]["kafka"]["bootstrap.servers"] = f"127.0.0.1:{free_port()}"
    bridge.start(topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    ids = []
    for number in range(200):
        event = bridge.event(lead_id="lead_1")
        event["data"]["description"] = bridge.maker.id("text", 100 + number * 53 % 9000)
        assert bridge.close.deliver(event).status == 200
        ids.append(event["id"])
    assert bridge.terminate() == 0
    bridge.data = bridge.folder / "journal" / "data.mdb"
    bridge.to_kafka = {"bootstrap.servers": kafka.bootstrap}
    return kafka, bridge, ids


def used(data):
    """How far LMDB has written the file: the rest is zeros."""
    return (len(data.rstrip(b"\0")) // PAGE + 1) * PAGE


def zero_pages(data, seed):
    for page in seed.sample(range(used(data) // PAGE), 8):
        data[page * PAGE:(page + 1) * PAGE] = bytes(PAGE)


def flip_in_the_middle(data, seed):
    middle = used(data) // 2
    for _ in range(200):
        data[middle + seed.randrange(-20 * PAGE, 20 * PAGE)] ^= 1 << seed.randrange(8)


def flip_heads(data, seed):
    for page in range(0, used(data) // PAGE, 3):
        data[page * PAGE + seed.randrange(16)] ^= 1 << seed.randrange(8)


def cut(data, seed):
    del data[used(data) * 2 // 3 + seed.randrange(PAGE):]


def swap(data, seed):
    pages = [PAGE * page for page in seed.sample(range(2, used(data) // PAGE), 8)]
    for one, two in zip(pages[::2], pages[1::2]):
        data[one:one + PAGE], data[two:two + PAGE] = data[two:two + PAGE], data[one:one + PAGE]


@pytest.mark.parametrize("damage", [flip_in_the_middle, flip_heads, zero_pages, cut, swap])
def test_what_is_sound_in_a_damaged_file_is_delivered(stopped, topic, seed, damage):
    kafka, bridge, ids = stopped
    before = bytearray(bridge.data.read_bytes())
    data = bytearray(before)
    damage(data, seed)
    bridge.data.write_bytes(data)
    sound = [event_id for event_id in ids if is_untouched(before, data, event_id)]
    assert len(sound) >= 40, "the damage leaves something to look for"
    verified = bridge.run("journal", "-c", bridge.config_path, "verify")
    assert (verified.returncode, verified.stdout[:8]) == (65, "damaged:"), verified
    bridge.start(publishers={"kafka": bridge.to_kafka})
    more = bridge.event(lead_id="lead_1")
    assert bridge.post_signed(more).json["status"] == "accepted"
    with kafka.reader(topic) as reader:
        came = reader.until(lambda records: more["id"] in {record.event_id for record in records}, 60, "the last event")
    came = [record.event_id for record in came]
    assert set(sound) <= set(came), f"{set(sound) - set(came)}:\n{bridge.log_since_start()}"
    assert set(came) <= set(ids) | {more["id"]}
    assert came == [event_id for event_id in ids if event_id in came] + [more["id"]], "in their order, once"
    lost = set(ids) - set(came)
    assert f"lost: {len(lost)} accepted event" in bridge.log_since_start() or not lost
    aside, = [path for path in bridge.data.parent.iterdir() if "damaged" in path.name]
    assert f"the old file is kept: {aside.name}" in bridge.log_since_start()
    assert aside.read_bytes() == bytes(data), "kept as it was found"
    assert bridge.terminate() == 0
    assert bridge.run("journal", "-c", bridge.config_path, "verify").returncode == 0
    bridge.start()
    assert "journal.verified" not in bridge.log_since_start(), "closed in order: nothing to verify"


def copies(data, event_id):
    """Where the event's record stands in the file, and its size: LMDB leaves copies behind."""
    at = data.find(b"CBV1")
    while at >= 0:
        size = int.from_bytes(data[at + 32:at + 36], "little")
        if event_id.encode() in data[at:at + min(size, 1000)]:
            yield at, size
        at = data.find(b"CBV1", at + 4)


def is_untouched(before, after, event_id):
    """Every copy of the event in the file is as it was, and there is one."""
    places = list(copies(before, event_id))
    return bool(places) and all(before[at:at + size] == after[at:at + size] for at, size in places)


def test_damage_is_found_also_after_a_kill(stopped, topic):
    kafka, bridge, ids = stopped
    bridge.start()
    bridge.kill()
    bridge.start()
    assert "event=journal.verified" in bridge.log_since_start(), "a start after a crash verifies first"
    bridge.kill()
    data = bytearray(bridge.data.read_bytes())
    data[:2 * PAGE] = bytes(2 * PAGE)  # both meta pages: LMDB knows nothing any more
    bridge.data.write_bytes(data)
    bridge.start(publishers={"kafka": bridge.to_kafka})
    assert "journal.salvaged" in bridge.log_since_start()
    with kafka.reader(topic) as reader:
        reader.until(lambda records: {record.event_id for record in records} == set(ids), 60)
    for event_id in ids[:3]:  # they are known: Close may deliver them again
        event = bridge.event(id=event_id)
        assert bridge.post_signed(event).json["status"] == "accepted", "another date: a later version"


@pytest.mark.parametrize("content", [b"", b"garbage" * 10000, bytes(100000)], ids=["empty", "garbage", "zeros"])
def test_a_file_that_is_no_journal_is_put_aside(kafka, bridge, topic, content):
    folder = bridge.folder / "journal"
    folder.mkdir(mode=0o700)
    (folder / "data.mdb").write_bytes(content)
    bridge.start(topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    event = bridge.event()
    assert bridge.post_signed(event).json["status"] == "accepted"
    kafka.read(topic, count=1)
    aside, = [path for path in folder.iterdir() if "damaged" in path.name]
    assert aside.read_bytes() == content and aside.name in bridge.log()


def test_letters_and_parked_records_survive_the_damage(own_kafka, make_bridge, topic):
    kafka = own_kafka(auto_create_topics_enable="false").start()
    kafka.create_topics(topic, max_message_bytes="4000")
    bridge = make_bridge(kafka)
    bridge.config["publishers"]["kafka"]["topic.metadata.propagation.max.ms"] = 1000
    bridge.start(topic_map=[{"object_type": "lead", "kafka": {"topic": topic}},
                            {"object_type": "contact", "kafka": {"topic": topic + "-new"}}])
    large, waiting = bridge.event("lead"), bridge.event("contact")
    large["data"]["description"] = bridge.maker.id("noise", 20000)
    for event in (large, waiting):
        assert bridge.post_signed(event).json["status"] == "accepted"
    wait_until(lambda: bridge.metrics().value("parked_events", publisher="kafka") == 1, 30, "one is parked")
    wait_until(lambda: bridge.metrics().value("dead_letters", publisher="kafka") == 1, 30, "one is dead")
    assert bridge.terminate() == 0
    path = bridge.folder / "journal" / "data.mdb"
    data = bytearray(path.read_bytes())
    data[:2 * PAGE] = bytes(2 * PAGE)
    path.write_bytes(data)
    bridge.start()
    assert bridge.control("/control/dead-letters").json["dead_letters"][0]["event_id"] == large["id"]
    kafka.create_topics(topic + "-new")
    assert waiting["id"] in [record.event_id for record in kafka.read(topic + "-new", count=1, timeout=60)]


def test_the_journal_command_says_what_it_finds(stopped):
    _, bridge, ids = stopped
    run = lambda *arguments: bridge.run("journal", "-c", bridge.config_path, *arguments)
    sound = run("verify")
    assert (sound.returncode, sound.stdout.split(":")[0]) == (0, "sound") and "200 events" in sound.stdout
    assert "publisher kafka" in run("stats").stdout
    salvaged = run("salvage")
    assert salvaged.returncode == 0 and "kept: 200 events, 200 of them to be published" in salvaged.stdout
    assert run("verify", "--quick").returncode == 0
    data = bytearray(bridge.data.read_bytes())
    for place, size in copies(data, ids[100]):
        data[place + size - 1] ^= 1
    bridge.data.write_bytes(data)
    broken = run("verify")
    assert broken.returncode == 65 and broken.stdout.startswith("damaged: events: a value is damaged (")
    assert run("stats").returncode == 0, "the pages are sound"
    salvaged = run("salvage")
    assert "kept: 199 events" in salvaged.stdout and "lost: 1 accepted event" in salvaged.stdout
    assert "damaged-" in salvaged.stdout
    data[:2 * PAGE] = bytes(2 * PAGE)
    bridge.data.write_bytes(data)
    refused = run("stats")
    assert refused.returncode == 65 and "journal salvage" in refused.stderr
    bridge.start()
    in_use = run("verify")
    assert in_use.returncode == 69 and "in use by process" in in_use.stderr
    assert bridge.terminate() == 0
    shutil.rmtree(bridge.data.parent)
    assert run("verify").returncode == 66 and run("salvage").returncode == 66 and run("stats").returncode == 66


def test_a_place_that_cannot_hold_a_journal_is_named(kafka, bridge, topic):
    bridge.configure(topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    folder = bridge.folder / "journal"
    elsewhere = bridge.folder / "elsewhere"
    elsewhere.mkdir()

    def refused():
        done = bridge.run("serve", "-c", bridge.config_path)
        assert done.returncode == 78 and str(folder) in done.stderr, done
        return done.stderr

    folder.symlink_to(elsewhere)
    assert "symbolic link" in refused()
    folder.unlink()
    folder.write_text("a file")
    assert "is not a folder" in refused()
    folder.unlink()
    folder.mkdir()
    folder.chmod(0o777)
    assert "chmod 700" in refused()
    folder.chmod(0o700)
    (folder / "data.mdb").symlink_to(elsewhere / "target")
    assert "plain file" in refused()
    assert not any(elsewhere.iterdir())
