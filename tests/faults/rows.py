"""A pytest plugin: the rows of the fault matrix (RELIABILITY) as marked tests, with a tier, a seed and figures.

A test says `@pytest.mark.row("F4")`. It takes `tier.pick(ci, release)` for how much it does, `dice` for everything random, and
tells what it saw with `figures(kills=50)`. What became of each test is written to --rows-report, a line of JSON each.
"""
import json
import os
import random
import signal

import pytest

ROWS = {
    "checker": "the checker sees what is lost, duplicated, invented and reordered",
    "F1": "kill -9 of the bridge under load",
    "F2": "power cut at every operation on the journal's files, simulated",
    "F3": "power cut, images of a real ext4",
    "F4": "fsync and fdatasync fail",
    "F5": "writes fail, are short or interrupted",
    "F6": "the disk is full",
    "F7": "the disk is slow",
    "F8": "the journal is damaged",
    "F9": "memory runs out",
    "F10": "Kafka is down",
    "F11": "Kafka answers with errors",
    "F12": "the producer fails for good",
    "F13": "the MQTT broker fails, lies and refuses",
    "F14": "file descriptors run out",
    "F15": "the network is slow, cut, or silent",
    "F16": "the clock jumps",
    "F17": "senders that break off, drip or never read",
    "F18": "floods and slow senders beside honest ones",
    "F19": "HTTP/2 attacks",
    "F20": "framing and smuggling",
    "F21": "duplicates",
    "F22": "poison",
    "F23": "shutdown and reload",
    "F24": "double start, stale lock, foreign files",
    "F25": "two faults at once",
    "F27": "soak with mixed faults",
    "F29": "races, under ThreadSanitizer",
    "F30": "marked secrets through a whole life",
    "mutants": "each broken build is caught by its row",
}


class Tier:
    """How much a test does."""

    def __init__(self, name):
        self.name = name
        self.is_release = name == "release"

    def pick(self, ci, release):
        return release if self.is_release else ci


def pytest_addoption(parser):
    group = parser.getgroup("fault matrix")
    group.addoption("--tier", choices=["ci", "release"], default="ci")
    group.addoption("--seed", default=None, help="replays a run")
    group.addoption("--rows", default=None, help="only these rows, such as F1,F5")
    group.addoption("--rows-report", default=None, help="a file to append results to, a line of JSON for each test")


def pytest_configure(config):
    config.addinivalue_line("markers", "row(name): a row of the fault matrix")
    config.addinivalue_line("markers", "slow: more than ten seconds")
    if config.getoption("--seed") is None:
        config.option.seed = str(random.randrange(10 ** 9))
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))  # fixtures tidy up then too


def pytest_report_header(config):
    return f"seed {config.getoption('--seed')}, tier {config.getoption('--tier')}"


def row_of(item):
    marker = item.get_closest_marker("row")
    return marker.args[0] if marker else None


def pytest_collection_modifyitems(config, items):
    wanted = config.getoption("--rows")
    names = set(wanted.split(",")) if wanted is not None else set(ROWS)
    chosen = [item for item in items if row_of(item) in names]
    if len(chosen) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen
    unknown = {row_of(item) for item in items} - set(ROWS)
    assert not unknown, f"no such rows: {unknown}"


@pytest.fixture(scope="session")
def tier(request):
    return Tier(request.config.getoption("--tier"))


@pytest.fixture
def dice(request):
    """The source of everything random in a test; the same for the same seed, whatever else runs."""
    return random.Random(f"{request.config.getoption('--seed')} {request.node.nodeid}")


@pytest.fixture
def figures(request):
    """figures(kills=50, lost=0): shown with the row."""
    def tell(**values):
        request.node.user_properties += list(values.items())
    return tell


def _report(config, **line):
    path = config.getoption("--rows-report")
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def pytest_collection_finish(session):
    counts = {}
    for item in session.items:
        counts[row_of(item)] = counts.get(row_of(item), 0) + 1
    _report(session.config, counts=counts, pid=os.getpid())


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    item.fault_outcomes = {**getattr(item, "fault_outcomes", {}), report.when: report.outcome}
    item.fault_seconds = getattr(item, "fault_seconds", 0.0) + report.duration
    if report.when == "teardown":
        passed = item.fault_outcomes == {"setup": "passed", "call": "passed", "teardown": "passed"}
        _report(item.config, row=row_of(item), test=item.nodeid, passed=passed, seconds=item.fault_seconds,
                figures=item.user_properties)
