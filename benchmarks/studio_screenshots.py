"""The pictures of the studio in the README and the docs, taken from a run: they show what the page shows.

    python -m benchmarks.studio_screenshots runs/demo docs/assets

works on a copy of the run: accepts 60 suggestions, retrains, and takes the pictures in headless Chromium.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from benchmarks.browser import Person, browsing, serving

ENTER = "\ue007"


def main() -> None:
    """Take them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "demo"
        shutil.copytree(given.run, run)
        with serving(run) as server:
            server.wait()
            with browsing() as driver:
                ada = Person(driver, server.url)
                _errors(ada, given.out / "studio-evidence.png")
                _suspects(ada, given.out / "studio-suspects.png")
                for row in server.get("suspects", version="original", limit=60)["rows"]:
                    asked = {"actor": "Ada", "version": "original", "seen": {row["uid"]: row["seen"]}, "act": "accept"}
                    server.post("decide", asked)
                server.post("retrain", {"actor": "Ada", "basis": "people", "version": "original"})
                server.wait()
                _compare(ada, given.out / "studio-compare.png")
            with browsing(390, 844, dark=True) as driver:
                _errors(Person(driver, server.url), given.out / "studio-phone.png")


def _errors(ada: Person, path: Path) -> None:
    ada.open("?version=original")
    ada.press("j")
    ada.until(lambda: ada.all("[data-testid=card]"))
    ada.press(ENTER)
    ada.until(lambda: len(ada.all(".w-towards, .w-away")) and ada.all(".card.here p[dir]"), 60)
    _take(ada, path)


def _suspects(ada: Person, path: Path) -> None:
    ada.open("?tab=suspects&version=original")
    ada.press("j")
    ada.until(lambda: ada.all("[data-testid=reason]"))
    ada.until(lambda: ada.all("[data-testid=coloured]"), 60)
    _take(ada, path)


def _compare(ada: Person, path: Path) -> None:
    ada.open("?tab=compare&before=original&after=0001")
    ada.named("verdict")
    _take(ada, path)


def _take(ada: Person, path: Path) -> None:
    time.sleep(0.6)  # for what is drawn in the next frame
    path.parent.mkdir(parents=True, exist_ok=True)
    ada.driver.save_screenshot(str(path))


if __name__ == "__main__":
    main()
