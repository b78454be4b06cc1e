"""The view of the upstream: when what hello says has changed, and who is told."""

import dataclasses

import pytest
from bson import ObjectId, Timestamp

from mongoguard.errors import ConfigError
from mongoguard.proxy.deployment import Deployment, DeploymentView, PresentAs
from mongoguard.proxy.replica_set import Advertised, check_advertised
from tests.playbook import BUILD, HELLO

SET = {**HELLO, "setName": "rs0", "me": "a:1", "hosts": ["a:1", "b:1"]}
PRIMARY = {**SET, "isWritablePrimary": True, "secondary": False, "lastWrite": {"n": 1}}
SECONDARY = {**SET, "isWritablePrimary": False, "secondary": True, "lastWrite": {"n": 1}}


def view_as(present_as: PresentAs) -> DeploymentView:
    return DeploymentView(Deployment(SET, BUILD, present_as), advertised=Advertised(own="g:1"))


@pytest.fixture
def view() -> DeploymentView:
    return view_as(PresentAs.REPLICA_SET)


def test_each_change_counts_once_and_is_told(view: DeploymentView):
    told: list[int] = []
    with view.telling(lambda: told.append(view.counter)):
        for members in ({"a": PRIMARY}, {"a": PRIMARY}, {"a": SECONDARY}, {"a": SECONDARY, "b": PRIMARY}, {}):
            view.members = members
    assert told == [1, 2, 3, 4]
    view.members = {"a": PRIMARY}
    assert (told, view.counter) == ([1, 2, 3, 4], 5), "who has left is told no more"


def test_what_changes_all_the_time_is_no_change(view: DeploymentView):
    view.members = {"a": PRIMARY}
    view.members = {"a": {**PRIMARY, "lastWrite": {"n": 2}, "localTime": 5}}
    assert view.counter == 1
    assert view.replica_set_fields["lastWrite"] == {"n": 2}


def cluster_time(seconds: int) -> dict[str, object]:
    return {"clusterTime": Timestamp(seconds, 1), "signature": {"keyId": seconds}}


@pytest.mark.parametrize("present_as", list(PresentAs))
def test_the_newest_time_of_the_cluster_is_known_with_its_signature_and_is_no_change(present_as: PresentAs):
    view = view_as(present_as)
    assert view.cluster_time is None
    view.members = {"a": {**PRIMARY, "$clusterTime": cluster_time(5)}}
    known = view.counter
    view.members = {
        "a": {**PRIMARY, "$clusterTime": cluster_time(6)},
        "b": {**SECONDARY, "$clusterTime": cluster_time(7)},
        "c": {**SECONDARY, "$clusterTime": cluster_time(5)},
        "d": SECONDARY,
        "e": {**PRIMARY, "setName": "another", "$clusterTime": cluster_time(8)},
    }
    assert view.cluster_time == cluster_time(7)
    assert view.counter == known


@pytest.mark.parametrize("said", [None, 1, {}, {"clusterTime": 9}, {"signature": {}}])
def test_a_time_of_the_cluster_that_is_none_is_passed_over(said: object):
    view = view_as(PresentAs.MONGOS)
    view.members = {"a": {**PRIMARY, "$clusterTime": said}}
    assert view.cluster_time is None
    view.members = {**view.members, "b": {**SECONDARY, "$clusterTime": cluster_time(1)}}
    assert view.cluster_time == cluster_time(1)


@pytest.mark.parametrize("present_as", [PresentAs.STANDALONE, PresentAs.MONGOS])
def test_elections_mean_nothing_to_who_sees_no_members(present_as: PresentAs):
    view = view_as(present_as)
    view.members = {"a": PRIMARY}
    view.members = {}
    assert view.counter == 0
    assert view.replica_set_fields == {}


@pytest.mark.parametrize(
    "change",
    [
        {"maxWireVersion": 13},
        {"minWireVersion": 3},
        {"maxBsonObjectSize": 1},
        {"maxMessageSizeBytes": 1_000_000},
        {"maxWriteBatchSize": 1},
        {"logicalSessionTimeoutMinutes": 5},
    ],
)
def test_a_server_with_other_limits_is_a_change(view: DeploymentView, change: dict[str, int]):
    view.current = dataclasses.replace(view.current, hello={**SET, **change})
    assert view.counter == 1
    view.current = dataclasses.replace(view.current, build_info={})
    assert view.counter == 1


def test_who_is_told_may_leave_while_others_are(view: DeploymentView):
    with view.telling(lambda: context.__exit__(None, None, None)):
        context = view.telling(lambda: None)
        context.__enter__()
        view.members = {"a": PRIMARY}
    assert view.counter == 1


def test_every_process_has_a_version_of_its_own_and_one_service_for_all():
    service = ObjectId()
    views = [DeploymentView(Deployment(SET, BUILD), service_id=service) for _ in range(2)]
    assert views[0].process_id != views[1].process_id
    assert views[0].service_id == views[1].service_id == service


# ---- what can be advertised -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("advertised", [Advertised(own="g:1"), Advertised(members={"a:1": "g:1"})])
def test_what_is_no_replica_set_is_not_presented_as_one(advertised: Advertised):
    check_advertised(advertised, SET)
    for hello in (HELLO, {**HELLO, "msg": "isdbgrid"}):
        with pytest.raises(ConfigError, match=r"^net\.presentAs: replicaSet: the upstream is no member"):
            check_advertised(advertised, hello)


def test_a_member_without_a_proxy_is_not_presented():
    for me in ("b:1", None):
        with pytest.raises(ConfigError, match=r"^net\.advertise: names no proxy for"):
            check_advertised(Advertised(members={"a:1": "g:1"}), {**SET, "me": me})


def test_members_are_found_in_any_case():
    advertised = Advertised(members={"a:1": "g:1"})
    check_advertised(advertised, {**SET, "me": "A:1"})
    assert advertised.of(["A:1", "b:1", 5]) == ["g:1"]
    assert advertised.of(None) == []
