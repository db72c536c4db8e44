"""A table for each work: a row for each system, a column for each case, and the ratios."""

from . import words
from .figures import CPU, P50, P99, RATE
from .works import SYSTEMS

HEADS = {
    "ingest": ("Ingest", "acknowledged records/s (server CPU-s per million)"),
    "replay": ("Replay of stored records by one reader", "records/s (server CPU-s per million)"),
    "fanout": ("Fan-out", "delivered records/s (server CPU-s per million)"),
    "latency": ("Latency from when a record was due", "µs, p50 / p99, less is better (server CPU-s per million)"),
}

DURABLE = ("the best durable peer", True)
OTHERS = ("the best of the others", False)
RIVALS = {
    "ringfeed": (DURABLE, OTHERS),
    "ringfeed-immediate": (OTHERS,),
    "ringfeed-shared": (DURABLE,),
}


def section(figures, work):
    title, unit = HEADS[work]
    cases = list(figures.cases[work])
    heads = [words.case(work, case) for case in cases]
    lines = [f"## {title}", "", f"| {unit} | promise | {' | '.join(heads)} |"]
    lines.append("|---" * (len(cases) + 2) + "|")
    for name in figures.names(work):
        cells = [cell(figures, work, case, name) for case in cases]
        system = SYSTEMS[name]
        lines.append(f"| {system.title} | {system.promise} | {' | '.join(cells)} |")
    lines += ratios(figures, work, cases)
    if any("†" in line for line in lines):
        lines += ["", "† did not keep up with the rate: the longer the run, the longer the times."]
    return "\n".join([*lines, "", *spread(figures, work), *failures(figures, work)])


def cell(figures, work, case, name):
    key = (work, case, name)
    if key in figures.bad:
        return "failed"
    if key not in figures.good:
        return ""
    durable = SYSTEMS[name].is_durable
    rivals = figures.peers(work, durable)

    def marked(measure, text):
        best = figures.best(measure, work, case, rivals)[0]
        return f"**{text}**" if best == name else text

    def written(measure, write):
        return marked(measure, write(figures.value(measure, *key)))

    if work == "latency":
        found = f"{written(P50, words.micros)} / {written(P99, words.micros)}"
    else:
        found = written(RATE, words.rate)
    mark = "" if figures.kept_up(*key) else " †"
    return f"{found} ({words.cpu(figures.value(CPU, *key))}){mark}"


def ratios(figures, work, cases):
    """How ours compare with the best peer, first of those that promise as much, then of the others."""
    measures = (P50, P99) if work == "latency" else (RATE,)
    lines = []
    for ours in figures.names(work):
        for who, durable in RIVALS.get(ours, ()):
            peers = figures.peers(work, durable)
            if not peers:
                continue
            cells = [ratio(figures, measures, work, case, ours, peers) for case in cases]
            lines.append(f"| *{SYSTEMS[ours].title} ÷ {who}* | | {' | '.join(cells)} |")
    return lines


def ratio(figures, measures, work, case, ours, peers):
    found = []
    for measure in measures:
        _, best = figures.best(measure, work, case, peers)
        value = figures.value(measure, work, case, ours)
        if best and value is not None:
            found.append(words.times(value / best))
    return " / ".join(found)


def spread(figures, work):
    """Which figure the rounds agree on least."""
    measure = P50 if work == "latency" else RATE
    keys = [key for key in figures.good if key[0] == work and len(figures.good[key]) > 1]
    if not keys:
        return []
    widest = max(keys, key=lambda key: figures.spread(measure, *key))
    _, case, name = widest
    share = figures.spread(measure, *widest)
    where = f"{SYSTEMS[name].title}, {words.case(work, case)}"
    return [f"The rounds lie furthest apart for {where}: {share:.0%} of the median.", ""]


def failures(figures, work):
    """Why a cell says that it failed, once for each."""
    found = [(key, runs[0]["error"]) for key, runs in figures.bad.items() if key[0] == work]
    lines = [
        f"- {SYSTEMS[name].title}, {words.case(work, case)}: {error[:200]}"
        for (_, case, name), error in found
    ]
    return [*lines, ""] if lines else []
