"""Child processes of the tests: started with a log file, waited for with a deadline, never left behind."""
import contextlib
import os
import pathlib
import random
import signal
import socket
import subprocess
import time


class Gone(Exception):
    """The process ended although it should run."""


_reserved = []  # sockets, for as long as this process lives


def free_port():
    """Below those that Linux gives to connections by itself: a broker that is stopped and started again finds it free.
    No other test gets it, also while nobody listens on it."""
    while True:
        port = random.randrange(10000, 32768)
        reservation = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with socket.socket() as probe:
            try:
                reservation.bind(f"\0close-bridge-tests-port-{port}")
                probe.bind(("127.0.0.1", port))
            except OSError:
                reservation.close()
                continue
            _reserved.append(reservation)
            return port


def wait_until(condition, timeout, what, interval=0.02):
    """Polls `condition` until it returns something true and returns that; fails after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what() if callable(what) else what}")
        time.sleep(interval)


class Process:
    """A command that runs in the background with its output in a file."""

    def __init__(self, name, command, log_path, env=None, cwd=None):
        self.name = name
        self.command = [str(part) for part in command]
        self.log_path = log_path
        self.env = env
        self.cwd = cwd
        self.child = None

    def start(self):
        with open(self.log_path, "ab") as log:
            # setpriv and env become the command: it dies with us even when we are killed, and hears SIGINT even when we,
            # in the background of a shell, do not.
            self.child = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", "env", "--default-signal=INT", *self.command],
                                          stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                          env={**os.environ, **(self.env or {})}, cwd=self.cwd)
        return self

    @property
    def is_running(self):
        return self.child is not None and self.child.poll() is None

    @property
    def pid(self):
        return self.child.pid

    def log(self):
        with open(self.log_path, errors="replace") as log:
            return log.read()

    def check(self):
        if not self.is_running:
            code = self.child.returncode if self.child else None
            raise Gone(f"{self.name} is not running (exit code {code}):\n{self.log()[-4000:]}")

    def signal(self, number):
        if self.is_running:
            self.child.send_signal(number)

    def pause(self):
        """Returns when every thread stands still: some milliseconds after the signal on a busy machine."""
        self.signal(signal.SIGSTOP)
        wait_until(lambda: all(state == "T" for state in self._thread_states()), 10, f"{self.name} stands still", interval=0.001)

    def _thread_states(self):
        for path in pathlib.Path(f"/proc/{self.child.pid}/task").glob("*/stat"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                yield path.read_text().rpartition(")")[2].split()[0]

    def resume(self):
        self.signal(signal.SIGCONT)

    def kill(self):
        if self.is_running:
            self.child.kill()
            self.child.wait()

    def stop(self, timeout=15):
        """SIGTERM; returns the exit code. SIGKILL when it does not end."""
        if not self.is_running:
            return self.child.returncode if self.child else None
        self.child.terminate()
        try:
            return self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} does not end within {timeout} s of SIGTERM:\n{self.log()[-4000:]}")
