"""mongosh and the Node driver, run as their users run them, each test with a home folder of its own.

mongosh writes logs, history and a configuration below HOME; a folder of the test's own keeps runs apart and leaves
nothing behind. The npm packages are named in tests/clients/package.json.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pexpect

from tests.missing import CLIENTS, require_node_package, require_program
from tests.terminals import end_at_once, status_at_end

__all__ = ["ClientFailed", "MongoshTerminal", "NodeClients"]

_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|[@-Z\\-_])")


class ClientFailed(AssertionError):
    """The client ended with an error; the text is what it printed."""


class MongoshTerminal:
    """mongosh at a terminal, as a person uses it: `run` a line, get what it printed."""

    _PROMPT = r"(?:\S+ )?[^\s>]+> \x1b\[\d+G$"

    def __init__(self, arguments: list[str], environment: dict[str, str], timeout: float) -> None:
        self._child: pexpect.spawn[str] = pexpect.spawn(
            arguments[0],
            arguments[1:],
            env=environment,
            encoding="utf-8",
            codec_errors="replace",
            dimensions=(50, 200),
            timeout=timeout,
        )
        self.greeting = self._until_prompt()

    def run(self, line: str) -> str:
        """Type a line and return what was printed up to the next prompt, without colours."""
        self._child.send(line + "\r")
        # the terminal repeats what is typed, and the prompt with every key: wait for the end of the line first
        self._child.expect("\r\n")
        return self._until_prompt()

    def press(self, keys: str, until: str) -> str:
        """Press keys (a tab, say) without Enter, and return the screen up to where the regular expression matches."""
        self._child.send(keys)
        self._child.expect(until)
        return _plain(str(self._child.before) + str(self._child.after))

    def close(self) -> int | None:
        """Leave with `exit` and return the exit status."""
        self._child.send("exit\r")
        return status_at_end(self._child)

    def kill(self) -> None:
        """End it whatever it is doing."""
        end_at_once(self._child)

    def _until_prompt(self) -> str:
        try:
            self._child.expect(self._PROMPT)
        except (pexpect.EOF, pexpect.TIMEOUT) as error:
            screen = _plain(str(self._child.before))
            raise ClientFailed(
                f"mongosh shows no prompt ({type(error).__name__}):\n{screen[-3000:]}"
            ) from error
        return _plain(str(self._child.before)).strip()


class NodeClients:
    """Runs mongosh and Node scripts with HOME in `home`."""

    def __init__(self, home: Path, timeout: float = 120.0) -> None:
        """`timeout` in seconds holds for each client run; a cold mongosh needs about 4 s on two busy cores."""
        home.mkdir(parents=True, exist_ok=True)
        self._environment = {
            "HOME": str(home),
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "NODE_NO_WARNINGS": "1",
            "TERM": "xterm",
        }
        self._timeout = timeout

    def mongosh(self, uri: str, script: str, *options: str) -> str:
        """Run JavaScript with `mongosh --eval` and return what it printed. Raises `ClientFailed` on an exit status."""
        return self._checked([self._mongosh(), uri, "--quiet", "--norc", *options, "--eval", script])

    def mongosh_file(self, uri: str, script: str) -> dict[str, Any]:
        """Run a script of tests/clients with `mongosh --file` and return the JSON of its last line."""
        return _last_line(
            self._checked([self._mongosh(), uri, "--quiet", "--norc", "--file", str(CLIENTS / script)])
        )

    def mongosh_terminal(self, uri: str) -> MongoshTerminal:
        """mongosh in a pseudo-terminal, at its first prompt."""
        return MongoshTerminal([self._mongosh(), uri, "--norc"], self._environment, self._timeout)

    def node(self, script: str, *arguments: str) -> dict[str, Any]:
        """Run a script of tests/clients with the MongoDB driver and return the JSON of its last line."""
        require_node_package("mongodb")
        node = require_program("node", "install Node.js 20.19 or later")
        return _last_line(self._checked([node, str(CLIENTS / script), *arguments]))

    def _mongosh(self) -> str:
        require_node_package("mongosh")
        return str(CLIENTS / "node_modules" / ".bin" / "mongosh")

    def _checked(self, command: list[str]) -> str:
        done = subprocess.run(
            command,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=self._timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode != 0:
            raise ClientFailed(
                f"{Path(command[0]).name} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
            )
        return done.stdout


def _last_line(output: str) -> dict[str, Any]:
    lines = output.strip().splitlines()
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def _plain(screen: str) -> str:
    return _ESCAPES.sub("", screen).replace("\r", "")
