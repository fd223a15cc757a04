"""Runs the rows of the fault matrix and prints a line for each, with figures. Started by scripts/faults."""
import argparse
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

from tests.faults.rows import ROWS

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "build" / "faults"

# The lanes of a stage run at once, one stage after the other. F10 and F18 measure how quickly answers come, so beside them runs
# only what mostly waits. What is named nowhere, and the rows among the end-to-end tests, are lanes of the second stage.
QUIET = [["F10", "F18"], ["F15", "F16", "F13", "F7"]]
BUSY = [["F2", "F3", "F1", "F9", "F8", "mutants", "F29"]]


class Job:
    """One run of pytest over some rows."""

    def __init__(self, name, folder, rows, arguments, binary=None):
        self.name, self.rows = name, rows
        self.report, self.log = OUTPUT / f"{name}.jsonl", OUTPUT / f"{name}.log"
        self.command = [sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.faults.rows",
                        "-c", f"{folder}/pytest.ini", "--rootdir=.", folder, "--rows", ",".join(rows),
                        "--rows-report", str(self.report), *arguments]
        self.env = {**os.environ, **({"CLOSE_BRIDGE_BINARY": binary} if binary else {})}
        self.child = None

    def start(self, *more):
        """In a session of its own: an interruption comes to us alone, and from us once, also when we are killed."""
        self.report.write_text("")
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen(["setpriv", "--pdeathsig", "INT", "--", *self.command, *more], cwd=ROOT, env=self.env,
                                          stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        return self.child

    def interrupt(self):
        if self.child and self.child.poll() is None:
            self.child.send_signal(signal.SIGINT)

    def lines(self):
        return [json.loads(line) for line in self.report.read_text().splitlines()]


class Row:
    def __init__(self, name):
        self.name = name
        self.missing = 0      # tests that have not reported yet
        self.failed = []
        self.seconds = 0.0
        self.figures = []

    def take(self, line):
        self.missing -= 1
        self.seconds += line["seconds"]
        self.figures += line["figures"]
        if not line["passed"]:
            self.failed.append(line["test"])

    @property
    def passed(self):
        return not self.failed and self.missing == 0

    def text(self):
        figures = ", ".join(f"{name.replace('_', ' ')} {number(value)}" for name, value in self.figures)
        return f"{self.name:8}{'ok    ' if self.passed else 'FAILED'} {self.seconds:5.0f} s   {ROWS[self.name]}" + \
            (f": {figures}" if figures else "") + "".join(f"\n        failed: {test}" for test in self.failed)


def number(value):
    if isinstance(value, dict):
        return " ".join(f"{name} {number(one)}" for name, one in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)


def stages_of(rows, arguments):
    """[[jobs that run at once] that run one after the other]"""
    rest = [name for name in rows if not any(name in lane for lane in QUIET + BUSY)]
    quiet = [Job(f"quiet-{number}", "tests/faults", some(rows, lane), arguments) for number, lane in enumerate(QUIET)]
    busy = [Job(f"busy-{number}", "tests/faults", some(rows, lane), arguments) for number, lane in enumerate([*BUSY, rest])]
    busy.append(Job("end-to-end", "tests/e2e", rows, arguments, binary="build/asan/bridge/close-bridge"))
    return [[job for job in stage if job.rows] for stage in (quiet, busy)]


def some(rows, names):
    return [name for name in rows if name in names]


def count_tests(jobs, rows):
    """Collects without running: how many tests each row has."""
    for job in jobs:
        code = job.start("--collect-only").wait()
        if code not in (0, 5):  # 5: no tests of these rows there
            sys.exit(f"scripts/faults: the tests cannot be collected: {job.log}\n{job.log.read_text()[-3000:]}")
        for line in job.lines():
            for name, count in line.get("counts", {}).items():
                rows[name].missing += count


class Printer:
    """Takes what the jobs report and prints rows when all their tests are through."""

    def __init__(self, rows, jobs):
        self.rows, self.jobs = rows, jobs
        self.taken = {job.name: 0 for job in jobs}
        self.printed = set()

    def poll(self):
        for job in self.jobs:
            lines = [line for line in job.lines() if "row" in line]
            for line in lines[self.taken[job.name]:]:
                self.rows[line["row"]].take(line)
            self.taken[job.name] = len(lines)
        for row in self.rows.values():
            if row.missing == 0 and row.name not in self.printed:
                self.printed.add(row.name)
                print(row.text(), flush=True)

    def finish(self):
        """What never reported has failed."""
        self.poll()
        for row in self.rows.values():
            if row.name not in self.printed:
                print(row.text() + f"\n        {row.missing} tests did not end", flush=True)


class Interrupted(Exception):
    pass


def be_interrupted(number, _frame):
    raise Interrupted(signal.Signals(number).name)


def run(stage, printer):
    for job in stage:
        job.report.write_text("")
    try:
        for job in stage:
            job.start()
        while any(job.child.poll() is None for job in stage):
            time.sleep(0.3)
            printer.poll()
    except Interrupted:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        for job in stage:
            job.interrupt()
        for job in stage:
            if job.child:
                job.child.wait()  # it ends what it has started, and unmounts
        raise


def show_failures(jobs):
    for job in jobs:
        if job.child.returncode not in (0, 5):
            text = job.log.read_text(errors="replace")
            start = text.find("= FAILURES =")
            print(f"\n---- {job.log}\n{text[start:][:12000] if start >= 0 else text[-4000:]}", flush=True)


def parse():
    parser = argparse.ArgumentParser(prog="scripts/faults", description="Runs the fault matrix: see docs/reliability.md.",
                                     epilog="Exit code 0: every row held; 1: one did not; 130: interrupted. "
                                            "Example: scripts/faults --only F4,F5")
    parser.add_argument("--tier", choices=["ci", "release"], default="ci", help="how much each row does (default: ci)")
    parser.add_argument("--only", help="rows, separated by commas")
    parser.add_argument("--seed", help="replays a run; printed at the start")
    parser.add_argument("--list", action="store_true", help="names the rows")
    options = parser.parse_args()
    options.rows = options.only.split(",") if options.only else list(ROWS)
    unknown = [name for name in options.rows if name not in ROWS]
    if unknown:
        parser.error(f"there is no row {unknown[0]}; see --list")
    options.seed = options.seed or str(random.randrange(10 ** 9))
    return options


def main():
    options = parse()
    if options.list:
        print("\n".join(f"{name:8} {what}" for name, what in ROWS.items()))
        return 0
    OUTPUT.mkdir(parents=True, exist_ok=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, be_interrupted)
    try:
        return run_rows(options)
    except Interrupted as signal_name:
        print(f"\nscripts/faults: ended by {signal_name}; what the tests had started and mounted is gone", flush=True)
        return 130


def run_rows(options):
    begin, load = time.monotonic(), os.getloadavg()[0]
    print(f"seed {options.seed}, tier {options.tier}", flush=True)
    stages = stages_of(options.rows, ["--seed", options.seed, "--tier", options.tier])
    jobs = [job for stage in stages for job in stage]
    rows = {name: Row(name) for name in options.rows}
    count_tests(jobs, rows)
    missing = [row.name for row in rows.values() if row.missing == 0]
    if missing:
        sys.exit(f"scripts/faults: there is no test of {', '.join(missing)}")
    printer = Printer(rows, jobs)
    for stage in stages:
        run(stage, printer)
    printer.finish()
    show_failures(jobs)
    passed = sum(row.passed for row in rows.values())
    print(f"\nin {time.monotonic() - begin:.0f} s; load average {load:.1f} before, {os.getloadavg()[0]:.1f} after")
    print(f"{passed} passed, {len(rows) - passed} failed")
    return 0 if passed == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
