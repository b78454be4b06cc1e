"""Places for users' connections."""

from mongoguard.model.names import UserName
from mongoguard.server.user_connections import UserConnections

ANN, BOB = UserName("ann", "admin"), UserName("bob", "admin")


def test_a_user_has_so_many_and_others_theirs():
    places = UserConnections(2)
    assert [places.take(ANN, holder) for holder in "abc"] == [True, True, False]
    assert places.take(BOB, "d")
    places.give("a")
    assert places.take(ANN, "c")
    assert not places.take(ANN, "e")


def test_a_holder_counts_once_and_for_one_user():
    places = UserConnections(1)
    assert places.take(ANN, "a")
    assert places.take(ANN, "a")
    assert places.take(BOB, "a")
    assert places.take(ANN, "b"), "a has gone over to bob"
    assert not places.take(BOB, "b"), "and b stays with ann"
    assert not places.take(ANN, "c")


def test_who_holds_nothing_gives_nothing_and_nothing_is_left():
    places = UserConnections(1)
    places.give("a")
    assert places.take(ANN, "a")
    places.give("a")
    places.give("a")
    assert (len(places), len(places._by_user)) == (0, 0)


def test_a_worker_that_has_ended_holds_nothing():
    places = UserConnections(2)
    for worker in (0, 1):
        assert places.take(ANN, (worker, 7))
    places.give_all(0)
    assert places.take(ANN, (1, 8))
    assert not places.take(ANN, (1, 9))


def test_another_limit_takes_no_place_back():
    places = UserConnections(3)
    for holder in "abc":
        assert places.take(ANN, holder)
    places.limit = 1
    assert places.take(ANN, "a")
    places.give("a")
    assert not places.take(ANN, "d")
