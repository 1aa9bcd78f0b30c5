"""What a person takes along of a version: the repaired set, the list of changes, the adapter."""

from __future__ import annotations

import io
import shutil
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

from tracemend.data.decision import ACTS
from tracemend.data.ledger import Ledger
from tracemend.errors import RunError, did_you_mean
from tracemend.mend.repaired import FORMATS, export
from tracemend.runs import atomic, read_json
from tracemend.studio.session import Session
from tracemend.studio.versions import rows_of

# What can be asked for; a name from outside is looked up here and never becomes a path.
_WRITES = threading.Lock()
FILES = {
    **{f"repaired.{name}": "the set it was tuned on" for name in FORMATS},
    "changes.md": "what was changed, to read",
    "changes.csv": "the same, with every row of the ledger",
    "adapter.zip": "the model's adapter in PEFT's format",
}


def take(session: Session, name: str) -> dict[str, Path]:
    """Write the files of a version into its folder ``export``; the same version gives the same sets.

    Returns:
        File name -> path.

    Raises:
        RunError: there is no such version, or the disk is full.
    """
    evidence = session.evidence(name)
    version = evidence.version
    folder = version.folder / "export"
    shutil.rmtree(folder, ignore_errors=True)
    rows = session.review.rows()
    standing = [d for d in rows_of(version, rows.all) if d.kind in ACTS]
    # Of the marks on words those that it was tuned with.
    notes = [
        d
        for d in rows.all
        if d.undoes is None
        and (d.version in version.words if d.kind == "word" else d.kind not in ACTS and d.version not in rows.gone)
    ]
    settings = session.run / "export.json"
    names = read_json(settings).get("names") if settings.exists() else None
    with Ledger(folder / "ledger.sqlite") as ledger:
        ledger.add([replace(d, version=0) for d in sorted([*standing, *notes], key=lambda d: d.version)])
        paths = export(session.splits.train, ledger, folder, names=names)
    paths["adapter.zip"] = folder / "adapter.zip"
    with atomic(paths["adapter.zip"], "wb") as file:
        file.write(_zipped(version.adapter))
    return paths


def path_of(session: Session, name: str, file: str) -> Path:
    """Where a file of a version lies.

    Raises:
        RunError: there is no such version or file.
    """
    if file not in FILES:
        raise RunError(f"the file {file[:40]!r} is {did_you_mean(file, FILES)}")
    folder = session.evidence(name).version.folder / "export"
    with _WRITES:  # files are asked for side by side, and the first request writes them all
        if not (folder / file).exists():
            take(session, name)
    return folder / file


def _zipped(adapter: Path) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(p for p in adapter.iterdir() if p.is_file()):
            archive.write(path, path.name)
    return made.getvalue()
