"""The service user and its role, against a server that is played."""

import io

import pytest
from pymongo.errors import OperationFailure

from mongoguard.cli import init_upstream
from mongoguard.cli.main import main
from mongoguard.cli.service_user import WITHHELD_ACTIONS, create_service_user, service_uri
from mongoguard.config.secret import Secret
from mongoguard.model.action_type import ACTIONS_AFTER_6_0


class PlayedServer:
    """Answers the user-management commands; `unknown` actions are refused in the server's words."""

    def __init__(self, unknown=(), refusal=None):
        self.unknown = frozenset(unknown)
        self.refusal = refusal
        self.users = {}
        self.roles = {}
        self.commands = []

    admin = property(lambda self: self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def command(self, name, subject, **arguments):
        self.commands.append(name)
        match name:
            case "usersInfo":
                return {"users": [1] if subject["user"] in self.users else []}
            case "rolesInfo":
                return {"roles": [1] if subject["role"] in self.roles else []}
            case "createRole" | "updateRole":
                if self.refusal:
                    raise self.refusal
                bad = sorted(self.unknown & set(arguments["privileges"][0]["actions"]))
                if bad:
                    text = f"Unrecognized action(s): {', '.join(bad)}"
                    raise OperationFailure(text, 2, {"errmsg": text, "code": 2})
                self.roles[subject] = arguments["privileges"]
            case "createUser":
                self.users[subject] = arguments["pwd"]
            case "updateUser":
                self.users[subject] = arguments["pwd"]
            case "grantRolesToUser":
                assert arguments["roles"] == [{"role": "r", "db": "admin"}]
        return {"ok": 1}


def test_user_and_role_are_created_with_a_password_of_256_bits():
    server = PlayedServer()
    made = create_service_user(server, "u", "r")
    assert made.password is not None
    assert server.users == {"u": made.password.reveal()}
    assert len(made.password.reveal()) >= 43
    assert server.roles["r"][0]["resource"] == {"anyResource": True}
    assert set(server.roles["r"][0]["actions"]) == made.actions
    assert made.password.reveal() not in repr(made)


def test_the_role_never_holds_what_every_client_would_benefit_from():
    assert {"anyAction", "advanceClusterTime", "bypassWriteBlockingMode", "internal"} == WITHHELD_ACTIONS
    made = create_service_user(PlayedServer(), "u", "r")
    assert not made.actions & WITHHELD_ACTIONS
    assert {"impersonate", "find", "createUser", "shutdown"} <= made.actions


def test_actions_that_an_older_server_does_not_know_are_left_out():
    made = create_service_user(PlayedServer(unknown=ACTIONS_AFTER_6_0), "u", "r")
    assert not made.actions & ACTIONS_AFTER_6_0
    assert len(made.actions) == 140


@pytest.mark.parametrize(
    "refusal",
    [
        OperationFailure("not authorized", 13, {"errmsg": "not authorized", "code": 13}),
        OperationFailure("x", 2, {"errmsg": "Unrecognized action(s): nonsense", "code": 2}),
        OperationFailure("x", 2, {"errmsg": "something else", "code": 2}),
        OperationFailure("x", 13, {"errmsg": "Unrecognized action(s): find", "code": 13}),
    ],
)
def test_another_refusal_is_not_tried_again(refusal):
    server = PlayedServer(refusal=refusal)
    with pytest.raises(OperationFailure):
        create_service_user(server, "u", "r")
    assert server.commands.count("createRole") == 1


def test_a_second_run_updates_the_role_and_keeps_the_password():
    server = PlayedServer()
    first = create_service_user(server, "u", "r")
    server.commands.clear()
    second = create_service_user(server, "u", "r")
    assert second.password is None
    assert server.users == {"u": first.password.reveal()}
    assert server.commands == ["rolesInfo", "updateRole", "usersInfo", "grantRolesToUser"]


def test_a_password_is_rotated_on_request():
    server = PlayedServer()
    first = create_service_user(server, "u", "r")
    second = create_service_user(server, "u", "r", rotate_password=True)
    assert second.password is not None
    assert second.password != first.password
    assert server.users == {"u": second.password.reveal()}


@pytest.mark.parametrize(
    ("admin", "expected"),
    [
        ("mongodb://root:pw@h:1/?authSource=admin", "mongodb://u:p%2Fw@h:1/"),
        ("mongodb://h", "mongodb://u:p%2Fw@h/"),
        (
            "mongodb://root:p%40w@a:1,b:2/db?replicaSet=rs0&authMechanism=SCRAM-SHA-256&tls=true&appName=x",
            "mongodb://u:p%2Fw@a:1,b:2/?replicaSet=rs0&tls=true",
        ),
        ("mongodb+srv://root:pw@cluster.example", "mongodb+srv://u:p%2Fw@cluster.example/"),
    ],
)
def test_the_upstream_uri_has_the_hosts_and_options_and_another_login(admin, expected):
    assert service_uri(admin, "u", Secret("p/w")) == expected


def test_an_unknown_password_is_left_to_the_environment():
    assert service_uri("mongodb://h", "u", None) == "mongodb://u:${MONGOGUARD_PASSWORD}@h/"


def test_init_upstream_prints_the_uri_last(monkeypatch, capsys):
    server = PlayedServer()
    seen = []

    class Client:
        def __class_getitem__(cls, _item):
            return lambda uri, **_: seen.append(uri) or server

    monkeypatch.setattr(init_upstream, "MongoClient", Client)
    monkeypatch.setattr("sys.stdin", io.StringIO("mongodb://root:pw@h/?tls=true\n"))
    assert main(["init-upstream", "--uri", "-"]) == 0
    assert seen == ["mongodb://root:pw@h/?tls=true"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"mongodb://mongoguard:{server.users['mongoguard']}@h/?tls=true"
    assert all(line.startswith("#") for line in lines[:-1])
    assert main(["init-upstream", "--uri", "mongodb://h", "--role", "r"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "mongodb://mongoguard:${MONGOGUARD_PASSWORD}@h/"
