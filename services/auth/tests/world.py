"""Auth as a whole over gRPC, wired as __main__ does it, with a clock that tests move."""

import datetime as dt
import uuid
from dataclasses import dataclass, field

import grpc
from parley.auth.v1 import device_service_pb2 as devices
from parley.auth.v1 import jwks_service_pb2 as jwks
from parley.auth.v1 import password_service_pb2 as passwords
from parley.auth.v1 import service_token_service_pb2 as service_tokens
from parley.auth.v1 import session_service_pb2 as sessions
from parley.auth.v1 import user_service_pb2 as users
from parley.auth.v1.device_service_pb2_grpc import DeviceServiceStub
from parley.auth.v1.jwks_service_pb2_grpc import JwksServiceStub
from parley.auth.v1.password_service_pb2_grpc import PasswordServiceStub
from parley.auth.v1.service_token_service_pb2_grpc import ServiceTokenServiceStub
from parley.auth.v1.session_service_pb2_grpc import SessionServiceStub
from parley.auth.v1.user_service_pb2_grpc import UserServiceStub
from parley_auth.accounts import Accounts
from parley_auth.guesses import Guesses
from parley_auth.repository import Repository
from parley_auth.rpc import servicers
from parley_auth.service_tokens import SecretFiles, ServiceTokens
from parley_auth.sessions import Sessions
from parley_kit.db import new_id
from parley_kit.errors import ParleyError, parley_error_from

PASSWORD = "correct horse battery"
NEW_PASSWORD = "another horse battery"
GRACE = dt.timedelta(seconds=60)
WINDOW = dt.timedelta(minutes=15)
LIMIT = 10
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
    """Calls auth; a refusal comes out as the ParleyError that a caller within the mesh would see."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._sessions = SessionServiceStub(channel)
        self._devices = DeviceServiceStub(channel)
        self._passwords = PasswordServiceStub(channel)
        self._users = UserServiceStub(channel)
        self._jwks = JwksServiceStub(channel)
        self._service_tokens = ServiceTokenServiceStub(channel)

    async def sign_up(self, email, password=PASSWORD, **more):
        return await told(self._sessions.SignUp(sessions.SignUpRequest(email=email, password=password, **more)))

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
    accounts = Accounts(store, passwords, sessions, guesses, new_id=new_id, clock=clock)
    return servicers(accounts, sessions, tokens, ServiceTokens(SecretFiles(secrets), tokens, clock=clock))


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
