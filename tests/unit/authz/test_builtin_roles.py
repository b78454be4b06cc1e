"""The table of built-in roles against what rolesInfo printed on a mongod 6.0.5."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mongoguard.authz.builtin_roles import ADMIN_ONLY_ROLE_NAMES, BUILTIN_ROLE_NAMES, builtin_role
from mongoguard.model.documents import parse_privileges
from mongoguard.model.names import RoleName

FIXTURES = Path(__file__).parents[3] / "fixtures/mongod/6.0.5"
PRINTED: dict[str, dict[str, Any]] = json.loads((FIXTURES / "builtin_roles.json").read_text())
ALL_NAMES = BUILTIN_ROLE_NAMES | ADMIN_ONLY_ROLE_NAMES


@pytest.mark.parametrize(
    ("db", "printed"),
    [pytest.param(db, r, id=f"{r['role']}@{db}") for db in PRINTED for r in PRINTED[db]["roles"]],
)
def test_a_built_in_role_holds_exactly_what_mongod_prints(db: str, printed: dict[str, Any]) -> None:
    role = builtin_role(RoleName(printed["role"], db))
    assert role is not None
    assert role.is_builtin
    assert dict(role.privileges) == dict(parse_privileges(printed["privileges"]))
    assert len(role.privileges) == len(printed["privileges"])


@pytest.mark.parametrize("db", PRINTED)
def test_a_database_has_no_other_built_in_roles_than_mongod_prints(db: str) -> None:
    ours = {name for name in ALL_NAMES if builtin_role(RoleName(name, db)) is not None}
    assert ours == {printed["role"] for printed in PRINTED[db]["roles"]}


def test_there_are_six_everywhere_and_twenty_in_admin() -> None:
    assert len(BUILTIN_ROLE_NAMES) == 6
    assert len(ALL_NAMES) == 20


def test_the_empty_database_has_no_roles() -> None:
    assert builtin_role(RoleName("read", "")) is None


def test_an_unknown_name_is_no_built_in_role() -> None:
    assert builtin_role(RoleName("readEverything", "admin")) is None
