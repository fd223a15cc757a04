#!/usr/bin/env python3
"""Measures the bridge on this machine with a real Kafka and a real mosquitto. Started by scripts/bench, which builds first."""
import argparse
import json
import os
import pathlib
import shutil
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
os.environ["CLOSE_BRIDGE_BINARY"] = str(ROOT / "build/release/bridge/close-bridge")
sys.path.insert(0, str(ROOT))

from tests.bench import instructions, report, rows  # noqa: E402
from tests.bench.bench import Bench  # noqa: E402


def options():
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="groups of rows:\n" + "".join(f"  {name:<12} {group.__doc__}\n" for name, group in rows.GROUPS.items()))
    parser.add_argument("--quick", action="store_true", help="two minutes: short measurements, a small backlog")
    parser.add_argument("--only", metavar="GROUP", action="append", choices=rows.GROUPS, help="only this group; can be repeated")
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path, help="writes the figures there as JSON")
    parser.add_argument("--markdown", metavar="FILE", type=pathlib.Path,
                        help="renews the tables of that page, which docs/performance.md is")
    parser.add_argument("--instructions", action="store_true",
                        help="counts the instructions of 10,000 events and compares them with tests/bench/baseline.json")
    parser.add_argument("--accept", action="store_true", help="with --instructions: makes what was counted the new baseline")
    return parser.parse_args()


def write_between_marks(path, name, text):
    """Renews one part of a page; a page without the marks becomes that part."""
    begin, end = f"<!-- begin: {name} -->\n", f"<!-- end: {name} -->\n"
    old = path.read_text() if path.exists() else ""
    if begin in old and end in old:
        text = old[:old.index(begin) + len(begin)] + text + old[old.index(end):]
    path.write_text(text)


def measure(bench, asked, command):
    run = rows.Run(bench, spooled=100000 if asked.quick else 1000000)
    failed = False
    for name in asked.only or [name for name in rows.GROUPS if name not in rows.BY_NAME_ONLY]:
        try:
            rows.GROUPS[name](run)
        except Exception as why:  # the other groups are worth having
            failed = True
            bench.say("")
            print(f"{name} could not be measured: {str(why)[:2000]}", file=sys.stderr)
            bench.clear()
    bench.say("")
    print(report.table(run))
    if asked.json:
        asked.json.write_text(json.dumps(report.as_json(run, command), indent=1) + "\n")
    if asked.markdown:
        write_between_marks(asked.markdown, "rows", report.markdown(run, command))
    return 1 if failed else 0


def count_instructions(bench, asked):
    counts, code = instructions.count(bench, asked.accept)
    if asked.markdown:
        write_between_marks(asked.markdown, "instructions", instructions.markdown(counts))
    return code


def main():
    asked = options()
    folder = tempfile.mkdtemp(prefix="bench.", dir=ROOT / "build")
    bench = Bench(folder, seconds=1 if asked.quick else 4)
    try:
        if asked.instructions:
            return count_instructions(bench, asked)
        return measure(bench, asked, " ".join(["scripts/bench", *(["--quick"] if asked.quick else [])]))
    finally:
        bench.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
