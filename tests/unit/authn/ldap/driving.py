"""Drives a flow by hand: each answer is a list of entries, or an error that the shell would throw."""

from mongoguard.authn.ldap.query import LdapEntry


def entry(dn, /, **attributes):
    return LdapEntry(dn, {name: tuple(values) for name, values in attributes.items()})


def drive(flow, *answers):
    """The result of the flow and the queries it made; every answer must be asked for, and no more."""
    waiting = list(answers)
    queries = []
    try:
        query = next(flow)
        while True:
            queries.append(query)
            assert waiting, f"an unexpected query: {query}"
            answer = waiting.pop(0)
            query = flow.throw(answer) if isinstance(answer, Exception) else flow.send(answer)
    except StopIteration as stop:
        assert not waiting, "the flow ended early"
        return stop.value, queries
