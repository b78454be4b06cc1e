"""Builds the C part of mongoguard.wire where there is a compiler; without one the package is complete too, and slower.

hatchling calls the hook for wheels and editable installs. `python hatch_build.py` builds in place.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

Hook: Any = object
with contextlib.suppress(ImportError):  # called by itself, in an environment without hatchling
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface as Hook

SOURCE = Path(__file__).parent / "mongoguard" / "wire" / "_native.c"
BUILT = SOURCE.with_name("_native.abi3.so")


def build() -> bool:
    """Compile the extension beside its source; False where that is not possible or not wanted."""
    if os.environ.get("MONGOGUARD_PURE_PYTHON") == "1" or not sys.platform.startswith("linux"):
        return False
    compiler = shlex.split(os.environ.get("CC", "")) or [shutil.which("cc") or shutil.which("gcc") or ""]
    include = sysconfig.get_path("include")
    if not compiler[0] or not (Path(include) / "Python.h").exists():
        return False
    flags = ["-O2", "-g0", "-Wall", "-Wextra", "-fPIC", "-shared", "-fvisibility=hidden", f"-I{include}"]
    made = BUILT.with_suffix(f".{os.getpid()}.tmp")  # several installs may build at a time
    command = [*compiler, *flags, *shlex.split(os.environ.get("CFLAGS", "")), str(SOURCE), "-o", str(made)]
    try:
        subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  (the installer's own CC)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", "") or error
        sys.stderr.write(f"mongoguard: without its C part, which does not compile here: {said}\n")
        made.unlink(missing_ok=True)
        return False
    made.replace(BUILT)
    return True


class NativeBuildHook(Hook):  # type: ignore[misc]  # hatchling is there when it calls this
    """Called by hatchling before it collects the files."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  (hatchling's signature)
        """Build, and say that the wheel is one for this platform when there is something built in it."""
        if self.target_name == "wheel" and build():
            build_data["pure_python"] = False
            build_data["tag"] = f"cp311-abi3-{_platform()}"
            build_data["artifacts"].append("/mongoguard/wire/_native.abi3.so")


def _platform() -> str:
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")


if __name__ == "__main__":
    sys.exit(0 if build() else 1)
