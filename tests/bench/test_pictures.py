"""Tests for `bench.pictures`."""

from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from bench.pictures import Bar, Line, bars, lines, nice_top, size_name
from bench.rounds import Spread

SVG = "{http://www.w3.org/2000/svg}"


def at(value: float) -> Spread:
    """A spread around `value`."""
    return Spread(value, value * 0.9, value * 1.1, 7)


class LinesTests(SynchronousTestCase):
    """Lines over sizes."""

    def test_points(self) -> None:
        """Each point is drawn; a greater value stands higher and a greater size further right."""
        text = lines("t <&>", "Gbit/s", [Line("pair", ((4096, at(1)), (65536, at(8)))), Line("none", ())])
        root = ElementTree.fromstring(text)
        circles = [(float(c.get("cx", "")), float(c.get("cy", ""))) for c in root.iter(f"{SVG}circle")]
        self.assertEqual(len(circles), 2)
        self.assertLess(circles[0][0], circles[1][0])
        self.assertGreater(circles[0][1], circles[1][1])
        self.assertEqual(root.findtext(f"{SVG}title"), "t <&>")

    def test_one_size(self) -> None:
        """A single size is drawn in the middle."""
        self.assertIn("<circle", lines("t", "u", [Line("pair", ((4096, at(1)),))]))

    def test_nothing(self) -> None:
        """Without a point there is no picture."""
        self.assertRaises(ValueError, lines, "t", "u", [])

    def test_axis(self) -> None:
        """The axis ends at a round number that is not below the greatest value."""
        self.assertEqual([nice_top(v) for v in (0, 0.7, 1, 13, 21, 26)], [1.0, 1.0, 1.0, 20.0, 25.0, 50.0])

    def test_sizes(self) -> None:
        """Sizes have short names."""
        self.assertEqual([size_name(4096), size_name(1 << 20)], ["4K", "1M"])


class BarsTests(SynchronousTestCase):
    """Bars."""

    def test_lengths(self) -> None:
        """Bars are as long as their values, and say them."""
        text = bars("t", [Bar("a", at(10), True), Bar("b", at(5), False)], 1)
        root = ElementTree.fromstring(text)
        long, short = (float(rect.get("width", "")) for rect in root.iter(f"{SVG}rect"))
        self.assertAlmostEqual(long, 2 * short, delta=0.2)
        self.assertIn(">10.0<", text)

    def test_nothing(self) -> None:
        """Without a bar there is no picture; bars of nothing are drawn all the same."""
        self.assertRaises(ValueError, bars, "t", [], 1)
        self.assertIn("<rect", bars("t", [Bar("a", at(0), True)], 1))
