"""`python -m tests.chaos`: storms for CHAOS_SECONDS (default 600) from CHAOS_SEED, as long on each deployment.

CHAOS_ON=standalone, standalone-tls, set or set-as-set for one of them alone. Prints what happened and the seed that repeats it; ends with status 1
when something broke the law.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from tests.chaos.deployment import Chaos, chaos_on_a_set, chaos_on_a_standalone
from tests.chaos.faults import ON_A_SET, ON_A_STANDALONE, Fault
from tests.chaos.storm import run_storm
from tests.chaos.verdict import summary, violations

_PLACES: Mapping[str, tuple[Callable[[Path], AbstractContextManager[Chaos]], Sequence[Fault]]] = {
    "standalone": (chaos_on_a_standalone, ON_A_STANDALONE),
    "set": (chaos_on_a_set, ON_A_SET),
    "standalone-tls": (partial(chaos_on_a_standalone, tls=True), ON_A_STANDALONE),
    "set-as-set": (partial(chaos_on_a_set, as_set=True), ON_A_SET),
}


def main() -> int:
    """Run, print, and say by the status whether the law held."""
    seconds = float(os.environ.get("CHAOS_SECONDS", "600"))
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1 << 32))
    places = [os.environ["CHAOS_ON"]] if os.environ.get("CHAOS_ON") else list(_PLACES)
    print(f"CHAOS_SECONDS={seconds:.0f} CHAOS_SEED={seed} CHAOS_ON={' or '.join(places)}", flush=True)
    broken = False
    for name in places:
        place, faults = _PLACES[name]
        with tempfile.TemporaryDirectory() as directory, place(Path(directory)) as chaos:
            report = run_storm(chaos, faults, seed, seconds / len(places))
        print(f"{name}: {summary(report)}", flush=True)
        for sentence in violations(report):
            broken = True
            print(f"{name}: {sentence}", flush=True)
    return 1 if broken else 0


sys.exit(main())
