"""Medians of the rounds, and which peer is the best at what."""

from dataclasses import dataclass
from statistics import median

from . import works


@dataclass(frozen=True)
class Measure:
    """Something a run tells, and which end of it is good."""

    name: str
    more_is_better: bool

    def of(self, run):
        if self.name.startswith("p"):
            return run["latency"][f"{self.name}_micros"]
        return run[self.name]

    def gain(self, theirs, ours):
        """How many times better theirs is."""
        better, worse = (theirs, ours) if self.more_is_better else (ours, theirs)
        return better / worse if worse else float("inf")


RATE = Measure("records_per_second", True)
CPU = Measure("server_cpu_seconds_per_million", False)
MEMORY = Measure("server_peak_bytes", False)
P50 = Measure("p50", False)
P99 = Measure("p99", False)

MEASURES = {
    "ingest": (RATE, CPU),
    "replay": (RATE, CPU),
    "fanout": (RATE, CPU, MEMORY),
    "latency": (P50, P99, CPU),
}


class Figures:
    """All runs of a comparison, by case and system."""

    def __init__(self, runs):
        self.good = {}
        self.bad = {}
        self.cases = {}
        self.systems = {}
        for run in runs:
            case = tuple(run["options"].items())
            key = (run["work"], case, run["system"])
            self.cases.setdefault(run["work"], {})[case] = None
            self.systems.setdefault(run["work"], {})[run["system"]] = None
            (self.bad if "error" in run else self.good).setdefault(key, []).append(run)

    def works(self):
        return [work for work in works.WORKS if work in self.cases]

    def value(self, measure, *key):
        """The median of the rounds; nothing where one of them failed or there was none."""
        if key in self.bad or key not in self.good:
            return None
        return median(measure.of(run) for run in self.good[key])

    def kept_up(self, work, case, name):
        """Whether a system delivered what an open loop sent about as fast as it was sent."""
        options = dict(case)
        if work != "latency":
            return True
        due = options["rate"] * options["subscribers"]
        return self.value(RATE, work, case, name) > 0.9 * due

    def spread(self, measure, *key):
        """How far the rounds lie apart, as a share of their median."""
        values = [measure.of(run) for run in self.good.get(key, [])]
        middle = median(values) if values else 0
        return (max(values) - min(values)) / middle if middle else 0.0

    def names(self, work):
        """The systems of a work in the order in which they are listed."""
        return [name for name in works.SYSTEMS if name in self.systems[work]]

    def peers(self, work, durable=None):
        """The peers of a work; only the durable ones, or only the others."""
        peers = [works.SYSTEMS[name] for name in self.names(work)]
        peers = [peer for peer in peers if not peer.is_ours]
        return [peer.name for peer in peers if durable in (None, peer.is_durable)]

    def best(self, measure, work, case, names):
        """The best of some systems at a measure, and its figure."""
        found = [(self.value(measure, work, case, name), name) for name in names]
        found = [pair for pair in found if pair[0] is not None]
        if not found:
            return None, None
        value, name = (max if measure.more_is_better else min)(found)
        return name, value

    def ours_against(self, peer, work, case):
        """Ours with the same promise: a peer that does not wait for the disk is compared with
        immediate visibility, where a work has it."""
        key = (work, case, "ringfeed-immediate")
        weaker = not works.SYSTEMS[peer].is_durable and key in self.good
        return "ringfeed-immediate" if weaker else "ringfeed"
