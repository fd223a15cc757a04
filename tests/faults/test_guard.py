"""What becomes of a doubted journal when the process that reads it ends badly (RELIABILITY F8): no file that may be sound is put aside."""
import re
import signal
import time

import pytest

from tests.faults.checker import judge
from tests.faults.journal import PROGRAMS, Journal
from tests.faults.test_disk import Nowhere, check_journal
from tests.peers.process import wait_until

pytestmark = pytest.mark.row("F8")

PAGE = 4096
EX_UNAVAILABLE = 69


class Doubted:
    """A bridge that was killed with events in its journal, and whose reading processes can be made to end."""

    def __init__(self, bridge, sender):
        self.bridge, self.sender = bridge, sender
        self.folder = bridge.folder / "journal"
        bridge.start(journal={"path": str(self.folder)}, topic_map=[{"object_type": "*", "kafka": {"topic": "t"}}])
        with sender.running():
            wait_until(lambda: sender.accepted > 200, 20, "events are accepted")
            bridge.kill()

    @property
    def data(self):
        return (self.folder / "data.mdb").read_bytes()

    @property
    def aside(self):
        return [path for path in self.folder.iterdir() if "damaged" in path.name]

    def damage(self, *places):
        with open(self.folder / "data.mdb", "r+b") as file:
            for at, what in places:
                file.seek(at)
                file.write(what)

    def end_readers(self, **signals):
        """The reader that verifies, or salvages, ends with this signal from now on."""
        self.bridge.env = {"LD_PRELOAD": str(PROGRAMS / "reader.so"),
                           **{f"FAULT_{name.upper()}": str(int(number)) for name, number in signals.items()}}

    def start_in_vain(self):
        """Returns what the start that ended said."""
        self.bridge.launch()
        assert self.bridge.process.child.wait(30) == EX_UNAVAILABLE, self.bridge.log_since_start()
        return self.bridge.log_since_start()

    def start(self):
        """Returns what it said."""
        self.bridge.start()
        self.sender.redeliver()
        return self.bridge.log_since_start()


@pytest.fixture
def doubted(make_bridge, make_sender):
    bridge = make_bridge(Nowhere)
    return Doubted(bridge, make_sender(bridge, rate=800, lines=8))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_reader_that_somebody_killed_says_nothing_of_the_file(doubted, ledger, number):
    before = doubted.data
    doubted.end_readers(verify=number)
    assert f"reading it ended with signal {int(number)}" in doubted.start_in_vain()
    assert doubted.data == before and not doubted.aside
    doubted.end_readers()
    assert "event=journal.verified" in doubted.start()
    assert check_journal(doubted.bridge, ledger).accepted > 200


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT])
def test_a_file_that_kills_its_reader_is_salvaged(doubted, ledger, number, figures):
    before = doubted.data
    doubted.end_readers(verify=number)
    said = doubted.start()
    assert "event=journal.damaged" in said and "event=journal.salvaged" in said
    aside, = doubted.aside
    assert aside.read_bytes() == before, "kept as it was found"
    verdict = check_journal(doubted.bridge, ledger)
    figures(**{f"salvaged_after_{number.name}": verdict.accepted})


def test_a_disk_too_slow_to_verify_from_is_no_damage(doubted, ledger, figures):
    doubted.end_readers(verify=signal.SIGSTOP)
    before = time.monotonic()
    said = doubted.start()
    figures(waited_for_a_slow_disk_s=round(time.monotonic() - before, 1))
    assert "event=journal.not_verified" in said and "did not end in time" in said
    assert not doubted.aside
    check_journal(doubted.bridge, ledger)


def test_a_salvage_that_somebody_killed_is_made_by_the_next_start(doubted, ledger):
    doubted.damage((0, bytes(2 * PAGE)))  # both meta pages
    before = doubted.data
    doubted.end_readers(salvage=signal.SIGKILL)
    assert "reading it ended with signal 9" in doubted.start_in_vain()
    assert doubted.data == before and not doubted.aside
    doubted.end_readers()
    assert "event=journal.salvaged" in doubted.start()
    check_journal(doubted.bridge, ledger)


def test_a_salvage_that_fails_leaves_sound_pages_in_use_and_passes_over_what_is_damaged(doubted, ledger):
    event_id = min(ledger.accepted_ids())
    doubted.damage(*((found.start(), b"?") for found in re.finditer(b'"id": "%s"' % event_id.encode(), doubted.data)))
    doubted.end_readers(salvage=signal.SIGKILL)
    said = doubted.start()
    assert "event=journal.damaged" in said and "its pages are sound" in said
    assert not doubted.aside
    doubted.bridge.kill()
    journal = Journal(doubted.folder)
    ledger.take_journal(journal, "kafka")
    verdict = judge(ledger, "kafka")
    assert journal.damaged == 1 and verdict.lost == {"kafka": [event_id]} and not verdict.invented


def test_a_file_that_kills_also_the_search_is_kept_and_can_be_salvaged_by_hand(doubted, ledger):
    doubted.damage((0, bytes(2 * PAGE)))
    before = doubted.data
    doubted.end_readers(salvage=signal.SIGSEGV)
    said = doubted.start()
    assert "event=journal.not_salvaged" in said and "a new journal is begun" in said
    aside, = doubted.aside
    assert f"set_aside={aside.name}" in said and aside.read_bytes() == before
    doubted.bridge.kill()
    ledger.take_journal(Journal(doubted.folder), "kafka")  # what came since
    by_hand = doubted.bridge.folder / "by-hand"
    by_hand.mkdir(mode=0o700)
    aside.rename(by_hand / "data.mdb")
    done = doubted.bridge.run("journal", "--path", by_hand, "salvage")
    assert done.returncode == 0, done
    ledger.take_journal(Journal(by_hand), "kafka")
    judge(ledger, "kafka").check()
