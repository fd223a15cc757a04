"""Instructions of the hot path, counted by callgrind: the same whatever else the machine does."""
import json
import pathlib
import re
import subprocess

from tests.bench import rows
from tests.bench.bench import port_of

BASELINE = pathlib.Path(__file__).with_name("baseline.json")
EVENTS = 10000
WARM_UP = 1000
TOLERANCE = 0.03
LINE = re.compile(r"^\s*([\d,]+) \([ \d.]+%\)\s+(\S+?):(\S.*?)(?: \[(.*)\])?$")

# Of our own code, by the file; the first that fits.
BASE = "base and inlined headers"
OURS = (
    (BASE, ("bridge/base/",)),
    ("http", ("bridge/http/",)),
    ("verify, parse, route", ("bridge/webhook/", "bridge/config/topic_map", "bridge/runtime/metrics", "bridge/journal/identity",
                              "schemas/")),
    ("journal", ("bridge/journal/", "bridge/dispatcher/recent")),
    ("dispatch, publish", ("bridge/", "publishers/")),
)
LIBRARIES = {"libh2o": "h2o", "libcrypto": "OpenSSL", "libsimdjson": "simdjson", "liblmdb": "LMDB", "librdkafka": "librdkafka",
             "liblz4": "lz4", "libxxhash": "xxHash"}


def _group(file, binary):
    for library, name in LIBRARIES.items():
        if binary and library in binary:
            return name
    if binary and not binary.endswith("/close-bridge"):
        return "libc and others"
    for name, parts in OURS:
        if any(part in file for part in parts):
            return name
    return BASE


def _read(path):
    """Instructions by group."""
    text = subprocess.run(["callgrind_annotate", "--threshold=100", "--auto=no", str(path)], capture_output=True, text=True,
                          check=True).stdout
    counts = {}
    for line in text.splitlines():
        match = LINE.match(line)
        if match and match[3] != "PROGRAM TOTALS":
            name = _group(match[2], match[4])
            counts[name] = counts.get(name, 0) + int(match[1].replace(",", ""))
    assert counts, f"callgrind_annotate says nothing of use:\n{text[:2000]}"
    return counts


def _start(bench, out):
    """A bridge under callgrind, counting nothing yet."""
    bridge = bench.bridge_at_rest(kafka=True)
    bridge.prefix = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"]
    bridge.config["publishers"]["kafka"]["linger.ms"] = 500  # batches as large however slow this is
    bridge.configure()
    bridge.start()
    bench.running.append(bridge.process)
    bridge.wait_up("kafka", timeout=60)
    return bridge


def _measure(bench, out):
    bridge = _start(bench, out)

    def switch(how):
        subprocess.run(["callgrind_control", "-i", how, str(bridge.process.pid)], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, check=True)

    bench.load(port_of(bridge), count=WARM_UP)
    rows.wait_settled(bridge, ["kafka"])
    switch("on")
    result = bench.load(port_of(bridge), count=EVENTS)
    rows.wait_settled(bridge, ["kafka"])
    switch("off")
    assert result["statuses"] == {"200": EVENTS}, result
    bench.end(bridge)
    return _read(out)


def _print(counts, before):
    print(f"{'instructions of an event':<28}{'now':>10}{'baseline':>10}")
    for name in sorted(counts, key=counts.get, reverse=True):
        print(f"{name:<28}{counts[name] / EVENTS:>10,.0f}{before.get(name, 0) / EVENTS:>10,.0f}")
    print(f"{'all':<28}{sum(counts.values()) / EVENTS:>10,.0f}{sum(before.values()) / EVENTS:>10,.0f}")


def markdown(counts):
    """For docs/performance.md."""
    total = sum(counts.values())
    lines = ["| part | instructions an event | share |", "|---|---:|---:|"]
    lines += [f"| {name} | {counts[name] / EVENTS:,.0f} | {counts[name] / total:.0%} |"
              for name in sorted(counts, key=counts.get, reverse=True)]
    return "\n".join(lines + [f"| all | {total / EVENTS:,.0f} | |"]) + "\n"


def count(bench, accept):
    """Counts, prints and compares. Returns what was counted and the exit code: 1 when it is more than the baseline."""
    bench.say("counting instructions: about a minute")
    counts = _measure(bench, bench.folder / "callgrind.out")
    before = json.loads(BASELINE.read_text())["instructions"] if BASELINE.exists() else {}
    bench.say("")
    _print(counts, before)
    if accept:
        BASELINE.write_text(json.dumps({"events": EVENTS, "instructions": counts}, indent=1, sort_keys=True) + "\n")
        return counts, 0
    if not before:
        print("there is no baseline: --accept makes one")
        return counts, 1
    change = sum(counts.values()) / sum(before.values()) - 1
    print(f"{change:+.1%}; up to {TOLERANCE:.0%} is chance")
    return counts, 1 if change > TOLERANCE else 0
