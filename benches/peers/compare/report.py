"""Writes docs/benchmarks.md and docs/benchmarks.json."""

import json

from . import better, tables, words
from .figures import Figures

INTRO = """\
# ringfeed beside its peers

Written by `{command}`
on {date} in {minutes} minutes, not by hand. The figures of every run are in
[benchmarks.json](benchmarks.json).

Every system does the same work in one run, in turn: {rounds}.
**Bold** is the best peer, of those that answer or deliver after fsync and of the others. Server and
clients share the machine's cores over loopback; every writer and subscriber has a connection of its
own, where nothing else is said.

The clients are raw ones on both sides: no client library limits a figure, so that a peer may do
better here than with the library its users have. Records have about 112 bytes. What is moved is
verified: readers check the order and the count of all records, one reader of each run their
content as well, and a run that lost, doubled or changed a record has failed.
"""

HOW = """\
## How each is used

- **ringfeed**: `ringfeed bench`, messages of 256 records; uploads share one feed, where the peers'
  writers have a stream or a key each. With *immediate* visibility subscribers get a record before its
  flush; its acknowledgement still waits for it. In a timed fan-out all readers but one check counts
  and offsets only; in a pass that is not timed each of them checks every record.
- **NATS core**: publishes without acknowledgement.
- **JetStream**: a file stream for each writer. *always* is `sync_interval: always`, else it flushes
  every two minutes. Async publishes leave 4,000 unanswered; atomic batches have 1,000 records, four
  of them on their way; fast batches are answered each 1,000 records. Readers are push consumers with
  flow control, which acknowledge nothing.
- **Redis**: pipelines of 500 XADD, four on their way; readers block in XREAD for up to 1,000 entries.
- **s2-lite**: appends of 1,000 records, sixteen on their way, over HTTP/2; on a local disk it calls
  fsync before it answers.
- Fan-out is a closed loop: the writer stays a bounded number of records ahead of the slowest
  subscriber, so that no system is driven to drop any. Latency is an open loop: it counts from when
  a record was due, not from when it was sent, and the first half second is left out.
- CPU is user and system time of all the server's threads during the run; what the clients used is
  among the figures of every run.
"""


def write(out, found):
    out.mkdir(parents=True, exist_ok=True)
    # A run a line, so that a later comparison shows as lines that changed.
    lines = json.dumps({**found, "runs": None}, indent=1)
    runs = ",\n  ".join(json.dumps(run) for run in found["runs"])
    lines = lines.replace('"runs": null', f'"runs": [\n  {runs}\n ]')
    (out / "benchmarks.json").write_text(lines + "\n")
    (out / "benchmarks.md").write_text(page(found))


def load(path):
    return json.loads(path.read_text())


def page(found):
    figures = Figures(found["runs"])
    rounds = found["rounds"]
    said = f"{rounds} rounds, of which the median is shown" if rounds > 1 else "one round"
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
    lines += [f"| {name} | {value} |" for name, value in rows]
    return "\n".join([*lines, "", words.flushes(found["runs"]), ""])


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
