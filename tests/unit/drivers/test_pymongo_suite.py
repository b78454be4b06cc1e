"""The comparison of PyMongo's own tests: what is told, and what is not."""

from __future__ import annotations

from tests.drivers.pymongo_ends import outcomes
from tests.drivers.pymongo_suite import compare, expected_differences, switches
from tests.servers import PROJECT

FILE = "test/test_client.py"


def outcomes_of(*cases: str) -> dict[str, str]:
    return outcomes(FILE, f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>")


def case(name: str, state: str = "") -> str:
    return f'<testcase classname="test.test_client.TestClient" name="{name}">{state}</testcase>'


def test_a_report_is_read_as_the_ids_by_which_pytest_runs_its_tests_again() -> None:
    found = outcomes_of(
        case("test_one"),
        case("test_two", "<failure/>"),
        case("test_three", '<skipped message="Windows only"/>'),
    )
    assert found == {
        f"{FILE}::TestClient::test_one": "passed",
        f"{FILE}::TestClient::test_two": "failed",
        f"{FILE}::TestClient::test_three": "skipped: Windows only",
    }
    assert outcomes_of('<testcase classname="test.test_client" name="test_of_no_class"/>') == {
        f"{FILE}::test_of_no_class": "passed"
    }


def test_a_test_that_fails_once_has_failed() -> None:
    """A subtest, or the end of the test, has an entry of its own."""
    for cases in (
        (case("test_one", "<error/>"), case("test_one")),
        (case("test_one"), case("test_one", "<error/>")),
    ):
        assert outcomes_of(*cases) == {f"{FILE}::TestClient::test_one": "failed"}


def test_what_ends_otherwise_is_told() -> None:
    direct = {f"{FILE}::TestClient::{name}": "passed" for name in ("one", "two", "three", "four")}
    guarded = {
        f"{FILE}::TestClient::one": "passed",
        f"{FILE}::TestClient::two": "skipped",
        f"{FILE}::TestClient::three": "failed",
    }
    comparison = compare(direct, guarded, ["test_client::TestClient::th*"])
    assert comparison.explained == [f"{FILE}::TestClient::three"]
    assert comparison.unexplained == [f"{FILE}::TestClient::four", f"{FILE}::TestClient::two"]
    assert not comparison.is_alike
    assert list(comparison.lines("mongos")) == [
        "mongos | 4 | 1 | 0 | 0 | 0 | 1 | 0 | 2",
        f"  unexplained: {FILE}::TestClient::four: passed directly, absent through mongoguard",
        f"  unexplained: {FILE}::TestClient::two: passed directly, skipped through mongoguard",
    ]


def test_only_another_topology_explains_that_a_test_is_skipped() -> None:
    direct = {"a::b": "passed", "c::d": "skipped: Must be connected to a mongos", "e::f": "passed"}
    guarded = {
        "a::b": "skipped: TestX runOnRequirements not satisfied",
        "c::d": "passed",
        "e::f": "skipped: no reason",
    }
    comparison = compare(direct, guarded, [], is_other_topology=True)
    assert comparison.other_topology == ["a::b", "c::d"]
    assert comparison.unexplained == ["e::f"]
    assert compare(direct, guarded, []).unexplained == ["a::b", "c::d", "e::f"]


def test_a_test_that_has_no_place_behind_a_load_balancer_is_of_another_topology() -> None:
    direct = {"a::b": "passed", "c::d": "skipped: Must be connected to a load balancer"}
    guarded = {"a::b": "skipped: this test does not support load balancers", "c::d": "passed"}
    assert compare(direct, guarded, [], is_other_topology=True).other_topology == ["a::b", "c::d"]
    guarded["c::d"] = "failed"
    assert compare(direct, guarded, [], is_other_topology=True).unexplained == ["c::d"]


def test_a_test_for_another_topology_that_fails_is_told() -> None:
    direct, guarded = {"c::d": "skipped: Must be connected to a mongos"}, {"c::d": "failed"}
    assert compare(direct, guarded, [], is_other_topology=True).unexplained == ["c::d"]


def test_a_test_that_fails_directly_and_has_no_place_through_mongoguard_is_of_another_topology() -> None:
    direct, guarded = {"c::d": "failed"}, {"c::d": "skipped: Not connected to a replica set"}
    assert compare(direct, guarded, [], is_other_topology=True).other_topology == ["c::d"]
    assert compare(direct, {}, [], is_other_topology=True).unexplained == ["c::d"]


def test_tests_that_are_skipped_for_another_reason_end_alike() -> None:
    assert compare({"a::b": "skipped: one"}, {"a::b": "skipped: other"}, []).unexplained == []


def test_a_test_that_only_passes_through_mongoguard_is_told_too() -> None:
    assert compare({"a::b": "failed"}, {"a::b": "passed"}, []).unexplained == ["a::b"]


def test_the_list_for_one_half_is_the_list_for_the_other() -> None:
    test = "test/asynchronous/test_client.py::TestAsyncClient::test_async_one"
    assert compare({test: "passed"}, {test: "failed"}, ["test_client::TestClient::test_one"]).explained == [
        test
    ]
    assert compare({test: "passed"}, {test: "failed"}, ["test_client::TestClient::test_on"]).unexplained == [
        test
    ]


def test_what_ends_alike_when_it_is_run_again_is_told_but_does_not_count() -> None:
    comparison = compare({"a::b": "passed", "c::d": "passed"}, {"a::b": "failed", "c::d": "passed"}, [])
    comparison.repeat({"a::b": "passed"}, {"a::b": "passed"})
    assert comparison.is_alike
    assert "  alike when alone: a::b" in comparison.lines("mongos")


def test_what_ends_otherwise_again_counts() -> None:
    comparison = compare({"a::b": "passed", "c::d": "passed"}, {"a::b": "failed", "c::d": "passed"}, [])
    comparison.repeat({"a::b": "passed"}, {"a::b": "failed"})
    comparison.repeat({"a::b": "passed"}, {})
    comparison.repeat({}, {})
    assert comparison.unexplained == ["a::b"]
    assert not comparison.is_alike


def test_nothing_that_passes_is_no_likeness() -> None:
    assert not compare({}, {}, []).is_alike
    assert not compare({"a::b": "failed"}, {"a::b": "failed"}, []).is_alike


def test_the_list_of_expected_differences_is_read_out_of_the_page() -> None:
    patterns = expected_differences((PROJECT / "docs" / "differences.md").read_text())
    assert patterns
    assert not any(pattern.startswith("*") for pattern in patterns), "a file at least is named"


def test_what_is_chosen_is_said_in_the_variables_that_pymongos_tests_read() -> None:
    assert switches(compressors="zstd,zlib", api_version="1") == {
        "COMPRESSORS": "zstd,zlib",
        "MONGODB_API_VERSION": "1",
    }
    assert switches(compressors=None, api_version=None) == {}
