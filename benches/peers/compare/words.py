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
    return "–" if value is None else digits(value)


def mib(value):
    return f"{value / (1 << 20):,.0f} MiB"


def times(value):
    return f"{value:.0f} ×" if value >= 10 else f"{value:.2g} ×" if value >= 1 else f"{value:.2f} ×"


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
    found = [run[name] for run in runs for name in FLUSHES if name in run]
    if not found:
        return ""
    found.sort()
    return (
        f"Around the runs themselves a 4 KiB append and fdatasync took {median(found):,.0f} µs at the "
        f"median, {found[0]:,.0f} at the least and {found[-1]:,.0f} at the most: a disk that is still "
        "writing what the last run left behind is slow for a while, which is why the order changes "
        "from round to round."
    )


FLUSHES = ("fdatasync_micros_before", "fdatasync_micros_after")
