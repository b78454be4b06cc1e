import pytest

from mongoguard.authn.ldap.ecmascript_regex import EcmaScriptRegex


def groups(pattern, text):
    return EcmaScriptRegex.parse(pattern).match_whole(text)


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("", "", ()),
        ("alice", "alice", ()),
        ("(.+)@(.+)\\.com", "alice@eng.example.com", ("alice", "eng.example")),
        ("(.+?)@(.+)", "a@b@c", ("a", "b@c")),
        ("(.+)@(.+)", "a@b@c", ("a@b", "c")),
        ("(a|ab)(c|bcd)?", "abcd", ("a", "bcd")),
        ("(?:(a)|b)*", "ab", (None,)),  # an iteration begins with its groups unset; Python would say ("a",)
        ("((a)|(b))*", "ab", ("b", None, "b")),
        ("(a)?b", "b", (None,)),
        (
            "(z)((a+)?(b+)?(c))*",
            "zaacbbbcac",
            ("z", "ac", "a", None, "c"),
        ),  # the example of ECMA-262 22.2.2.3.1
        ("^([a-z]{2,3})$", "abc", ("abc",)),
        ("(a{2})(a{1,})", "aaaa", ("aa", "aa")),
        ("(a{1,2}?)(a*)", "aaa", ("a", "aa")),
        ("(a*?)(a*)", "aa", ("", "aa")),
        ("(a??)(a?)", "a", ("", "a")),
        ("a{0}b", "b", ()),
        ("(\\d+)-(\\w+)\\s(\\S+)", "12-ab_9\xa0é", ("12", "ab_9", "é")),
        ("[^@\\s]+", "a.b", ()),
        ("[\\w.-]+", "a-b.c", ()),
        ("[a\\-z]+", "a-z", ()),
        ("[-a]+[a-]", "-aa-", ()),
        ("[\\d.-]+", "1-.", ()),
        ("\\x41\\u0042\\t\\@\\,\\=\\ \\/", "AB\t@,= /", ()),
        ("CN=([^,]+),OU=([^,]+),O=([^,]+),C=([^,]+)", "CN=a,OU=b,O=c,C=d", ("a", "b", "c", "d")),
        ("(a*){2}", "aa", ("",)),
        ("(?:)(?:|b)", "b", ()),
    ],
)
def test_a_pattern_matches_as_in_ecmascript(pattern, text, expected):
    assert groups(pattern, text) == expected


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("alice", "alice2"),
        ("alice", "malice"),
        ("alice", "Alice"),
        ("alice|bob", "alicebob"),
        ("a$", "a\n"),
        ("$a", "a"),
        ("a^", "a"),
        ("(.+)", "a\nb"),
        ("(.+)", "a\u2028b"),
        ("\\d", "\u0663"),  # an Arabic digit, which Python's \d matches
        ("\\w", "é"),
        ("\\D", "1"),
        ("\\W", "a"),
        ("\\S", "\ufeff"),
        ("[^a]", "a"),
        ("[a-c]", "d"),
        ("a{2,3}", "a"),
        ("a{2,3}", "aaaa"),
        ("a", ""),
    ],
)
def test_a_pattern_must_match_the_whole_name_with_ascii_classes(pattern, text):
    assert groups(pattern, text) is None


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("(a)\\1", "'\\1' is not supported"),
        ("\\0", "'\\0' is not supported"),
        ("\\b", "'\\b' is not supported"),
        ("\\p{L}", "'\\p' is not supported"),
        ("\\k<a>", "'\\k' is not supported"),
        ("\\_", "'\\_' is not supported"),
        ("\\", "'\\' is not supported"),
        ("(?=a)", "only '(?:'"),
        ("(?!a)", "only '(?:'"),
        ("(?<=a)", "only '(?:'"),
        ("(?<name>a)", "only '(?:'"),
        ("(?P<name>a)", "only '(?:'"),
        ("(?i)a", "only '(?:'"),
        ("(a", "not closed"),
        ("(?:a", "not closed"),
        ("a)", "closes no group"),
        ("[a", "not closed"),
        ("[a-", "not closed"),
        ("[]", "empty class"),
        ("[^]", "empty class"),
        ("[z-a]", "a range goes"),
        ("[a-\\d]", "a range goes"),
        ("[\\s-a]", "a range goes"),
        ("[\\d-x]", "a range goes"),
        ("[\\D]", "inside a class"),
        ("*a", "must follow"),
        ("a**", "must follow"),
        ("a*+", "must follow"),
        ("a{1}{2}", "must follow"),
        ("^*", "must follow"),
        ("}", "must follow"),
        ("]", "must follow"),
        ("(a*)*", "must not match the empty text"),
        ("(a?)?", "must not match the empty text"),
        ("(?:)+", "must not match the empty text"),
        ("(a|)*", "must not match the empty text"),
        ("(^)*", "must not match the empty text"),
        ("(?:a{0}b?){1,2}", "must not match the empty text"),
        ("(?:(a*){2})+", "must not match the empty text"),
        ("a{", "one to four digits"),
        ("a{x}", "one to four digits"),
        ("a{,2}", "one to four digits"),
        ("a{12345}", "one to four digits"),
        ("a{1,x}", "one to four digits"),
        ("a{1", "'{n}'"),
        ("a{2,1}", "out of order"),
        ("\\xg0", "two hex digits"),
        ("\\u12", "four"),
        ("a{501}", "too large"),
        ("((a{9}){9}){9}", "too large"),
        ("(" * 22 + ")" * 22, "more than 20 deep"),
        ("a" * 1001, "at most 1000 characters"),
    ],
)
def test_what_engines_disagree_about_is_refused(pattern, problem):
    with pytest.raises(ValueError) as caught:
        EcmaScriptRegex.parse(pattern)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    "pattern", ["(a+)+@", "(a|a)*@", "(.*)(.*)(.*)(.*)(.*)@", "((a+)+)+@", "(?:a?){60}a{60}@"]
)
def test_a_name_cannot_hold_the_matcher(pattern):
    """A backtracking engine takes 2 to the 1024th steps here, or 1024 to the fifth; this one at most steps x length."""
    assert groups(pattern, "a" * 1024) is None
