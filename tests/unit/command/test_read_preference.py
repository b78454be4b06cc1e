"""`$readPreference` as mongod 6.0.5 reads it, and the commands that may read from a secondary."""

import bson
import pytest

from mongoguard.command.command import Command
from mongoguard.command.read_preference import (
    MAX_STALENESS_SECONDS,
    MAX_TAG_SETS,
    ReadPreference,
    ReadPreferenceMode,
    may_use_secondary,
    parse_read_preference,
)
from mongoguard.errors import CommandError
from mongoguard.wire.document import Document


def parsed(preference):
    return parse_read_preference(Document(bson.encode({"find": "x", "$readPreference": preference})))


def command(document):
    return Command(Document(bson.encode(document)), "shop")


def test_a_command_without_one_has_none():
    assert parse_read_preference(Document(bson.encode({"find": "x"}))) is None


@pytest.mark.parametrize("mode", list(ReadPreferenceMode))
def test_every_mode_is_read(mode):
    assert parsed({"mode": str(mode)}) == ReadPreference(mode)


def test_tag_sets_keep_their_order_and_the_empty_one_is_kept_at_the_end():
    found = parsed({"mode": "nearest", "tags": [{"dc": "east", "rack": "1"}, {"dc": "west"}, {}]})
    assert found.tag_sets == ((("dc", "east"), ("rack", "1")), (("dc", "west"),), ())
    assert str(found) == '{ mode: "nearest", tags: [ { dc: "east", rack: "1" }, { dc: "west" }, {} ] }'


@pytest.mark.parametrize("mode", ["primary", "secondary"])
@pytest.mark.parametrize("tags", [[], [{}]])
def test_tags_that_say_nothing_are_no_tags_in_every_mode(mode, tags):
    assert parsed({"mode": mode, "tags": tags}).tag_sets == ()


@pytest.mark.parametrize("seconds", [90, 90.0, bson.Int64(91), bson.Decimal128("90")])
def test_max_staleness_is_any_whole_number_from_90(seconds):
    found = parsed({"mode": "secondary", "maxStalenessSeconds": seconds})
    assert found.max_staleness_seconds in {90, 91}
    assert "maxStalenessSeconds: 9" in str(found)


def test_max_staleness_of_zero_is_none_and_of_ages_is_bounded():
    assert parsed({"mode": "primary", "maxStalenessSeconds": 0}).max_staleness_seconds is None
    huge = parsed({"mode": "secondary", "maxStalenessSeconds": bson.Int64(2**62)})
    assert huge.max_staleness_seconds == MAX_STALENESS_SECONDS


@pytest.mark.parametrize("hedge", [{}, {"enabled": True}, {"enabled": False}])
def test_hedge_is_checked_and_ignored(hedge):
    assert parsed({"mode": "nearest", "hedge": hedge}) == ReadPreference(ReadPreferenceMode.NEAREST)


REFUSED = [
    ("secondary", 14, "$readPreference has incorrect type: expected object but got string"),
    (None, 14, "$readPreference has incorrect type: expected object but got null"),
    ({}, 4, 'Missing expected field "mode"'),
    ({"mode": 1}, 14, '"mode" had the wrong type. Expected string, found int'),
    ({"mode": "Secondary"}, 2, "Could not parse $readPreference mode 'Secondary'."),
    (
        {"mode": "secondary", "tags": {"dc": "east"}},
        14,
        '"tags" had the wrong type. Expected array, found object',
    ),
    ({"mode": "secondary", "tags": None}, 14, '"tags" had the wrong type. Expected array, found null'),
    ({"mode": "secondary", "tags": ["dc"]}, 2, "a tag set of $readPreference must be an object"),
    ({"mode": "secondary", "tags": [{"dc": 1}]}, 2, "a tag set of $readPreference must be an object"),
    ({"mode": "secondary", "tags": [{}] * (MAX_TAG_SETS + 1)}, 2, "more than 100 tag sets"),
    (
        {"mode": "primary", "tags": [{"dc": "east"}]},
        2,
        "Only empty tags are allowed with primary read preference",
    ),
    ({"mode": "secondary", "maxStalenessSeconds": "1"}, 14, "to have numeric type, but found string"),
    ({"mode": "secondary", "maxStalenessSeconds": True}, 14, "to have numeric type, but found bool"),
    ({"mode": "secondary", "maxStalenessSeconds": -1}, 2, "must be a non-negative integer"),
    ({"mode": "secondary", "maxStalenessSeconds": 90.5}, 2, "exactly representable as a 64-bit integer"),
    (
        {"mode": "secondary", "maxStalenessSeconds": float("inf")},
        2,
        "exactly representable as a 64-bit integer",
    ),
    (
        {"mode": "secondary", "maxStalenessSeconds": float("nan")},
        2,
        "exactly representable as a 64-bit integer",
    ),
    ({"mode": "secondary", "maxStalenessSeconds": 89}, 160, "value can not be less than 90"),
    ({"mode": "primary", "maxStalenessSeconds": 100}, 2, "can not be set for the primary mode"),
    ({"mode": "secondary", "hedge": 1}, 14, "hedge field must be of type object if provided"),
    ({"mode": "secondary", "hedge": {"x": 1}}, 40415, "BSON field 'hedge.x' is an unknown field."),
    (
        {"mode": "secondary", "hedge": {"enabled": 1}},
        14,
        "BSON field 'hedge.enabled' is the wrong type 'int'",
    ),
    ({"mode": "primary", "hedge": {}}, 72, "cannot enable hedging"),
]


@pytest.mark.parametrize(("preference", "code", "text"), REFUSED, ids=str)
def test_what_mongod_refuses_is_refused_in_its_words(preference, code, text):
    with pytest.raises(CommandError) as refused:
        parsed(preference)
    assert (refused.value.code, text in refused.value.errmsg) == (code, True), refused.value.errmsg


READS = [
    {"find": "x"},
    {"count": "x"},
    {"distinct": "x", "key": "a"},
    {"aggregate": "x", "pipeline": []},
    {"aggregate": "x", "pipeline": [{"$match": {"$out": 1}}, {"$lookup": {"pipeline": [{"$out": "x"}]}}]},
    {"mapReduce": "x", "out": {"inline": 1}},
    {"listCollections": 1},
    {"dbStats": 1},
    {"explain": {"find": "x"}},
    {"explain": {"aggregate": "x", "pipeline": []}},
]
OTHERS = [
    {"insert": "x"},
    {"findAndModify": "x"},
    {"getMore": 1},
    {"usersInfo": 1},
    {"aggregate": "x", "pipeline": [{"$match": {}}, {"$out": "y"}]},
    {"aggregate": "x", "pipeline": [{"$merge": {"into": "y"}}]},
    {"aggregate": "x", "pipeline": [{"$match": {}, "$merge": {"into": "y"}}]},
    {"aggregate": "x", "pipeline": "all"},
    {"aggregate": "x", "pipeline": [1]},
    {"aggregate": "x"},
    {"mapReduce": "x", "out": "y"},
    {"mapReduce": "x", "out": {"merge": "y"}},
    {"explain": {"update": "x"}},
    {"explain": {"explain": {"find": "x"}}},
    {"explain": {}},
    {"explain": "find"},
    {"madeUp": 1},
]


@pytest.mark.parametrize("document", READS, ids=str)
def test_what_only_reads_may_use_a_secondary(document):
    assert may_use_secondary(next(iter(document)), command(document))


@pytest.mark.parametrize("document", OTHERS, ids=str)
def test_all_else_goes_to_the_primary(document):
    assert not may_use_secondary(next(iter(document)), command(document))
