"""What goes wrong: each fault begins, lasts for a while, and ends; the storm then waits for everybody to recover.

In: the deployment, a random generator. Out: nothing; the fault is over when the function returns, but for what a
deployment needs to come back. Must not judge.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tests.chaos.clients import ClientProcess
from tests.chaos.deployment import Chaos
from tests.chaos.footprint import children_of, footprint
from tests.servers import Mongod
from tests.toxic_relay import Direction, Link, ToxicRelay
from tests.workers import is_alive, within, workers_of

__all__ = ["ON_A_SET", "ON_A_STANDALONE", "Concerned", "Fault"]

FROZEN_SECS = 6.0
"""Longer than every deadline of the clients for one step, and than the monitors' of a standalone upstream."""

LAST_SECS = 4.0
"""Other faults last so long."""

SLOW_SECS = 2.5
"""Slow links last so long: nothing breaks there, everything only takes its time."""


GIVEN_UP_SECS = 30.0
"""mongoguard gives a frozen worker up after 12 s; the machine may be busy."""

TWO_DEADLINES_SECS = 6.0
"""A driver whose pool has two connections to a frozen worker waits for both: `timeoutMS` is three seconds. That is over
before the worker is given up."""

REPLACED_SECS = 60.0
"""A worker starts in some seconds, but in many on a busy machine, and it needs the upstream for that."""


class Concerned(StrEnum):
    """Whose operations may fail because of a fault."""

    ALL = "all clients"
    RELAYED = "clients behind the relay"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of failure."""

    name: str
    happen: Callable[[Chaos, random.Random], None]
    concerned: Concerned = Concerned.ALL
    kills_clients: bool = False
    end: Callable[[Chaos, random.Random], None] | None = None
    """For one that goes on while everybody recovers from its beginning: how it ends. Then everybody recovers again."""
    freezes_worker: bool = False
    deadlines_secs: float = 0.0
    """For so long clients may wait for what nobody answers: by their own deadlines, which are no part of a recovery."""


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def _network(chaos: Chaos) -> ToxicRelay:
    assert chaos.network is not None, "this deployment has no relay in front of the upstream"
    return chaos.network


# ---- the upstream dies or freezes -----------------------------------------------------------------------------------


def _kill_mongod(chaos: Chaos, dice: random.Random) -> None:
    (mongod,) = chaos.mongods
    mongod.kill()
    _pause(dice.uniform(0.2, 1.5))
    mongod.start()


def _kill_primary(chaos: Chaos, dice: random.Random) -> None:
    members = chaos.replica_set
    assert members is not None
    primary = members.primary()
    primary.kill()
    members.primary()
    _pause(dice.uniform(0.5, 1.5))
    primary.start()


def _freeze(mongod: Mongod) -> None:
    mongod.send_signal(signal.SIGSTOP)
    try:
        _pause(FROZEN_SECS)
    finally:
        mongod.send_signal(signal.SIGCONT)


def _freeze_mongod(chaos: Chaos, _dice: random.Random) -> None:
    (mongod,) = chaos.mongods
    _freeze(mongod)


def _freeze_primary(chaos: Chaos, _dice: random.Random) -> None:
    assert chaos.replica_set is not None
    _freeze(chaos.replica_set.primary())


def _step_down_again_and_again(chaos: Chaos, dice: random.Random) -> None:
    assert chaos.replica_set is not None
    for _ in range(2):
        chaos.replica_set.step_down()
        _pause(dice.uniform(1.0, 2.0))


# ---- the network ----------------------------------------------------------------------------------------------------


def _reset_in_mid_message(relay: ToxicRelay, dice: random.Random) -> None:
    for _ in range(round(LAST_SECS / 0.4)):
        relay.reset_next_message(dice.choice(list(Direction)))
        _pause(0.4)
    relay.heal()


def _cut_in_mid_message(relay: ToxicRelay, dice: random.Random) -> None:
    """In good order (FIN), after some bytes: a short message is cut, or a long one far behind its beginning."""
    for _ in range(round(LAST_SECS / 0.4)):
        relay.cut_after(dice.choice(list(Direction)), dice.choice([1, 15, 16, 17, 40, 300, 5_000, 70_000]))
        _pause(0.4)
    relay.heal()


def _half_open(relay: ToxicRelay) -> None:
    relay.leave_half_open(new_too=True)
    _pause(LAST_SECS)
    relay.heal()  # for new connections; the old ones are dead and nobody is told


def _slow(relay: ToxicRelay, dice: random.Random) -> None:
    relay.slow_down(Link(latency_secs=dice.uniform(0.02, 0.06), piece_bytes=20_000, pause_secs=0.04))
    _pause(SLOW_SECS)
    relay.heal()


def _dribble(relay: ToxicRelay, dice: random.Random) -> None:
    relay.slow_down(Link(piece_bytes=dice.choice([7, 64, 200]), pause_secs=0.002), dice.choice([*Direction]))
    _pause(SLOW_SECS)
    relay.heal()


# ---- clients and mongoguard itself ----------------------------------------------------------------------------------


def _kill_clients(chaos: Chaos, dice: random.Random) -> None:
    """A process of clients, killed with all of its commands under way."""
    seed = dice.randrange(1 << 30)
    doomed = ClientProcess(
        chaos.plan(seed, ["timeoutMS", "pipeliner", "leaver"], []), chaos.directory, f"doomed{seed}"
    )
    chaos.doomed.append(doomed)
    _pause(LAST_SECS)
    doomed.kill()


def _kill_worker(chaos: Chaos, dice: random.Random) -> None:
    workers = children_of(chaos.guard.pid)
    assert workers, "mongoguard has no workers"
    os.kill(dice.choice(workers), signal.SIGKILL)


def _freeze_worker(chaos: Chaos, _dice: random.Random) -> None:
    """The one with the most clients. All of them must get on without it, within the time for a recovery."""
    assert within(REPLACED_SECS, lambda: len(_serving(chaos)) > 1), "mongoguard has no two workers that serve"
    chaos.frozen_worker = max(_serving(chaos), key=lambda pid: _clients_of(chaos, pid))
    os.kill(chaos.frozen_worker, signal.SIGSTOP)


def _serving(chaos: Chaos) -> list[int]:
    """Workers that serve: one that is still starting is waited for, whatever happens to it."""
    return [pid for pid in sorted(workers_of(chaos.guard).values()) if is_alive(pid)]


def _clients_of(chaos: Chaos, pid: int) -> int:
    return footprint(pid, chaos.guard.port, []).client_sockets


def _worker_is_replaced(chaos: Chaos, _dice: random.Random) -> None:
    """It is never continued: mongoguard itself must end it."""
    assert within(GIVEN_UP_SECS, lambda: not is_alive(chaos.frozen_worker)), "a frozen worker is not given up"
    assert within(REPLACED_SECS, lambda: len(_serving(chaos)) > 1), "a frozen worker is not replaced"


def _thaw_worker(chaos: Chaos, dice: random.Random) -> None:
    """It goes on, unless it has been given up already, for a user was changed meanwhile."""
    _pause(dice.uniform(0.0, 2.0))
    with contextlib.suppress(ProcessLookupError):
        os.kill(chaos.frozen_worker, signal.SIGCONT)


def _suspend(chaos: Chaos, dice: random.Random) -> None:
    """All of mongoguard at once, as on a machine that is suspended: nobody may be taken for frozen."""
    everybody = [chaos.guard.pid, *children_of(chaos.guard.pid)]
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    try:
        _pause(LAST_SECS)
    finally:
        dice.shuffle(everybody)
        for pid in everybody:
            os.kill(pid, signal.SIGCONT)


def _reload(chaos: Chaos, _dice: random.Random) -> None:
    for _ in range(3):
        chaos.guard.send_signal(signal.SIGHUP)
        _pause(0.5)


def _on(
    relay: Callable[[Chaos], ToxicRelay], what: Callable[[ToxicRelay, random.Random], None]
) -> Callable[[Chaos, random.Random], None]:
    return lambda chaos, dice: what(relay(chaos), dice)


_NETWORK_FAULTS: Mapping[str, Callable[[ToxicRelay, random.Random], None]] = {
    "resets in mid-message": _reset_in_mid_message,
    "cuts in mid-message": _cut_in_mid_message,
    "half-open sockets": lambda relay, _dice: _half_open(relay),
    "slow link": _slow,
    "dribble": _dribble,
}

_TOWARDS_UPSTREAM = [
    Fault(f"upstream: {name}", _on(_network, what)) for name, what in _NETWORK_FAULTS.items()
]
_TOWARDS_CLIENTS = [
    Fault(f"clients: {name}", _on(lambda chaos: chaos.access, what), Concerned.RELAYED)
    for name, what in _NETWORK_FAULTS.items()
]
_CLIENTS_KILLED = Fault("clients killed in mid-command", _kill_clients, Concerned.NOBODY, kills_clients=True)
_RELOADED = Fault("SIGHUP", _reload, Concerned.NOBODY)

ON_A_STANDALONE: Sequence[Fault] = (
    Fault("mongod killed", _kill_mongod),
    Fault("mongod frozen", _freeze_mongod),
    *_TOWARDS_UPSTREAM,
    *_TOWARDS_CLIENTS,
    _CLIENTS_KILLED,
    _RELOADED,
    Fault("mongoguard suspended", _suspend),
)

ON_A_SET: Sequence[Fault] = (
    Fault("primary killed", _kill_primary),
    Fault("primary frozen", _freeze_primary),
    Fault("step-downs", _step_down_again_and_again),
    Fault("worker killed", _kill_worker),
    Fault(
        "worker frozen for good",
        _freeze_worker,
        end=_worker_is_replaced,
        freezes_worker=True,
        deadlines_secs=TWO_DEADLINES_SECS,
    ),
    Fault(
        "worker frozen for a while",
        _freeze_worker,
        end=_thaw_worker,
        freezes_worker=True,
        deadlines_secs=TWO_DEADLINES_SECS,
    ),
    Fault("mongoguard suspended", _suspend),
)
