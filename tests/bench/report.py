"""The rows of a run as a table, as Markdown and as JSON."""
from tests.bench import machine

MIB = 1024 * 1024
COLUMNS = ("", "events/s", "bare", "x", "CPU us", "bare", "x", "p50 ms", "p99 ms", "p99.9 ms", "RssAnon MiB", "written B")


def _number(value, form):
    return "" if value is None else format(value, form)


def _cells(row):
    latency = row.latency_us or {}
    milliseconds = [_number(latency[point] / 1000 if point in latency else None, ".2f") for point in ("p50", "p99", "p99.9")]
    bare = row.floor
    return [row.name, _number(row.rate, ",.0f"), _number(bare and bare.rate, ",.0f"), _number(row.rate_ratio, ".2f"),
            _number(row.cpu_us, ".1f"), _number(bare and bare.cpu_us, ".1f"), _number(row.cpu_ratio, ".2f"), *milliseconds, _number(row.memory and row.memory / MIB, ".0f"),
            _number(row.written, ",.0f")]


def _notes(run):
    for row in run.rows:
        if row.note:
            yield f"{row.name}: {row.note.strip()}"
    if run.sync_us:
        yield f"fsync of the disk: p50 {run.sync_us['p50'] / 1000:.2f} ms, p99 {run.sync_us['p99'] / 1000:.2f} ms"
    others = [row.others for row in run.rows if row.others is not None]
    if others and max(others) > 0.03:
        yield (f"other programs used up to {max(others):.0%} of the machine (on average {sum(others) / len(others):.0%}): "
               "rates and latencies are too bad, CPU per event somewhat")


def _targets(run):
    return [(row.name, sentence, is_met) for row in run.rows for sentence, is_met in row.targets]


def table(run):
    """For a terminal."""
    cells = [COLUMNS] + [_cells(row) for row in run.rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(COLUMNS))]
    lines = ["  ".join([line[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(line[1:], widths[1:]))]).rstrip()
             for line in cells]
    lines += [""] + list(_notes(run))
    lines += [f"{'met   ' if is_met else 'MISSED'}  {name}: {sentence}" for name, sentence, is_met in _targets(run)]
    return "\n".join(lines)


THREADS = ("webhooks", "journal", "dispatcher", "librdkafka", "mqtt")


def _by_thread(run):
    """Where the CPU time of an event goes."""
    lines = ["| CPU us an event | " + " | ".join(THREADS) + " | others | all |", "|---|" + "---:|" * (len(THREADS) + 2)]
    for row in run.rows:
        if not row.threads:
            continue
        named = [row.threads.get(name, 0) for name in THREADS]
        cells = [f"{spent:.1f}" if spent >= 0.05 else "" for spent in (*named, row.cpu_us - sum(named), row.cpu_us)]
        lines.append(f"| {row.name} | " + " | ".join(cells) + " |")
    return lines


def markdown(run, command):
    """For docs/performance.md."""
    lines = [f"`{command}` on {machine.describe()}:", "", "| " + " | ".join(COLUMNS) + " |",
             "|---|" + "---:|" * (len(COLUMNS) - 1)]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in run.rows]
    lines += [""] + [f"- {note}" for note in _notes(run)]
    lines += [""] + _by_thread(run)
    lines += ["", "| target | measured | met |", "|---|---|---|"]
    lines += [f"| {name}: {sentence.rsplit(': ', 1)[0]} | {sentence.rsplit(': ', 1)[1]} | {'yes' if is_met else '**no**'} |"
              for name, sentence, is_met in _targets(run)]
    return "\n".join(lines) + "\n"


def as_json(run, command):
    rows = []
    for row in run.rows:
        fields = {name: value for name, value in vars(row).items() if name not in ("floor", "targets")}
        bare = {"rate": row.floor.rate, "cpu_us": row.floor.cpu_us} if row.floor else None
        rows.append({**fields, "bare": bare, "rate_ratio": row.rate_ratio, "cpu_ratio": row.cpu_ratio,
                     "targets": [{"target": sentence, "met": is_met} for sentence, is_met in row.targets]})
    return {"command": command, "machine": machine.describe(), "fsync_us": run.sync_us, "rows": rows}
