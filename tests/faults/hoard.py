"""Opens connections and keeps them until its standard input ends: hoard.py ADDRESS COUNT. A process of its own, for its descriptors."""
import contextlib
import resource
import socket
import sys


def main():
    host, port = sys.argv[1].rsplit(":", 1)
    count = int(sys.argv[2])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    held = []
    for number in range(count):
        with contextlib.suppress(OSError):  # refused, or left in the queue of the kernel
            held.append(socket.create_connection((host, int(port)), timeout=5,
                                                 source_address=(f"127.0.0.{2 + number % 50}", 0)))
    print(len(held), flush=True)
    sys.stdin.read()


main()
