"""The wall clock jumps while the bridge runs (RELIABILITY F16)."""
import time

import pytest

from tests.faults.checker import judge
from tests.faults.journal import Journal, Shim
from tests.faults.measure import cpu_seconds
from tests.faults.sender import BODY, Answers, make_event, signed_request
from tests.faults.test_senders import connect
from tests.peers.process import wait_until

pytestmark = pytest.mark.row("F16")

STEPS = {"+1h": 3600, "-1h": -3600, "+10y": 10 * 365 * 86400, "-2y": -2 * 365 * 86400, "+0": 0}
REPLAY_WINDOW = 80 * 3600


class Clock:
    """The wall clock of one daemon; the monotonic one is left alone, as a real step leaves it."""

    def __init__(self, folder):
        (folder / "watched").mkdir()
        self.shim = Shim(folder, folder / "watched", also=["clock"])

    def set(self, offset):
        self.shim.control.clock_offset_s = offset

    def now(self):
        return time.time() + self.shim.control.clock_offset_s


def test_steps_of_the_clock_change_nothing_but_what_is_too_old(kafka, make_bridge, make_sender, ledger, topic, dice, tmp_path, figures):
    kafka.create_topics(topic, partitions=4)
    clock = Clock(tmp_path)
    bridge = make_bridge(kafka)
    bridge.env = clock.shim.env
    bridge.start(journal={"retention": "1h"}, topic_map=[{"object_type": "*", "kafka": {"topic": topic}}])
    bridge.wait_up("kafka")
    sender = make_sender(bridge, rate=200, lines=8, persistent=True)
    sender.clock = clock.now
    answered_by_policy = 0
    cpu, start = cpu_seconds(bridge.process.pid), time.monotonic()
    with sender.running():
        for step, offset in STEPS.items():
            request = signed_request(BODY % make_event(dice, f"ev_slow{step}", "lead_slow", 500), timestamp=int(clock.now()))
            slow = connect(bridge)
            slow.sendall(request[:len(request) // 2])
            before = sender.accepted
            clock.set(offset)
            wait_until(lambda: sender.accepted > before + 100, 10, lambda: f"events are accepted after {step}: {sender.statuses}")
            # A request that was under way is neither killed nor judged by anything but its timestamp.
            slow.sendall(request[len(request) // 2:])
            stamp = int(dict(line.split(": ") for line in request.decode().split("\r\n") if line.startswith("Close"))
                        ["Close-Sig-Timestamp"])
            status, _ = Answers(slow).next()
            assert status == (200 if abs(clock.now() - stamp) < REPLAY_WINDOW else 401), step
            slow.close()
            for age, wanted in ((REPLAY_WINDOW - 3600, 200), (REPLAY_WINDOW + 3600, 401)):
                answer = bridge.post_signed(bridge.event(), timestamp=int(clock.now() - age))
                assert answer.status == wanted, (step, age)
                answered_by_policy += 1
            wait_until(lambda: bridge.metrics().value("publisher_lag_events", publisher="kafka") < 100, 20, "events are published")
        used = (cpu_seconds(bridge.process.pid) - cpu) / (time.monotonic() - start)
        idle = connect(bridge)
        clock.set(-3600)
        begin = time.monotonic()
        idle.settimeout(70)
        assert idle.recv(1) == b""  # it is neither closed at once nor kept for an hour
        kept = time.monotonic() - begin
    # What was signed before a step of years and arrived after it is too old; it is sent again.
    assert set(sender.statuses) <= {200, 401} and sender.statuses.get(401, 0) <= 2 * len(sender.lines), sender.statuses
    assert 20 < kept < 60, "an idle connection is kept for 30 s, by a clock that does not jump"
    assert used < 0.6
    wait_until(lambda: bridge.metrics().value("publisher_lag_events", publisher="kafka") == 0, 30, "everything is published")
    again = bridge.post_signed(sender.first_body, timestamp=int(clock.now()))
    assert again.json["status"] == "duplicate", "marks do not expire because the wall clock jumped"
    bridge.kill()
    journal = Journal(bridge.config["journal"]["path"])
    assert {letter["reason"] for letter in journal.dead} <= {"invalid_timestamp"}, "Kafka refuses records of the year 2036"
    known = ledger.accepted_ids()
    journal.dead = [letter for letter in journal.dead if letter["id"] in known]
    ledger.take_kafka(record for record in kafka.read_all(topic) if record.event_id in known)
    ledger.take_journal(journal)
    verdict = judge(ledger, "kafka").check(duplicates=0)
    figures(steps=len(STEPS) + 1, accepted=verdict.accepted, lost=0, dead_letters_of_ten_years_ahead=len(journal.dead),
            judged_by_age=answered_by_policy, idle_kept_s=round(kept, 1), processors_used=round(used, 2))
