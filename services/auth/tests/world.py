"""Auth as a whole over gRPC, wired as __main__ does it, with a clock that tests move."""

import datetime as dt
import uuid
from dataclasses import dataclass, field

import grpc
import httpx
from google.protobuf.json_format import MessageToDict
from parley.auth.v1 import account_service_pb2 as accounts
from parley.auth.v1 import admin_service_pb2 as admin
from parley.auth.v1 import api_key_service_pb2 as api_keys
from parley.auth.v1 import device_service_pb2 as devices
from parley.auth.v1 import email_service_pb2 as emails
from parley.auth.v1 import guest_service_pb2 as guests
from parley.auth.v1 import identity_service_pb2 as identities
from parley.auth.v1 import jwks_service_pb2 as jwks
from parley.auth.v1 import mfa_service_pb2 as mfa
from parley.auth.v1 import oidc_service_pb2 as oidc
from parley.auth.v1 import passkey_service_pb2 as passkeys_pb
from parley.auth.v1 import passkey_sign_in_service_pb2 as passkey_sign_ins
from parley.auth.v1 import password_reset_service_pb2 as resets
from parley.auth.v1 import password_service_pb2 as passwords
from parley.auth.v1 import reauthentication_service_pb2 as reauthentications
from parley.auth.v1 import service_token_service_pb2 as service_tokens
from parley.auth.v1 import session_service_pb2 as sessions
from parley.auth.v1 import totp_service_pb2 as totp
from parley.auth.v1 import user_service_pb2 as users
from parley.auth.v1.account_service_pb2_grpc import AccountServiceStub
from parley.auth.v1.admin_service_pb2_grpc import AdminServiceStub
from parley.auth.v1.api_key_service_pb2_grpc import ApiKeyServiceStub
from parley.auth.v1.device_service_pb2_grpc import DeviceServiceStub
from parley.auth.v1.email_service_pb2_grpc import EmailServiceStub
from parley.auth.v1.guest_service_pb2_grpc import GuestServiceStub
from parley.auth.v1.identity_service_pb2_grpc import IdentityServiceStub
from parley.auth.v1.jwks_service_pb2_grpc import JwksServiceStub
from parley.auth.v1.mfa_service_pb2_grpc import MfaServiceStub
from parley.auth.v1.oidc_service_pb2_grpc import OidcServiceStub
from parley.auth.v1.passkey_service_pb2_grpc import PasskeyServiceStub
from parley.auth.v1.passkey_sign_in_service_pb2_grpc import PasskeySignInServiceStub
from parley.auth.v1.password_reset_service_pb2_grpc import PasswordResetServiceStub
from parley.auth.v1.password_service_pb2_grpc import PasswordServiceStub
from parley.auth.v1.reauthentication_service_pb2_grpc import ReauthenticationServiceStub
from parley.auth.v1.service_token_service_pb2_grpc import ServiceTokenServiceStub
from parley.auth.v1.session_service_pb2_grpc import SessionServiceStub
from parley.auth.v1.totp_service_pb2_grpc import TotpServiceStub
from parley.auth.v1.user_service_pb2_grpc import UserServiceStub
from parley.edge.v1 import external_auth_pb2 as edge
from parley.edge.v1.external_auth_pb2_grpc import AuthorizationStub
from parley_auth.accounts import Accounts
from parley_auth.admin import Admin
from parley_auth.api_keys import ApiKeys
from parley_auth.challenges import Challenges, Purpose
from parley_auth.email_addresses import EmailAddresses
from parley_auth.erasures import Erasures, Times
from parley_auth.exports import Exports
from parley_auth.federation import Federation
from parley_auth.guesses import Guesses
from parley_auth.guests import Guests
from parley_auth.id_tokens import IdTokens
from parley_auth.key_exchange import KeyExchange
from parley_auth.mailing import Mailing
from parley_auth.mfa import MfaChallenges
from parley_auth.oidc_keys import IssuerKeys
from parley_auth.oidc_providers import Provider
from parley_auth.passkeys import Passkeys
from parley_auth.password_resets import PasswordResets
from parley_auth.repository import Repository
from parley_auth.rpc import servicers
from parley_auth.sealing import Sealing
from parley_auth.second_factors import SecondFactors
from parley_auth.service_tokens import SecretFiles, ServiceTokens
from parley_auth.sessions import Sessions
from parley_auth.webauthn_ceremonies import Ceremonies
from parley_auth.wrong_keys import WrongKeys
from parley_kit.db import new_id
from parley_kit.errors import ParleyError, parley_error_from

from tests.framework.issuer import AUDIENCE

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
RP_ID, ORIGINS = "example.org", ("https://app.example.org", "https://example.org")
PASSKEY_LIFETIME = dt.timedelta(minutes=5)
MFA_LIFETIME = dt.timedelta(minutes=5)
SEALING_KEY = b"k" * 32
NONCE_LIFETIME = dt.timedelta(minutes=10)
KEYS_SECONDS = 3600
TIMES = Times(dt.timedelta(minutes=10), look_again=dt.timedelta(minutes=1), abandoned=dt.timedelta(days=45))
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
        self._accounts = AccountServiceStub(channel)
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
        self._passkeys = PasskeyServiceStub(channel)
        self._passkey_sign_ins = PasskeySignInServiceStub(channel)
        self._mfa = MfaServiceStub(channel)
        self._totp = TotpServiceStub(channel)
        self._oidc = OidcServiceStub(channel)
        self._reauthentications = ReauthenticationServiceStub(channel)
        self._identities = IdentityServiceStub(channel)

    async def sign_up(self, email, password=PASSWORD, **more):
        """Sign up and prove the address, as nearly every test wants it; returns the session with the user as it is then."""
        session = await self.sign_up_only(email, password, **more)
        if self._mailbox is not None:
            await self.verify_email(session.access_token, await self._mailbox(email))
            session.user.email_verified = True
        return session

    async def sign_up_only(self, email, password=PASSWORD, **more):
        return await told(self._sessions.SignUp(sessions.SignUpRequest(email=email, password=password, **more)))

    async def verify_email(self, access_token, token):
        request = emails.VerifyEmailRequest(token=token)
        return await told(self._emails.VerifyEmail(request, metadata=bearer(access_token)))

    async def resend(self, token):
        return await told(self._emails.ResendVerification(emails.ResendVerificationRequest(), metadata=bearer(token)))

    async def request_reset(self, email):
        return await told(self._resets.RequestPasswordReset(resets.RequestPasswordResetRequest(email=email)))

    async def confirm_reset(self, token, new=NEW_PASSWORD, **more):
        request = resets.ConfirmPasswordResetRequest(token=token, new_password=new, **more)
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

    async def enrol(self, token, password=PASSWORD):
        request = totp.EnrolTotpRequest(password=password)
        return await told(self._totp.EnrolTotp(request, metadata=bearer(token)))

    async def confirm(self, token, code):
        call = self._totp.ConfirmTotp(totp.ConfirmTotpRequest(code=code), metadata=bearer(token))
        return list((await told(call)).recovery_codes)

    async def totp(self, token):
        return await told(self._totp.GetTotp(totp.GetTotpRequest(), metadata=bearer(token)))

    async def disable(self, token, code, password=PASSWORD):
        request = totp.DisableTotpRequest(password=password, code=code)
        return await told(self._totp.DisableTotp(request, metadata=bearer(token)))

    async def regenerate(self, token, code):
        request = totp.RegenerateRecoveryCodesRequest(code=code)
        return list((await told(self._totp.RegenerateRecoveryCodes(request, metadata=bearer(token)))).recovery_codes)

    async def reauthenticate(self, token, **given):
        request = reauthentications.ReauthenticateRequest(**given)
        return (await told(self._reauthentications.Reauthenticate(request, metadata=bearer(token)))).expires_in

    async def complete(self, mfa_token, code):
        return await told(self._mfa.CompleteMfa(mfa.CompleteMfaRequest(mfa_token=mfa_token, code=code)))

    async def passkey_options(self, token):
        call = self._passkeys.CreatePasskeyOptions(passkeys_pb.CreatePasskeyOptionsRequest(), metadata=bearer(token))
        return MessageToDict((await told(call)).options)

    async def add_passkey(self, token, credential, name=""):
        request = passkeys_pb.AddPasskeyRequest(name=name)
        request.credential.update(credential)
        return await told(self._passkeys.AddPasskey(request, metadata=bearer(token)))

    async def passkeys(self, token):
        call = self._passkeys.ListPasskeys(passkeys_pb.ListPasskeysRequest(), metadata=bearer(token))
        return list((await told(call)).passkeys)

    async def rename_passkey(self, token, passkey_id, name):
        request = passkeys_pb.UpdatePasskeyRequest(id=passkey_id, name=name)
        return await told(self._passkeys.UpdatePasskey(request, metadata=bearer(token)))

    async def delete_passkey(self, token, passkey_id):
        request = passkeys_pb.DeletePasskeyRequest(id=passkey_id)
        return await told(self._passkeys.DeletePasskey(request, metadata=bearer(token)))

    async def passkey_sign_in_options(self):
        request = passkey_sign_ins.CreatePasskeySignInOptionsRequest()
        return MessageToDict((await told(self._passkey_sign_ins.CreatePasskeySignInOptions(request))).options)

    async def sign_in_passkey(self, credential, **more):
        request = passkey_sign_ins.SignInWithPasskeyRequest(**more)
        request.credential.update(credential)
        return await told(self._passkey_sign_ins.SignInWithPasskey(request))

    async def nonce(self):
        return (await told(self._oidc.CreateOidcNonce(oidc.CreateOidcNonceRequest()))).nonce

    async def sign_in_oidc(self, id_token, nonce, provider="local", **more):
        request = oidc.SignInWithOidcRequest(provider=provider, id_token=id_token, nonce=nonce, **more)
        return await told(self._oidc.SignInWithOidc(request))

    async def link(self, token, id_token, nonce, provider="local"):
        request = identities.LinkIdentityRequest(provider=provider, id_token=id_token, nonce=nonce)
        return await told(self._identities.LinkIdentity(request, metadata=bearer(token)))

    async def identities(self, token):
        call = self._identities.ListIdentities(identities.ListIdentitiesRequest(), metadata=bearer(token))
        return list((await told(call)).identities)

    async def unlink(self, token, identity_id):
        request = identities.UnlinkIdentityRequest(id=identity_id)
        return await told(self._identities.UnlinkIdentity(request, metadata=bearer(token)))

    async def delete_me(self, token, password=""):
        request = accounts.DeleteMeRequest(password=password)
        return await told(self._accounts.DeleteMe(request, metadata=bearer(token)))

    async def export(self, token):
        """Return the document, and how many pieces it came in."""
        pieces = []
        try:
            async for body in self._accounts.ExportMe(accounts.ExportMeRequest(), metadata=bearer(token)):
                assert body.content_type == "application/json"
                pieces.append(body.data)
        except grpc.aio.AioRpcError as error:
            raise parley_error_from(error) from error
        return b"".join(pieces), len(pieces)

    async def jwks(self):
        call = self._jwks.GetJwks(jwks.GetJwksRequest())
        return await call, dict(await call.initial_metadata())

    async def issue(self, service, secret):
        request = service_tokens.IssueServiceTokenRequest(service=service, secret=secret)
        return await told(self._service_tokens.IssueServiceToken(request))


def replica(
    engine,
    clock,
    tokens,
    secrets,
    passwords,
    *,
    grace=GRACE,
    repository=Repository,
    providers=(),
    limit=LIMIT,
    others=None,
):
    """Return the servicers of one process; `others` are the services that store something of users."""
    store = repository(engine)
    renewal = {"refresh_lifetime": dt.timedelta(days=30), "grace": grace, "fresh": TIMES.fresh}
    sessions = Sessions(store, tokens, new_id=new_id, clock=clock, **renewal)
    guesses = Guesses(store, clock=clock, limit=limit, window=WINDOW)
    wrong = WrongKeys(clock=clock, limit=WRONG_KEYS)
    exchange = KeyExchange(store, tokens, wrong, clock=clock, fresh=KEY_FRESH, lifetime=KEY_TOKEN)
    mailing = Mailing(store, new_id=new_id, clock=clock, limit=MAILS)
    keys = ApiKeys(store, sessions, mailing, exchange.forget, new_id=new_id, clock=clock, most=MOST_KEYS)
    mfa_challenges = MfaChallenges(store, clock=clock, lifetime=MFA_LIFETIME)
    accounting = Accounts(store, passwords, sessions, guesses, mailing, mfa_challenges, new_id=new_id, clock=clock)
    addresses = EmailAddresses(store, sessions, mailing, clock=clock)
    resetting = PasswordResets(store, passwords, mailing, clock=clock)
    guesting = Guests(store, passwords, sessions, mailing, new_id=new_id)
    federation = federate(store, sessions, mfa_challenges, mailing, clock, providers)
    sealing = Sealing([SEALING_KEY])
    second_factors = SecondFactors(
        store, accounting, sessions, guesses, sealing, mailing, app_name="Parley", clock=clock
    )
    erasures = Erasures(store, accounting, sessions, others or {}, TIMES, new_id=new_id, clock=clock)
    exports = Exports(store, sessions, others or {}, clock=clock, every=dt.timedelta(minutes=1), at_once=2)
    service_tokens = ServiceTokens(SecretFiles(secrets), tokens, clock=clock)
    lasting = {"clock": clock, "lifetime": PASSKEY_LIFETIME}
    passkeys = Passkeys(
        store,
        Ceremonies(rp_id=RP_ID, rp_name="Parley", origins=ORIGINS),
        Challenges(store, Purpose.PASSKEY_REGISTRATION, **lasting),
        Challenges(store, Purpose.PASSKEY_SIGN_IN, **lasting),
        accounting,
        sessions,
        mailing,
        issuers=[provider.issuer for provider in providers],
        new_id=new_id,
    )
    mailed = addresses, resetting, guesting
    return servicers(
        accounting,
        sessions,
        tokens,
        service_tokens,
        keys,
        exchange,
        Admin(store, new_id=new_id, clock=clock),
        *mailed,
        federation,
        second_factors,
        passkeys,
        erasures,
        exports,
    )


def federate(store, sessions, mfa_challenges, mailing, clock, providers):
    """Return the rules of identity providers."""
    by_name = {provider.name: provider for provider in providers}
    return Federation(
        store,
        IdTokens(by_name, issuer_keys(clock, providers), clock=clock),
        Challenges(store, Purpose.OIDC_NONCE, clock=clock, lifetime=NONCE_LIFETIME),
        sessions,
        mfa_challenges,
        mailing,
        new_id=new_id,
    )


def issuer_keys(clock, providers):
    """Return the keys of each provider, as one replica keeps them; they age by the clock."""
    web = httpx.AsyncClient(trust_env=False)
    settings = {"lifetime": KEYS_SECONDS, "timer": lambda: clock().timestamp()}
    return {provider.name: IssuerKeys(provider.issuer, web, **settings) for provider in providers}


def provider(issuer, name="local", **more):
    return Provider(name=name, issuer=issuer.url, audiences=[AUDIENCE, "another.of.ours"], **more)


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
