"""
The web page in Chromium: it loads, lives, sorts, kills, and shows hostile names as text.

It needs Debian's ``chromium`` and ``chromium-driver`` and the extra ``browser``.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from docs.screenshots import chromium
from tests.integration.forwarder import ROOT, TIMEOUT, wait_until
from tests.integration.web_server import COUNT, HOSTILE
from tests.places import short_directory

ALL = f"{COUNT:,}"


class PageCase(SynchronousTestCase):
    """A browser that looks at ten thousand sessions."""

    if find_spec("selenium") is None:
        skip = "selenium is not installed, which the extra 'browser' brings"
    elif not shutil.which("chromium") or not shutil.which("chromedriver"):
        skip = "there is no chromium with its chromedriver"

    width, height, dark = 1360, 900, False

    def setUp(self) -> None:
        self.directory = short_directory(self)
        self.server = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.web_server"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(self.server.wait)
        self.addCleanup(self.server.stdin.close)  # type: ignore[union-attr]
        self.addCleanup(self.server.stdout.close)  # type: ignore[union-attr]
        self.origin = f"http://127.0.0.1:{int(self.said())}"
        stack = ExitStack()
        self.addCleanup(stack.close)
        self.driver = stack.enter_context(
            chromium(Path(self.directory), self.width, self.height, dark=self.dark)
        )
        self.driver.get(f"{self.origin}/")
        self.wait_for("live", lambda: self.text("#connection") == "live")
        self.wait_for("sessions", lambda: self.text("#sessions-count") == ALL)

    def said(self) -> str:
        """The next line of the server."""
        assert self.server.stdout is not None
        return self.server.stdout.readline().strip()

    def run_script(self, script: str, *arguments: Any) -> Any:
        """The value of a script in the page."""
        return self.driver.execute_script(script, *arguments)

    def text(self, selector: str) -> str:
        """The text of the first element."""
        script = "return document.querySelector(arguments[0])?.textContent ?? ''"
        return str(self.run_script(script, selector))

    def texts(self, selector: str) -> list[str]:
        """The texts of all such elements."""
        script = "return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent)"
        return list(self.run_script(script, selector))

    def click(self, selector: str) -> None:
        """Click on the first element, as a user does: what covers it would take the click."""
        from selenium.webdriver.common.by import By

        element = self.driver.find_element(By.CSS_SELECTOR, selector)
        self.run_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
        element.click()

    def press(self, keys: str) -> None:
        """Press keys."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(keys).perform()

    def wait_for(self, what: str, reached: Any) -> None:
        """Wait until the page shows something."""
        wait_until(reached, TIMEOUT, lambda: f"no {what}: {self.text('body')[:2000]} {self.console()}")

    def ids(self) -> list[str]:
        """The numbers of the sessions that are shown."""
        return self.texts("#sessions-table tbody td:first-child")

    def console(self) -> list[str]:
        """What the console says that is no mere information."""
        return [one["message"] for one in self.driver.get_log("browser") if one["level"] != "INFO"]

    def requested(self) -> set[str]:
        """Where the browser asked for something, for this page."""
        events = (json.loads(one["message"])["message"] for one in self.driver.get_log("performance"))
        sent = (one["params"] for one in events if one["method"] == "Network.requestWillBeSent")
        # The first page of the browser itself is made of parts of its own.
        own = ("data:", "chrome:", "chrome-untrusted:", f"{self.origin}/")
        return {url for one in sent if not (url := one["request"]["url"]).startswith(own)}


class DesktopTests(PageCase):
    """The page on a desk."""

    def sort_by(self, title: str) -> None:
        """Click on the head of a column."""
        self.run_script(
            "[...document.querySelectorAll('#sessions-table th button')]"
            ".find((one) => one.textContent === arguments[0]).click()",
            title,
        )

    def test_page(self) -> None:
        """It updates by itself, sorts and pages on the server, and filters."""
        before = self.text("#tile-up .value")
        self.wait_for("other rate", lambda: self.text("#tile-up .value") not in (before, "0 B/s"))
        self.sort_by("Bytes")
        self.wait_for("largest", lambda: self.ids()[:2] == [str(COUNT), str(COUNT - 1)])
        self.assertEqual(self.texts("th[aria-sort=descending]"), ["Bytes"])
        self.sort_by("Id")
        self.wait_for("first", lambda: self.ids()[:2] == ["1", "2"])
        self.press("n")
        self.wait_for("second page", lambda: self.ids()[:2] == ["26", "27"])
        self.assertIn(f"26–50 of {ALL}", self.text("#sessions-pager"))
        self.press("/")
        self.press("10.0.3.*\n")
        self.wait_for("filter", lambda: self.text("#sessions-count") == "250")
        self.assertEqual(self.text("#tile-sessions .value"), ALL)
        self.press("x")  # into the field: no key of the page
        self.click("#filter button[type=reset]")
        self.wait_for("all of them", lambda: self.text("#sessions-count") == ALL)
        self.assertEqual((self.console(), self.requested()), ([], set()))

    def test_bad_filter(self) -> None:
        """A pattern that makes no sense is told, and the page goes on."""
        self.press("/")
        self.press("10.0.0.0/99\n")
        self.wait_for("message", lambda: self.text("#toasts .bad") != "")
        self.click("#filter button[type=reset]")
        self.wait_for("sessions", lambda: self.text("#sessions-count") == ALL)

    def test_hostile_names(self) -> None:
        """Names of rules, targets, faults, lines of the log, TLS and users are text."""
        self.sort_by("Id")
        self.wait_for("first", lambda: self.ids()[:1] == ["1"])
        for place in ("rules-table", "targets-table", "faults-table", "changes-list", "sessions-table"):
            self.wait_for(place, lambda place=place: HOSTILE in self.text(f"#{place}"))
        self.assertIn(HOSTILE, self.text("#footer"))
        self.click("#sessions-table tbody tr")
        self.wait_for("detail", lambda: "server name" in self.text("#detail-body"))
        details = self.texts("#detail-body dd")
        self.assertIn(HOSTILE, details)
        self.assertTrue(any(f"server name {HOSTILE}" in one for one in details))
        self.press("\ue00c")
        self.click("#reload")
        self.wait_for("difference", lambda: HOSTILE in self.text("#confirm-lines"))
        self.assertEqual(self.run_script("return document.title"), "portfwd")
        self.assertEqual(self.run_script("return document.querySelectorAll('img[onerror]').length"), 0)
        self.assertEqual((self.console(), self.requested()), ([], set()))

    def test_kill(self) -> None:
        """A session is killed when that was confirmed, and not before."""
        self.sort_by("Id")
        self.wait_for("first", lambda: self.ids()[:1] == ["1"])
        self.click("#sessions-table tbody tr")
        self.wait_for("detail", lambda: self.text("#detail-title") == "Session 1")
        self.click("#detail-kill")
        self.click("#confirm-no")
        self.assertEqual(self.run_script("return document.querySelector('#confirm').open"), False)
        self.click("#detail-kill")
        self.click("#confirm-yes")
        self.assertEqual(self.said(), "killed 1")
        self.wait_for("fewer", lambda: self.text("#sessions-count") == f"{COUNT - 1:,}")
        self.press("\ue00c")
        self.press("j")
        self.press("x")
        self.wait_for("question", lambda: self.text("#confirm-title").startswith("Kill session"))
        self.click("#confirm-yes")
        self.assertRegex(self.said(), r"killed \d+")
        self.assertEqual(self.console(), [])

    def test_target(self) -> None:
        """A target shows its cause; the question about it names its rule and its sessions."""
        cells = self.texts("#targets-table tbody td")
        self.assertEqual((cells[0].count(HOSTILE), cells[1]), (2, HOSTILE))
        self.click("#targets-table tbody button")
        self.assertEqual(self.text("#confirm-title"), f"Drain {HOSTILE} of the rule {HOSTILE}?")
        self.assertIn("Its open sessions may finish.", self.text("#confirm"))

    def test_keys(self) -> None:
        """Keys open help, hold the page and close what is open."""
        self.press("?")
        self.assertTrue(self.run_script("return document.querySelector('#keys').open"))
        self.press("\ue00c")
        self.assertFalse(self.run_script("return document.querySelector('#keys').open"))
        self.press("p")
        self.assertEqual(self.text("#freeze"), "Held")
        before = self.text("#tile-up .value")
        self.press("p")
        self.wait_for("other rate", lambda: self.text("#tile-up .value") not in (before, "0 B/s"))


class PhoneTests(PageCase):
    """The page on a phone, in the dark."""

    width, height, dark = 390, 844, True

    def test_fits(self) -> None:
        """Nothing is wider than the screen, and colours are the dark ones."""
        self.assertLessEqual(self.run_script("return document.documentElement.scrollWidth"), 390)
        colour = self.run_script("return getComputedStyle(document.body).backgroundColor")
        self.assertLess(sum(int(part) for part in colour[4:-1].split(", ")), 100)
        # A state is a word, not only a colour.
        size = self.run_script("return getComputedStyle(document.querySelector('#rules .pill')).fontSize")
        self.assertGreater(float(size.removesuffix("px")), 8)
        self.assertEqual((self.console(), self.requested()), ([], set()))
