"""Tests of `portfwd.filters.builtin.toxics`: what clients say, as options of ``filter faults``."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters.builtin.fault_clause import NEEDS
from portfwd.filters.builtin.toxics import MOST, TOXICS, BadToxic, Toxic, changed_toxic, read_toxic
from portfwd.values import TO_CLIENT, TO_UPSTREAM

#: A toxic of every type, and the options of the fault that it is.
EVERY: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    ({"type": "latency", "attributes": {"latency": 100, "jitter": 20}}, {"delay": 0.1, "jitter": 0.02}),
    ({"type": "bandwidth", "attributes": {"rate": 64}}, {"rate": 64_000}),
    ({"type": "slow_close", "attributes": {"delay": 1000}}, {"delay": 1.0}),
    ({"type": "timeout", "attributes": {"timeout": 0}}, {"after": 0.0, "abort": False}),
    ({"type": "reset_peer", "attributes": {"timeout": 2000}}, {"after": 2.0}),
    (
        {"type": "slicer", "attributes": {"average_size": 10, "size_variation": 10, "delay": 500}},
        {"size": 10, "variation": 9, "delay": 0.0005},
    ),
    ({"type": "limit_data", "attributes": {"bytes": 0, "abort": True}}, {"size": 0, "abort": True}),
    ({"type": "noop", "stream": "downstream"}, {}),
    ({"type": "limit_time", "attributes": {"time": 60_000}}, {"after": 60.0, "direction": None}),
    ({"type": "corrupt", "attributes": {"fraction": 0.001}}, {"fraction": 0.001}),
    ({"type": "refuse"}, {"direction": None}),
    ({"type": "loss", "attributes": {"fraction": 0.5}}, {"fraction": 0.5}),
    ({"type": "duplicate", "attributes": {"fraction": 1}}, {"fraction": 1.0}),
    ({"type": "reorder", "attributes": {"fraction": 0.1}}, {"fraction": 0.1, "delay": None}),
    ({"type": "reorder", "attributes": {"fraction": 0.1, "delay": 50}}, {"delay": 0.05}),
)


class ReadTests(SynchronousTestCase):
    """What a new toxic may say."""

    def test_every_type(self) -> None:
        """Each type is a fault; its numbers are milliseconds, kilobytes a second and microseconds."""
        self.assertEqual({said["type"] for said, _ in EVERY}, set(TOXICS))
        self.assertEqual({kind for kind, _ in TOXICS.values()}, set(NEEDS))
        for said, options in EVERY:
            fault = read_toxic(said).fault(0)
            self.assertEqual(fault.kind, TOXICS[said["type"]][0])
            for field, value in {"direction": "to-client", **options}.items():
                found = getattr(fault, field)
                self.assertTrue(found == value or abs(found - value) < 1e-9, (said, field, found))

    def test_defaults(self) -> None:
        """Without a name it is called by type and stream; it is downstream, for all, its numbers are 0."""
        toxic = read_toxic({"type": "latency", "attributes": None, "toxicity": None})
        self.assertEqual(toxic, Toxic("latency_downstream", "latency", "downstream", 1.0, toxic.attributes))
        self.assertEqual(toxic.attributes, {"latency": 0, "jitter": 0})
        up = read_toxic({"type": "slicer", "stream": "upstream", "name": "cuts", "toxicity": 0.25,
                         "attributes": {"average_size": 5, "unknown": "x"}})  # fmt: skip
        self.assertEqual((up.name, up.stream, up.toxicity), ("cuts", "upstream", 0.25))
        self.assertEqual(up.attributes, {"average_size": 5, "size_variation": 0, "delay": 0})
        self.assertEqual((up.fault(0).direction, up.fault(0).probability), ("to-upstream", 0.25))

    def test_told(self) -> None:
        """An answer has toxiproxy's keys; what only we know is told where it was said."""
        self.assertEqual(
            read_toxic({"type": "timeout", "attributes": {"timeout": 5}}).as_json(),
            {
                "attributes": {"timeout": 5},
                "name": "timeout_downstream",
                "type": "timeout",
                "stream": "downstream",
                "toxicity": 1.0,
            },
        )
        said = {"type": "timeout", "attributes": {"timeout": 5, "abort": True}}
        self.assertEqual(read_toxic(said).as_json()["attributes"], {"timeout": 5, "abort": True})

    def test_refused(self) -> None:
        """What is no toxic is refused, in toxiproxy's words where it has some."""
        for said, text in (
            ([], "bad request body"),
            ({"type": "latency", "stream": "sideways"}, "stream was invalid, can be either upstream or"),
            ({"type": "latency", "stream": 5}, "bad request body: stream"),
            ({"type": "noise"}, "invalid toxic type"),
            ({}, "invalid toxic type"),
            ({"type": "latency", "name": "n" * 201}, "bad request body: name"),
            ({"type": "latency", "toxicity": "all"}, "toxicity must be a number"),
            ({"type": "latency", "toxicity": True}, "toxicity must be a number"),
            ({"type": "latency", "toxicity": float("nan")}, "toxicity must be a number"),
            ({"type": "latency", "attributes": [1]}, "attributes must be an object"),
            ({"type": "latency", "attributes": {"latency": 1.5}}, "latency must be a whole number"),
            ({"type": "latency", "attributes": {"latency": -1}}, "latency must be a whole number"),
            ({"type": "latency", "attributes": {"latency": MOST + 1}}, "latency must be a whole number"),
            ({"type": "latency", "attributes": {"latency": 10**400}}, "latency must be a number"),
            ({"type": "latency", "attributes": {"latency": "1"}}, "latency must be a number"),
            ({"type": "timeout", "attributes": {"abort": 1}}, "abort must be true or false"),
            ({"type": "corrupt", "attributes": {"fraction": 1.1}}, "from 0 to 1"),
        ):
            self.assertIn(text, str(self.assertRaises(BadToxic, read_toxic, said)))

    def test_without_attributes(self) -> None:
        """Each type may come without attributes: all are 0 then."""
        for kind in TOXICS:
            toxic = read_toxic({"type": kind})
            self.assertEqual(toxic.fault(0).kind, TOXICS[kind][0])
            self.assertLessEqual(set(toxic.attributes.values()), {0})

    def test_toxicity(self) -> None:
        """It is told as it was said; outside of 0 to 1 it strikes none or all."""
        said = (-1, 0, 0.5, 7)
        found = [read_toxic({"type": "refuse", "toxicity": one}) for one in said]
        self.assertEqual([one.as_json()["toxicity"] for one in found], list(said))
        self.assertEqual([one.fault(0).probability for one in found], [0.0, 0.0, 0.5, 1.0])

    def test_case_of_streams(self) -> None:
        """A stream may be written in any case, and is told as it was written."""
        for said, direction in (("Upstream", TO_UPSTREAM), ("DOWNSTREAM", TO_CLIENT)):
            toxic = read_toxic({"type": "latency", "stream": said})
            self.assertEqual((toxic.name, toxic.as_json()["stream"]), (f"latency_{said}", said))
            self.assertEqual(toxic.fault(0).direction, direction.value)

    def test_seeds(self) -> None:
        """Chance follows from the seed and the toxic's name."""
        one, other = (read_toxic({"type": "refuse", "name": name}) for name in ("a", "b"))
        self.assertEqual(one.fault(7), one.fault(7))
        self.assertEqual(len({one.fault(7).seed, one.fault(8).seed, other.fault(7).seed}), 3)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ("type", "stream", "toxicity", "attributes", "name", "latency", "fraction")
                    ),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=12,
        ),
        st.sampled_from(tuple(TOXICS)),
    )
    @settings(max_examples=150)
    def test_anything(self, said: Any, kind: str) -> None:
        """Whatever is said: it is a toxic that can be told, or it is refused."""
        for one in (said, {**(said if isinstance(said, dict) else {}), "type": kind}):
            try:
                toxic = read_toxic(one)
                toxic.fault(1)
            except BadToxic:
                continue
            self.assertEqual(read_toxic(json.loads(json.dumps(toxic.as_json()))), toxic)


class ChangedTests(SynchronousTestCase):
    """What an update may say."""

    def test_changed(self) -> None:
        """What is said is changed, what is not stays; name, type and stream stay in any case."""
        toxic = read_toxic({"type": "latency", "attributes": {"latency": 100, "jitter": 20}})
        after = changed_toxic(toxic, {"name": "x", "stream": "upstream", "attributes": {"latency": 7}})
        self.assertEqual(after.attributes, {"latency": 7, "jitter": 20})
        self.assertEqual((after.name, after.stream, after.toxicity), (toxic.name, "downstream", 1.0))
        self.assertEqual(changed_toxic(toxic, {"toxicity": 0.5}).toxicity, 0.5)
        self.assertRaises(BadToxic, changed_toxic, toxic, None)
