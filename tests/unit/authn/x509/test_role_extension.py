"""MongoDB's certificate extensions, read strictly."""

import pytest

from mongoguard.authn.x509.role_extension import MAX_ROLES, read_membership, read_roles
from mongoguard.model.names import RoleName
from tests.certificates import _der, roles_extension


def roles(*pairs: tuple[str, str]) -> bytes:
    return roles_extension(*pairs).value


def text(value: bytes, tag: int = 0x0C) -> bytes:
    return _der(tag, value)


READ = _der(0x30, text(b"read") + text(b"shop"))


def test_roles_are_read_each_once():
    pairs = (("readWrite", "shop"), ("read", "reports"), ("read", "reports"))
    assert read_roles(roles(*pairs)) == (RoleName("read", "reports"), RoleName("readWrite", "shop"))


def test_as_many_roles_as_allowed_are_read_and_not_one_more():
    pairs = [(f"role{n}", "db") for n in range(MAX_ROLES + 1)]
    assert len(read_roles(roles(*pairs[:-1]))) == MAX_ROLES
    with pytest.raises(ValueError, match="more than"):
        read_roles(roles(*pairs))


@pytest.mark.parametrize(
    "extension",
    [
        b"",
        _der(0x31, b""),
        _der(0x30, READ),
        _der(0x31, READ) + b"\0",
        _der(0x31, READ)[:-1],
        _der(0x31, READ + b"\0"),
        _der(0x31, text(b"read")),
        _der(0x31, _der(0x30, text(b"read"))),
        _der(0x31, _der(0x30, text(b"read") + text(b"shop") + text(b"x"))),
        _der(0x31, _der(0x30, text(b"read", 0x13) + text(b"shop"))),
        _der(0x31, _der(0x30, text(b"") + text(b"shop"))),
        _der(0x31, _der(0x30, text(b"read") + text(b""))),
        _der(0x31, _der(0x30, text(b"re\0ad") + text(b"shop"))),
        _der(0x31, _der(0x30, text(b"\xff") + text(b"shop"))),
        _der(0x31, _der(0x30, text(b"read") + text(b"shop")) + _der(0x0C, b"x")),
    ],
)
def test_an_extension_of_another_form_is_refused(extension):
    with pytest.raises(ValueError, match=r"."):
        read_roles(extension)


def test_the_mark_of_members_is_one_text():
    assert read_membership(text(b"cluster-1")) == "cluster-1"
    for wrong in (b"", text(b""), text(b"x", 0x13), text(b"x") + b"\0"):
        with pytest.raises(ValueError, match=r"."):
            read_membership(wrong)
