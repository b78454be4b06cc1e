"""Which clients are run, and how each is started (data).

In: the folder that `installing` has filled. Out: command lines. Every program takes `URI WRONG_URI set|standalone`,
prints `part: what was found` lines and ends with 0; what it finds must not depend on what it is connected to. The
environment names the rest: DRIVER_URI, DRIVER_WRONG_URI and DRIVER_DEPLOYMENT the same again, DRIVER_OVERHEARD_URI a relay
to the same end, DRIVER_ADMIN_URI the deployment itself and its administrator, who makes it fail once, and DRIVER_LACKS
the parts to leave out, separated by commas.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["CLIENTS", "PROGRAMS", "WITNESSES", "DriverClient"]

PROGRAMS = Path(__file__).parent / "programs"

_ALWAYS = frozenset(
    {
        "version",
        "crud",
        "duplicate",
        "cursors",
        "aggregation",
        "indexes",
        "denied",
        "denied write",
        "wrong password",
    }
)
_SESSION = frozenset({"session", "bulk"})
_CURSORS = frozenset({"tailable", "compression"})
_TRANSACTIONS = frozenset({"transactions", "denied in a transaction"})
_STREAMS = frozenset({"change stream", "resumed"})
_SET = _TRANSACTIONS | _STREAMS | {"with transaction", "retries", "causal"}

WITNESSES: Mapping[str, frozenset[str]] = {
    "compression": frozenset({"compressed requests", "compressed replies"}),
    "exhaust": frozenset({"unasked batches"}),
    "tailable": frozenset({"tailable"}),
    "retries": frozenset({"retryable write"}),
    "transactions": frozenset({"transaction"}),
    "resumed": frozenset({"resumed stream"}),
    "causal": frozenset({"afterClusterTime"}),
    "snapshot": frozenset({"snapshot"}),
    "stable API": frozenset({"strict API"}),
}
"""Part -> what `evidence` must have found when a client says that it did that."""


@dataclass(frozen=True, slots=True)
class DriverClient:
    """One client. In `command`, `{prefix}` is the folder of installed drivers, `{programs}` that of the programs.

    `parts`: the lines that must be there; `set_parts`: those that a replica set adds. A program that fails alike at both
    ends would otherwise pass. `balanced`: what it can't do with loadBalanced=true; None when it does not know that. `environment` is added to the
    program's.
    """

    name: str
    command: tuple[str, ...]
    parts: frozenset[str]
    set_parts: frozenset[str]
    balanced: frozenset[str] | None = frozenset()
    environment: Mapping[str, str] = field(default_factory=dict)

    def arguments(self, prefix: Path) -> list[str]:
        """The command line without its last three arguments."""
        return [part.format(prefix=prefix, programs=PROGRAMS) for part in self.command]

    def variables(self, prefix: Path) -> dict[str, str]:
        """Environment variables that the client needs."""
        return {name: value.format(prefix=prefix) for name, value in self.environment.items()}


_OLD = _ALWAYS | _CURSORS | _SESSION
_NOW = _OLD | {"stable API"}
_SET_NOW = _SET | {"snapshot"}


def _python(
    name: str,
    interpreter: str,
    program: str,
    parts: frozenset[str] = _NOW | {"exhaust"},
    set_parts: frozenset[str] = _SET_NOW,
    *,
    balanced: frozenset[str] | None = frozenset(),
    asynchronous: str = "pymongo",
) -> DriverClient:
    command = (interpreter, f"{{programs}}/{program}")
    return DriverClient(name, command, parts, set_parts, balanced, {"SMOKE_ASYNC_API": asynchronous})


def _node(
    name: str,
    program: str,
    parts: frozenset[str] = _NOW,
    set_parts: frozenset[str] = _SET_NOW,
    *,
    balanced: frozenset[str] | None = frozenset(),
) -> DriverClient:
    folder = name.replace(" ", "-")
    modules = {"NODE_PATH": f"{{prefix}}/{folder}/node_modules", "NODE_NO_WARNINGS": "1"}
    return DriverClient(name, ("node", f"{{programs}}/{program}"), parts, set_parts, balanced, modules)


_MODELS = "{prefix}/models/bin/python"

CLIENTS: tuple[DriverClient, ...] = (
    _python("pymongo", sys.executable, "smoke.py"),
    _python("pymongo async", sys.executable, "smoke_async.py"),
    # no snapshot reads, no stable API
    _python("pymongo 3.11.0", "{prefix}/pymongo-3.11.0/bin/python", "smoke.py", _OLD, _SET, balanced=None),
    _python("pymongo of Debian", "/usr/bin/python3", "smoke.py", _OLD, _SET, balanced=None),
    _python("motor", _MODELS, "smoke_async.py", asynchronous="motor"),
    _python(
        "mongoengine",
        _MODELS,
        "smoke_mongoengine.py",
        _NOW - _SESSION | {"exhaust", "files"},
        _SET_NOW - {"transactions", "change stream"},
    ),
    _python(
        "beanie",
        _MODELS,
        "smoke_beanie.py",
        _NOW - {"session"} | {"exhaust"},
        _SET_NOW - {"change stream"},
    ),
    _node("node 7", "smoke.js"),
    # 4.17 takes a balanced server for one older than 5.0 where it looks at versions
    _node("node 4.17", "smoke.js", balanced=frozenset({"snapshot"})),
    _node("node 3.6", "smoke.js", _OLD, _SET, balanced=None),
    _node("mongoose", "smoke_mongoose.js", _NOW - {"session"}),
    DriverClient(
        "mongosh",
        (
            "{prefix}/node-7/node_modules/.bin/mongosh",
            "--quiet",
            "--norc",
            "--file",
            "{programs}/smoke_mongosh.js",
        ),
        _NOW | {"explain", "currentOp"},
        _SET_NOW,
        environment={"NODE_NO_WARNINGS": "1"},
    ),
    DriverClient("libmongoc (C)", ("{prefix}/smoke_c",), _NOW, _SET_NOW),
    # the extension leaves repeating a transaction, and resuming a stream whose connection is lost, to a library
    DriverClient("php-mongodb", ("php", "{programs}/smoke.php"), _NOW, _SET_NOW - {"with transaction"}),
    # 2.5.1 knows sessions, but no transactions
    DriverClient(
        "ruby-mongo",
        ("ruby", "{programs}/smoke.rb"),
        _OLD,
        _STREAMS | {"retries", "causal"},
        balanced=None,
    ),
    # 2.2.2 has no sessions on a standalone server
    DriverClient(
        "libmongodb-perl",
        ("perl", "{programs}/smoke.pl"),
        _OLD - {"session"},
        _SET | {"session"},
        balanced=None,
    ),
    DriverClient("Go", ("{prefix}/smoke_go",), _NOW, _SET_NOW),
    # 3.6.3 knows sessions, but no transactions
    DriverClient(
        "Java",
        ("java", "-cp", "{prefix}/java:/usr/share/java/mongo-java-driver.jar", "Smoke"),
        _OLD,
        _STREAMS | {"retries", "causal"},
        balanced=None,
    ),
)
"""Every client, in the order of the table."""
