"""Runs every case on every system, round after round, so that a machine that changes over time
changes for all of them."""

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from . import ringfeed, works

LIMIT = 180


@dataclass
class Place:
    harness: Path
    ringfeed: Path
    tools: Path
    data: Path

    def remove(self):
        shutil.rmtree(self.data, ignore_errors=True)


def run(place, cases, rounds):
    runs = []
    for number in range(1, rounds + 1):
        for case in cases:
            # Back and forth, so that no system always follows the same one.
            order = case.systems if number % 2 else reversed(case.systems)
            for name in order:
                runs.append(one(place, case, name, number))
                tell(runs[-1])
    return runs


def one(place, case, name, number):
    ours = works.SYSTEMS[name].is_ours
    command = ringfeed.command(place, name, case) if ours else peer(place, case, name)
    found = {
        "work": case.work,
        "options": dict(case.options),
        "system": name,
        "round": number,
        "command": shown(command, place),
    }
    try:
        said = answer(command)
        figures = ringfeed.figures(said, case) if ours else said
        return found | {key: value for key, value in figures.items() if key not in found}
    except (ValueError, KeyError, RuntimeError) as error:
        return found | {"error": str(error.args[0] if error.args else error)}


def peer(place, case, name):
    words = [place.harness, case.work, name, *case.flags()]
    return [str(word) for word in [*words, "--tools", place.tools, "--data", place.data]]


def answer(command):
    """The last line that the command prints, as JSON."""
    # A session of its own, so that its servers go with it however it ends.
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, errors = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"no end after {LIMIT} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    if process.returncode != 0:
        raise RuntimeError(" ".join(errors.split())[-400:] or f"exit {process.returncode}")
    lines = out.strip().splitlines()
    if not lines:
        raise RuntimeError("it printed nothing")
    return json.loads(lines[-1])


def shown(command, place):
    """Without this machine's paths."""
    names = {
        str(place.harness): "peers",
        str(place.ringfeed): "ringfeed",
        str(place.tools): "TOOLS",
        str(place.data): "DIR",
    }
    return shlex.join(names.get(word, word) for word in command)


def tell(run):
    what = " ".join(f"{name} {value}" for name, value in run["options"].items())
    if "error" in run:
        figure = f"FAILED: {run['error']}"
    elif "latency" in run:
        times = run["latency"]
        figure = f"p50 {times['p50_micros']:,.0f} µs, p99 {times['p99_micros']:,.0f} µs"
    else:
        figure = f"{run['records_per_second']:,.0f}/s"
    line = f"{run['round']} {run['work']} {what}: {run['system']} {figure}"
    print(line, file=sys.stderr, flush=True)
