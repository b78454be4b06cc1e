"""The pid file: written and removed, and never through what somebody else has put there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mongoguard.errors import ConfigError
from mongoguard.server.pid_file import pid_file

PREFIX = "processManagement.pidFilePath: cannot write "


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught, pid_file(str(path)):
        pass
    return str(caught.value)


def test_the_file_holds_the_number_while_the_process_runs(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with pid_file(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"
        assert path.stat().st_mode & 0o022 == 0
    assert not path.exists()


def test_a_file_that_a_killed_process_left_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("1234567890 and more\n")
    with pid_file(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"


def test_without_a_path_there_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pid_file(None):
        assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_removed_meanwhile_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with pid_file(str(path)):
        path.unlink()


@pytest.mark.parametrize("exists", [True, False])
def test_a_symbolic_link_is_not_followed(tmp_path: Path, exists: bool) -> None:
    target, path = tmp_path / "target", tmp_path / "pid"
    if exists:
        target.write_text("precious")
    path.symlink_to(target)
    assert refusal(path) == f"{PREFIX}{path}: it is a symbolic link"
    assert path.is_symlink()
    assert target.read_text() == "precious" if exists else not target.exists()


def test_a_file_with_another_name_is_not_overwritten(tmp_path: Path) -> None:
    target, path = tmp_path / "target", tmp_path / "pid"
    target.write_text("precious")
    os.link(target, path)
    assert refusal(path) == f"{PREFIX}{path}: it is not a regular file of its own"
    assert target.read_text() == "precious"


def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    os.mkfifo(path)
    assert refusal(path).startswith(f"{PREFIX}{path}: ")
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert refusal(path) == f"{PREFIX}{path}: it is not a regular file of its own"
        assert os.read(reader, 100) == b""
    finally:
        os.close(reader)


@pytest.mark.parametrize("name", ["missing/pid", ""])
def test_a_place_that_takes_no_file_is_refused(tmp_path: Path, name: str) -> None:
    assert refusal(tmp_path / name).startswith(f"{PREFIX}{tmp_path / name}: ")
