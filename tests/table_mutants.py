"""Changes the tables word by word, and lists the changes that no unit test notices: `python -m tests.table_mutants`.

mutmut changes what is inside functions; what a command needs stands mostly outside of them, in rows. This makes, in a
copy of the tree, one change at a time to the rows of `command` and `authz`: another action, a flag dropped, a command
that needs nothing, an internal argument that everybody may send. Arguments are parts of file names, all without any.
It takes some minutes, prints what survived, and exits 1 if anything did.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mongoguard.command.catalog import COMMANDS

ROOT = Path(__file__).parents[1]
COPIED = ("mongoguard", "tests", "docs", "fixtures")
NOT_COPIED = ("clients", "__pycache__")
TABLES = (
    "authz/builtin_roles.py",
    "command/catalog.py",
    "command/catalog_flags.py",
    "command/requires_admin.py",
    "command/requires_crud.py",
    "command/sessions.py",
    "command/stage_sources.py",
    "command/stage_writes.py",
    "command/stages.py",
    "command/user_management.py",
)
FIRST = (
    "test_catalog.py",
    "test_reference.py",
    "test_newer_rows.py",
    "test_table_columns.py",
    "test_stages.py",
)
"""The tests that know the tables; the room's others come after them."""
FLAGS = ("admin_only", "api_v1", "changes_users", "opens_cursor", "is_source")
DROPPED = {"handling": "Handling.RELAY", "refusal": '""', "secret_fields": "frozenset()"}
OPTIONS = (
    "-xq",
    "--import-mode=importlib",
    *("-p", "no:cacheprovider"),
    *("-p", "no:hypothesispytest"),
    *("-p", "no:trio"),
    *("-p", "no:cov"),
)
"""What the rooms' unit tests do without, and what costs most of a short run: plugins, and the fixtures for servers."""
SECONDS = 300
"""For one run of a room's unit tests, which take ten: longer, and the change counts as noticed."""


@dataclass(frozen=True)
class Change:
    """One edit of a table: the text between two offsets becomes another."""

    line: int
    what: str
    edits: tuple[tuple[int, int, str], ...]

    def apply(self, source: bytes) -> bytes:
        for start, end, text in sorted(self.edits, reverse=True):
            source = source[:start] + text.encode() + source[end:]
        return source


class Table:
    """The changes of one module's rows."""

    def __init__(self, source: bytes) -> None:
        self._source = source
        self._lines = [0]
        for line in source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))

    def changes(self) -> Iterator[Change]:
        """Every change of what stands outside functions and classes."""
        for statement in ast.parse(self._source).body:
            if isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom):
                continue
            for node in ast.walk(statement):
                if isinstance(node, ast.Attribute):
                    yield from self._another_action(node)
                elif isinstance(node, ast.Call):
                    yield from self._call(node)
                elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_ON_CLUSTER":
                    yield from self._named_actions(node.value)

    def _another_action(self, node: ast.Attribute) -> Iterator[Change]:
        owner = ast.unparse(node.value)
        if owner in ("A", "ActionType"):
            other = f"{owner}.{'INSERT' if node.attr == 'FIND' else 'FIND'}"
            yield self._change(node, f"{node.attr} becomes {other}", (node, other))

    def _call(self, node: ast.Call) -> Iterator[Change]:
        function = ast.unparse(node.func)
        if function in ("_actions", "_words"):
            yield from self._words(function, node.args[0])
        if function not in ("_row", "StageRow"):
            return
        name = ast.unparse(node.args[0]).strip("'")
        for position in node.args[1:2]:
            yield self._change(position, f"{name} needs nothing", (position, _nothing(function)))
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        for flag in FLAGS:
            if flag in keywords:
                yield self._change(node, f"{name} without {flag}", (keywords[flag], "False"))
        for column, text in DROPPED.items():
            if column in keywords:
                yield self._change(node, f"{name} without {column}", (keywords[column], text))
        if "internal_fields" in keywords:
            yield from self._for_everybody(name, keywords["internal_fields"], keywords["fields"])

    def _for_everybody(self, name: str, internal: ast.expr, own: ast.expr) -> Iterator[Change]:
        for word in sorted(COMMANDS[name].internal_fields):
            yield self._change(
                internal,
                f"{name} takes {word} from everybody",
                (internal, f"({self._text(internal)}).replace({word!r}, '')"),
                (own, f"({self._text(own)}) + {f' {word}'!r}"),
            )

    def _words(self, function: str, node: ast.expr) -> Iterator[Change]:
        text = ast.literal_eval(node)
        for word in text.split():
            other = ("insert" if word == "find" else "find") if function == "_actions" else ""
            words = " ".join(other if each == word else each for each in text.split())
            yield self._change(node, f"{word} becomes {other or 'nothing'}", (node, repr(words)))

    def _named_actions(self, node: ast.expr) -> Iterator[Change]:
        text = ast.literal_eval(node)
        for entry in text.split():
            other = f"{entry.partition(':')[0]}:find"
            words = " ".join(other if each == entry else each for each in text.split())
            yield self._change(node, f"{entry} becomes {other}", (node, repr(words)))

    def _change(self, where: ast.expr, what: str, *edits: tuple[ast.expr, str]) -> Change:
        return Change(where.lineno, what, tuple((*self._span(node), text) for node, text in edits))

    def _span(self, node: ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return (
            self._lines[node.lineno - 1] + node.col_offset,
            self._lines[node.end_lineno - 1] + node.end_col_offset,
        )

    def _text(self, node: ast.expr) -> str:
        start, end = self._span(node)
        return self._source[start:end].decode()


def _nothing(function: str) -> str:
    return "needs_nothing" if function == "_row" else "None"


def _is_noticed(tree: Path, tests: Sequence[Path]) -> bool:
    command = [sys.executable, "-m", "pytest", *OPTIONS, f"--confcutdir={tree}/tests/unit", *map(str, tests)]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


def _survivors(tree: Path, name: str) -> Iterator[tuple[Change, bool]]:
    """Every change of one table, and whether it survives."""
    path = tree / "mongoguard" / name
    tests = tree / "tests" / "unit" / Path(name).parent
    first = [tests / known for known in FIRST if (tests / known).exists()]
    rounds = [first, [tests]] if first else [[tests]]
    if any(_is_noticed(tree, chosen) for chosen in rounds):
        raise SystemExit(f"the tests of {name} fail, or do not start, with nothing changed")
    source = path.read_bytes()
    for change in Table(source).changes():
        path.write_bytes(change.apply(source))
        yield change, not any(_is_noticed(tree, chosen) for chosen in rounds)
    path.write_bytes(source)


def main(wanted: list[str]) -> int:
    """Try every change of every table, or of those whose names contain one of the words; 1 when one survives."""
    tried, survived = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for copied in COPIED:
            shutil.copytree(ROOT / copied, tree / copied, ignore=shutil.ignore_patterns(*NOT_COPIED))
        for name in TABLES:
            if wanted and not any(word in name for word in wanted):
                continue
            for change, survives in _survivors(tree, name):
                tried += 1
                if survives:
                    survived += 1
                    print(f"{name}:{change.line}: {change.what}", flush=True)
    print(f"{tried} changes, {survived} survived")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
