import pytest

from mongoguard.authn.ldap.distinguished_name import (
    MAX_DN_LENGTH,
    MAX_RDNS,
    DistinguishedName,
    DnSyntaxError,
)

parse = DistinguishedName.parse


def values(text):
    return [[(a.type, a.value) for a in rdn] for rdn in parse(text).rdns]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("UID=jsmith,DC=example,DC=net", [[("UID", "jsmith")], [("DC", "example")], [("DC", "net")]]),
        (
            "OU=Sales+CN=J.  Smith,DC=example,DC=net",
            [[("OU", "Sales"), ("CN", "J.  Smith")], [("DC", "example")], [("DC", "net")]],
        ),
        (
            r"CN=James \"Jim\" Smith\, III,DC=example,DC=net",
            [[("CN", 'James "Jim" Smith, III')], [("DC", "example")], [("DC", "net")]],
        ),
        (
            r"CN=Before\0dAfter,DC=example,DC=net",
            [[("CN", "Before\rAfter")], [("DC", "example")], [("DC", "net")]],
        ),
        ("1.3.6.1.4.1.1466.0=#04024869", [[("1.3.6.1.4.1.1466.0", b"\x04\x02Hi")]]),
        (r"CN=Lu\C4\8Di\C4\87", [[("CN", "Lučić")]]),
    ],
)
def test_the_examples_of_rfc_4514_section_4_are_read_as_they_say(text, expected):
    assert values(text) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"CN=L. Eagle,O=Sue\, Grabbit and Runn,C=GB", r"cn=l. eagle,o=sue\2C grabbit and runn,c=gb"),
        ("OU=Sales+CN=J. Smith,O=Widget Inc.,C=US", "CN=J. Smith+OU=Sales,O=Widget Inc.,C=US"),
        ("CN=Steve Kille,O=Isode Limited,C=GB", "CN=Steve Kille;O=Isode Limited;C=GB"),
        ("CN=Steve Kille,O=Isode Limited,C=GB", " CN = Steve Kille , O = Isode Limited , C = GB "),
        ("CN=Steve Kille+OU=a", "CN=Steve Kille + OU = a"),
        ("2.5.4.3=alice", "OID.2.5.4.3=Alice"),
        ("2.5.4.3=alice", "oid.2.5.4.3=Alice"),
        ("commonName=alice,domainComponent=x", "CN=ALICE,0.9.2342.19200300.100.1.25=X"),
        ("emailAddress=a@x", "1.2.840.113549.1.9.1=A@x"),
        ("userid=dave", "UID=dave"),
        ("CN=#0C05416C696365", "CN=alice"),
        ("CN=#0c05416c696365 , DC=x", "CN=alice,DC=x"),
        ("CN=#1305416c696365", "CN=alice"),
        ("CN=#1e0a0041006c006900630065", "CN=alice"),
        (r"CN=C\2B\2B Eve", r"CN=C\+\+ Eve"),
        (r"CN=\23Ivan\3B \3Cops\3E\3D1", r"CN=\#Ivan\; \<ops\>\=1"),
        (r"CN=\#Ivan\; \<ops\>=1", r"CN=\#Ivan\; \<ops\>\=1"),
        (r"CN=Judy\5CStar*", r"CN=Judy\\Star*"),
        (r"CN=Frank \22The Tank\22", r"CN=Frank \"The Tank\""),
        ("CN=two  spaces", "CN=two spaces"),
        (r"CN=\ x\ ", "CN=x"),
        (r"CN=\20", r"CN=\20\20"),
        (r"CN=Jos\C3\A9", "CN=JOSÉ"),
        ("CN=\u0411\u0414", "CN=\u0431\u0434"),  # Cyrillic
        ("CN=\u0394\u03a3", "CN=\u03b4\u03c3"),  # Greek
    ],
)
def test_two_spellings_of_one_entry_are_equal(one, other):
    assert parse(one) == parse(other)
    assert hash(parse(one)) == hash(parse(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cn=a,ou=b", "cn=a,ou=b,dc=c"),
        ("cn=a,ou=b", "ou=b,cn=a"),
        ("cn=a,ou=b", "cn=a+ou=b"),
        (r"cn=a\,ou\=b", "cn=a,ou=b"),
        ("cn=ab", "cn=a b"),
        ("cn=a", "sn=a"),
        ("cn=José", "cn=Jose"),
        ("cn=admins", "cn=ad\u00admins"),  # a soft hyphen, which RFC 4518 would drop
        ("cn=admins", "cn=ad\u200bmins"),
        ("cn=admins", r"cn=ad\00mins"),
        ("cn=admins", "cn=\u0430dmins"),  # a Cyrillic a
        ("cn=access", "cn=acceß"),  # OpenLDAP and Samba hold both, as they do the next three
        ("cn=\u1fb3", "cn=\u03b1\u03b9"),
        ("cn=tm", "cn=™"),
        ("cn=\u13a0", "cn=\uab70"),
        ("cn=admins", "cn=\uff41\uff44\uff4d\uff49\uff4e\uff53"),  # Samba holds both, as it does all the next
        ("cn=ok", "cn=o\u212a"),  # the sign of kelvin
        ("cn=fine", "cn=ﬁne"),
        ("cn=Ñandú", "cn=n\u0303andu\u0301"),
        ("cn=two words", "cn=two\u00a0words"),
        ("cn=Hi", "cn=#04024869"),  # octets are no text
        ("cn=a", "9.9.9=a"),
        ("x-own=a", "1.2.3=a"),
    ],
)
def test_what_may_be_two_entries_is_not_equal(one, other):
    assert parse(one) != parse(other)


@pytest.mark.parametrize(
    ("text", "position", "problem"),
    [
        ("", 1, "empty DN"),
        ("   ", 1, "empty DN"),
        ("alice", 1, "expected an attribute type"),
        ("alice@example.org", 1, "expected an attribute type"),
        ("=x", 1, "attribute type"),
        ("c n=x", 1, "attribute type"),
        ("cn;lang-en=x", 1, "attribute type"),
        ("ćn=x", 1, "attribute type"),
        ("1=x", 1, "attribute type"),
        ("1.02=x", 1, "attribute type"),
        ("oid.cn=x", 1, "attribute type"),
        ("cn=", 4, "must not be empty"),
        ("cn=  ,dc=x", 6, "must not be empty"),
        ("cn=Smith, John,ou=x", 10, "attribute type"),
        ("cn=x,,dc=y", 6, "attribute type"),
        ("cn=x,", 6, "expected an attribute type"),
        ("cn=x+", 6, "expected an attribute type"),
        ('cn="Smith, John",ou=x', 4, "quoted"),
        ("cn=a<b", 5, "'<' must be escaped"),
        ("cn=a>b", 5, "'>' must be escaped"),
        ("cn=a\0b", 5, r"'\x00' must be escaped"),
        ("cn=a\\", 5, "'\\' stands before"),
        ("cn=a\\q", 5, "'\\' stands before"),
        ("cn=a\\2", 5, "'\\' stands before"),
        ("cn=a\\2g", 5, "'\\' stands before"),
        (r"cn=a\C3,dc=x", 4, "not UTF-8"),
        ("cn=a\ud800", 5, "surrogate"),
        ("cn=#", 4, "one BER element"),
        ("cn=#0c0", 4, "two digits an octet"),
        ("cn=#0c0161x", 11, "hex digits alone"),
        ("cn=#1 team,dc=x", 7, "hex digits alone"),
        ("cn=#0c00", 4, "not empty"),
        ("cn=#0c0261", 4, "complete"),
        ("cn=#0c016162", 4, "complete"),
        ("cn=#1f0161", 4, "one BER element"),
        ("cn=#0c810161", 4, "shortest form"),
        ("cn=#0c82008061", 4, "shortest form"),
        ("cn=#0c80", 4, "shortest form"),
        ("cn=#0c01c3", 4, "its own type"),
        ("cn=a+cn=b,dc=x", 6, "twice"),
        ("cn=a+2.5.4.3=b,dc=x", 6, "twice"),
    ],
)
def test_a_text_that_could_be_read_in_two_ways_is_an_error_that_names_the_place(text, position, problem):
    with pytest.raises(DnSyntaxError) as caught:
        parse(text)
    assert caught.value.position == position
    assert problem in str(caught.value)
    assert f"(at character {position})" in str(caught.value)


def test_a_long_ber_length_in_its_shortest_form_is_read():
    text = "x" * 0x80
    assert parse(f"cn=#0c8180{text.encode().hex()}") == parse(f"cn={text}")


def test_a_dn_has_bounds():
    assert len(parse(",".join(["dc=x"] * MAX_RDNS)).rdns) == MAX_RDNS
    with pytest.raises(DnSyntaxError, match=f"at most {MAX_RDNS} RDNs"):
        parse(",".join(["dc=x"] * (MAX_RDNS + 1)))
    assert parse("+".join(f"x{i}=x" for i in range(MAX_RDNS)))
    with pytest.raises(DnSyntaxError, match=f"at most {MAX_RDNS} attributes"):
        parse("+".join(f"x{i}=x" for i in range(MAX_RDNS + 1)))
    assert parse("cn=" + "x" * (MAX_DN_LENGTH - 3))
    with pytest.raises(DnSyntaxError, match=f"at most {MAX_DN_LENGTH} characters"):
        parse("cn=" + "x" * (MAX_DN_LENGTH - 2))


def test_mongods_spelling_of_a_certificates_subject_equals_an_administrators():
    """Pitfall: mongod prints each non-ASCII octet as `\\XX`, and the parts of an RDN in the order of the certificate."""
    printed = r"emailAddress=j@x.org,UID=dave1+CN=Jos\C3\A9 \E5\B1\B1,OU=a\+b,O=Example\, Inc."
    assert parse(printed) == parse(r"E=j@x.org, CN=José 山 + uid=dave1, ou=a\2Bb, o=Example\2C Inc.")


def test_no_comma_is_escaped_by_guess():
    """Pitfall: ldap3's safe_dn rewrites `cn=x,,dc=y`, and checks nothing in a text with an `@`."""
    for text in ("cn=x,,dc=y", "cn=x@y,,dc=y", "cn=x@y, z,dc=y"):
        with pytest.raises(DnSyntaxError):
            parse(text)


def test_the_original_text_is_kept():
    text = r" CN = Ops\2C EU ; DC=x"
    assert str(parse(text)) == text
    assert parse(text).text == text


def test_an_error_does_not_quote_the_name():
    with pytest.raises(DnSyntaxError) as caught:
        parse("canary")
    assert "canary" not in str(caught.value)
