"""What is run: the works, their cases, and the systems that do each."""

from dataclasses import dataclass

WORKS = ("ingest", "replay", "fanout", "latency")


@dataclass(frozen=True)
class System:
    name: str
    title: str
    # What a reader or an acknowledgement may rely on; durable ones are compared with each other.
    promise: str

    @property
    def is_ours(self):
        return self.name.startswith("ringfeed")

    @property
    def is_durable(self):
        return self.promise == DURABLE


DURABLE = "after fsync"
LATER = "fsync later"
NONE = "nothing kept"

SYSTEMS = {
    system.name: system
    for system in (
        System("ringfeed", "ringfeed", DURABLE),
        System("ringfeed-immediate", "ringfeed, immediate", LATER),
        System("ringfeed-shared", "ringfeed, 100 subscribers a connection", DURABLE),
        System("nats", "NATS core", NONE),
        System("jetstream-always-async", "JetStream always, async publish", DURABLE),
        System("jetstream-always-atomic", "JetStream always, atomic batches", DURABLE),
        System("jetstream-always-fast", "JetStream always, fast batch", DURABLE),
        System("jetstream-fast", "JetStream, fast batch", LATER),
        System("redis-always", "Redis always", DURABLE),
        System("redis-everysec", "Redis everysec", LATER),
        System("s2", "s2-lite", DURABLE),
    )
}

INGEST = (
    "ringfeed s2 redis-always jetstream-always-atomic jetstream-always-fast "
    "jetstream-always-async redis-everysec jetstream-fast"
).split()
REPLAY = "ringfeed s2 redis-everysec jetstream-fast".split()
FANOUT = "ringfeed ringfeed-immediate nats s2 redis-everysec jetstream-fast".split()
LATENCY = (
    "ringfeed-immediate nats redis-everysec jetstream-fast ringfeed redis-always s2"
).split()


@dataclass(frozen=True)
class Case:
    """One work in one size: a column of a table."""

    work: str
    options: tuple
    systems: tuple

    def __getitem__(self, option):
        return dict(self.options)[option]

    def flags(self):
        """As the harness takes them."""
        return [word for name, value in self.options for word in (f"--{name}", str(value))]


def chosen(quick, seconds, only, systems):
    wanted = set(systems.split(",")) if systems else set(SYSTEMS)
    unknown = wanted - set(SYSTEMS)
    if unknown:
        raise SystemExit(f"no such systems: {', '.join(sorted(unknown))}")
    cases = []
    for case in every(quick, seconds):
        kept = tuple(name for name in case.systems if name in wanted)
        if kept and (not only or case.work in only):
            cases.append(Case(case.work, case.options, kept))
    return cases


def every(quick, seconds):
    for connections in (1, 4):
        yield case("ingest", INGEST, connections=connections, seconds=seconds)
    yield case("replay", REPLAY, records=50_000 if quick else 1_000_000)
    for subscribers in (1, 10, 100) if quick else (1, 10, 100, 1000):
        # Only from a hundred on does a shared connection differ.
        shared = ["ringfeed-shared"] if subscribers >= 100 else []
        yield case("fanout", FANOUT + shared, subscribers=subscribers, seconds=seconds)
    for rate, subscribers in ((10_000, 1), (100_000, 10)):
        options = {"rate": rate, "subscribers": subscribers, "seconds": seconds}
        yield case("latency", LATENCY, **options)


def case(work, systems, **options):
    return Case(work, tuple(options.items()), tuple(systems))
