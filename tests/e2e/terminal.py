"""A command on a terminal of its own."""
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios

from tests.e2e.bridge import BINARY
from tests.peers.process import wait_until


class Terminal:
    def __init__(self, bridge, *command, columns=80, env=None):
        self.read_end, write_end = pty.openpty()
        fcntl.ioctl(write_end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.child = subprocess.Popen([BINARY, *command], stdin=write_end, stdout=write_end, stderr=write_end,
                                      cwd=bridge.folder, env={**os.environ, "TERM": "xterm", **(env or {})})
        os.close(write_end)
        self.shown = ""

    def until(self, text, timeout=30):
        wait_until(lambda: self._poll() or text in self.shown, timeout, lambda: f"{text!r} in {self.shown[-500:]!r}")

    def _poll(self):
        while select.select([self.read_end], [], [], 0)[0]:
            try:
                self.shown += os.read(self.read_end, 4096).decode("ascii")
            except OSError:  # the other end is closed
                return

    def wait(self, timeout=30):
        """The exit code."""
        code = self.child.wait(timeout)
        self._poll()
        os.close(self.read_end)
        return code
