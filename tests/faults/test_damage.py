"""One flipped bit anywhere in the journal's file (RELIABILITY F8); larger damage is in tests/e2e/test_store_trouble.py."""
import json

import pytest

from tests.faults.journal import run

pytestmark = pytest.mark.row("F8")

EVENTS = 60


def test_a_flipped_bit_costs_at_most_the_event_that_it_hits(tmp_path, in_memory, dice, tier, figures):
    (in_memory / "work").mkdir()
    made = run("journal_script", tmp_path, dice.randrange(10 ** 9), EVENTS)
    assert made.returncode == 0, made.stderr
    done = run("journal_damage", tmp_path / "journal", in_memory / "work", dice.randrange(10 ** 9), tier.pick(150, 1), timeout=36000)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    figures(bytes_of_the_file=seen["bytes"], flipped=seen["states"], salvaged=seen["salvaged"], cost_one_event=seen["with_loss"],
            cost_more=0)
    assert seen["states"] > 1000
