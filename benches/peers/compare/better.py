"""Where the peers are better, from the figures alone."""

from . import words
from .figures import CPU, MEASURES, MEMORY, P50, P99
from .tables import HEADS
from .works import SYSTEMS

# Less than this is noise.
MARGIN = 1.05

HEAD = """\
## Where the peers are better

A peer that answers or delivers before its fsync is compared with ringfeed's immediate visibility
where the work has that, else with ringfeed as it is. Memory is compared in the largest case alone,
and differences below 5 % are left out.
"""

TAIL = """\
What no figure here shows: NATS and Redis replicate over several machines and have clients for nearly
every language, NATS routes by subject with wildcards, s2-lite keeps its data in object storage.
ringfeed is a single server with a bounded ring.
"""


def section(figures):
    lines = [HEAD]
    for work in figures.works():
        for name in figures.peers(work):
            for case in figures.cases[work]:
                largest = case == list(figures.cases[work])[-1]
                measures = [each for each in MEASURES[work] if largest or each is not MEMORY]
                found = [one(figures, measure, work, case, name) for measure in measures]
                found = [text for text in found if text]
                if found:
                    where = f"{HEADS[work][0].split()[0].lower()}, {words.case(work, case)}"
                    title = SYSTEMS[name].title
                    lines.append(f"- **{title}** ({SYSTEMS[name].promise}), {where}: {'; '.join(found)}")
    if len(lines) == 1:
        lines.append("In no figure of this run.")
    return "\n".join([*lines, "", TAIL])


def one(figures, measure, work, case, name):
    """A peer's better figure beside ours; nothing where ours is as good."""
    ours = figures.value(measure, work, case, figures.ours_against(name, work, case))
    theirs = figures.value(measure, work, case, name)
    if not ours or not theirs or measure.gain(theirs, ours) < MARGIN:
        return None
    write, what = {
        CPU: (words.cpu, "server CPU-s per million"),
        MEMORY: (words.mib, "of server memory at the peak"),
        P50: (words.micros, "µs at p50"),
        P99: (words.micros, "µs at p99"),
    }.get(measure, (words.rate, "records/s"))
    gain = words.times(measure.gain(theirs, ours))
    return f"{write(theirs)} {what} against our {write(ours)} ({gain})"
