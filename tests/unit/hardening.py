"""Looks whether a program is built as RELIABILITY S20 demands: hardening.py SOURCES PROGRAM LIBRARY...

What only an optimized build has is looked for in the commands of a release build, which are made and not run; and in the program
itself when it was built so.
"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile

FOR_ALL = ["-fstack-protector-strong", "-fstack-clash-protection", "-fcf-protection", "-fPIE"]
FOR_RELEASE = [*FOR_ALL, "-O2", "-D_FORTIFY_SOURCE=3"]


def readelf(*arguments):
    return subprocess.run(["readelf", "-W", *map(str, arguments)], capture_output=True, text=True, check=True).stdout


def demand(condition, what):
    if not condition:
        sys.exit(f"hardening: {what}")


def look_at_program(program):
    head, segments, dynamic, symbols = (readelf(how, program) for how in ("-h", "-l", "-d", "--dyn-syms"))
    demand(re.search(r"Type:\s+DYN", head) and re.search(r"FLAGS_1\).*\bPIE\b", dynamic), "it is position-independent")
    demand("GNU_RELRO" in segments and re.search(r"\(FLAGS_1\).*\bNOW\b", dynamic), "its relocations are read-only before it runs")
    demand(re.search(r"GNU_STACK.* RW +0x", segments), "its stack is not executable")
    demand(not re.search(r"LOAD.* (RWE|WE) ", segments), "no segment is writable and executable")
    demand("__stack_chk_fail" in symbols, "its stack is protected")
    demand("RPATH" not in dynamic and "RUNPATH" not in dynamic, "it searches no folder of the build for libraries")
    return symbols


def look_at_library(library):
    """Debian's start files have no such note, so that the linked program has none either."""
    members = subprocess.run(["ar", "t", library], capture_output=True, text=True, check=True).stdout.split()
    marked = readelf("-n", library).count("x86 feature: IBT, SHSTK")
    demand(members and marked == len(members), f"{library}: {marked} of {len(members)} objects mark where calls may lead")


def look_at_release(sources):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["cmake", "-S", sources, "--preset", "release", "-B", folder], cwd=sources, check=True, capture_output=True)
        commands = json.loads((pathlib.Path(folder) / "compile_commands.json").read_text())
        files = {entry["file"].removeprefix(sources + "/"): entry["command"].split() for entry in commands}
        link = (pathlib.Path(folder) / "build.ninja").read_text()
    demand(len([name for name in files if name.startswith(("bridge/", "schemas/", "publishers/"))]) > 100, "the product is built")
    for name, command in files.items():
        for flag in FOR_RELEASE:
            demand(flag in command, f"{name} is compiled with {flag}")
    demand("-Wl,-z,relro,-z,now" in link and " -pie " in link, "it is linked with -pie, relro and now")


def main():
    sources, program, *libraries = sys.argv[1:]
    symbols = look_at_program(program)
    for library in libraries:
        look_at_library(library)
    look_at_release(sources)
    if "CMAKE_BUILD_TYPE:STRING=RelWithDebInfo" in (pathlib.Path(program).parents[1] / "CMakeCache.txt").read_text():
        demand(re.search(r"__\w+_chk\b(?<!__stack_chk)", symbols), "calls of the C library are fortified")


main()
