"""Kill the studio's server at random moments while decisions are made; count confirmed decisions that are lost.

    python -m benchmarks.studio_kill runs/demo --kills 200

works on a copy of the run. The control is a count of decisions that were sent and not confirmed: were it zero, no kill
would have struck at work.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
import threading
import time
import urllib.error
from http.client import HTTPException
from pathlib import Path
from typing import Any

from benchmarks.browser import Server, serving
from tracemend.data.ledger import Ledger


def decide_and_kill(run: Path, *, kills: int, seed: int = 0) -> dict[str, Any]:
    """Decide over HTTP without a pause, kill -9 the server after a random time, start it anew; again and again.

    Returns:
        confirmed: decisions that the server said are kept; lost: those of them that the ledger lacks; unconfirmed:
        decisions that were under way at a kill; kills.
    """
    rng = random.Random(seed)
    confirmed: dict[int, str] = {}
    unconfirmed = 0
    for _ in range(kills):
        server = Server(run)
        rows = server.get("suspects", version="original", show="all", limit=100)["rows"]
        seen = {row["uid"]: row["seen"] for row in rows}
        # From the first decision on: most kills must strike while something is written.
        threading.Timer(rng.uniform(0.0, 0.4), server.process.kill).start()
        while True:
            uid = rng.choice(list(seen))
            asked = {"actor": "killed", "version": "original", "seen": {uid: seen[uid]}, "act": "label"}
            try:
                found = server.post("decide", {**asked, "value": rng.choice(["safe", "unsafe"])})
            except urllib.error.HTTPError:
                break  # a conflict: what was under way at the last kill had been written
            except (OSError, HTTPException, json.JSONDecodeError):
                unconfirmed += 1
                break
            for row, shown in zip(found["done"], found["rows"], strict=True):
                confirmed[row] = uid
                seen[uid] = shown["seen"]
        server.process.wait()
    with Ledger(run / "ledger.sqlite") as ledger:
        there = {d.version: d.uid for d in ledger.decisions()}
    lost = sum(there.get(row) != uid for row, uid in confirmed.items())
    return {"confirmed": len(confirmed), "lost": lost, "unconfirmed": unconfirmed, "kills": kills}


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "run"
        shutil.copytree(given.run, copy)
        with serving(copy) as server:
            server.wait()  # a run that nobody has opened yet is prepared first
        began = time.monotonic()
        found = decide_and_kill(copy, kills=given.kills, seed=given.seed)
    print(json.dumps({**found, "seconds": round(time.monotonic() - began, 1)}, indent=2))


if __name__ == "__main__":
    main()
