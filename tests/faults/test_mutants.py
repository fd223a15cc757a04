"""Builds that are broken on purpose (tests/faults/mutants): each is caught by the row that the matrix names, or the row sees nothing."""
import subprocess
import types

import pytest

from tests.e2e.bridge import ROOT
from tests.faults.journal import PROGRAMS
from tests.faults.test_disk import Nowhere, check_journal, fail_syncs, start_on_failing_disk
from tests.faults.test_power import SCRIPT_EVENTS, PowerCuts, check_snapshots, take_snapshots

pytestmark = pytest.mark.row("mutants")

LOST = "^(lost|duplicated): "
FEW = types.SimpleNamespace(pick=lambda _ci, _release: 4)  # a tier that does as little as finds it


@pytest.fixture(scope="module", autouse=True)
def built():
    build = PROGRAMS.parents[1]
    done = subprocess.run(["cmake", "--build", build, "--target", "mutants"], capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\na patch of {ROOT / 'tests/faults/mutants'} that no longer applies has to " \
                                 "be made again for the code as it is"


@pytest.mark.parametrize("letter, what", [
    ("a", "the answer goes out before the commit"),
    ("d", "the folder is not synced"),
    ("e", "the mark is stored before the event"),
    ("f", "retention deletes what is not settled"),
])
def test_power_cuts_catch(letter, what, tmp_path, in_memory, dice, figures):
    """F2"""
    cuts = PowerCuts(tmp_path, in_memory, dice.randrange(10 ** 9))
    cuts.record(cuts.seed, SCRIPT_EVENTS, program=f"journal_script_{letter}")
    with pytest.raises(AssertionError, match=LOST) as caught:
        cuts.check()
    figures(**{letter: f"{what}: caught by F2 ({str(caught.value).partition(';')[0]})"})


def test_failing_syncs_catch_one_that_takes_a_failure_for_success(make_bridge, make_sender, ledger, tmp_path, figures):
    """F4"""
    bridge = make_bridge(Nowhere)
    bridge.binary = PROGRAMS / "close-bridge-b"
    shim = start_on_failing_disk(bridge, tmp_path)
    sender = make_sender(bridge, rate=800, lines=8, persistent=True)
    fail_syncs(bridge, shim, sender, FEW)
    with pytest.raises(AssertionError, match=LOST):
        check_journal(bridge, ledger)
    figures(b="a failed sync is ignored: caught by F4")


def test_images_of_a_disk_catch_a_cursor_that_runs_ahead(kafka, make_bridge, make_sender, ledger, topic, dice, mounts, tmp_path, figures):
    """F3"""
    kafka.create_topics(topic, partitions=4, message_timestamp_type="LogAppendTime")
    bridge = make_bridge(kafka)
    bridge.binary = PROGRAMS / "close-bridge-c"
    sender = make_sender(bridge, rate=1000)
    snapshots = take_snapshots(bridge, kafka, topic, sender, dice, 4, mounts, tmp_path)
    with pytest.raises(AssertionError, match=LOST):
        check_snapshots(snapshots, kafka, topic, ledger, mounts)
    figures(c="the cursor moves on when a record is sent: caught by F3")
