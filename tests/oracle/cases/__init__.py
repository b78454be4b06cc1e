"""The table of cases: every command and stage, in every form whose privileges differ.

In: the modules of this folder, one for each kind of command, and the measured entries of fixtures/mongod. Out: `CASES`.

A case must be harmless and quick when it is allowed: it names what does not exist, repeats what is already so, or has
arguments that fail after the privilege check. Where that is impossible, `harmful` names the actions whose holders are
left out.
"""

from __future__ import annotations

from tests.oracle.cases import crud, ddl, generic, measured, metadata, pipelines, server, users
from tests.oracle.cases.case import Case

__all__ = ["CASES", "Case"]


def _all_cases() -> tuple[Case, ...]:
    tables = (
        measured.CASES,
        crud.CASES,
        pipelines.CASES,
        ddl.CASES,
        metadata.CASES,
        server.CASES,
        users.CASES,
        generic.CASES,
    )
    found: dict[str, Case] = {}
    for case in (case for table in tables for case in table):
        known = found.get(case.name)
        if known is None or not known.result:  # one that two tables have is tried once
            found[case.name] = case
        assert known is None or known.command == case.command, f"two commands are named {case.name!r}"
    return tuple(found.values())


CASES: tuple[Case, ...] = _all_cases()
