"""Auth as a whole over gRPC, wired as __main__ does it, with a clock that tests move."""

import datetime as dt
import uuid
from dataclasses import dataclass, field

import grpc
from parley.auth.v1 import admin_service_pb2 as admin
from parley.auth.v1 import api_key_service_pb2 as api_keys
from parley.auth.v1 import device_service_pb2 as devices
from parley.auth.v1 import email_service_pb2 as emails
from parley.auth.v1 import guest_service_pb2 as guests
from parley.auth.v1 import jwks_service_pb2 as jwks
from parley.auth.v1 import password_reset_service_pb2 as resets
from parley.auth.v1 import password_service_pb2 as passwords
from parley.auth.v1 import service_token_service_pb2 as service_tokens
from parley.auth.v1 import session_service_pb2 as sessions
from parley.auth.v1 import user_service_pb2 as users
from parley.auth.v1.admin_service_pb2_grpc import AdminServiceStub
from parley.auth.v1.api_key_service_pb2_grpc import ApiKeyServiceStub
from parley.auth.v1.device_service_pb2_grpc import DeviceServiceStub
from parley.auth.v1.email_service_pb2_grpc import EmailServiceStub
from parley.auth.v1.guest_service_pb2_grpc import GuestServiceStub
from parley.auth.v1.jwks_service_pb2_grpc import JwksServiceStub
from parley.auth.v1.password_reset_service_pb2_grpc import PasswordResetServiceStub
from parley.auth.v1.password_service_pb2_grpc import PasswordServiceStub
from parley.auth.v1.service_token_service_pb2_grpc import ServiceTokenServiceStub
from parley.auth.v1.session_service_pb2_grpc import SessionServiceStub
from parley.auth.v1.user_service_pb2_grpc import UserServiceStub
from parley.edge.v1 import external_auth_pb2 as edge
from parley.edge.v1.external_auth_pb2_grpc import AuthorizationStub
from parley_auth.accounts import Accounts
from parley_auth.admin import Admin
from parley_auth.api_keys import ApiKeys
from parley_auth.email_addresses import EmailAddresses
from parley_auth.guesses import Guesses
from parley_auth.guests import Guests
from parley_auth.key_exchange import KeyExchange
from parley_auth.mailing import Mailing
from parley_auth.password_resets import PasswordResets
from parley_auth.repository import Repository
from parley_auth.rpc import servicers
from parley_auth.service_tokens import SecretFiles, ServiceTokens
from parley_auth.sessions import Sessions
from parley_auth.wrong_keys import WrongKeys
from parley_kit.db import new_id
from parley_kit.errors import ParleyError, parley_error_from

PASSWORD = "correct horse battery"
NEW_PASSWORD = "another horse battery"
GRACE = dt.timedelta(seconds=60)
WINDOW = dt.timedelta(minutes=15)
LIMIT = 10
MOST_KEYS = 3
WRONG_KEYS = 5
KEY_FRESH = dt.timedelta(seconds=5)
KEY_TOKEN = dt.timedelta(seconds=90)
MAILS = 5
SECRETS = {"chat": "chat-secret-0123456789", "operator": "operator-secret-0123456789", "short": "short"}


@dataclass
class Clock:
    """Moves only when told to."""

    now: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))

    def __call__(self) -> dt.datetime:
        return self.now

    def pass_by(self, **duration: float) -> None:
        self.now += dt.timedelta(**duration)


class Client:
    """Calls auth; a refusal comes out as the ParleyError that a caller within the mesh would see.

    `mailbox` returns the token that an address was mailed last, in plain; without one no address is proved.
    """

    def __init__(self, channel: grpc.aio.Channel, mailbox=None) -> None:
        self._mailbox = mailbox
        self._emails = EmailServiceStub(channel)
        self._resets = PasswordResetServiceStub(channel)
        self._guests = GuestServiceStub(channel)
        self._sessions = SessionServiceStub(channel)
        self._devices = DeviceServiceStub(channel)
        self._passwords = PasswordServiceStub(channel)
        self._users = UserServiceStub(channel)
        self._jwks = JwksServiceStub(channel)
        self._api_keys = ApiKeyServiceStub(channel)
        self._edge = AuthorizationStub(channel)
        self._admin = AdminServiceStub(channel)
        self._service_tokens = ServiceTokenServiceStub(channel)

    async def sign_up(self, email, password=PASSWORD, **more):
        """Sign up and prove the address, as nearly every test wants it; returns the session with the user as it is then."""
        session = await self.sign_up_only(email, password, **more)
        if self._mailbox is not None:
            await self.verify_email(await self._mailbox(email))
            session.user.email_verified = True
        return session

    async def sign_up_only(self, email, password=PASSWORD, **more):
        return await told(self._sessions.SignUp(sessions.SignUpRequest(email=email, password=password, **more)))

    async def verify_email(self, token):
        return await told(self._emails.VerifyEmail(emails.VerifyEmailRequest(token=token)))

    async def resend(self, token):
        return await told(self._emails.ResendVerification(emails.ResendVerificationRequest(), metadata=bearer(token)))

    async def request_reset(self, email):
        return await told(self._resets.RequestPasswordReset(resets.RequestPasswordResetRequest(email=email)))

    async def confirm_reset(self, token, new=NEW_PASSWORD):
        request = resets.ConfirmPasswordResetRequest(token=token, new_password=new)
        return await told(self._resets.ConfirmPasswordReset(request))

    async def guest(self, **more):
        return await told(self._guests.CreateGuest(guests.CreateGuestRequest(**more)))

    async def upgrade(self, token, email, password=PASSWORD):
        request = guests.UpgradeMeRequest(email=email, password=password)
        return await told(self._guests.UpgradeMe(request, metadata=bearer(token)))

    async def sign_in(self, email, password=PASSWORD, **more):
        return await told(self._sessions.SignIn(sessions.SignInRequest(email=email, password=password, **more)))

    async def refresh(self, token):
        return await told(self._sessions.RefreshSession(sessions.RefreshSessionRequest(refresh_token=token)))

    async def me(self, token=None):
        return await told(self._users.GetMe(users.GetMeRequest(), metadata=bearer(token)))

    async def list(self, token, **page):
        return await told(self._devices.ListSessions(devices.ListSessionsRequest(**page), metadata=bearer(token)))

    async def delete(self, token, session_id):
        request = devices.DeleteSessionRequest(id=session_id)
        return await told(self._devices.DeleteSession(request, metadata=bearer(token)))

    async def sign_out(self, token):
        return await told(self._devices.SignOut(devices.SignOutRequest(), metadata=bearer(token)))

    async def sign_out_all(self, token):
        return await told(self._devices.SignOutAll(devices.SignOutAllRequest(), metadata=bearer(token)))

    async def change_password(self, token, current=PASSWORD, new=NEW_PASSWORD):
        request = passwords.ChangePasswordRequest(current_password=current, new_password=new)
        return await told(self._passwords.ChangePassword(request, metadata=bearer(token)))

    async def create_key(self, token, name="a key", scopes=("chat",), **more):
        request = api_keys.CreateApiKeyRequest(name=name, scopes=scopes, **more)
        return await told(self._api_keys.CreateApiKey(request, metadata=bearer(token)))

    async def list_keys(self, token, **page):
        return await told(self._api_keys.ListApiKeys(api_keys.ListApiKeysRequest(**page), metadata=bearer(token)))

    async def rename_key(self, token, key_id, name):
        request = api_keys.UpdateApiKeyRequest(id=key_id, name=name)
        return await told(self._api_keys.UpdateApiKey(request, metadata=bearer(token)))

    async def revoke_key(self, token, key_id):
        request = api_keys.RevokeApiKeyRequest(id=key_id)
        return await told(self._api_keys.RevokeApiKey(request, metadata=bearer(token)))

    async def check(self, key, address="192.0.2.1"):
        """Ask as Envoy does; returns the status and the header that it is told to set, or the refusal's text."""
        request = edge.CheckRequest()
        request.attributes.request.http.headers["authorization"] = f"Bearer {key}"
        answer = await told(self._edge.Check(request, metadata=[("parley-client-address", address)]))
        if answer.status.code == 0:
            (header,) = answer.ok_response.headers
            assert header.header.key == "authorization"
            return 200, header.header.value.removeprefix("Bearer ")
        return answer.denied_response.status.code, answer.denied_response.body

    async def operate(self, token, method, *more, **values):
        """Call AdminService; ids are strings, mutations get a reason."""
        if not method.startswith("List"):
            values.setdefault("reason", "they asked for it")
        request = getattr(admin, f"{method}Request")(**values)
        return await told(getattr(self._admin, method)(request, metadata=[*bearer(token), *more]))

    async def jwks(self):
        call = self._jwks.GetJwks(jwks.GetJwksRequest())
        return await call, dict(await call.initial_metadata())

    async def issue(self, service, secret):
        request = service_tokens.IssueServiceTokenRequest(service=service, secret=secret)
        return await told(self._service_tokens.IssueServiceToken(request))


def replica(engine, clock, tokens, secrets, passwords, *, grace=GRACE, repository=Repository):
    """Return the servicers of one process."""
    store = repository(engine)
    renewal = {"refresh_lifetime": dt.timedelta(days=30), "grace": grace}
    sessions = Sessions(store, tokens, new_id=new_id, clock=clock, **renewal)
    guesses = Guesses(store, clock=clock, limit=LIMIT, window=WINDOW)
    wrong = WrongKeys(clock=clock, limit=WRONG_KEYS)
    exchange = KeyExchange(store, tokens, wrong, clock=clock, fresh=KEY_FRESH, lifetime=KEY_TOKEN)
    keys = ApiKeys(store, sessions, exchange.forget, new_id=new_id, clock=clock, most=MOST_KEYS)
    mailing = Mailing(store, new_id=new_id, clock=clock, limit=MAILS)
    accounts = Accounts(store, passwords, sessions, guesses, mailing, new_id=new_id, clock=clock)
    addresses = EmailAddresses(store, sessions, mailing, clock=clock)
    resetting = PasswordResets(store, passwords, mailing, new_id=new_id, clock=clock)
    guesting = Guests(store, passwords, sessions, mailing, new_id=new_id)
    service_tokens = ServiceTokens(SecretFiles(secrets), tokens, clock=clock)
    return servicers(
        accounts,
        sessions,
        tokens,
        service_tokens,
        keys,
        exchange,
        Admin(store, new_id=new_id, clock=clock),
        addresses,
        resetting,
        guesting,
    )


def bearer(token):
    return [("authorization", f"Bearer {token}")] if token is not None else []


def address() -> str:
    """Return an e-mail address that nobody has."""
    return f"{uuid.uuid4().hex}@example.org"


async def told(call):
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise parley_error_from(error) from error


async def refusal(call) -> str:
    """Return the code of the refusal that a call must end in."""
    try:
        answer = await call
    except ParleyError as error:
        return error.code
    raise AssertionError(f"not refused: {answer}")
