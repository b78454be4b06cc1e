"""The command line: usage, exit statuses, one sentence a problem."""

import re
import subprocess
import sys

import pytest
from pymongo.errors import OperationFailure, ServerSelectionTimeoutError

from mongoguard import __version__
from mongoguard.cli import serve
from mongoguard.cli.errors import CommandFailed, sentences_for
from mongoguard.cli.main import main
from mongoguard.config.settings import Settings
from mongoguard.errors import ConfigError, UpstreamUnavailable


def usage_error(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"mongoguard {__version__}\n"


def test_python_dash_m_is_the_same_command():
    done = subprocess.run(
        [sys.executable, "-m", "mongoguard", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"mongoguard {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["no-such-command"],
        ["serve"],
        ["demo", "--port", "0"],
        ["demo", "--port", "x"],
        ["explain", "-f", "x", "--user", "alice", "--db", "d", "--command", "{}"],
        ["explain", "-f", "x", "--user", "@admin", "--db", "d", "--command", "{}"],
        ["user", "--name", "a", "--role", "read"],
        ["user", "--name", "a", "--password", "x"],
        ["init-upstream"],
        ["ldap", "-f", "x"],
        ["ldap", "--user", "alice"],
        ["ldap", "-f", "x", "--user", "\udc80"],
    ],
)
def test_bad_usage_has_status_2(capsys, arguments):
    assert "usage: mongoguard" in usage_error(capsys, *arguments)


def test_a_wrong_configuration_has_status_2_and_a_sentence(capsys, tmp_path):
    path = tmp_path / "m.yaml"
    path.write_text("upstream: {uri: 'mongodb://u:c4n4ry@h'}\nnet: {portt: 1}")
    for command in (["serve"], ["check"], ["explain", "--user", "a@b", "--db", "d", "--command", "{}"]):
        assert main([*command, "-f", str(path)]) == 2
        captured = capsys.readouterr()
        assert captured.err == f"mongoguard: {path}: net.portt: unknown key; did you mean net.port?\n"
        assert captured.out == ""


@pytest.mark.parametrize(
    ("workers", "processors", "expected"),
    [
        ("", 8, ("serve", 1)),
        ("1", 8, ("serve", 1)),
        ("3", 2, ("supervise", 3)),
        ("auto", 2, ("supervise", 2)),
        ("auto", 1, ("serve", 1)),
    ],
)
def test_serve_runs_the_proxy_in_as_many_processes_as_it_is_told(
    monkeypatch, tmp_path, workers, processors, expected
):
    path = tmp_path / "m.yaml"
    text = "upstream: {uri: 'mongodb://u:p@h'}\nnet: {port: 27099}\n"
    path.write_text(text + (f"workers: {workers}\n" if workers else ""))
    seen = []
    monkeypatch.setattr(
        serve.trio, "run", lambda function, *arguments, **_: seen.append((function, arguments))
    )
    monkeypatch.setattr(serve.os, "sched_getaffinity", lambda _: set(range(processors)))
    assert main(["serve", "--config", str(path)]) == 0
    ((function, arguments),) = seen
    number = arguments[2] if function.__name__ == "supervise" else 1
    assert (function.__name__, number) == expected
    (settings,) = [argument for argument in arguments if isinstance(argument, Settings)]
    assert settings.net.port == 27099


@pytest.mark.parametrize(
    ("error", "sentences", "status"),
    [
        (ConfigError("a.yaml: x"), ["a.yaml: x"], 2),
        (CommandFailed("no"), ["no"], 1),
        (UpstreamUnavailable("gone"), ["gone"], 1),
        (KeyboardInterrupt(), ["interrupted"], 1),
        (OSError(98, "Address already in use"), ["[Errno 98] Address already in use"], 1),
        (
            OperationFailure("x, full error: y", 18, {"errmsg": "Authentication failed."}),
            ["the server refused: Authentication failed."],
            1,
        ),
        (
            ServerSelectionTimeoutError("h:1: refused (configured timeouts: a), Timeout: 5s, Topology: <z>"),
            ["the server can't be used: h:1: refused"],
            1,
        ),
        (
            ExceptionGroup(
                "g", [ConfigError("b"), ExceptionGroup("h", [CommandFailed("c"), CommandFailed("c")])]
            ),
            ["b", "c"],
            2,
        ),
        (CommandFailed("mongodb://u:c4n4ry@h/ failed"), ["mongodb://<secret>@h/ failed"], 1),
    ],
)
def test_errors_that_were_foreseen_become_sentences(error, sentences, status):
    assert sentences_for(error) == (sentences, status)


def test_a_bug_keeps_its_traceback(monkeypatch, tmp_path):
    assert sentences_for(ZeroDivisionError()) is None
    assert sentences_for(ExceptionGroup("g", [ConfigError("a"), ZeroDivisionError()])) is None

    def broken(_path):
        raise ZeroDivisionError

    monkeypatch.setattr(serve, "read_config", broken)
    with pytest.raises(ZeroDivisionError):
        main(["serve", "-f", "x"])


@pytest.mark.parametrize(
    "uri", ["http://u:c4n4ry@h", "mongodb://u:c4n4ry@h:port", "mongodb://u:c4n4ry@:h@x/"]
)
def test_a_wrong_administrator_uri_is_not_repeated(capsys, uri):
    assert main(["init-upstream", "--uri", uri]) == 2
    captured = capsys.readouterr()
    assert re.fullmatch(r"mongoguard: --uri: expected .*\n", captured.err)
    assert "c4n4ry" not in captured.err + captured.out
