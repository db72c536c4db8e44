"""ringfeed measures itself: this calls `ringfeed bench` and takes the figures from its JSON."""

# Records of a message: what our users send, where the peers take 500 or 1,000 at a time.
BATCH = 256
# More than any run reaches: an upload ends by the clock.
RECORDS_PER_SECOND = 5_000_000


def command(place, name, case):
    visibility = "immediate" if name == "ringfeed-immediate" else "durable"
    words = [place.ringfeed, "bench", case.work, "--json", "--dir", place.data]
    words += ["--visibility", visibility, *sizes(name, case)]
    return [str(word) for word in words]


def sizes(name, case):
    if case.work == "replay":
        return ["--records", case["records"]]
    seconds = ["--seconds", f"{case['seconds']}s"]
    if case.work == "ingest":
        # Each upload has a connection of its own, as each writer of the peers has.
        most = int(RECORDS_PER_SECOND * case["seconds"])
        return ["--streams", case["connections"], "--batch", BATCH, "--records", most, *seconds]
    if case.work == "fanout":
        each = case["subscribers"]
        connections = each // 100 if name == "ringfeed-shared" else each
        return ["--subscribers", each, "--connections", connections, *seconds]
    each = case["subscribers"]
    # As the harness does.
    warmup = f"{min(500, int(case['seconds'] * 250))}ms"
    rate = ["--rate", case["rate"], "--warmup", warmup]
    return [*rate, "--subscribers", each, "--connections", each, *seconds]


# Ours, and what the peers' harness calls it.
FIGURES = {
    "records": "records",
    "seconds": "seconds",
    "records_per_second": "records_per_second",
    "server_cpu_seconds": "server_cpu_seconds",
    "server_cpu_seconds_per_million": "server_cpu_seconds_per_million",
    "client_cpu_seconds_per_million": "client_cpu_seconds_per_million",
    "server_peak_rss_bytes": "server_peak_bytes",
    "fdatasync_micros_before": "fdatasync_micros_before",
    "fdatasync_micros_after": "fdatasync_micros_after",
}
PERCENTILES = ("p50", "p90", "p99", "p999", "max")


def figures(said, case):
    """The JSON of `ringfeed bench` in the harness' words."""
    names = dict(FIGURES)
    if case.work != "ingest":
        # What subscribers get is what the peers count there.
        del names["records"], names["records_per_second"]
        names |= {"deliveries": "records", "deliveries_per_second": "records_per_second"}
    found = {theirs: need(said, ours) for ours, theirs in names.items()}
    if case.work == "latency":
        if not need(said, "latency_samples"):
            raise ValueError("`ringfeed bench` timed no record")
        times = need(said, "latency_micros")
        found["latency"] = {f"{name}_micros": need(times, name) for name in PERCENTILES}
    return found


def need(said, name):
    if name not in said:
        raise KeyError(f"`ringfeed bench` printed no {name!r}; it has {', '.join(sorted(said))}")
    return said[name]
