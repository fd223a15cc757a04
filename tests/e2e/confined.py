"""Becomes a command under what packaging/close-bridge.service leaves a service: confined.py UNIT COMMAND...

As root it becomes the user nobody first, without groups and capabilities. The unit's system calls are allowed and all others end the
process, where systemd would let them fail: a test is to see them. Sockets of other families fail as under systemd, for libraries ask
for some and do without.
"""
import ctypes
import errno
import os
import signal
import socket
import subprocess
import sys

import seccomp

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
PROT_WRITE, PROT_EXEC = 2, 4
NOBODY = 65534


def read_unit(path):
    """{name: [values]} of the settings of a unit"""
    settings = {}
    for line in open(path, encoding="utf-8"):
        name, is_setting, value = line.strip().partition("=")
        if is_setting and not line.startswith("#"):
            settings.setdefault(name, []).append(value)
    return settings


def expand(name):
    """The system calls of a set such as @network-io."""
    if not name.startswith("@"):
        return {name}
    shown = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True).stdout
    members = [line.strip() for line in shown.splitlines()[1:]]
    return set().union(*(expand(member) for member in members if member and not member.startswith("#")))


def allowed_calls(lines):
    allowed = set()
    for line in lines:
        names = set().union(*(expand(name) for name in line.removeprefix("~").split()))
        allowed = allowed - names if line.startswith("~") else allowed | names
    return allowed


def make_filter(unit):
    made = seccomp.SyscallFilter(seccomp.KILL_PROCESS)
    for name in allowed_calls(unit["SystemCallFilter"]) - {"socket", "mmap", "mprotect"}:
        try:
            made.add_rule(seccomp.ALLOW, name)
        except (RuntimeError, ValueError):
            pass  # a call of other processors
    for family in range(socket.AF_PACKET + 1):
        is_allowed = f"AF_{family_name(family)}" in unit["RestrictAddressFamilies"][0].split()
        made.add_rule(seccomp.ALLOW if is_allowed else seccomp.ERRNO(errno.EAFNOSUPPORT), "socket",
                      seccomp.Arg(0, seccomp.EQ, family))
    assert unit["MemoryDenyWriteExecute"] == ["yes"]
    for both in (0, PROT_WRITE, PROT_EXEC):
        made.add_rule(seccomp.ALLOW, "mmap", seccomp.Arg(2, seccomp.MASKED_EQ, PROT_WRITE | PROT_EXEC, both))
    made.add_rule(seccomp.ALLOW, "mprotect", seccomp.Arg(2, seccomp.MASKED_EQ, PROT_EXEC, 0))
    return made


def family_name(number):
    return next((name.removeprefix("AF_") for name, value in vars(socket).items() if name.startswith("AF_") and value == number), "")


def main():
    path, *command = sys.argv[1:]
    filter_of_unit = make_filter(read_unit(path))
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # went with the user
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    filter_of_unit.load()
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
