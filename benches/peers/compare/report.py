"""Writes docs/benchmarks.md and docs/benchmarks.json."""

import json

from . import better, tables, words
from .figures import Figures

INTRO = """\
# ringfeed beside its peers

Written by `{command}` on {date}, {minutes} minutes; not by hand. Every
run's figures are in [benchmarks.json](benchmarks.json).

Every system does the same work in one run, in turn, {rounds}. The clients
are raw ones on both sides, made for this: no client library limits a figure, so a peer may do better here than
with the library its users have. Everything that is moved is verified: each reader checks the order
of every record or the count of it, one reader of each run the content too, and a run that lost,
doubled or changed a record counts as failed. Records have about 112 bytes. Server and client share the
machine's cores, over loopback, and every subscriber and writer has a connection of its own where nothing else is said.
**Bold** is the best peer; *after fsync* means that what is acknowledged or delivered is on the disk.
"""

HOW = """\
## How each is used

- **ringfeed**: `ringfeed bench`, messages of 256 records; *immediate* is visibility `IMMEDIATE`, where
  subscribers get a record before its flush (its acknowledgement still waits for it).
- **NATS**: core publishes without acknowledgement, subscribers read the protocol directly; JetStream
  has a file stream for each writer, and readers are push consumers with flow control that
  acknowledge nothing. *always* is `sync_interval: always`; else it flushes every two minutes. Async
  publishes leave 4,000 unanswered, atomic batches have 1,000 records with four on their way, fast
  batches ask for an answer each 1,000.
- **Redis**: pipelines of 500 XADD, four on their way; readers block in XREAD for up to 1,000 entries.
- **s2-lite**: appends of 1,000 records, sixteen on their way, over HTTP/2; its local disk store calls fsync.
- Fan-out is a closed loop: the writer stays a bounded number of records ahead of the slowest
  subscriber, so that no system is driven to drop. Latency is an open loop: it counts from when a
  record was due, not from when it was sent.
- CPU is user and system time of the server's process during the run.
"""


def write(out, found):
    out.mkdir(parents=True, exist_ok=True)
    lines = json.dumps({**found, "runs": None}, indent=1)
    # A run a line, so that a later comparison shows as lines that changed.
    runs = ",\n  ".join(json.dumps(run) for run in found["runs"])
    (out / "benchmarks.json").write_text(lines.replace('"runs": null', f'"runs": [\n  {runs}\n ]') + "\n")
    (out / "benchmarks.md").write_text(page(found))


def load(path):
    return json.loads(path.read_text())


def page(found):
    figures = Figures(found["runs"])
    rounds = found["rounds"]
    said = f"{rounds} rounds, of which the median is shown" if rounds > 1 else "a single round"
    parts = [INTRO.format(**found | {"rounds": said})]
    parts += [tables.section(figures, work) for work in figures.works()]
    parts += [better.section(figures), machine(found), HOW, commands(found["runs"])]
    return "\n".join(parts)


def machine(found):
    at, before, after = found["machine"], found["disk_before"], found["disk_after"]
    append = [disk["append_bytes_per_second"] / 1e6 for disk in (before, after)]
    flush = [disk["fdatasync_micros"] for disk in (before, after)]
    rows = [
        ("processor", f"{at['cores']} cores of {at['processor']}"),
        ("memory", f"{at['memory_kib'] / (1 << 20):.1f} GiB"),
        ("kernel", f"Linux {at['kernel']}, {at['filesystem']}"),
        ("4 KiB append and fdatasync, median of 50", f"{flush[0]} µs before, {flush[1]} µs after"),
        ("1 MiB appends, each with fdatasync", f"{append[0]:,.0f} MB/s before, {append[1]:,.0f} after"),
        ("load average at the start", f"{at['load']:.2f}"),
        ("commit", found["commit"]),
        *found["versions"].items(),
    ]
    lines = ["## Machine and versions", "", "| | |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {value} |" for name, value in rows), "", words.flushes(found["runs"]), ""])


def commands(runs):
    servers, clients = {}, {}
    for run in runs:
        if "server_command" in run:
            servers[run["server_command"]] = None
        clients[run["command"]] = None
    return "\n".join(
        [
            "## Every command",
            "",
            "The peers' servers; ringfeed's bench starts its own:",
            "",
            "```text",
            *servers,
            "```",
            "",
            "Each run (`peers` is built from `benches/peers`):",
            "",
            "```text",
            *clients,
            "```",
            "",
        ]
    )
