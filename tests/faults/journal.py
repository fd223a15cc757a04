"""What the journal of a stopped bridge holds, and the shim through which a running one is made to fail."""
import ctypes
import errno
import json
import mmap
import os
import pathlib
import subprocess

from tests.e2e.bridge import ROOT

PROGRAMS = pathlib.Path(os.environ.get("FAULT_PROGRAMS", ROOT / "build/debug/tests/faults"))
MIB = 1 << 20


class Journal:
    """Reads it through the product's own code, which is its recovery. The bridge must not run."""

    def __init__(self, path, max_size=256 * MIB):
        done = subprocess.run([PROGRAMS / "journal_list", str(path), str(max_size)], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"journal_list ended with {done.returncode}: {done.stderr}"
        self.events, self.parked, self.dead, self.cursors, self.damaged = [], [], [], {}, 0
        for line in done.stdout.splitlines():
            self._take(json.loads(line))

    def _take(self, row):
        kind = row.pop("kind")
        if kind == "cursor":
            self.cursors[row["publisher"]] = row["seq"]
        elif kind == "damaged":
            self.damaged = row["count"]
        else:
            for name in row.keys() & {"id", "publisher", "topic", "reason"}:
                row[name] = bytes.fromhex(row[name]).decode(errors="replace")
            {"event": self.events, "parked": self.parked, "dead": self.dead}[kind].append(row)


CALLS = ["write", "meta", "sync", "dir_sync", "allocate", "truncate", "open"]  # enum shim_call


class Control(ctypes.Structure):
    """struct shim_control"""
    _fields_ = [(name, ctypes.c_int32) for name in (
        "calls", "countdown", "for_ever", "error", "sync_delay_us", "fired", "synced_again", "writable_maps", "malloc_after",
        "malloc_for_ever", "malloc_fired", "clock_offset_s", *("count_" + call for call in CALLS))]


class Shim:
    """Preloads shim.so (and `also` malloc or clock) into a program that is started with `env`, and arms faults while it runs."""

    def __init__(self, folder, watched, trace=False, also=()):
        folder = pathlib.Path(folder)
        path = folder / "control"
        path.write_bytes(bytes(ctypes.sizeof(Control)))
        with open(path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), ctypes.sizeof(Control))
        self.control = Control.from_buffer(self.memory)
        self.trace_path = folder / "trace"
        preload = [PROGRAMS / f"{name}.so" for name in ("shim", *also)]
        self.env = {"LD_PRELOAD": " ".join(map(str, preload)), "FAULT_FOLDER": str(watched), "FAULT_CONTROL": str(path),
                    "FAULT_PROGRAM": "close-bridge"}
        if trace:
            self.env["FAULT_TRACE"] = str(self.trace_path)

    def arm(self, *calls, nth=1, error="EIO", for_ever=False):
        """The nth of these calls fails from now on. `error`: a name of errno, or "short" for half a write."""
        self.control.fired = 0
        self.control.error = 0 if error == "short" else getattr(errno, error)
        self.control.for_ever = for_ever
        self.control.calls = sum(1 << CALLS.index(call) for call in calls)
        self.control.countdown = nth

    def disarm(self):
        self.control.countdown = 0

    def delay_syncs(self, seconds):
        self.control.sync_delay_us = int(seconds * 1e6)

    def fail_malloc(self, nth, for_ever=False):
        """The nth allocation from now on fails; 0: none."""
        self.control.malloc_fired = 0
        self.control.malloc_for_ever = for_ever
        self.control.malloc_after = nth

    @property
    def fired(self):
        return self.control.fired

    def count(self, call):
        return getattr(self.control, "count_" + call)


def run(program, *arguments, env=None, timeout=600):
    """A program of tests/faults, which does not outlive us. Returns the CompletedProcess."""
    return subprocess.run(["setpriv", "--pdeathsig", "KILL", "--", PROGRAMS / program, *map(str, arguments)], capture_output=True, text=True, timeout=timeout,
                          env={**os.environ, **(env or {})})
