"""``python -m tests.chaos``: see the package. Exits with 1 if anything is not as the model says."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.driver import LOG_EVERY, Run


def chaos(seed: int, steps: int, directory: Path) -> list[str]:
    """
    Run, and say what was done.

    :returns: what is not as it should be.
    """
    run = Run(directory, seed)
    begun = time.monotonic()
    longest = 0.0
    try:
        if not run.places.names:
            print("names do not move: that needs root and unshare")
        for number in range(1, steps + 1):
            before = time.monotonic()
            try:
                run.step()
                run.check_certificate()
                if number % LOG_EVERY == 0:
                    run.check_log()
            except (AssertionError, OSError) as problem:
                (directory / "history.txt").write_text("\n".join(run.history))
                told = "\n".join(run.history[-12:])
                open_now = "\n".join(map(str, (*run.model.sessions.values(), *run.model.waiting)))
                return [
                    f"step {number}: {type(problem).__name__} {problem}\nafter:\n{told}\nwith:\n{open_now}"
                ]
            longest = max(longest, time.monotonic() - before)
        wrong = run.end()
        seconds = time.monotonic() - begun
        print(
            f"seed {seed}: {steps} steps in {seconds:.1f} s, the longest {longest:.2f} s;"
            f" {sum(run.model.closed.values())} sessions; {dict(run.done)}",
            flush=True,
        )
        return wrong
    finally:
        run.clean_up()
        (directory / "event.log").write_text(run.forwarder.log)


def main() -> int:
    """Parse the command line, and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--keep", type=Path, help="a directory for its files, which are kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="portfwd-chaos-") as made:
        directory = options.keep or Path(made)
        directory.mkdir(exist_ok=True)
        wrong = chaos(options.seed, options.steps, directory.absolute())
    for line in wrong[:20]:
        print(f"WRONG: {line}")
    print(f"{len(wrong)} things are wrong" if wrong else "all is well")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
