"""What the kernel says about a process and the disk."""
import os
import pathlib
import re
import time

PAGE = os.sysconf("SC_PAGESIZE")


def cpu_seconds(pid):
    """CPU time of all threads, user and system, by the name of the thread."""
    seconds = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
            spent = int((task / "schedstat").read_text().split()[0]) / 1e9
        except OSError:
            continue  # the thread has ended
        name = "librdkafka" if name.startswith("rdk:") else name
        seconds[name] = seconds.get(name, 0) + spent
    return seconds


def anonymous_memory(pid):
    """RssAnon in bytes: the mapped pages of the journal are page cache and not in it."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^RssAnon:\s+(\d+) kB", status, re.M)[1]) * 1024


def bytes_written(pid):
    """Bytes that the process made the disk write; None for those who may not know."""
    try:
        return int(re.search(r"^write_bytes: (\d+)", pathlib.Path(f"/proc/{pid}/io").read_text(), re.M)[1])
    except PermissionError:
        return None


def busy_seconds():
    """CPU time that the whole machine has spent working, what its host took away included."""
    fields = [int(field) for field in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    idle = fields[3] + fields[4]
    return (sum(fields[:8]) - idle) / os.sysconf("SC_CLK_TCK")


def sync_times(folder, seconds):
    """Durations of writing a page behind the end of a file and syncing it, in seconds, sorted."""
    path = pathlib.Path(folder) / "sync-probe"
    page = os.urandom(PAGE)
    times = []
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            begin = time.perf_counter()
            os.write(fd, page)
            os.fdatasync(fd)
            times.append(time.perf_counter() - begin)
    finally:
        os.close(fd)
        path.unlink()
    return sorted(times)


def percentile(values, percent):
    """Of sorted values."""
    return values[min(len(values) - 1, int(len(values) * percent / 100))]


def describe():
    """One line about this machine."""
    cpu = re.search(r"^model name\s*:\s*(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    memory = int(re.search(r"^MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text(), re.M)[1]) / 1024 ** 2
    release = os.uname()
    return f"{os.cpu_count()} x {cpu[1] if cpu else release.machine}, {memory:.0f} GiB, {release.sysname} {release.release}"
