import json
import stringprep
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pymongo.saslprep import saslprep as pymongo_saslprep

from mongoguard.authn.saslprep import saslprep


def _pymongos(text):
    try:
        return pymongo_saslprep(text)
    except ValueError:
        return None
    except IndexError:  # what pymongo 4.20 does with text that prepares to nothing
        return ""


def _ours(text):
    try:
        return saslprep(text)
    except ValueError:
        return None


EXAMPLES = json.loads(
    (Path(__file__).parents[3] / "fixtures" / "scram" / "rfc4013_saslprep.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("example", EXAMPLES, ids=[ascii(e["text"]) for e in EXAMPLES])
def test_the_examples_of_rfc_4013_section_3_come_out_as_written(example):
    if example["prepared"] is None:
        with pytest.raises(ValueError):
            saslprep(example["text"])
    else:
        assert saslprep(example["text"]) == example["prepared"]


def test_a_non_ascii_space_becomes_a_space():
    assert saslprep("a\u00a0b\u3000c") == "a b c"


def test_right_to_left_text_alone_is_accepted():
    assert saslprep("\u0627\u06281\u0627") == "\u0627\u06281\u0627"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a\u007f", "control"),
        ("\ue000", "private"),
        ("\ufdd0", "non-character"),
        ("\ud800", "surrogate"),
        ("\ufffd", "plain text"),
        ("\u2ff0", "canonical"),
        ("\u200e", "display"),
        ("\U000e0001", "tagging"),
        ("\U0001f600", "not assign|does not assign"),
        ("\u0627a\u0627", "mixes"),
        ("\u06271", "start and end"),
    ],
)
def test_each_prohibited_class_is_refused_without_quoting_the_text(text, what):
    with pytest.raises(ValueError, match=what) as refused:
        saslprep(text)
    assert text not in str(refused.value)


@given(st.text(max_size=12))
def test_the_outcome_is_that_of_pymongo_whose_clients_log_in(text):
    assume("\u200b" not in text)
    assert _ours(text) == _pymongos(text)


def test_every_character_alone_has_the_outcome_of_pymongo():
    characters = (chr(code) for code in range(0x3000) if code != 0x200B)
    assert [ascii(c) for c in characters if _ours(c) != _pymongos(c)] == []


def test_the_zero_width_space_is_a_space_as_mongod_has_it_though_it_is_also_commonly_mapped_to_nothing():
    assert saslprep("a\u200bb") == "a b"  # RFC 3454 lists it in both tables; pymongo drops it


def test_preparing_twice_changes_nothing_more():
    once = saslprep("\u2168 \u00aa\u00ad")
    assert saslprep(once) == once
    assert not any(stringprep.in_table_b1(character) for character in once)
