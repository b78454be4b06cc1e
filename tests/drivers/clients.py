"""Which clients are run, and how each is started (data).

In: the folder that `installing` has filled. Out: command lines. Every program takes `URI WRONG_URI set|standalone`,
prints `part: what was found` lines and ends with 0; what it finds must not depend on what it is connected to.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["CLIENTS", "PROGRAMS", "DriverClient"]

PROGRAMS = Path(__file__).parent / "programs"

_ALWAYS = frozenset(
    {"version", "crud", "duplicate", "cursors", "aggregation", "indexes", "denied", "wrong password"}
)
_SESSION = frozenset({"session", "bulk"})
_TRANSACTIONS = frozenset({"transactions", "change stream"})


@dataclass(frozen=True, slots=True)
class DriverClient:
    """One client. In `command`, `{prefix}` is the folder of installed drivers, `{programs}` that of the programs.

    `parts`: the lines that must be there; `set_parts`: those that a replica set adds. A program that fails alike at both
    ends would otherwise pass. `environment` is added to the program's.
    """

    name: str
    command: tuple[str, ...]
    parts: frozenset[str] = _ALWAYS | _SESSION
    set_parts: frozenset[str] = _TRANSACTIONS
    environment: Mapping[str, str] = field(default_factory=dict)

    def arguments(self, prefix: Path) -> list[str]:
        """The command line without its last three arguments."""
        return [part.format(prefix=prefix, programs=PROGRAMS) for part in self.command]

    def variables(self, prefix: Path) -> dict[str, str]:
        """Environment variables that the client needs."""
        return {name: value.format(prefix=prefix) for name, value in self.environment.items()}


def _node(name: str, program: str, folder: str, parts: frozenset[str] = _ALWAYS | _SESSION) -> DriverClient:
    modules = {"NODE_PATH": f"{{prefix}}/{folder}/node_modules", "NODE_NO_WARNINGS": "1"}
    return DriverClient(name, ("node", f"{{programs}}/{program}"), parts, environment=modules)


CLIENTS: tuple[DriverClient, ...] = (
    DriverClient("pymongo", (sys.executable, "{programs}/smoke.py")),
    DriverClient("pymongo async", (sys.executable, "{programs}/smoke_async.py")),
    DriverClient("pymongo 3.11.0", ("{prefix}/pymongo-3.11.0/bin/python", "{programs}/smoke.py")),
    DriverClient("pymongo of Debian", ("/usr/bin/python3", "{programs}/smoke.py")),
    DriverClient(
        "motor",
        ("{prefix}/models/bin/python", "{programs}/smoke_async.py"),
        environment={"SMOKE_ASYNC_API": "motor"},
    ),
    DriverClient(
        "mongoengine",
        ("{prefix}/models/bin/python", "{programs}/smoke_mongoengine.py"),
        _ALWAYS | {"files"},
        frozenset(),
    ),
    DriverClient(
        "beanie",
        ("{prefix}/models/bin/python", "{programs}/smoke_beanie.py"),
        _ALWAYS | {"bulk"},
        frozenset({"transactions"}),
    ),
    _node("node 7", "smoke.js", "node-7"),
    _node("node 4.17", "smoke.js", "node-4.17"),
    _node("node 3.6", "smoke.js", "node-3.6"),
    _node("mongoose", "smoke_mongoose.js", "mongoose", _ALWAYS | {"bulk"}),
    DriverClient(
        "mongosh",
        (
            "{prefix}/node-7/node_modules/.bin/mongosh",
            "--quiet",
            "--norc",
            "--file",
            "{programs}/smoke_mongosh.js",
        ),
        _ALWAYS | _SESSION | {"explain", "currentOp"},
        environment={"NODE_NO_WARNINGS": "1"},
    ),
    DriverClient("libmongoc (C)", ("{prefix}/smoke_c",)),
    DriverClient("php-mongodb", ("php", "{programs}/smoke.php")),
    # 2.5.1 knows sessions, but neither transactions nor helpers for change streams in them
    DriverClient("ruby-mongo", ("ruby", "{programs}/smoke.rb"), set_parts=frozenset()),
    # 2.2.2 has no sessions on a standalone server
    DriverClient(
        "libmongodb-perl",
        ("perl", "{programs}/smoke.pl"),
        _ALWAYS | {"bulk"},
        _TRANSACTIONS | {"session"},
    ),
    DriverClient("Go", ("{prefix}/smoke_go",)),
    # 3.6.3 knows sessions, but no transactions
    DriverClient(
        "Java",
        ("java", "-cp", "{prefix}/java:/usr/share/java/mongo-java-driver.jar", "Smoke"),
        set_parts=frozenset(),
    ),
)
"""Every client, in the order of the table."""
