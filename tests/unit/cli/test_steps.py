"""Steps: lines for a terminal, values for JSON."""

import pytest

from mongoguard.cli.steps import Report, Step, StepResult, as_lines, printable


def test_a_step_is_a_line_with_its_details_below():
    step = Step("groups", StepResult.WARN, "two", ("cn=a", "cn=b"), 1.25)
    assert list(as_lines(step)) == ["[WARN] groups (1.2 ms): two", "         cn=a", "         cn=b"]


def test_a_step_that_was_not_tried_took_no_time():
    steps = []
    report = Report(steps.append)
    report.skip("authentication", "no password")
    assert list(as_lines(steps[0])) == ["[SKIP] authentication: no password"]
    assert steps[0].to_document() == {"step": "authentication", "result": "SKIP", "text": "no password"}
    assert not report.failed


def test_facts_are_for_json_alone():
    steps = []
    Report(steps.append).ok("mapping", "as cn=a", "element 0", bindName="cn=a")
    document = steps[0].to_document()
    assert document.pop("ms") >= 0
    assert document == {
        "step": "mapping",
        "result": "OK",
        "text": "as cn=a",
        "bindName": "cn=a",
        "details": ["element 0"],
    }
    assert not any("bindName" in line for line in as_lines(steps[0]))


@pytest.mark.parametrize(("tell", "failed"), [("ok", False), ("warn", False), ("fail", True)])
def test_only_a_step_that_fails_makes_the_report_one_that_failed(tell, failed):
    report = Report(lambda step: None)
    getattr(report, tell)("step", "text")
    assert report.failed is failed


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("データ \\2C é", "データ \\2C é"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("a\nb", "a\\nb"),
        ("\x9b", "\\x9b"),
        ("\u202eback", "\\u202eback"),
        ("\udc80", "\\udc80"),
    ],
)
def test_what_a_terminal_would_obey_is_spelled_out(text, shown):
    assert printable(text) == shown
