"""The replica set of three that other tests break and heal."""

from __future__ import annotations

import pymongo
import pytest

from tests.replica_sets import ReplicaSetOfThree


def test_it_has_one_primary_and_two_secondaries_with_their_tags(three_members: ReplicaSetOfThree) -> None:
    primary = three_members.primary()
    secondaries = three_members.secondaries()
    assert len(secondaries) == 2
    assert primary not in secondaries
    for member in three_members.members:
        state = member.state()
        assert state is not None
        assert state["tags"] == member.tags


def test_a_step_down_moves_the_primary(three_members: ReplicaSetOfThree) -> None:
    old = three_members.step_down()
    assert three_members.primary() is not old


def test_a_killed_primary_is_replaced_and_healed(three_members: ReplicaSetOfThree) -> None:
    old = three_members.primary()
    old.kill()
    assert three_members.primary() is not old
    three_members.heal()
    assert old.running
    assert len(three_members.secondaries()) == 2


def test_a_frozen_member_answers_nothing_and_is_healed(three_members: ReplicaSetOfThree) -> None:
    secondary = three_members.secondaries()[0]
    secondary.freeze()
    assert secondary.state() is None
    three_members.heal()
    assert secondary.state() is not None


def test_a_member_is_spoken_to_directly(three_members: ReplicaSetOfThree) -> None:
    with three_members.client() as client:
        client.shop.seen.insert_one({"_id": 1})
    three_members.wait_until_replicated()
    with three_members.secondaries()[0].direct(readPreference="secondary") as client:
        assert client.shop.seen.find_one() == {"_id": 1}
        with pytest.raises(pymongo.errors.NotPrimaryError):
            client.shop.seen.insert_one({})
