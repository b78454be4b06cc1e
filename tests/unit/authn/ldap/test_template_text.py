import pytest

from mongoguard.authn.ldap.template_text import Placeholder, marked, marker, read_template, unmarked

USER = Placeholder("USER")


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", ()),
        ("plain", ("plain",)),
        ("{USER}", (USER,)),
        ("{USER}?memberOf", (USER, "?memberOf")),
        ("a{USER}b{USER}{USER}", ("a", USER, "b", USER, USER)),
        ("{{USER}}", ("{USER}",)),
        ("{{{USER}}}", ("{", USER, "}")),
        ("a}}b{{", ("a}b{",)),
    ],
)
def test_placeholders_and_doubled_braces_are_read(text, pieces):
    assert read_template(text, {"USER"}) == pieces


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("{user}", 1),
        ("a{1}", 2),
        ("{}", 1),
        ("{", 1),
        ("a}", 2),
        ("{USER", 1),
        ("USER}", 5),
        ("{U{USER}}", 1),
        ("{ USER }", 1),
    ],
)
def test_a_brace_that_is_no_placeholder_is_an_error_that_names_the_place(text, position):
    with pytest.raises(ValueError, match=rf"at character {position} .*\{{USER\}}"):
        read_template(text, {"USER"})


def test_without_any_placeholder_the_error_says_so():
    with pytest.raises(ValueError, match="there are: none"):
        read_template("{0}", ())


def test_a_part_of_a_marked_template_becomes_pieces_again():
    pieces = ("a", USER, "b", USER)
    assert marked(pieces) == f"a{marker(1)}b{marker(3)}"
    assert unmarked(marked(pieces), pieces) == pieces
    assert unmarked(f"{marker(3)}{marker(1)}", pieces) == (USER, USER)
