"""Streams of replies: one request, many replies (exhaust).

In: a request with exhaustAllowed, and its reply. Out: the reply with moreToCome, and the request that follows it
without being sent. Must not know commands or sockets.
Source: the OP_MSG specification ("exhaustAllowed", "moreToCome"); ids as mongod 6.0.5 gives them.

The following request is a message like any other, and goes down the whole page again: whoever may not read any more
gets a refusal, which ends the stream. Its id is that of the reply before, so each reply responds to the previous one.
"""

from __future__ import annotations

from mongoguard.wire.message import MessageFlag, OpCode, OpMsg, OpQuery

__all__ = ["Streaming"]

_MORE_TO_COME = MessageFlag.MORE_TO_COME.to_bytes(4, "little")
_EXHAUST_ALLOWED = MessageFlag.EXHAUST_ALLOWED.to_bytes(4, "little")
_OP_MSG = OpCode.MSG.to_bytes(4, "little")
_NO_FLAGS = bytes(4)


class Streaming:
    """The stream of one connection. `next_request` is to be handled before anything is read; None outside a stream.

    `allowed`: whether the message under way lets its replies come one after the other, unasked.
    """

    __slots__ = ("_body", "_goes_on", "allowed", "next_request")

    def __init__(self) -> None:
        """Outside a stream."""
        self.allowed = False
        self.next_request: bytes | None = None
        self._goes_on = False
        self._body: bytes | None = None

    def begin(self, message: OpMsg | OpQuery) -> None:
        """A message comes, sent or not."""
        self.allowed = isinstance(message, OpMsg) and message.exhaust_allowed
        self.next_request = self._body = None
        self._goes_on = False

    def end(self) -> None:
        """A message comes whose replies do not follow unasked."""
        self.allowed = self._goes_on = False
        self.next_request = self._body = None

    def go_on(self, body: bytes | None = None) -> None:
        """Another reply is to follow that of the message under way, to a request of that body (None: of the same)."""
        if self.allowed:
            self._goes_on, self._body = True, body

    def after(self, request: OpMsg, reply: bytes) -> bytes:
        """The reply as it is to be sent, to a request that did not fail; `next_request` is set when more is to come.

        A reply whose flags mean anything is left alone, and ends the stream: setting one more could make it false.
        """
        if not self._goes_on or reply[16:20] != _NO_FLAGS:
            return reply
        sections = memoryview(request.data)[20 : request.end] if self._body is None else b"\0" + self._body
        length = (20 + len(sections)).to_bytes(4, "little")
        self.next_request = b"".join((length, reply[4:8], bytes(4), _OP_MSG, _EXHAUST_ALLOWED, sections))
        return b"".join((reply[:16], _MORE_TO_COME, memoryview(reply)[20:]))
