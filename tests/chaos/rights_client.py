"""A client whose rights are taken away and given back, through mongoguard, while its connections are in use.

In: where to connect to, and a seed. Out: events. What the documentation promises is checked to the letter: once the
answer to such a change is there, the next command on any connection, of any worker, is decided by it.
"""

from __future__ import annotations

import ssl
import time
from typing import Any

from bson import Int64

from tests.chaos.events import TROUBLE, Breach
from tests.chaos.raw_client import WAIT_SECS, RawClient, Trouble, check_ok, log_in, reply_to
from tests.rawwire import ConnectionEnded, RawConnection, op_msg
from tests.servers import ROOT

__all__ = ["RightsClient"]

VICTIMS = 4
"""Connections whose user it is about: on two workers, as good as always."""

CHANGE_SECS = 12.0
"""For a change: a worker that is frozen is given up after five seconds, and killed."""

DWELL_SECS = 0.2, 1.2
"""For so long after a change all connections try what they may or may not: an older answer may not come back either.
For the longer time when a try before was not answered, which may still be under way upstream."""

RENEWED_SHARE = 0.03
"""Connections come and go: who logs in now must be told the same rights."""

UNAUTHORIZED, CURSOR_NOT_FOUND = 13, 43


class RightsClient(RawClient):
    """Its user loses the only role and gets it back, again and again."""

    def run(self) -> None:
        """The whole life of this client."""
        self._victims: list[RawConnection | None] = [None] * VICTIMS
        self._cursors: list[int] = [0] * VICTIMS
        self._next = 0
        granted, tries = True, 1
        try:
            while not self._stop.is_set():
                self._try_everything(granted, tries > 1)
                granted, tries = not granted, 1
                while not self._change(granted) and not self._stop.is_set():
                    tries += 1
                    self._stop.wait(0.1)
        finally:
            for place in range(VICTIMS):
                self._forget(place)

    # ---- changes ----------------------------------------------------------------------------------------------------

    def _change(self, grant: bool) -> bool:
        """Whether the change is acknowledged. Until then nobody knows what holds."""
        before = self._rounds
        kind = "grant" if grant else "revoke"
        with self._report.operation(self._plan.name, kind, CHANGE_SECS + 10 * WAIT_SECS):
            with self._connection() as admin:
                log_in(admin, ROOT)
                request_id = 1000 + next(self._tokens)
                admin.send(op_msg(self._change_command(grant), request_id=request_id))
                self._wait_for_answer(admin)
                reply = check_ok(reply_to(request_id, admin.receive()))
            if "writeConcernError" in reply:
                raise Trouble(str(reply["writeConcernError"]))
            self._rounds += 1
        return self._rounds > before

    def _change_command(self, grant: bool) -> dict[str, Any]:
        concern = {"w": "majority", "wtimeout": 2000} if self._plan.replica_set else {"w": 1, "j": True}
        return {
            "grantRolesToUser" if grant else "revokeRolesFromUser": self._plan.name,
            "roles": [{"role": "readWrite", "db": self._database}],
            "writeConcern": concern,
            "$db": "admin",
        }

    def _wait_for_answer(self, admin: RawConnection) -> None:
        """While the change is under way, reads go on, and either answer is right."""
        deadline = time.monotonic() + CHANGE_SECS
        while admin.silent_for(0.02):
            if time.monotonic() > deadline:
                raise TimeoutError("a change of users is not answered")
            self._try_next(None)

    # ---- what it may and may not ------------------------------------------------------------------------------------

    def _try_everything(self, granted: bool, for_long: bool) -> None:
        deadline = time.monotonic() + (DWELL_SECS[1] if for_long else self._random.uniform(*DWELL_SECS))
        for _ in range(VICTIMS):
            self._try_next(granted)
        while time.monotonic() < deadline and not self._stop.is_set():
            self._try_next(granted)
            self._stop.wait(0.02)

    def _try_next(self, granted: bool | None) -> None:
        """One command on the next connection. `granted`: whether it must work; None when nobody knows."""
        place = self._next = (self._next + 1) % VICTIMS
        if self._random.random() < RENEWED_SHARE:
            self._forget(place)
        kind = {True: "allowed", False: "refused", None: "either"}[granted]
        fine = False
        with self._report.operation(self._plan.name, kind, 10 * WAIT_SECS):
            self._try_twice(place, granted)
            fine = True
        if not fine:
            # The others may be as dead, and each would cost a deadline of its own: as drivers do, begin anew.
            for other in range(VICTIMS):
                self._forget(other)

    def _try_twice(self, place: int, granted: bool | None) -> None:
        """A connection that was closed while it was idle is no failure: there is a new one, as in a driver's pool."""
        raw = self._victims[place]
        if raw is not None:
            try:
                self._try(raw, place, granted)
            except Trouble:
                raise
            except (ConnectionEnded, ConnectionError, ssl.SSLError):
                self._forget(place)
            else:
                return
        raw = self._victims[place] = self._connection()
        log_in(raw, self._plan.name)
        self._try(raw, place, granted)

    def _try(self, raw: RawConnection, place: int, granted: bool | None) -> None:
        if self._cursors[place] and self._random.random() < 0.5:
            self._read_on(raw, place, granted)
        else:
            self._read(raw, place, granted)

    def _read_on(self, raw: RawConnection, place: int, granted: bool | None) -> None:
        """A cursor that was opened while its user had the role."""
        command = {"getMore": Int64(self._cursors[place]), "collection": "state", "$db": self._database}
        reply = self._reply(raw, command, granted)
        if reply is not None:
            self._cursors[place] = 0  # it had one document more, or its server has died

    def _read(self, raw: RawConnection, place: int, granted: bool | None) -> None:
        token = f"{self._plan.name}-{next(self._tokens)}"
        opens_cursor = not self._cursors[place] and self._random.random() < 0.2
        command = {
            "find": "state",
            "projection": {"owner": 1, "echo": {"$literal": token}},
            "batchSize": 1 if opens_cursor else 10,
            "$db": self._database,
        }
        reply = self._reply(raw, command, granted)
        if reply is None:
            return
        batch = reply["cursor"]["firstBatch"]
        right = [(self._plan.name, token)] * (1 if opens_cursor else 2)
        if [(one["owner"], one["echo"]) for one in batch] != right:
            raise Breach(f"the reply to another read: {str(batch)[:300]} instead of {token}")
        if opens_cursor:
            self._cursors[place] = reply["cursor"]["id"]

    def _reply(
        self, raw: RawConnection, command: dict[str, Any], granted: bool | None
    ) -> dict[str, Any] | None:
        """The reply, when it is ok or says that there is no such cursor; None when it was refused, as it had to be."""
        request_id = 1000 + next(self._tokens)
        reply = reply_to(request_id, raw.exchange(op_msg(command, request_id=request_id)))
        code = reply.get("code")
        if reply.get("ok") == 1:
            if granted is False:
                raise Breach(f"a role that was taken away was used: {str(reply)[:300]}")
            return reply
        if code == CURSOR_NOT_FOUND and "getMore" in command:
            return reply
        if code == UNAUTHORIZED and granted is not True:
            return None
        raise (Trouble if code in TROUBLE else Breach)(
            f"{next(iter(command))}, granted: {granted}, was answered with {str(reply)[:300]}"
        )

    def _forget(self, place: int) -> None:
        raw, self._victims[place], self._cursors[place] = self._victims[place], None, 0
        if raw is not None:
            raw.close()
