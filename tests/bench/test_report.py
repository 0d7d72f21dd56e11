"""Tests for `bench.report`."""

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from bench.report import (
    BEGIN,
    END,
    draw,
    goals_table,
    markdown,
    placed,
    rounds_of,
    row_table,
    shown,
    sweep_table,
    table,
)
from bench.results import Results, Row
from bench.rounds import Sample, Spread

RESULTS = Results(
    "2026-01-02T03:04:05+00:00",
    "abc123",
    {
        "processor": "Z80",
        "cores": "1",
        "memory": "1 GiB",
        "distribution": "Some Linux",
        "kernel": "6.0",
        "python": "3.11.0",
    },
    "loopback (not root)",
    {"rounds": 2, "quick": True},
    {"portfwd-auto": "1.0", "haproxy-splice": "2.6"},
    {"portfwd-auto": "relay=auto", "haproxy-splice": "splicing"},
    {"socat": "socat is not installed"},
    (
        Row("bulk-8-to-client", "bulk", "Bulk, 8 streams, to-client"),
        Row("sweep-4", "sweep", "4"),
        Row("sweep-64", "sweep", "64"),
        Row("udp-64", "udp", "UDP, 64 B", "this version cannot do UDP yet"),
    ),
    (
        Sample("bulk-8-to-client", "portfwd-auto", 0, {"gbit_s": 10.0, "cpu_s_gib": 0.5}),
        Sample("bulk-8-to-client", "haproxy-splice", 0, {"gbit_s": 10.0, "cpu_s_gib": 0.25}),
        Sample("bulk-8-to-client", "portfwd-auto", 1, {"gbit_s": 12.0, "cpu_s_gib": 0.5}),
        Sample("bulk-8-to-client", "haproxy-splice", 1, {}, "iperf3: control socket has closed"),
        Sample("sweep-4", "portfwd-auto", 0, {"gbit_s": 1.0}),
        Sample("sweep-64", "portfwd-auto", 0, {"gbit_s": 8.0}),
    ),
)


class TableTests(SynchronousTestCase):
    """Tables as Markdown."""

    def test_table(self) -> None:
        """Numbers are set to the right; a bar within a cell does not end it."""
        self.assertEqual(table(["a", "b"], [["x|y", "1"]]), "| a | b |\n| --- | ---: |\n| x\\|y | 1 |\n")

    def test_shown(self) -> None:
        """A spread is shown where there is one."""
        self.assertEqual(shown(Spread(1.256, 1.0, 2.0, 3), 2), "1.26 (1.00–2.00)")
        self.assertEqual(shown(Spread(1.0, 1.0, 1.0, 1), 0), "1")
        self.assertEqual(shown(None, 2), "–")

    def test_row(self) -> None:
        """Contestants have a line each with what they had; failures are counted and quoted."""
        text = row_table(RESULTS, RESULTS.rows[0])
        self.assertIn("| portfwd-auto | 11.00 (10.00–12.00) | 0.500 (0.500–0.500) |", text)
        self.assertIn("haproxy-splice failed in 1 sample: iperf3: control socket has closed.", text)

    def test_skipped_row(self) -> None:
        """A row that was not measured says why."""
        self.assertEqual(
            row_table(RESULTS, RESULTS.rows[3]), "Not measured: this version cannot do UDP yet.\n"
        )

    def test_sweep(self) -> None:
        """The sweep has a line a size."""
        self.assertEqual(
            sweep_table(RESULTS, "gbit_s"),
            "| read size | portfwd-auto |\n| --- | ---: |\n| 4 KiB | 1.00 |\n| 64 KiB | 8.00 |\n",
        )
        self.assertEqual(sweep_table(RESULTS, "bytes_call"), "Not measured.\n")

    def test_goals(self) -> None:
        """Each goal says met, missed or not measured, for must and goal by themselves."""
        lines = goals_table(RESULTS).splitlines()
        bulk = next(
            line for line in lines if "bulk, 8 streams, to-client" in line and "haproxy-splice" in line
        )
        self.assertIn("| 1.00 | ≥ 0.9 ×: met | ≥ 1.05 ×: **missed** |", bulk)
        cpu = next(line for line in lines if "its CPU s/GiB, to-client" in line)
        self.assertIn("| 2.00 | ≤ 1.3 ×: **missed** | ≤ 1 ×: **missed** |", cpu)
        self.assertIn("≥ 0.5 ×: not measured", next(line for line in lines if "UDP" in line))


class PageTests(SynchronousTestCase):
    """The whole report and its place in a page."""

    def test_markdown(self) -> None:
        """It names the machine, the lab, the shortened run, and who was left out and why."""
        text = markdown(RESULTS, draw(RESULTS), "performance")
        for said in (
            "at commit `abc123` on Z80, 1 cores, 1 GiB, Some Linux",
            "loopback (not root)",
            "shortened run (--quick)",
            "Left out: socat: socat is not installed.",
            "![Bulk, 8 streams, to-client](performance/bulk-8-to-client.svg)",
            "![Gbit/s over the read size](performance/sweep-gbit-s.svg)",
        ):
            self.assertIn(said, text)

    def test_no_pictures(self) -> None:
        """Without numbers there are no pictures, and none is referred to."""
        empty = evolve(RESULTS, samples=())
        self.assertEqual(draw(empty), {})
        self.assertNotIn("![", markdown(empty, {}, "performance"))

    def test_placed_anew(self) -> None:
        """An empty page gets a heading; one with words keeps them above the report."""
        self.assertEqual(placed("", "r"), f"# Performance\n\n{BEGIN}\n\nr\n{END}\n")
        self.assertEqual(placed("# Mine\n", "r"), f"# Mine\n\n{BEGIN}\n\nr\n{END}\n")

    def test_placed_again(self) -> None:
        """Only what stands between the marks is replaced, however often."""
        page = placed("# Mine\n", "old") + "\nAfter.\n"
        again = placed(placed(page, "new"), "new")
        self.assertEqual(again, page.replace("old", "new"))

    def test_broken_marks(self) -> None:
        """A page with one mark is not touched: what would be lost is not known."""
        self.assertRaises(ValueError, placed, f"{BEGIN}\nx", "r")
        self.assertRaises(ValueError, placed, f"{END}\n{BEGIN}", "r")


class RoundsTests(SynchronousTestCase):
    """How often each row was measured."""

    def test_of_joined_runs(self) -> None:
        """Rows may have had different numbers of rounds."""
        for rounds, said in (({}, "0"), ({"a": 7, "b": 7}, "7"), ({"a": 3, "b": 9}, "3 to 9")):
            samples = tuple(
                Sample(row, "portfwd-auto", number) for row, most in rounds.items() for number in range(most)
            )
            self.assertEqual(rounds_of(evolve(RESULTS, samples=samples)), said)
