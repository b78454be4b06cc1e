"""Installs every driver that `clients` runs, on a machine with only Python 3.11, Node.js and apt (Debian 12).

Debian's packages come by apt (as root, or by sudo without a password), the rest goes below one folder. What is there
already is left alone, so that a second run costs seconds. Raises `CalledProcessError` when something can't be had:
no client is left out silently.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.drivers.clients import PROGRAMS

__all__ = ["install"]

_PACKAGES = (
    *("php-cli", "php-mongodb", "ruby-mongo", "libmongodb-perl", "python3-pymongo"),
    *("golang-go", "golang-mongodb-mongo-driver-dev", "gcc", "pkg-config", "libmongoc-dev"),
    *("default-jdk-headless", "libmongodb-java", "prometheus-mongodb-exporter", "libcurl4"),
)

_NODE = {
    "node-7": ("mongodb@7.9.0", "mongosh@2.12.0"),
    "node-4.17": ("mongodb@4.17.2",),
    "node-3.6": ("mongodb@3.6.12",),
    "mongoose": ("mongoose@9.12.1",),
}

_PYTHON = {
    "pymongo-3.11.0": ("pymongo==3.11.0",),
    "models": ("motor==3.7.1", "mongoengine==0.29.3", "beanie==2.2.0"),
}

_NO_SERVICES = Path("/usr/sbin/policy-rc.d")
"""Packages that bring a service ask this program whether to start it (invoke-rc.d(8)): status 101 forbids."""


def install(prefix: Path) -> None:
    """Have every driver below `prefix` or on the system."""
    prefix.mkdir(parents=True, exist_ok=True)
    _debian_packages()
    for folder, packages in _NODE.items():
        _once(
            prefix / folder,
            "npm",
            "install",
            "--no-package-lock",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
            *packages,
        )
    for folder, packages in _PYTHON.items():
        if not (prefix / folder / "done").exists():
            _run(sys.executable, "-m", "venv", "--clear", str(prefix / folder))
            _once(prefix / folder, "bin/python", "-m", "pip", "install", "-q", *packages)
    compiler_flags = subprocess.check_output(
        ["pkg-config", "--cflags", "--libs", "libmongoc-1.0"], text=True
    ).split()
    sources = [str(PROGRAMS / name) for name in ("smoke.c", "features.c")]
    _run("gcc", "-Wall", "-o", str(prefix / "smoke_c"), *sources, *compiler_flags)
    # Debian's Go libraries lie in a GOPATH of their own and belong to no module.
    go = {"GOPATH": "/usr/share/gocode", "GO111MODULE": "off", "GOCACHE": str(prefix / "go-cache")}
    sources = [str(PROGRAMS / name) for name in ("smoke.go", "features.go")]
    _run("go", "build", "-o", str(prefix / "smoke_go"), *sources, environment=go)
    _run(
        "javac",
        "-nowarn",
        "-d",
        str(prefix / "java"),
        "-cp",
        "/usr/share/java/mongo-java-driver.jar",
        str(PROGRAMS / "Smoke.java"),
    )


def _debian_packages() -> None:
    missing = [package for package in _PACKAGES if not _is_installed(package)]
    if not missing:
        return
    print("installing", *missing, flush=True)
    _as_root("apt-get", "update", "-qq")
    ours = not _NO_SERVICES.exists()
    if ours:
        _as_root("sh", "-c", f"printf '#!/bin/sh\\nexit 101\\n' > {_NO_SERVICES} && chmod 755 {_NO_SERVICES}")
    try:
        _as_root(
            "env",
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "install",
            "-y",
            "-qq",
            "--no-install-recommends",
            *missing,
        )
    finally:
        if ours:
            _as_root("rm", "-f", str(_NO_SERVICES))


def _is_installed(package: str) -> bool:
    asked = subprocess.run(["dpkg", "-s", package], capture_output=True, text=True, check=False)
    return "Status: install ok installed" in asked.stdout


def _as_root(*command: str) -> None:
    _run(*(command if os.geteuid() == 0 else ("sudo", "-n", *command)))


def _once(folder: Path, program: str, *arguments: str) -> None:
    """Run an installation in `folder`, unless it has been done there."""
    done = folder / "done"
    if done.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    print("installing", folder.name, flush=True)
    _run(str(folder / program) if "/" in program else program, *arguments, folder=folder)
    done.touch()


def _run(
    program: str, *arguments: str, folder: Path | None = None, environment: dict[str, str] | None = None
) -> None:
    found = shutil.which(program)
    if found is None:
        raise FileNotFoundError(f"{program} is not installed")
    subprocess.run(
        [found, *arguments],
        cwd=folder,
        env={**os.environ, **(environment or {})},
        check=True,
        stdout=subprocess.DEVNULL,
    )
