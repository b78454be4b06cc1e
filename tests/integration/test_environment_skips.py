"""A missing server or client: skipped by name on a developer's machine, a failure on CI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import PROJECT

_IN_A_TEST = "from tests.missing import missing\n\ndef test_it():\n    missing('the server', 'install it')\n"
_IN_A_FILE = "import pytest\n\npytest.skip('the client is missing: install it', allow_module_level=True)\n"
_EXPECTED = "import pytest\n\n@pytest.mark.xfail\ndef test_it():\n    assert False\n"


def _run(directory: Path, source: str, *, on_ci: bool) -> str:
    (directory / "test_example.py").write_text(source)
    environment = {name: value for name, value in os.environ.items() if name != "MONGOGUARD_CI"}
    if on_ci:
        environment["MONGOGUARD_CI"] = "1"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-c", "pyproject.toml", str(directory)],
        env=environment,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


@pytest.mark.parametrize("source", [_IN_A_TEST, _IN_A_FILE])
def test_what_is_missing_is_skipped_here_and_fails_on_ci(tmp_path: Path, source: str) -> None:
    here = _run(tmp_path, source, on_ci=False)
    assert "1 skipped" in here
    assert "is missing: install it" in here
    there = _run(tmp_path, source, on_ci=True)
    assert "skipped, which CI does not allow" in there
    assert "1 failed" in there or "1 error" in there
    assert "1 skipped" not in there


def test_an_expected_failure_stays_one_on_ci(tmp_path: Path) -> None:
    assert "1 xfailed" in _run(tmp_path, _EXPECTED, on_ci=True)
