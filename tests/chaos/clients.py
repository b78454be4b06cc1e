"""The process that clients run in: `python -m tests.chaos.clients PLAN EVENTS`, and how to start and end it.

A process of their own, so that Python's one lock is not shared with whoever starts the faults, and so that it can be
killed. PLAN is a JSON file of `ClientPlan`s; EVENTS is written as it happens. At the end of standard input the clients
stop, look whether everything is there, and the process ends with status 0.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.chaos.driver_client import DRIVER_OPTIONS, ClientPlan, DriverClient
from tests.chaos.events import Event, Report
from tests.chaos.raw_client import Churner, Leaver, Pipeliner
from tests.chaos.rights_client import RightsClient
from tests.servers import PROJECT

__all__ = ["RAW_CLIENTS", "ClientProcess"]

RAW_CLIENTS = {"pipeliner": Pipeliner, "churner": Churner, "leaver": Leaver, "rights": RightsClient}

SETTLE_SECS = 150.0
"""At the end of a storm each client looks at everything, twenty times at most, within its own deadlines."""


class ClientProcess:
    """Clients in a process, from the outside."""

    def __init__(self, plans: Sequence[ClientPlan], directory: Path, name: str) -> None:
        """Start the clients."""
        self.plans = plans
        self._events: list[Event] = []
        self._read_up_to = 0
        directory.mkdir(parents=True, exist_ok=True)
        self._events_path = directory / f"{name}.events"
        self._log_path = directory / f"{name}.log"
        plan_path = directory / f"{name}.plan"
        plan_path.write_text(json.dumps([asdict(plan) for plan in plans]))
        self._events_path.touch()
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.clients", str(plan_path), str(self._events_path)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=PROJECT,
            )

    @property
    def events(self) -> list[Event]:
        """What has been reported so far; a line that is still being written is left out."""
        with self._events_path.open() as stream:
            stream.seek(self._read_up_to)
            *lines, _unfinished = stream.read().split("\n")
        self._read_up_to += sum(len(line) + 1 for line in lines)  # JSON as Python writes it is ASCII
        self._events.extend(map(Event.from_line, lines))
        return self._events

    @property
    def log(self) -> str:
        """What the process has printed: nothing, unless something is wrong."""
        return self._log_path.read_text(errors="replace")

    def settle(self) -> int | None:
        """Let the clients stop and look at everything; the exit status, None when the process hangs."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            return self._process.wait(SETTLE_SECS)
        except subprocess.TimeoutExpired:
            return None
        finally:
            self.kill()

    def kill(self) -> None:
        """End it as a crash does (SIGKILL), when it still runs."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.kill()
        self._process.wait()


def main(plan_path: str, events_path: str) -> int:
    """Run the clients of a plan until standard input ends."""
    plans = [ClientPlan(**plan) for plan in json.loads(Path(plan_path).read_text())]
    stop = threading.Event()
    with Path(events_path).open("a") as stream:
        report = Report(stream)
        threads = []
        for plan in plans:
            kind = DriverClient if plan.kind in DRIVER_OPTIONS else RAW_CLIENTS[plan.kind]
            client = kind(plan, report, stop)
            threads.append(threading.Thread(target=client.run, name=plan.name, daemon=True))
        for thread in threads:
            thread.start()
        sys.stdin.read()
        stop.set()
        for thread in threads:
            thread.join()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
