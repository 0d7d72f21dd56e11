"""Tests for `bench.evidence`."""

from twisted.trial.unittest import SynchronousTestCase

from bench.evidence import Calls, Moves, parse_counts, parse_moves, show_counts, show_moves

COUNTS = """strace: Process 14693 attached
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 99.30    0.223100          99      2247        56 splice
  0.70    0.001600          84        19           epoll_wait
------ ----------- ----------- --------- --------- ----------------
100.00    0.224700          99      2266        56 total
"""
MOVES = """14693 recvfrom(8, ""..., 65536, 0, NULL, NULL) = 65536
14693 sendto(9, ""..., 65536, 0, NULL, 0) = 40000
14693 sendto(9, ""..., 25536, 0, NULL, 0) = -1 EAGAIN (Resource temporarily unavailable)
14694 splice(7, NULL, 9, NULL, 1048576, SPLICE_F_MOVE <unfinished ...>
14693 recvfrom(8, "", 65536, 0, NULL, NULL) = 0
14694 <... splice resumed>) = 4097
14693 epoll_wait(3, [], 1, 0) = 0
14693 +++ exited with 0 +++
"""


class StraceTests(SynchronousTestCase):
    """Reading strace."""

    def test_counts(self) -> None:
        """Lines of calls are read, with and without errors; the sum and the rules are not."""
        self.assertEqual(
            parse_counts(COUNTS), [Calls("splice", 2247, 56, 0.2231), Calls("epoll_wait", 19, 0, 0.0016)]
        )

    def test_moves(self) -> None:
        """Results are added by call; a resumed call counts once; others are passed over."""
        self.assertEqual(
            parse_moves(MOVES.splitlines()),
            [
                Moves("recvfrom", 2, 65536, 1, 0, {65536: 1}),
                Moves("sendto", 2, 40000, 0, 1, {65536: 1}),
                Moves("splice", 1, 4097, 0, 0, {8192: 1}),
            ],
        )

    def test_shown(self) -> None:
        """The costliest call comes first; the mean counts refused calls too."""
        self.assertLess(show_counts(parse_counts(COUNTS)).find("splice"), 80)
        self.assertIn(
            "| sendto | 2 | 1 | 40000 | 20000 | ≤65536: 1 |", show_moves(parse_moves(MOVES.splitlines()))
        )
        self.assertIn("| all | 0 |", show_moves([]))
