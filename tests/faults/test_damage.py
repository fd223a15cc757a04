"""One flipped bit anywhere in the journal's file (RELIABILITY F8); larger damage is in tests/e2e/test_store_trouble.py."""
import json

import pytest

from tests.faults.journal import run

pytestmark = pytest.mark.row("F8")

EVERY_BYTE, EVERY_LEADING_BIT = 1, 0  # strides of journal_damage


def test_a_flipped_bit_costs_at_most_the_event_that_it_hits(tmp_path, in_memory, dice, tier, figures):
    """In the release tier one bit of every byte of a journal, and every bit of what leads to its events."""
    (in_memory / "work").mkdir()
    events, strides = tier.pick((60, [150]), (20, [EVERY_BYTE, EVERY_LEADING_BIT]))
    made = run("journal_script", tmp_path, dice.randrange(10 ** 9), events)
    assert made.returncode == 0, made.stderr
    for stride in strides:
        done = run("journal_damage", tmp_path / "journal", in_memory / "work", dice.randrange(10 ** 9), stride, timeout=36000)
        assert done.returncode == 0, done.stderr
        seen = json.loads(done.stdout)
        kind = "leading_bits" if stride == EVERY_LEADING_BIT else "bytes"
        figures(**{f"{kind}_flipped": seen["states"], "of_bytes": seen["bytes"], "salvaged": seen["salvaged"],
                   "cost_one_event": seen["with_loss"], "cost_more": 0})
        assert seen["states"] > 1000
