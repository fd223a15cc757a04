"""Power cuts: what was answered 2xx is on the disk, whatever else of the disk is not (RELIABILITY F2, F3).

F2 rebuilds from a trace of every operation on the journal's files what a disk could hold after a cut at any of them. F3 copies the
image of a real ext4 while the bridge writes to it: what the kernel had not written yet is missing from the copy.
"""
import collections
import json
import shutil
import subprocess
import time

import pytest

from tests.faults.checker import judge
from tests.faults.journal import PROGRAMS, Journal, Shim, run

SCRIPT_EVENTS = 200
DAMAGES = 8  # ways in which what was not synced is dropped, reordered or torn, at each operation


class PowerCuts:
    """Runs the script of journal_script.c under the shim, and recovers every state that a power cut could leave."""

    def __init__(self, folder, in_memory, seed):
        self.folder, self.work, self.seed = folder, in_memory / "work", seed
        self.watched = folder / "watched"
        self.watched.mkdir(parents=True)
        self.shim = Shim(folder, self.watched, trace=True)

    def record(self, *arguments, program="journal_script"):
        done = run(program, self.watched, *arguments, env=self.shim.env)
        assert done.returncode == 0, f"{program} ended with {done.returncode}: {done.stderr}"
        assert self.shim.control.writable_maps == 0, "writes through a mapping are not in the trace"

    def check(self, damages=DAMAGES, timeout=36000):
        """Figures; fails with the first state that breaks the promise."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()
        done = run("power_cuts", self.shim.trace_path, self.work, self.seed, damages, timeout=timeout)
        assert done.returncode == 0, f"{done.stderr.strip()}; trace {self.shim.trace_path}"
        return json.loads(done.stdout)


@pytest.fixture
def cuts(tmp_path, in_memory, dice):
    return PowerCuts(tmp_path, in_memory, dice.randrange(10 ** 9))


@pytest.mark.row("F2")
def test_every_answered_event_survives_a_power_cut_at_any_operation(tmp_path, in_memory, dice, tier, figures):
    """Every state delivers all events before it again, so that the work grows with the square of a script's length: the release
    tier has many scripts, and one that is longer."""
    total = collections.Counter()
    for number, events in enumerate(tier.pick([SCRIPT_EVENTS], 9 * [SCRIPT_EVENTS] + [3 * SCRIPT_EVENTS])):
        cuts = PowerCuts(tmp_path / str(number), in_memory, dice.randrange(10 ** 9))
        cuts.record(cuts.seed, events)
        seen = cuts.check()
        total.update(seen)
        assert seen["states"] > 4000
        assert seen["events"] > 10 * seen["states"], "hardly anything was recovered"
    figures(operations=total["operations"], states=total["states"], lost=0)


@pytest.mark.row("F2")
def test_a_disk_that_does_not_sync_is_seen_to_lose(cuts):
    """The simulation is no formality: without the syncs in the trace the same script loses events."""
    cuts.record(cuts.seed, 20)
    drop_syncs(cuts.shim.trace_path)
    with pytest.raises(AssertionError, match="lost|died|not recovered"):
        cuts.check()


def drop_syncs(path):
    """Turns every sync of the trace into a mark, and every synced write into a plain one."""
    kinds = {"write": 4, "synced": 5, "sync": 8, "sync_dir": 9, "mark": 10}  # enum trace_kind
    data = bytearray(path.read_bytes())
    at = 0
    while at < len(data):
        kind = int.from_bytes(data[at:at + 4], "little")
        size = int.from_bytes(data[at + 16:at + 24], "little")
        if kind in (kinds["sync"], kinds["sync_dir"]):
            data[at:at + 4] = kinds["mark"].to_bytes(4, "little")
        elif kind == kinds["synced"]:
            data[at:at + 4] = kinds["write"].to_bytes(4, "little")
        at += 24 + size
    path.write_bytes(data)


# ---- a real file system ----

class Snapshots:
    """Copies of the image under a bridge's journal, each with what the world knew then."""

    def __init__(self, bridge, image, folder):
        self.bridge, self.image, self.folder = bridge, image, folder
        self.taken = []  # (path, monotonic, seconds since 1970)

    def take(self):
        """The bridge stands still meanwhile, and so does the image unless the kernel writes: then it is copied again."""
        self.bridge.process.pause()
        try:
            monotonic, wall = time.monotonic(), time.time()
            path = self.folder / f"snapshot-{len(self.taken)}"
            self._copy(path)
            while not self._is_same(path):
                self._copy(path)
        finally:
            self.bridge.process.resume()
        self.taken.append((path, monotonic, wall))

    def _copy(self, path):
        subprocess.run(["cp", "--sparse=always", self.image, path], check=True)

    def _is_same(self, path):
        return subprocess.run(["cmp", "-s", self.image, path], check=False).returncode == 0


def take_snapshots(bridge, kafka, topic, sender, dice, count, mounts, folder):
    """Starts the bridge on an ext4 and copies it under load, with Kafka silent half of the time."""
    image, disk = mounts.make_ext4(256 << 20)
    bridge.start(journal={"path": str(disk / "journal"), "max_size": "128MiB", "retention": "1s"},
                 topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    bridge.wait_up("kafka")
    snapshots = Snapshots(bridge, image, folder)
    with sender.running():
        for number in range(count):
            if number % 2:
                kafka.pause()  # so that much is sent and not acknowledged
            try:
                time.sleep(dice.uniform(0.05, 0.4))  # somewhere
                snapshots.take()
            finally:
                kafka.resume()
    bridge.wait_published("kafka", sender.accepted, timeout=60)
    return snapshots


def check_snapshots(snapshots, kafka, topic, ledger, mounts):
    """Returns how many events were in an image and not at the broker yet, over all images."""
    records = kafka.read_all(topic, timeout=300)
    return sum(check_snapshot(path, ledger.excerpt(until=monotonic),
                              [record for record in records if record.timestamp / 1000 <= wall], mounts)
               for path, monotonic, wall in snapshots.taken)


def check_snapshot(path, ledger, records, mounts):
    """What had been answered is in the image or at the broker by then. Returns how much was not at the broker."""
    point = mounts.image(path)
    journal = Journal(point / "journal", max_size=128 << 20)
    mounts.unmount(point)
    path.unlink()
    known = {sent.version.id for sent in ledger.sends()}
    journal.events = [event for event in journal.events if event["id"] in known]  # others were answered a moment later
    ledger.take_kafka(record for record in records if record.event_id in known)
    ledger.take_journal(journal, "kafka")
    assert journal.damaged == 0
    judge(ledger, "kafka").check(duplicates=4000)
    return sum(event["seq"] > journal.cursors.get("kafka", 0) for event in journal.events)


@pytest.mark.row("F3")
def test_copies_of_an_ext4_under_load_hold_everything_that_was_answered(kafka, make_bridge, make_sender, ledger, topic, dice, tier,
                                                                       mounts, tmp_path, figures):
    kafka.create_topics(topic, partitions=4, message_timestamp_type="LogAppendTime")
    bridge = make_bridge(kafka)
    sender = make_sender(bridge, rate=tier.pick(1000, 200))  # every image is compared with all that was sent before it
    snapshots = take_snapshots(bridge, kafka, topic, sender, dice, tier.pick(20, 500), mounts, tmp_path)
    pending = check_snapshots(snapshots, kafka, topic, ledger, mounts)
    figures(images=len(snapshots.taken), recovered=len(snapshots.taken), accepted=sender.accepted, pending_in_images=pending, lost=0)
    assert pending > 0, "no image was taken with anything at stake"
