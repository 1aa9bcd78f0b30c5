"""A server in a process of its own and a headless Chromium, for tests, screenshots and benchmarks."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

CHROMIUM = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
DRIVER = shutil.which("chromedriver")
LACKING = "needs Chromium and its driver (Debian: apt-get install chromium chromium-driver)"


class Server:
    """``tracemend studio`` on a run; ``url`` is where."""

    def __init__(self, run: Path, *options: str) -> None:
        self.run, self.options = run, options
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tracemend", "studio", str(run), "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "USER": "tester"},
        )
        self.address = self.process.stdout.readline().strip() if self.process.stdout else ""
        self.url = self.address.partition("?")[0].rstrip("/")

    def get(self, name: str, **fields: Any) -> Any:
        query = "&".join(f"{key}={urllib.parse.quote(str(value))}" for key, value in fields.items())
        with urllib.request.urlopen(f"{self.url}/api/{name}?{query}", timeout=60) as answer:
            return json.load(answer)

    def post(self, name: str, fields: Any) -> Any:
        headers = {"content-type": "application/json", "origin": self.url}
        asked = urllib.request.Request(f"{self.url}/api/{name}", json.dumps(fields).encode(), headers)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return json.load(answer)

    def wait(self) -> None:
        """Wait until no job runs; SystemExit where the last one failed."""
        while (job := self.get("pulse")["job"]) is not None and job["state"] == "running":
            time.sleep(0.3)
        if job is not None and job["state"] != "done":
            raise SystemExit(f"the job ended as {job['state']}: {job['message']}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()


@contextlib.contextmanager
def serving(run: Path, *options: str) -> Iterator[Server]:
    """A server while the block runs."""
    server = Server(run, *options)
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def browsing(width: int = 1280, height: int = 860, *, dark: bool = False) -> Iterator[Any]:
    """A Chromium window of that size."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
        "--disable-background-networking", "--disable-component-update", "--lang=en-GB",
        f"--window-size={width},{height}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        yield driver
    finally:
        driver.quit()


class Person:
    """Somebody at a page."""

    def __init__(self, driver: Any, url: str, *, name: str = "Ada", hinted: bool = True) -> None:
        self.driver, self.url = driver, url
        driver.get(f"{url}/static/theme.js")  # the same origin, before the page itself
        driver.execute_script("localStorage.setItem('actor', arguments[0])", name)
        if hinted:
            driver.execute_script("localStorage.setItem('hinted', '1')")

    def open(self, query: str = "") -> None:
        self.driver.get(f"{self.url}/{query}")
        self.until(lambda: self.driver.execute_script("return document.getElementById('main').dataset.ready"))

    def all(self, selector: str) -> Sequence[Any]:
        found: Sequence[Any] = self.driver.find_elements("css selector", selector)
        return found

    def named(self, name: str) -> Any:
        """The element with that ``data-testid``, once it is there."""
        return self.until(lambda: next(iter(self.all(f"[data-testid='{name}']")), None))

    def click(self, name: str) -> None:
        def done() -> bool:
            self.named(name).click()
            return True

        self.until(done)

    def press(self, keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(keys).perform()

    def text(self, selector: str = "body") -> str:
        return str(self.driver.execute_script("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def says(self, text: str, selector: str = "body", seconds: float = 15) -> None:
        self.until(lambda: text in self.text(selector), seconds, lambda: f"{text!r} in {self.text(selector)[:600]!r}")

    def until(self, true: Callable[[], Any], seconds: float = 15, what: Callable[[], str] = lambda: "it") -> Any:
        from selenium.common.exceptions import WebDriverException

        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(WebDriverException):  # an element that was just drawn anew
                found = true()
                if found:
                    return found
            if time.monotonic() > end:
                raise TimeoutError(f"waited {seconds} s for {what()}")
            time.sleep(0.05)

    def faults(self) -> list[str]:
        """What the browser complained of."""
        return [line["message"] for line in self.driver.get_log("browser") if line["level"] == "SEVERE"]

    def asked_for(self) -> set[str]:
        """Addresses that were asked for since the last call."""
        found = set()
        for line in self.driver.get_log("performance"):
            message = json.loads(line["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.add(message["params"]["request"]["url"])
        return found
