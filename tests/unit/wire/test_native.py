"""The part in C: it is there where it can be, it is used, and it takes nothing that it must not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import bson
import pytest

from mongoguard.wire import native
from mongoguard.wire.scanning import Element, scan
from tests.servers import PROJECT

CAN_BE_BUILT = (shutil.which("cc") or shutil.which("gcc")) and (
    Path(sysconfig.get_path("include")) / "Python.h"
).exists()


def test_it_is_built_where_there_is_a_compiler(tmp_path):
    """As an installation builds it, from a copy: the tests may run in a tree that nobody has installed."""
    if not CAN_BE_BUILT:
        assert native.native_scan is None or not os.environ.get("CI")
        return
    shutil.copy(PROJECT / "hatch_build.py", tmp_path)
    (tmp_path / "mongoguard/wire").mkdir(parents=True)
    shutil.copy(PROJECT / "mongoguard/wire/_native.c", tmp_path / "mongoguard/wire")
    build = [sys.executable, tmp_path / "hatch_build.py"]
    subprocess.run(build, env={**os.environ, "CFLAGS": "-Werror"}, check=True)
    assert (tmp_path / "mongoguard/wire/_native.abi3.so").exists()


@pytest.mark.parametrize(
    "setting", [{"CC": "no-such-compiler"}, {"CC": "false"}, {"MONGOGUARD_PURE_PYTHON": "1"}]
)
def test_without_a_compiler_the_build_goes_on(tmp_path, setting):
    shutil.copy(PROJECT / "hatch_build.py", tmp_path)
    (tmp_path / "mongoguard/wire").mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, tmp_path / "hatch_build.py"],
        env={**os.environ, **setting},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_python_alone_can_be_asked_for():
    program = "from mongoguard.wire import native; print(native.native_scan, native.native_spans)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "MONGOGUARD_PURE_PYTHON": "1"},
        capture_output=True,
        text=True,
        cwd=PROJECT,
        check=True,
    )
    assert done.stdout.split() == ["None", "None"]


@pytest.mark.parametrize(("position", "beyond"), [(-1, 0), (4, 1), (4, 1 << 40)])
def test_offsets_outside_of_the_bytes_are_not_taken(position, beyond):
    if native.native_scan is None or native.native_spans is None:
        return
    data = bson.encode({"a": 1})
    assert native.native_scan(data, position, len(data) + beyond, 10, Element) is None
    assert native.native_spans(data, position, len(data) + beyond, 10) is None


def test_elements_must_be_tuples_and_bytes_be_bytes():
    if native.native_scan is None:
        return
    for arguments in [(b"", 0, 0, 1, int), (b"", 0, 0, 1, 1), (bytearray(5), 0, 0, 1, Element)]:
        with pytest.raises(TypeError):
            native.native_scan(*arguments)


def test_both_give_elements():
    data = bson.encode({"a": 1, "b": "x"})
    found = scan(data, 4, len(data) - 1, 10)
    assert {type(element) for element in found.values()} == {Element}
    assert [(name, element.type) for name, element in found.items()] == [("a", 0x10), ("b", 0x02)]
