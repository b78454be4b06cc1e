"""The acceptor's edges that a real Kerberos library can't be brought to: it is missing, it hangs, it says odd things.

What it does with real tickets is proven in tests/integration/test_kerberos_acceptor.py.
"""

import sys
import threading
from collections import Counter
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from mongoguard.config.sasl_section import Sasl
from mongoguard.effects import AcceptGssToken, GssRefusal, WrapGssMessage
from mongoguard.errors import ConfigError, DirectoryUnavailable
from mongoguard.server.kerberos import THREADS, KerberosAcceptor

KERBEROS, OTHER = "the OID of Kerberos", "some other OID"


class LibraryError(Exception):
    """As gssapi.raw.GSSError."""


class MockedLibrary(SimpleNamespace):
    """Stands for the package gssapi. `acquired` is how credentials were asked for."""

    def __init__(self, accept):
        super().__init__()
        self.acquired = {}
        self.MechType = SimpleNamespace(kerberos=KERBEROS)
        self.Name = lambda text, kind: (text, kind)
        self.Credentials = self._acquire
        self.NameType = SimpleNamespace(hostbased_service="host-based")
        self.raw = SimpleNamespace(
            GSSError=LibraryError,
            RequirementFlag=SimpleNamespace(mutual_authentication="mutual"),
            accept_sec_context=lambda token, acceptor_creds: accept(token),
            display_name=lambda name, name_type: SimpleNamespace(name=name),
        )

    def _acquire(self, **how):
        self.acquired = how


def accepted(**over):
    found = {
        "context": object(),
        "more_steps": False,
        "mech": KERBEROS,
        "lifetime": 60,
        "token": b"AP-REP",
        "initiator_name": b"alice@EXAMPLE.TEST",
        "flags": {"mutual"},
    }
    return SimpleNamespace(**found | over)


@pytest.fixture
def acceptor_of(monkeypatch):
    def make(accept, sasl=None):
        library = MockedLibrary(accept)
        monkeypatch.setitem(sys.modules, "gssapi", library)
        return KerberosAcceptor(sasl or Sasl()), library

    return make


def test_without_the_package_the_configuration_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gssapi", None)
    with pytest.raises(ConfigError) as caught:
        KerberosAcceptor(Sasl())
    assert "setParameter.authenticationMechanisms: GSSAPI needs the Python package gssapi" in str(
        caught.value
    )
    assert "pip install 'mongoguard-proxy[kerberos]'" in str(caught.value)


def test_only_kerberos_is_accepted_and_only_as_the_service(acceptor_of):
    _, library = acceptor_of(accepted)
    assert library.acquired["usage"] == "accept"
    assert library.acquired["mechs"] == [KERBEROS]
    assert library.acquired["name"] == ("mongodb", "host-based")
    assert library.acquired["store"] is None
    sasl = Sasl.model_validate({"hostName": "guard.test", "serviceName": "mongo", "keytab": "/k"})
    _, library = acceptor_of(accepted, sasl)
    assert library.acquired["name"] == ("mongo@guard.test", "host-based")
    assert library.acquired["store"] == {"keytab": "FILE:/k"}


@pytest.mark.parametrize(
    ("over", "reason"),
    [
        ({"more_steps": True, "initiator_name": None}, "more steps"),
        ({"mech": OTHER}, "not Kerberos"),
        ({"lifetime": 0}, "expired"),
        ({"lifetime": None}, "its end"),
    ],
)
async def test_what_is_no_finished_kerberos_context_is_refused(acceptor_of, over, reason):
    acceptor, _ = acceptor_of(lambda _: accepted(**over))
    answer = await acceptor.accept(AcceptGssToken(b"x"))
    assert isinstance(answer, GssRefusal)
    assert reason in answer.reason


async def test_a_context_without_an_answer_or_without_mutual_authentication_says_so(acceptor_of):
    acceptor, _ = acceptor_of(lambda _: accepted(token=None, flags=set()))
    context = await acceptor.accept(AcceptGssToken(b"x"))
    assert (context.answer, context.is_mutual) == (b"", False)


async def test_a_long_reason_is_cut(acceptor_of):
    def accept(_):
        raise LibraryError("no key of " + "x" * 60_000)

    acceptor, _ = acceptor_of(accept)
    assert len((await acceptor.accept(AcceptGssToken(b"x"))).reason) == 500


async def test_a_library_that_hangs_costs_a_login_its_deadline_and_nobody_more_threads(
    acceptor_of, autojump_clock
):
    released, running = threading.Event(), Counter()

    def accept(_):
        running["now"] += 1
        released.wait(30)
        return accepted()

    acceptor, _ = acceptor_of(accept)
    try:
        before = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(3 * THREADS):
                nursery.start_soon(_unavailable, acceptor)
        assert trio.current_time() - before == pytest.approx(10)
        assert running["now"] <= THREADS
    finally:
        released.set()


async def _unavailable(acceptor):
    with pytest.raises(DirectoryUnavailable, match="gave no answer within 10 s"):
        await acceptor.accept(AcceptGssToken(b"x"))


async def test_a_context_that_the_library_refuses_to_wrap_with_is_a_refusal(acceptor_of):
    acceptor, library = acceptor_of(accepted)

    def wrap(context, content, confidential):
        assert confidential is False
        raise LibraryError("No context has been established")

    library.raw.wrap = wrap
    answer = await acceptor.wrap(WrapGssMessage(object(), b"\1\0\0\0"))
    assert answer == GssRefusal("No context has been established")
