"""ClientSession: the page a request travels down.

    bytes -> message -> command -> required privileges -> decision -> relay -> reply

In: one framed message of a client. Out: the reply's bytes (None when the client wants none), and effects asked of the
shell on the way. Must not know sockets, clocks or configuration files.

The theorem (tests/property/test_theorem.py): for no input does `handle` ask for a `Relay` before an allowing decision.
"""

from __future__ import annotations

from mongoguard.authn.authentication_session import AuthenticationSession
from mongoguard.authn.conversation import Expiry
from mongoguard.authz.authorization_session import EVERYBODY, AuthorizationSession
from mongoguard.command.catalog import find_row
from mongoguard.command.command import Command
from mongoguard.command.generic import (
    check_api_version,
    check_transaction_fields,
    generic_denied,
    generic_requirement,
)
from mongoguard.command.printing import not_authorized
from mongoguard.command.requirement import requirement_of
from mongoguard.command.spec import Asker, CommandRow, Handling
from mongoguard.command.user_management import names_user_collection
from mongoguard.effects import Emit, FetchUser, Flow, Now, Relay, RelayedReply, perform
from mongoguard.errors import CommandError, ErrorCode, ProtocolError, UpstreamError, UpstreamUnavailable
from mongoguard.model.privilege import NOTHING, Requirement
from mongoguard.model.restriction import Peer
from mongoguard.model.user import User
from mongoguard.observe.user_management_messages import USER_MANAGEMENT_COMMANDS
from mongoguard.proxy import cursor_commands, narrowing, op_query, repeats
from mongoguard.proxy.auditing import Auditor
from mongoguard.proxy.cursors import CursorEntry, CursorTable
from mongoguard.proxy.deployment import DeploymentView
from mongoguard.proxy.heeding import heed, unavailable
from mongoguard.proxy.identity import Identity, nobodys_identity
from mongoguard.proxy.listed_names import narrow_list
from mongoguard.proxy.local_commands import LOCAL_FOR_STRANGERS, NEVER_COMPRESSED, answer_here
from mongoguard.proxy.localhost_exception import LocalhostException, is_about_oneself, is_local
from mongoguard.proxy.own_operations import is_own_operation
from mongoguard.proxy.reading import read_command
from mongoguard.proxy.reauthentication import Reauthentication
from mongoguard.proxy.refusals import RefusedError, is_refusal
from mongoguard.proxy.relaying import Narrowing, message_for_upstream, session_id
from mongoguard.proxy.replies import cursor_in_reply, error_body, ok_body
from mongoguard.proxy.routing import PRIMARY_ROUTE, route_of
from mongoguard.proxy.settings import SessionSettings
from mongoguard.proxy.streaming import Streaming
from mongoguard.proxy.transactions import CarriedTransactions, OpenTransactions
from mongoguard.wire.message import OpCode, OpMsg, OpQuery, encode_op_msg, parse_message, request_id_of

__all__ = ["DIRECTORY_COMMANDS", "ClientSession"]

DIRECTORY_COMMANDS = USER_MANAGEMENT_COMMANDS | {"usersInfo", "rolesInfo"}
"""Commands about users and roles: with a directory of its own, the upstream's answer would be about other people."""

_OP_GET_MORE = OpCode.GET_MORE.to_bytes(4, "little")


class ClientSession:
    """One client connection's conversation, from its first message to its last.

    The shell calls `handle` for each message, one at a time, and `invalidate` whenever the user directory changed.
    """

    def __init__(
        self,
        *,
        peer: Peer,
        connection_id: int,
        authentication: AuthenticationSession,
        deployment: DeploymentView,
        cursors: CursorTable,
        settings: SessionSettings,
        localhost_exception: LocalhostException,
        transactions: OpenTransactions | None = None,
    ) -> None:
        """Start with nobody logged in."""
        self.peer = peer
        self.connection_id = connection_id
        self.authentication = authentication
        self.deployment = deployment
        self.cursors = cursors
        self.settings = settings
        self._localhost_exception = localhost_exception
        self.transactions = CarriedTransactions(transactions or OpenTransactions())
        self.auditor = Auditor(peer, settings.audit_parameter_bytes)
        self.has_said_hello = False
        self._client_element = b""
        self._user: User | None = None
        self.asker = Asker()
        self.authorization = self._rights_of(None)
        self.identity = nobodys_identity(deployment.current.impersonation)
        self.repeats: repeats.Repeats | None = None
        self._stale = False
        self._reauthentication = Reauthentication()
        self._next_request_id = 1
        self.compressors: list[str] = []
        self.streaming = Streaming()

    # ---- what the shell asks ----------------------------------------------------------------------------------------

    @property
    def max_message_bytes(self) -> int:
        """The longest message to read next: small until somebody has logged in."""
        if self.authentication.user is None and self.settings.authorization_enabled:
            return self.settings.max_unauthenticated_bytes
        return self.settings.max_message_bytes

    @property
    def user(self) -> User | None:
        """Who is logged in."""
        return self.authentication.user

    @property
    def is_settled(self) -> bool:
        """Whether what is known of the user needs no look before the next command, but for how long a login holds."""
        return not self._stale and self._user is self.authentication.user

    def invalidate(self) -> None:
        """The directory changed: before the next command, ask it again who this user is."""
        self._stale = True

    # ---- the page ---------------------------------------------------------------------------------------------------

    def handle(self, data: bytes, compressed: bool = False) -> Flow[bytes | None]:
        """Answer one message.

        Raises `ProtocolError` where mongod closes the connection, `UpstreamConnectionLost` when the upstream went away
        in mid-command: the shell then closes this connection too. When `streaming` then has a next request, that is the
        next message to handle.
        """
        repeat = repeats.find_repeat(self, data)
        if repeat is not None:
            expiry = self.authentication.expiry
            if expiry is None or (yield from perform(Now())) < expiry.at:
                return (yield from repeats.answer(self, data, repeat))
        request_id = request_id_of(data)
        try:
            message = parse_message(data)
        except CommandError as error:
            return op_query.refusal_of_unparsed(self, data, error)
        except ProtocolError:
            if data[12:16] == _OP_GET_MORE:
                return op_query.get_more_reply(self.request_id(), request_id)
            raise
        self.streaming.begin(message)
        if isinstance(message, OpQuery):
            return (yield from op_query.answer(self, message, compressed))
        try:
            reply = yield from self._answer(message, compressed)
        except CommandError as error:
            return None if message.more_to_come else self.reply(request_id, error_body(error))
        return None if message.more_to_come else self.streaming.after(message, reply)

    def _answer(self, message: OpMsg, compressed: bool) -> Flow[bytes]:
        command = read_command(message)
        row = find_row(command.name)
        if row is None:
            raise CommandError(ErrorCode.COMMAND_NOT_FOUND, f"no such command: '{command.name}'")
        if compressed and row.name in NEVER_COMPRESSED:
            raise ProtocolError(f"{row.name} must not be compressed")
        try:
            yield from self.admit(row, command)
            if self._is_answered_here(row):
                fields = yield from answer_here(self, row, command)
                return self.reply(message.request_id, ok_body(fields))
            requirement = yield from self._decide(row, command)
            if self.settings.audit_authorization_success:
                yield from perform(Emit(self.auditor.allowed(self.user, row, command)))
            return (yield from self._carry_out(message, row, command, requirement))
        except CommandError as error:
            if is_refusal(row, error):
                yield from perform(Emit(self.auditor.refused(self.user, row, command, error)))
            raise

    def admit(self, row: CommandRow, command: Command) -> Flow[None]:
        """The checks before any privilege: the API version, the admin database, a login that still holds."""
        check_api_version(command, row)
        if row.admin_only and command.db != "admin":
            raise CommandError(
                ErrorCode.UNAUTHORIZED, f"{row.name} may only be run against the admin database."
            )
        if self.authentication.expiry is not None:
            yield from self._check_expiry(self.authentication.expiry, row)
        if self._stale:
            yield from self._refresh()
        if self._user is not self.user:
            self._become(self.user)
        if self.user is None and self.settings.authorization_enabled:
            if row.requires_auth:
                yield from self._admit_without_login(row, command)
            if not self._is_answered_here(row):
                check_transaction_fields(command)
        elif row.name == "shutdown" and not self.settings.authorization_enabled and not is_local(self.peer):
            raise CommandError(
                ErrorCode.UNAUTHORIZED, "shutdown must run from localhost when running db without auth"
            )

    def _is_answered_here(self, row: CommandRow) -> bool:
        return row.handling is Handling.LOCAL or (row.name in LOCAL_FOR_STRANGERS and self._is_stranger)

    def _admit_without_login(self, row: CommandRow, command: Command) -> Flow[None]:
        if not (yield from self._localhost_exception.holds_for(self.peer)):
            self.authorization = self._rights_of(None)
            raise CommandError(ErrorCode.UNAUTHORIZED, f"command {row.name} requires authentication")
        self.authorization = self._localhost_exception.authorization
        if is_about_oneself(row.name, command):
            raise not_authorized(command)

    # ---- deciding ---------------------------------------------------------------------------------------------------

    def _decide(self, row: CommandRow, command: Command) -> Flow[Requirement]:
        """What the command needs, if that is held; raises its refusal otherwise."""
        if row.name in DIRECTORY_COMMANDS and not self.settings.relays_user_management:
            raise CommandError(
                ErrorCode.COMMAND_NOT_SUPPORTED,
                f"{row.name} is not available: users and roles are read from a file (security.userDirectory: file)",
            )
        own = requirement_of(row, command, self.asker)
        generic = generic_requirement(command, self.asker)
        explain = self.settings.explain_denials
        if generic is not NOTHING:
            decision = self.authorization.authorize(generic)
            if not decision.allowed:
                raise RefusedError(generic_denied(command, self.asker), decision, explain=explain)
        if row.requires_auth:
            decision = self.authorization.authorize(own)
            if not decision.allowed and not (yield from self._is_own(row, command)):
                raise RefusedError(not_authorized(command), decision, explain=explain)
        return own

    def _is_own(self, row: CommandRow, command: Command) -> Flow[bool]:
        """Whether a command that needs a privilege for others' things is about the user's own."""
        if row.name != "killOp":
            return False
        return (yield from is_own_operation(command, self.identity))

    # ---- relaying ---------------------------------------------------------------------------------------------------

    def _carry_out(
        self, message: OpMsg, row: CommandRow, command: Command, requirement: Requirement
    ) -> Flow[bytes]:
        if row.name == "getMore":
            return (yield from cursor_commands.get_more(self, message, command))
        if row.name == "killCursors":
            return (yield from cursor_commands.kill_cursors(self, message, command))
        narrow = narrowing.narrow_for_nobody if self._is_stranger else narrowing.narrow
        narrowed = narrow(command, row.name, self.identity) or narrow_list(
            command, row.name, self._own_rights
        )
        changes_users = row.changes_users or names_user_collection(command)
        if narrowed is None and not changes_users:
            repeats.learn(self, message)
        passes = row.opens_cursor and not self._filters_collections(command)
        reply = yield from self.relay(message, narrowed, changes_users=changes_users, documents_pass=passes)
        if "autocommit" in command.body.fields:
            self.transactions.note(self.identity, command, reply.message)
        event = (
            self.auditor.user_management(self.user, row, command, reply.message) if changes_users else None
        )
        if event is not None:
            yield from perform(Emit(event))
        if row.opens_cursor:
            return self.remember_cursor(reply, row, command, requirement)
        if row.name == "listDatabases" and self._filters_databases(command):
            return narrowing.filter_database_list(reply.message, self._own_rights)
        return reply.message

    def relay(
        self,
        message: OpMsg,
        narrowed: Narrowing | None = None,
        *,
        server: str | None = None,
        changes_users: bool = False,
        documents_pass: bool = False,
    ) -> Flow[RelayedReply]:
        """Send an allowed message upstream. Raises `CommandError` 6, retryable, when there is no upstream."""
        fields, default = message.body.fields, self.deployment.current.default_read_preference
        route = PRIMARY_ROUTE
        if default is not None or "$readPreference" in fields or "autocommit" in fields:
            route = route_of(message, default if server is None else None)
            narrowed = route.onto(narrowed)
        data = message_for_upstream(message, self.identity, narrowed, keep_session=not self._is_stranger)
        relay = Relay(data, server, changes_users, route.read_preference, route.transaction, documents_pass)
        try:
            reply = yield from perform(relay)
        except UpstreamUnavailable as error:
            raise unavailable(message, error) from error
        return (yield from heed(self, message, relay, reply))

    def remember_cursor(
        self, reply: RelayedReply, row: CommandRow, command: Command, requirement: Requirement
    ) -> bytes:
        """Enter the cursor that a reply opens as this user's. The reply's bytes, as the client is to see them."""
        opened = cursor_in_reply(reply.message)
        if opened is None:
            return reply.message
        only_authorized = row.name == "listCollections" and self._filters_collections(command)
        if opened.cursor_id:
            self.cursors.add(
                CursorEntry(
                    opened.cursor_id,
                    None if self.user is None else self.user.name,
                    opened.namespace,
                    session_id(command.body),
                    reply.server,
                    requirement,
                    only_authorized,
                )
            )
        if only_authorized:
            return narrowing.keep_authorized_collections(reply.message, command.db, self.authorization)
        return reply.message

    def _filters_databases(self, command: Command) -> bool:
        return self.settings.authorization_enabled and narrowing.filters_database_list(
            command, self._own_rights
        )

    def _filters_collections(self, command: Command) -> bool:
        return self.settings.authorization_enabled and narrowing.shows_only_authorized_collections(command)

    # ---- who ---------------------------------------------------------------------------------------------------------

    def _become(self, user: User | None) -> None:
        """Take over what a login, a logout or a change in the directory made of the connection's user."""
        self._user = user
        self.repeats = None
        self.authorization = self._rights_of(user)
        current = self.deployment.current
        client = self._client_element if current.takes_client_metadata else b""
        self.identity = Identity(user, current.impersonation, self.settings.realm, client)
        self.asker = (
            Asker()
            if user is None
            else Asker(
                user.name, frozenset((role.role, role.db) for role in user.roles), self.identity.digest
            )
        )

    def introduce(self, client_element: bytes) -> None:
        """The client has said what it is: the upstream is told with the commands of whoever may send any."""
        self._client_element = client_element
        if client_element and not self._is_stranger:
            self._become(self.user)

    @property
    def _is_stranger(self) -> bool:
        """Whether nobody is logged in where a login is asked for."""
        return self.user is None and self.settings.authorization_enabled

    @property
    def _own_rights(self) -> AuthorizationSession:
        """Without what the localhost exception lends: listings show nothing for that."""
        return self.authorization if self.user is not None else self._rights_of(None)

    def _rights_of(self, user: User | None) -> AuthorizationSession:
        return AuthorizationSession(user if self.settings.authorization_enabled else EVERYBODY)

    def _check_expiry(self, expiry: Expiry, row: CommandRow) -> Flow[None]:
        """A proof that holds no longer: the client brings a newer one, or the connection is closed."""
        self._reauthentication.check(expiry, row, (yield from perform(Now())))

    def _refresh(self) -> Flow[None]:
        """Ask the directory again who this user is; it may log the connection out."""
        user = self.user
        # Before the question: a change during it must not be lost. Nor may one while a login is under way, which ends
        # in the user as the directory knew it when the login began.
        self._stale = self.authentication.login_under_way
        if user is None:
            return
        try:
            fresh = yield from perform(FetchUser(user.request))
        except UpstreamError as error:
            self._stale = True
            raise CommandError(
                ErrorCode.HOST_UNREACHABLE, "mongoguard cannot reach the user directory", reason=str(error)
            ) from error
        yield from self.authentication.refresh(fresh)

    # ---- replying ----------------------------------------------------------------------------------------------------

    def request_id(self) -> int:
        """The id of the next message that mongoguard itself writes."""
        self._next_request_id = self._next_request_id % 0x7FFFFFFF + 1
        return self._next_request_id

    def reply(self, response_to: int, body: bytes) -> bytes:
        """A message of mongoguard's own that answers the request with that id."""
        return encode_op_msg(self.request_id(), response_to, body)
