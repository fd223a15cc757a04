"""Runs the rows of the fault matrix and prints a line for each, with figures. Started by scripts/faults."""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import threading
import time

from tests.faults.rows import ROWS

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "build" / "faults"

# First come, by themselves, the rows that measure times; then two lanes at once. What is named nowhere is in the second.
ALONE = ["F10", "F18"]
FIRST_LANE = ["F2", "F3", "F1", "F9", "F8", "mutants", "F29"]


class Job:
    """One run of pytest over some rows."""

    def __init__(self, name, folder, rows, arguments, binary=None):
        self.name, self.rows = name, rows
        self.report, self.log = OUTPUT / f"{name}.jsonl", OUTPUT / f"{name}.log"
        self.command = [sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.faults.rows",
                        "-c", f"{folder}/pytest.ini", "--rootdir=.", folder, "--rows", ",".join(rows),
                        "--rows-report", str(self.report), *arguments]
        self.env = {**os.environ, **({"CLOSE_BRIDGE_BINARY": binary} if binary else {})}
        self.code = None

    def start(self, *more):
        self.report.write_text("")
        with open(self.log, "wb") as log:
            return subprocess.Popen([*self.command, *more], cwd=ROOT, env=self.env, stdin=subprocess.DEVNULL, stdout=log,
                                    stderr=log)

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


def jobs_of(rows, arguments):
    """(those that run alone, [the jobs of each lane])"""
    def some(names):
        return [name for name in rows if name in names]

    alone, first = some(ALONE), some(FIRST_LANE)
    second = [name for name in rows if name not in alone + first]
    lanes = [[Job("first", "tests/faults", first, arguments)],
             [Job("second", "tests/faults", second, arguments),
              Job("end-to-end", "tests/e2e", rows, arguments, binary="build/asan/bridge/close-bridge")]]
    return Job("alone", "tests/faults", alone, arguments), [[job for job in lane if job.rows] for lane in lanes]


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
        self.lock = threading.Lock()

    def poll(self):
        with self.lock:
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


def run(jobs, printer):
    for job in jobs:
        child = job.start()
        while child.poll() is None:
            time.sleep(0.3)
            printer.poll()
        job.code = child.returncode
        printer.poll()


def show_failures(jobs):
    for job in jobs:
        if job.code not in (0, 5):
            text = job.log.read_text(errors="replace")
            start = text.find("= FAILURES =")
            print(f"\n---- {job.log}\n{text[start:][:12000] if start >= 0 else text[-4000:]}", flush=True)


def parse():
    parser = argparse.ArgumentParser(prog="scripts/faults", description="Runs the fault matrix: see docs/reliability.md.",
                                     epilog="Exit code 0: every row held; 1: one did not. Example: scripts/faults --only F4,F5")
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
    print(f"seed {options.seed}, tier {options.tier}", flush=True)
    alone, lanes = jobs_of(options.rows, ["--seed", options.seed, "--tier", options.tier])
    jobs = [job for lane in ([[alone]] if alone.rows else []) + lanes for job in lane]
    rows = {name: Row(name) for name in options.rows}
    count_tests(jobs, rows)
    missing = [row.name for row in rows.values() if row.missing == 0]
    if missing:
        sys.exit(f"scripts/faults: there is no test of {', '.join(missing)}")
    for job in jobs:
        job.report.write_text("")
    printer = Printer(rows, jobs)
    if alone.rows:
        run([alone], printer)
    threads = [threading.Thread(target=run, args=(lane, printer)) for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    printer.finish()
    show_failures(jobs)
    passed = sum(row.passed for row in rows.values())
    print(f"\n{passed} passed, {len(rows) - passed} failed")
    return 0 if passed == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
