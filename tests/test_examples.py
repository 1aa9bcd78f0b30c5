"""The examples of docstrings and pages are true: they call what there is as it is, and those that need no model run.

A name that an example does not make stands for something of the reader's, such as ``splits``. What it calls must exist.
"""

from __future__ import annotations

import ast
import builtins
import doctest
import importlib
import inspect
import pkgutil
import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from mypy import api as mypy

import tracemend
from tracemend.cli import app
from tracemend.errors import TracemendError

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

# What the reader's own names stand for, where more examples than one use them; other names stand for anything.
STAND_INS = {
    "classifier": "tracemend.tuning.TextClassifier",
    "data": "tracemend.data.Labelled",
    "ledger": "tracemend.data.Ledger",
    "model": "tracemend.models.LanguageModel",
    "splits": "tracemend.data.Splits",
    "store": "tracemend.trace.store.GradientStore",
    "train": "tracemend.data.Labelled",
    "tuned": "tracemend.tuning.Tuned",
    "validation": "tracemend.data.Labelled",
}

# They read a file, a folder or an address of the reader's; elsewhere they say that it is not there.
ASK_FOR_A_FILE = {
    "tracemend.circuits.feature_edges.FeatureTexts.of",
    "tracemend.circuits.stages.Stages",
    "tracemend.concepts.tcav.Tcav",
    "tracemend.data.pairs.read_pairs",
    "tracemend.data.pronoun_sets.gum_pronouns",
    "tracemend.data.pronoun_sets.read_pronouns",
    "tracemend.data.treebanks.Treebank",
    "tracemend.neurons.ablate_classifier.ClassifierAblation",
    "tracemend.probing.head_pruning.HeadPruning",
    "tracemend.probing.mention_places.by_place",
    "tracemend.studio.session.Session",
    "tracemend.trace.scoring.run.score_run",
    "tracemend.trace.store.verify.verify",
}

# They load a pretrained model or train one.
MAKE_A_MODEL = {"AttentionOnly", "Endpoint", "SimilaritySimulator", "load", "trained"}


@dataclass(frozen=True)
class Example:
    """The lines of one docstring, or of one page."""

    name: str
    source: str
    # A page imports what it needs; a docstring does not.
    module: ModuleType | None = None
    test: doctest.DocTest | None = None

    @property
    def unmade(self) -> list[str]:
        """Names that the lines use and do not make."""
        nodes = list(ast.walk(ast.parse(self.source)))
        names = [n for n in nodes if isinstance(n, ast.Name)]
        made = {n.id for n in names if isinstance(n.ctx, ast.Store)}
        made |= {n.name for n in nodes if isinstance(n, ast.FunctionDef)}
        made |= {a.arg for n in nodes if isinstance(n, ast.arguments) for a in n.args}
        made |= {a.asname or a.name for n in nodes if isinstance(n, ast.ImportFrom | ast.Import) for a in n.names}
        return sorted({n.id for n in names} - made - set(vars(builtins)))

    @property
    def imports(self) -> dict[str, str]:
        """The lines that import such names, from this module or from where they are public."""
        found: dict[str, str] = {}
        if self.module is None:
            return found
        for name in self.unmade:
            value = vars(self.module).get(name)
            if inspect.ismodule(value):
                found[name] = f"import {value.__name__} as {name}"
            elif value is not None:
                found[name] = f"from {getattr(value, '__module__', self.module.__name__)} import {name}"
            elif name in public():
                found[name] = f"from {public()[name]} import {name}"
        return found

    @property
    def of_the_reader(self) -> list[str]:
        return [name for name in self.unmade if name not in self.imports]

    @property
    def runs(self) -> bool:
        """Whether it takes no time and needs nothing of the reader's."""
        slow = MAKE_A_MODEL & set(self.unmade)
        return not (self.test is None or slow or self.of_the_reader or self.name in ASK_FOR_A_FILE)

    @property
    def function(self) -> str:
        """The lines as the body of a function with types, for the type checker."""
        given = ", ".join(f"{name}: {STAND_INS.get(name, 'Any')}" for name in self.of_the_reader)
        lines = "\n".join([*self.imports.values(), self.source])
        return f"def of_{re.sub(r'[^a-zA-Z0-9]', '_', self.name)}({given}) -> None:\n{textwrap.indent(lines, '    ')}\n"


@cache
def modules() -> list[ModuleType]:
    names = [found.name for found in pkgutil.walk_packages(tracemend.__path__, "tracemend.")]
    return [tracemend, *(importlib.import_module(name) for name in names if not name.endswith("__main__"))]


@cache
def public() -> dict[str, str]:
    """Where each public name can be imported from."""
    return {name: m.__name__ for m in reversed(modules()) for name in getattr(m, "__all__", [])}


def examples() -> Iterator[Example]:
    for module in modules():
        for test in doctest.DocTestFinder().find(module):
            if test.examples:
                yield Example(test.name, "".join(line.source for line in test.examples), module, test)
    for page in PAGES:
        # Each tutorial is run by a test of its own.
        if page.parent.name != "tutorials" and (blocks := fenced(page, "python")):
            yield Example(str(page.relative_to(ROOT)), "\n".join(blocks))


def fenced(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


EXAMPLES = list(examples())


def run(example: Example) -> None:
    assert example.test is not None
    names = dict(vars(example.module))
    for line in example.imports.values():
        exec(line, names)
    test = doctest.DocTest(example.test.examples, names, example.name, example.test.filename, None, None)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    doctest.DebugRunner(optionflags=flags).run(test)


@pytest.mark.parametrize("example", [e for e in EXAMPLES if e.runs], ids=lambda e: e.name)
def test_it_prints_what_it_says(example: Example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(example)


@pytest.mark.parametrize("name", sorted(ASK_FOR_A_FILE))
def test_one_that_asks_for_a_file_says_so(name: str, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = (e for e in EXAMPLES if e.name == name)
    with pytest.raises(doctest.UnexpectedException) as failed:
        run(example)
    assert isinstance(failed.value.exc_info[1], TracemendError)


def test_what_they_call_exists():
    unknown = {}
    for example in EXAMPLES:
        nodes = list(ast.walk(ast.parse(example.source)))
        called = {n.func.id for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
        if missing := [name for name in example.of_the_reader if name in called or name[0].isupper()]:
            unknown[example.name] = missing
    assert not unknown


@pytest.mark.slow
def test_they_call_it_as_it_is_to_be_called(tmp_path):
    file = tmp_path / "tests.py"  # checked as the tests are: their types are those of the library
    imports = "\n".join(sorted({f"import {name.rpartition('.')[0]}" for name in STAND_INS.values()}))
    functions = "\n\n".join(example.function for example in EXAMPLES)
    file.write_text(f"from typing import Any\n{imports}\n\n{functions}", encoding="utf-8")
    said, errors, status = mypy.run(["--config-file", str(ROOT / "pyproject.toml"), str(file)])
    assert status == 0, said + errors


def commands() -> Iterator[tuple[str, ...]]:
    """What pages give to ``tracemend``; forms such as ``tracemend undo RUN UID`` are none to type in."""
    for page in PAGES:
        for block in fenced(page, "console"):
            for line in block.replace("\\\n", " ").splitlines():
                if re.match(r"\$ tracemend [a-z]", line) and not re.search(
                    r" (FILE|RUN|DIR|COL|NAME|TEXT)\b| \[--", line
                ):
                    given = shlex.split(line, comments=True)[2:]
                    yield tuple(given[: given.index("|")] if "|" in given else given)


@cache
def root() -> Any:
    return typer.main.get_command(app)


def parsed(given: list[str]) -> None:
    """Let the command line read its arguments, without running anything."""
    context = root().make_context("tracemend", [], resilient_parsing=True)
    while hasattr(context.command, "resolve_command"):
        name, command, given = context.command.resolve_command(context, given)
        context = command.make_context(str(name), given, parent=context)


@pytest.mark.parametrize("given", sorted(set(commands())), ids=" ".join)
def test_the_command_line_takes_what_pages_type(given: tuple[str, ...], monkeypatch):
    # Files and runs of the reader's are not here.
    monkeypatch.setattr("tracemend.data.sources.refuse_absent", lambda name: None)
    monkeypatch.setattr(Path, "is_dir", lambda path: True)
    parsed(list(given))


def test_a_page_that_types_something_else_would_be_found(monkeypatch):
    monkeypatch.setattr(Path, "is_dir", lambda path: True)
    parsed(["undo", "runs/mine", "some-uid"])
    with pytest.raises(Exception, match="No such option"):
        parsed(["undo", "runs/mine", "some-uid", "--never"])
