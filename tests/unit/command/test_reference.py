"""The reference page tells about every row."""

from __future__ import annotations

from pathlib import Path

from mongoguard.command.catalog import COMMANDS
from mongoguard.command.reference import commands_page, describe
from mongoguard.command.stages import STAGES
from mongoguard.model.privilege import NOTHING, AllOf, AnyActionInDatabase, AnyOf, NotHeld
from tests.unit.command.commands import cluster, database


def test_the_page_has_every_command_and_stage() -> None:
    page = commands_page()
    for name in (*COMMANDS, *STAGES):
        assert f"| `{name}`" in page


def test_the_page_in_the_documentation_is_the_one_that_the_catalogue_makes() -> None:
    assert (Path(__file__).parents[3] / "docs" / "commands.md").read_text() == commands_page()


def test_a_requirement_is_described_in_words() -> None:
    need = AllOf((cluster("find"), AnyOf((database("d", "find"), NotHeld(cluster("insert"))))))
    assert (
        describe(need)
        == "`find` on the cluster and (`find` on the database d or not (`insert` on the cluster))"
    )
    assert describe(NOTHING) == "nothing"
    assert describe(AnyActionInDatabase("t")) == "any privilege in the database"
