"""The page's arithmetic: python3 -m unittest discover -t benches/peers -s benches/peers/compare"""

import unittest

from . import better, ringfeed, tables, works
from .figures import Figures


def ingest(system, rate, round=1, **more):
    figures = {"records_per_second": rate, "server_cpu_seconds_per_million": 1.0}
    return {
        "work": "ingest",
        "options": {"connections": 1},
        "system": system,
        "round": round,
        **figures,
        **more,
    }


class Page(unittest.TestCase):
    def test_the_median_counts_and_the_best_durable_peer_is_the_rival(self):
        runs = [ingest("ringfeed", rate, n) for n, rate in enumerate((100, 900, 300), 1)]
        runs += [ingest("s2", 150), ingest("redis-always", 100), ingest("redis-everysec", 600)]
        page = tables.section(Figures(runs), "ingest")
        self.assertIn("| ringfeed | after fsync | 300 (1.00) |", page)
        self.assertIn("| s2-lite | after fsync | **150** (1.00) |", page)
        self.assertIn("| Redis always | after fsync | 100 (1.00) |", page)
        self.assertIn("*ringfeed ÷ the best durable peer* | | 2.0 × |", page)
        self.assertIn("*ringfeed ÷ the best of the others* | | 0.50 × |", page)

    def test_a_peer_that_is_better_is_named_with_both_figures(self):
        runs = [ingest("ringfeed", 300), ingest("s2", 600), ingest("redis-always", 301)]
        page = better.section(Figures(runs))
        self.assertIn("**s2-lite** (after fsync), ingest, 1 connection: 600 records/s", page)
        self.assertIn("against our 300 (2.0 ×)", page)
        self.assertNotIn("Redis always", page)

    def test_one_failed_round_fails_the_cell(self):
        failed = ingest("s2", 150, 2) | {"error": "3 missing"}
        runs = [ingest("ringfeed", 300), ingest("s2", 150), failed]
        page = tables.section(Figures(runs), "ingest")
        self.assertIn("| s2-lite | after fsync | failed |", page)
        self.assertIn("- s2-lite, 1 connection: 3 missing", page)

    def test_a_system_that_falls_behind_an_open_loop_is_marked(self):
        options = {"rate": 100, "subscribers": 10}
        times = {f"p{name}_micros": 5 for name in (50, 99)}
        run = ingest("nats", 990) | {"work": "latency", "options": options, "latency": times}
        behind = run | {"system": "redis-always", "records_per_second": 890}
        page = tables.section(Figures([run, behind]), "latency")
        self.assertIn("| NATS core | nothing kept | **5** / **5** (1.00) |", page)
        self.assertIn("| Redis always | after fsync | **5** / **5** (1.00) † |", page)
        self.assertIn("did not keep up", page)

    def test_a_figure_that_ringfeed_does_not_print_is_named(self):
        case = works.case("replay", ["ringfeed"], records=10)
        with self.assertRaisesRegex(KeyError, "printed no 'seconds'"):
            ringfeed.figures({"deliveries": 10, "deliveries_per_second": 5}, case)


if __name__ == "__main__":
    unittest.main()
