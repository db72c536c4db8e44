"""How figures, cases and systems are written."""

from statistics import median


def rate(value):
    if value is None:
        return "–"
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{digits(value / size)} {unit}"
    return digits(value)


def micros(value):
    return "–" if value is None else f"{value:,.0f}"


def cpu(value):
    """Less than a clock tick is no figure."""
    return digits(value) if value else "–"


def mib(value):
    return f"{value / (1 << 20):,.0f} MiB"


def times(value):
    if value >= 10:
        return f"{value:.0f} ×"
    return f"{value:.1f} ×" if value >= 1 else f"{value:.2f} ×"


def digits(value):
    """Three that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def case(work, options):
    """The head of a column."""
    options = dict(options)
    if work == "ingest":
        return plural(options["connections"], "connection")
    if work == "replay":
        return f"{options['records']:,} records"
    if work == "fanout":
        return plural(options["subscribers"], "subscriber")
    return f"{options['rate']:,}/s, {plural(options['subscribers'], 'subscriber')}"


def plural(count, noun):
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def flushes(runs):
    """The disk's flush beside the runs, in a sentence."""
    found = sorted(run[name] for run in runs for name in FLUSHES if name in run)
    if not found:
        return ""
    least, most = found[0], found[-1]
    return (
        f"Right before and after the runs a 4 KiB append and fdatasync took {median(found):,.0f} µs at\n"
        f"the median, {least:,.0f} µs at the least and {most:,.0f} µs at the most. For a while the disk is\n"
        "busy with what the last run left, which is why the order changes from round to round."
    )


FLUSHES = ("fdatasync_micros_before", "fdatasync_micros_after")
