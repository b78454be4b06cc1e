"""The operational log: mongod's structure, one line per record, no secrets."""

import json
import logging

import pytest

from mongoguard.config.secret import Secret
from mongoguard.config.sections import SystemLog
from mongoguard.errors import ConfigError
from mongoguard.server.log import configure_logging, redact


@pytest.fixture(autouse=True)
def _restored_logger():
    logger = logging.getLogger("mongoguard")
    before = (logger.handlers[:], logger.level, logger.propagate)
    yield
    for handler in logger.handlers[:]:
        if handler not in before[0]:
            logger.removeHandler(handler)
            handler.close()
    logger.level, logger.propagate = before[1:]


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_record_becomes_one_line_on_standard_error(capsys):
    configure_logging(SystemLog())
    logging.getLogger("mongoguard.network").info("Listening\non %s", "::1", extra={"attr": {"port": 27017}})
    logging.getLogger("mongoguard.network").debug("not at verbosity 0")
    (line,) = lines(capsys.readouterr().err)
    assert line["s"] == "I"
    assert line["c"] == "NETWORK"
    assert line["msg"] == "Listening\non ::1"
    assert line["attr"] == {"port": 27017}
    assert line["t"]["$date"].endswith("+00:00")


def test_verbosity_shows_debug_records(capsys):
    configure_logging(SystemLog(verbosity=1))
    logging.getLogger("mongoguard.network").debug("shown")
    assert lines(capsys.readouterr().err)[0]["s"] == "D1"


def test_no_line_holds_the_password_of_a_connection_string(capsys):
    configure_logging(SystemLog())
    log = logging.getLogger("mongoguard.upstream")
    uri = "mongodb://mongoguard:c4n4ry@h/?a=b"
    try:
        raise ValueError(f"bad uri {uri}")
    except ValueError:
        log.exception("failed for %s", uri, extra={"attr": {"uri": uri, "secret": Secret("c4n4ry")}})
    text = capsys.readouterr().err
    assert "c4n4ry" not in text
    assert lines(text)[0]["attr"] == {"uri": "mongodb://<secret>@h/?a=b", "secret": "<secret>"}
    assert "ValueError" in lines(text)[0]["exception"]


@pytest.mark.parametrize("login", ["u:p@x", "u:p/q@x", "u", "u:p?@#x"])
def test_a_login_is_cut_however_badly_it_is_encoded(login):
    assert redact(f"to mongodb+srv://{login}@h/db failed") == "to mongodb+srv://<secret>@h/db failed"


def test_a_file_is_private_and_appended_to_with_log_append(tmp_path):
    path = tmp_path / "guard.log"
    for text in ("one", "two"):
        configure_logging(
            SystemLog.model_validate({"destination": "file", "path": str(path), "logAppend": True})
        )
        logging.getLogger("mongoguard.x").info(text)
    assert [line["msg"] for line in lines(path.read_text())] == ["one", "two"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_without_log_append_an_old_file_is_set_aside(tmp_path):
    path = tmp_path / "guard.log"
    path.write_text("old\n")
    configure_logging(SystemLog(destination="file", path=str(path)))
    logging.getLogger("mongoguard.x").info("new")
    assert [line["msg"] for line in lines(path.read_text())] == ["new"]
    (old,) = tmp_path.glob("guard.log.2*")
    assert old.read_text() == "old\n"


def test_a_renamed_file_is_followed_by_a_new_one(tmp_path):
    path = tmp_path / "guard.log"
    configure_logging(SystemLog(destination="file", path=str(path)))
    logging.getLogger("mongoguard.x").info("one")
    path.rename(tmp_path / "old")
    logging.getLogger("mongoguard.x").info("two")
    assert [line["msg"] for line in lines(path.read_text())] == ["two"]


def test_a_path_that_can_not_be_opened_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigError, match=r"systemLog.path: can't open .*: No such file or directory"):
        configure_logging(SystemLog(destination="file", path=str(tmp_path / "no" / "guard.log")))
