"""`python -m tests.drivers`: every driver directly against mongod and through mongoguard; prints a table of differences.

Exit status 1 when any client finds anything else through mongoguard than directly, or fails in both.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.drivers.clients import CLIENTS
from tests.drivers.exporter import compare_exporter
from tests.drivers.installing import install
from tests.drivers.running import Comparison, compare, deployments, print_table


def main(arguments: Sequence[str] | None = None) -> int:
    """Install, start, run, compare; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.drivers", description=__doc__)
    parser.add_argument(
        "--prefix", type=Path, default=Path(sys.prefix) / "drivers", help="where drivers are installed"
    )
    parser.add_argument("--no-install", action="store_true", help="everything is installed already")
    parser.add_argument(
        "--only", nargs="*", metavar="CLIENT", help="run these only, by the beginnings of their names"
    )
    options = parser.parse_args(arguments)
    if not options.no_install:
        install(options.prefix)
    wanted = tuple(options.only or ("",))
    found: list[Comparison] = []
    with tempfile.TemporaryDirectory(prefix="drivers-") as folder, deployments(Path(folder)) as running:
        for client in CLIENTS:
            if client.name.startswith(wanted):
                for deployment in running:
                    if deployment.balanced and client.balanced is None:
                        continue
                    found.append(compare(client, deployment, options.prefix, Path(folder)))
                    print(found[-1].line, flush=True)
        if "exporter".startswith(wanted):
            # mgo.v2 knows no loadBalanced, and says so before it connects
            found.extend(compare_exporter(one) for one in running if not one.balanced)
    print_table(found)
    return 0 if found and all(comparison.same for comparison in found) else 1


if __name__ == "__main__":
    sys.exit(main())
