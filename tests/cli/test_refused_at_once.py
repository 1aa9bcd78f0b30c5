"""What is wrong with the data is told before a command imports what it works with, which takes seconds."""

from __future__ import annotations

import subprocess
import sys

import pytest

# A fresh interpreter, since others of these tests have imported everything by then.
PROGRAM = """
import sys
from tracemend.cli import app
try:
    app(sys.argv[1:])
except SystemExit as stopped:
    assert not {"torch", "transformers"} & set(sys.modules), "heavy imports came first"
    sys.exit(stopped.code)
"""


COMMANDS = [
    ("repair",), ("detect",), ("tune",), ("mend", "regularise", "--remove", "women"), ("mend", "shortcuts"),
    ("mend", "robustness"), ("mend", "amplify", "--url", "http://localhost:9/v1"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("command", "given", "said"), [
    *((command, ("data.csv", "--label", "lable"), "has no column 'lable'") for command in COMMANDS),
    (("repair",), ("data.csv", "--label", "label", "--valid", "other.csv"), "rename the column in other.csv"),
    (("repair",), ("none.csv", "--label", "label"), "there is no file none.csv"),
])  # fmt: skip
def test_bad_data_is_refused_at_once(command, given, said, tmp_path):
    (tmp_path / "data.csv").write_text("text,label\nhow kind,a\nhow rude,b\n", "utf-8")
    (tmp_path / "other.csv").write_text("comment,label\nhow kind,a\nhow rude,b\n", "utf-8")
    words = [*command, *given, "--text", "text"]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert done.returncode == 2, done.stderr
    assert said in " ".join(done.stderr.split())
