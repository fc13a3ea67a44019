"""Every RPC x every wrong token: no leak, no effect. test_a_mutant_leaks proves that this can fail."""

import base64
import json
import time
import uuid
from dataclasses import dataclass, field

import grpc
import pytest
import pytest_asyncio
from google.protobuf import json_format, message_factory
from joserfc import jwt
from joserfc.jwk import ECKey
from parley_billing.models import SCHEMA
from parley_billing.repository import Repository
from parley_billing.rpc import servicers
from parley_dev.token import operator_token
from parley_kit import identity, interceptors
from parley_kit.db import create_engine, new_id
from parley_kit.descriptors import pool, scope_of, service_names
from parley_kit.identity import ALGORITHM, AUDIENCE, ISSUER
from parley_kit.testing import database, serve_in_process

from ..framework.authenticator import Authenticator
from ..framework.person import PASSWORD, Person

STRANGER = "00000000-0000-7000-8000-000000000000"
PUBLIC = {
    "parley.auth.v1.GuestService/CreateGuest",
    "parley.auth.v1.JwksService/GetJwks",
    "parley.auth.v1.PasswordResetService/ConfirmPasswordReset",
    "parley.auth.v1.PasswordResetService/RequestPasswordReset",
    "parley.auth.v1.MfaService/CompleteMfa",
    "parley.auth.v1.OidcService/CreateOidcNonce",
    "parley.auth.v1.OidcService/SignInWithOidc",
    "parley.auth.v1.PasskeySignInService/CreatePasskeySignInOptions",
    "parley.auth.v1.PasskeySignInService/SignInWithPasskey",
    "parley.auth.v1.ServiceTokenService/IssueServiceToken",
    "parley.auth.v1.SessionService/RefreshSession",
    "parley.auth.v1.SessionService/SignIn",
    "parley.auth.v1.SessionService/SignUp",
    # Signed by who tells it, not by auth.
    "parley.billing.v1.WebhookService/ReceiveRevenueCatEvent",
    "parley.billing.v1.WebhookService/ReceiveStripeEvent",
}
# What services call and users may not, with requests that would be served.
SERVICE = {
    "parley.billing.v1.HoldService/ExtendHold": {"holdId": STRANGER, "maxQuantity": {"inputTokens": 1}},
    "parley.billing.v1.PlanService/GetUserLimits": {"userId": STRANGER},
    "parley.billing.v1.UserDataService/EraseUser": {"userId": STRANGER},
    "parley.billing.v1.UserDataService/ExportUser": {"userId": STRANGER},
    "parley.chat.v1.WorkService/ListWork": {"afterId": STRANGER, "upToId": STRANGER},
    "parley.image.v1.WorkService/ListWork": {"afterId": STRANGER, "upToId": STRANGER},
    "parley.chat.v1.UserDataService/EraseUser": {"userId": STRANGER},
    "parley.chat.v1.UserDataService/ExportUser": {"userId": STRANGER},
    "parley.image.v1.UserDataService/EraseUser": {"userId": STRANGER},
    "parley.image.v1.UserDataService/ExportUser": {"userId": STRANGER},
    "parley.billing.v1.HoldService/GetHold": {"holdId": STRANGER},
    "parley.billing.v1.WelcomeService/WelcomeUser": {"userId": STRANGER, "proof": STRANGER},
    "parley.billing.v1.HoldService/PlaceHold": {
        "holdId": STRANGER, "userId": STRANGER, "model": "parley-nano-chat", "priceVersion": 1,
        "maxQuantity": {"inputTokens": 1},
    },
    "parley.billing.v1.HoldService/ReleaseHold": {"holdId": STRANGER},
    "parley.billing.v1.HoldService/SettleHold": {"holdId": STRANGER, "quantity": {"inputTokens": 1}},
    "parley.inference.llm.v1.LlmService/Generate": {
        "model": "parley-nano-chat", "generationId": STRANGER, "messages": [{"role": "USER", "content": "x"}],
        "sampling": {"maxOutputTokens": 1},
    },
    "parley.inference.llm.v1.LlmService/PreparePrompt": {
        "model": "parley-nano-chat", "messages": [{"role": "USER", "content": "x"}], "maxOutputTokens": 1,
    },
    "parley.registry.v1.CatalogService/GetPrice": {"model": "parley-nano-chat", "version": 1},
    "parley.registry.v1.CatalogService/ResolveModel": {"task": "CHAT"},
    "parley.registry.v1.LeaseService/ReleaseLease": {"model": "parley-nano-chat", "replicaId": STRANGER},
    "parley.registry.v1.LeaseService/RenewLease": {
        "model": "parley-nano-chat", "endpoint": {"replicaId": STRANGER, "address": "127.0.0.1:1"},
        "ttlSeconds": 10, "task": "CHAT",
    },
}  # fmt: skip
# What operators call and services may not.
ADMIN = {
    "parley.auth.v1.AdminService/DisableUser": {"userId": STRANGER, "reason": "a test"},
    "parley.auth.v1.AdminService/EnableUser": {"userId": STRANGER, "reason": "a test"},
    "parley.auth.v1.AdminService/ListAuditEvents": {},
    "parley.auth.v1.AdminService/SetUserRole": {"userId": STRANGER, "role": "support", "reason": "a test"},
    "parley.auth.v1.AdminService/SignOutUser": {"userId": STRANGER, "reason": "a test"},
    "parley.billing.v1.PromotionService/GetPromotion": {"promotionId": STRANGER},
    "parley.billing.v1.GrantService/ListGrants": {"userId": STRANGER},
    "parley.billing.v1.AuditLogService/ListAuditEvents": {},
    "parley.billing.v1.AllowanceService/CreateAllowance": {
        "allowanceId": STRANGER, "userId": STRANGER, "plan": "plus", "expireTime": "2099-01-01T00:00:00Z",
    },
    "parley.billing.v1.AllowanceService/ListAllowances": {"userId": STRANGER},
    "parley.billing.v1.AuditService/AuditLedger": {},
    "parley.billing.v1.PurchaseService/ListPaymentEvents": {},
    "parley.billing.v1.PurchaseService/ListPurchases": {"userId": STRANGER},
    "parley.billing.v1.PurchaseService/RefundPurchase": {"purchaseId": STRANGER, "requestId": "a-test"},
    "parley.billing.v1.GrantService/CreateGrant": {
        "grantId": STRANGER, "userId": STRANGER, "amountMicros": "1", "reason": "a test",
    },
    "parley.billing.v1.PromotionService/CreatePromotion": {
        "promotionId": STRANGER, "amountMicros": "1", "maxUses": 1, "expireTime": "2100-01-01T00:00:00Z",
        "reason": "a test",
    },
}  # fmt: skip
# What support may look at, and services may not.
SUPPORT = {
    "parley.auth.v1.AdminService/ListUserSessions": {"userId": STRANGER},
    "parley.auth.v1.AdminService/ListUsers": {},
}
# What users call. A request that names a thing of somebody else must not find it.
NAMES_ONE = {
    "parley.auth.v1.ApiKeyService/RevokeApiKey": {"id": "{key}"},
    "parley.auth.v1.ApiKeyService/UpdateApiKey": {"id": "{key}", "name": "stolen"},
    "parley.auth.v1.DeviceService/DeleteSession": {"id": "{session}"},
    "parley.auth.v1.PasskeyService/DeletePasskey": {"id": "{passkey}"},
    "parley.auth.v1.PasskeyService/UpdatePasskey": {"id": "{passkey}", "name": "stolen"},
    "parley.auth.v1.IdentityService/UnlinkIdentity": {"id": "{identity}"},
    "parley.chat.v1.ConversationService/DeleteConversation": {"id": "{conversation}"},
    "parley.chat.v1.ConversationService/GetConversation": {"id": "{conversation}"},
    "parley.chat.v1.ConversationService/UpdateConversation": {"id": "{conversation}", "title": "stolen"},
    "parley.chat.v1.GenerationService/CancelGeneration": {"id": "{generation}"},
    "parley.chat.v1.GenerationService/StreamGeneration": {"id": "{generation}"},
    "parley.chat.v1.MessageService/ListMessages": {"conversationId": "{conversation}"},
    "parley.chat.v1.MessageService/SendMessage": {"conversationId": "{conversation}", "content": "x"},
    "parley.chat.v1.MessageService/StreamMessage": {"conversationId": "{conversation}", "content": "x"},
    "parley.image.v1.ImageJobService/CancelImageJob": {"id": "{job}"},
    "parley.image.v1.ImageJobService/GetImageJob": {"id": "{job}"},
    "parley.image.v1.ImageJobService/GetImageJobImage": {"id": "{job}"},
    "parley.image.v1.ImageJobService/StreamImageJob": {"id": "{job}"},
}
NAMES_NONE = {
    "parley.auth.v1.AccountService/DeleteMe": {},
    "parley.auth.v1.AccountService/ExportMe": {},
    "parley.auth.v1.ApiKeyService/CreateApiKey": {"name": "mine", "scopes": ["chat"]},
    "parley.auth.v1.ApiKeyService/ListApiKeys": {},
    "parley.auth.v1.DeviceService/ListSessions": {},
    "parley.auth.v1.DeviceService/SignOut": {},
    "parley.auth.v1.DeviceService/SignOutAll": {},
    "parley.auth.v1.EmailService/ResendVerification": {},
    "parley.auth.v1.EmailService/VerifyEmail": {"token": "unknown"},
    "parley.auth.v1.GuestService/UpgradeMe": {"email": "stranger@example.org", "password": PASSWORD},
    "parley.auth.v1.IdentityService/LinkIdentity": {"provider": "local", "idToken": "x", "nonce": "x"},
    "parley.auth.v1.IdentityService/ListIdentities": {},
    "parley.auth.v1.PasswordService/ChangePassword": {"currentPassword": PASSWORD, "newPassword": f"{PASSWORD}!"},
    "parley.auth.v1.PasskeyService/AddPasskey": {"credential": {"id": "x"}},
    "parley.auth.v1.PasskeyService/CreatePasskeyOptions": {},
    "parley.auth.v1.PasskeyService/ListPasskeys": {},
    "parley.auth.v1.ReauthenticationService/Reauthenticate": {"password": PASSWORD},
    "parley.auth.v1.TotpService/ConfirmTotp": {"code": "123456"},
    "parley.auth.v1.TotpService/DisableTotp": {"password": PASSWORD, "code": "123456"},
    "parley.auth.v1.TotpService/EnrolTotp": {"password": PASSWORD},
    "parley.auth.v1.TotpService/GetTotp": {},
    "parley.auth.v1.TotpService/RegenerateRecoveryCodes": {"code": "123456"},
    "parley.auth.v1.UserService/GetMe": {},
    "parley.billing.v1.CreditService/GetCredits": {},
    "parley.billing.v1.CreditService/ListEntries": {},
    "parley.billing.v1.CreditService/RedeemPromotion": {"code": "NOSUCHCODE"},
    "parley.billing.v1.StatementService/GetStatement": {"month": "2026-11"},
    "parley.billing.v1.StatementService/GetStatementCsv": {"month": "2026-11"},
    "parley.billing.v1.TopUpService/CreateCheckout": {"package": "credits-5", "requestId": "a-test"},
    "parley.billing.v1.TopUpService/ListMyPurchases": {},
    "parley.billing.v1.UsageService/ListUsage": {},
    "parley.chat.v1.ConversationService/CreateConversation": {"title": "mine"},
    "parley.chat.v1.ConversationService/ListConversations": {},
    "parley.image.v1.ImageJobService/CreateImageJob": {"prompt": "a red circle", "steps": 1},
    "parley.image.v1.ImageJobService/ListImageJobs": {},
    "parley.openai.v1.ChatCompletionsService/CreateChatCompletion": {
        "contentType": "application/json",
        "data": base64.b64encode(
            json.dumps({"model": "default", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}).encode()
        ).decode(),
    },
}
# Which API keys may call it; what is not here is closed to all of them.
SCOPES = {
    "account-read": {
        "parley.auth.v1.UserService/GetMe",
        "parley.billing.v1.CreditService/GetCredits",
        "parley.billing.v1.CreditService/ListEntries",
        "parley.billing.v1.StatementService/GetStatement",
        "parley.billing.v1.StatementService/GetStatementCsv",
        "parley.billing.v1.UsageService/ListUsage",
    },
    "chat": {
        "parley.chat.v1.ConversationService/CreateConversation",
        "parley.chat.v1.ConversationService/DeleteConversation",
        "parley.chat.v1.ConversationService/GetConversation",
        "parley.chat.v1.ConversationService/ListConversations",
        "parley.chat.v1.ConversationService/UpdateConversation",
        "parley.chat.v1.GenerationService/CancelGeneration",
        "parley.chat.v1.GenerationService/StreamGeneration",
        "parley.chat.v1.MessageService/ListMessages",
        "parley.chat.v1.MessageService/SendMessage",
        "parley.chat.v1.MessageService/StreamMessage",
        "parley.openai.v1.ChatCompletionsService/CreateChatCompletion",
    },
    "images": {
        "parley.image.v1.ImageJobService/CancelImageJob",
        "parley.image.v1.ImageJobService/CreateImageJob",
        "parley.image.v1.ImageJobService/GetImageJob",
        "parley.image.v1.ImageJobService/GetImageJobImage",
        "parley.image.v1.ImageJobService/ListImageJobs",
        "parley.image.v1.ImageJobService/StreamImageJob",
    },
    "models": {
        "parley.openai.v1.ModelsService/GetModel",
        "parley.openai.v1.ModelsService/ListModels",
    },
}
EVERY_SCOPE = " ".join(SCOPES)
# Nobody's: every user sees the same.
FOR_ALL = {
    "parley.billing.v1.TopUpService/ListPackages": {},
    "parley.openai.v1.ModelsService/GetModel": {"model": "parley-nano-chat"},
    "parley.openai.v1.ModelsService/ListModels": {},
}
KINDS = ("session", "passkey", "identity", "key", "conversation", "generation", "job")
USER = NAMES_ONE | NAMES_NONE | FOR_ALL
REQUESTS = SERVICE | ADMIN | SUPPORT | USER
DESCRIPTORS = pool()


def every_method():
    return {
        f"{service}/{method.name}"
        for service in service_names()
        for method in DESCRIPTORS.FindServiceByName(service).methods
    }


def test_every_rpc_has_a_row():
    rows = [*PUBLIC, *SERVICE, *ADMIN, *SUPPORT, *NAMES_ONE, *NAMES_NONE, *FOR_ALL]
    assert sorted(rows) == sorted(every_method())


def request(method, names=None):
    """Return the bytes of a row's request, with names of things filled in."""
    filled = json.dumps(REQUESTS[method])
    for name, value in (names or {}).items():
        filled = filled.replace(f"{{{name}}}", value)
    service, _, name = method.rpartition("/")
    kind = message_factory.GetMessageClass(DESCRIPTORS.FindServiceByName(service).FindMethodByName(name).input_type)
    return json_format.ParseDict(json.loads(filled), kind()).SerializeToString()


async def ask(channel, method, body, token):
    """Call an RPC; returns its code and all that came back."""
    metadata = [] if token is None else [("authorization", f"Bearer {token}")]
    call = channel.unary_stream(f"/{method}")(body, metadata=metadata, timeout=30)
    answer = b""
    try:
        async for part in call:
            answer += part
    except grpc.aio.AioRpcError as error:
        return error.code(), answer + (error.details() or "").encode()
    return grpc.StatusCode.OK, answer


@dataclass
class Forge:
    """Makes tokens that auth would never issue, though with auth's key: what is wrong is one thing only."""

    key: ECKey
    claims: dict = field(default_factory=dict)

    def token(self, header=None, key=None, **changes):
        now = int(time.time())
        whole = {"iss": ISSUER, "aud": AUDIENCE, "sub": str(uuid.uuid4()), "role": "admin", "jti": uuid.uuid4().hex}
        whole |= {"iat": now, "nbf": now, "exp": now + 900, **self.claims, **changes}
        head = {"alg": ALGORITHM, "kid": self.key.kid, "typ": "JWT"} | (header or {})
        if head["alg"] == "none":
            return f"{_encoded(head)}.{_encoded(whole)}."
        return jwt.encode(head, whole, key or self.key, algorithms=[ALGORITHM])

    def key_token(self, **changes):
        """Return what an API key becomes at the edge; with every scope, unless `changes` says otherwise."""
        return self.token(**{"role": "user", "key_id": str(uuid.uuid4()), "scope": EVERY_SCOPE} | changes)

    def wrong(self):
        """Return tokens by what is wrong with them; with the right ones an operator would do anything."""
        past = int(time.time()) - 60
        return {
            "no token": None,
            "no jwt": "a.b.c",
            "expired": self.token(exp=past),
            "not yet valid": self.token(nbf=int(time.time()) + 60),
            "wrong audience": self.token(aud="another"),
            "wrong issuer": self.token(iss="another"),
            "alg=none": self.token({"alg": "none"}),
            "another's key": self.token(key=ECKey.generate_key("P-256", private=True)),
            "no such role": self.token(role="root"),
        }


def _encoded(part):
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


async def leaks(channel, methods, forge, user_token, service_token):
    """Return every (method, token) that is not refused as it must be."""
    found = []
    for method in sorted(methods):
        body = request(method, dict.fromkeys(KINDS, STRANGER))
        expected = [(what, token, {"UNAUTHENTICATED"}) for what, token in forge.wrong().items()]
        if method not in USER:
            expected.append(("user", user_token, {"PERMISSION_DENIED"}))
        if method in SERVICE or method in ADMIN:
            expected.append(("support", forge.token(role="support"), {"PERMISSION_DENIED"}))
        if method in ADMIN or method in SUPPORT:
            expected.append(("service", service_token, {"PERMISSION_DENIED"}))
        elif method in USER and method not in FOR_ALL:
            expected.append(("service", service_token, {"UNAUTHENTICATED", "PERMISSION_DENIED"}))
        missing = " ".join(scope for scope in SCOPES if method not in SCOPES[scope])
        expected.append(("a key without the scope", forge.key_token(scope=missing), {"PERMISSION_DENIED"}))
        for what, token, codes in expected:
            code, _ = await ask(channel, method, body, token)
            if code.name not in codes:
                found.append((method, what, code.name))
    return found


@pytest_asyncio.fixture(scope="module")
async def channel(mesh):
    async with grpc.aio.insecure_channel(mesh.mesh.internal_url.removeprefix("http://")) as opened:
        yield opened


@pytest.fixture
def forge(mesh):
    key = ECKey.import_key((mesh.mesh.signing_keys / "signing-key.pem").read_bytes())
    key.ensure_kid()
    return Forge(key)


async def test_a_good_token_of_the_forge_is_good(channel, forge):
    """Else every refusal below would prove nothing."""
    code, _ = await ask(channel, "parley.billing.v1.AuditService/AuditLedger", b"", forge.token())
    assert code is grpc.StatusCode.OK


async def test_no_rpc_takes_a_wrong_token(mesh, channel, forge, me, figure):
    service = await operator_token(mesh.mesh, "chat")
    methods = every_method() - PUBLIC
    assert await leaks(channel, methods, forge, me.token, service) == []
    figure(f"{len(methods)} RPCs x {len(forge.wrong()) + 4} wrong tokens: 0 leaks")


def test_every_scope_is_as_stated_here():
    """So nobody opens an RPC to keys without saying so twice."""
    stated = {scope: set() for scope in SCOPES}
    for method in every_method():
        if scope := scope_of(f"/{method}"):
            stated[scope].add(method)
    assert stated == SCOPES


async def test_a_key_of_the_scope_is_let_in(channel, forge, me):
    """Else the refusals of keys would prove nothing."""
    for method in sorted(set().union(*SCOPES.values()) & {*NAMES_NONE, *FOR_ALL}):
        code, answer = await ask(channel, method, request(method), forge.key_token(sub=me.id))
        assert code is grpc.StatusCode.OK, (method, code, answer)


async def test_support_is_let_in_where_it_may_look(channel, forge):
    code, _ = await ask(
        channel, "parley.auth.v1.AdminService/ListUsers", b"", forge.token(role="support", sub=STRANGER)
    )
    assert code is grpc.StatusCode.OK


async def things(person, issuer):
    """Give a person a conversation, a finished generation, a picture and an identity; return their names."""
    conversation = await person.conversation(title="my secret title")
    events = await person.say(conversation, "What is a credit?", maxOutputTokens=4)
    job = await person.post("/v1/image-jobs", prompt="my secret prompt", steps=1)
    await person.events("GET", f"/v1/image-jobs/{job['id']}:stream")
    sessions = await person.get("/v1/auth/sessions")
    return {
        "conversation": conversation,
        "generation": events[0]["messageMetadata"]["generationId"],
        "job": job["id"],
        "key": (await person.post("/v1/auth/api-keys", name="my secret name", scopes=["chat"]))["apiKey"]["id"],
        "session": sessions["sessions"][0]["id"],
        "identity": await person.link(issuer),
        "passkey": (await Authenticator().register(person, name="my secret name"))["id"],
    }


async def seen(person, names):
    paths = (
        "/v1/me", "/v1/auth/sessions", "/v1/auth/api-keys", "/v1/auth/identities", "/v1/auth/passkeys", "/v1/credits", "/v1/credits/entries",
        "/v1/conversations", "/v1/image-jobs",
        f"/v1/conversations/{names['conversation']}/messages", f"/v1/image-jobs/{names['job']}",
    )  # fmt: skip
    return [await person.get(path) for path in paths]


async def test_nobody_sees_or_changes_what_is_somebody_elses(channel, me, edge, issuer):
    names = await things(me, issuer)
    before = await seen(me, names)
    secrets = [*names.values(), me.id, me.email, "my secret"]
    for method in sorted(USER):
        other = await Person.sign_up(edge)
        code, answer = await ask(channel, method, request(method, names), other.token)
        if method in NAMES_ONE:
            assert code is grpc.StatusCode.NOT_FOUND, (method, code)
        for secret in secrets:
            assert secret.encode() not in answer, (method, secret)
    assert await seen(me, names) == before


async def test_each_of_these_requests_would_be_served_to_its_owner(channel, edge, issuer):
    """Else a refusal could have had another cause."""
    for method in sorted(NAMES_ONE):
        person = await Person.sign_up(edge)
        code, answer = await ask(channel, method, request(method, await things(person, issuer)), person.token)
        assert code is grpc.StatusCode.OK, (method, code, answer)


MUTANTS = {
    "the audience is not checked": lambda patch: patch.delitem(identity._CLAIMS.options, "aud"),
    "the issuer is not checked": lambda patch: patch.delitem(identity._CLAIMS.options, "iss"),
    "the expiry is not checked": lambda patch: patch.setattr(identity._CLAIMS, "leeway", 3600),
    "support may do anything": lambda patch: patch.setattr(interceptors, "ROLE_ADMIN", "support"),
    "the role may be any": lambda patch: patch.setitem(identity._CLAIMS.options, "role", {"essential": True}),
    "unsigned is good enough": lambda patch: patch.setattr(identity, "verify_claims", _without_signature),
    "whatever its scopes, a key may call": lambda patch: patch.setattr(interceptors, "_check_scope", lambda *_: None),
    "a key may call what states no scope": lambda patch: patch.setattr(interceptors, "_check_scope", _lenient),
    "whoever has a token may call": lambda patch: patch.setattr(interceptors, "_check", lambda *_: None),
}


def _lenient(method, principal):
    if principal.api_key and scope_of(method) not in {None, *principal.api_key.scopes}:
        raise interceptors.PermissionDenied("no")


def _without_signature(token, _keys):
    body = token.split(".")[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        identity._CLAIMS.validate(claims)
    except ValueError as error:
        raise identity.Unauthenticated("no") from error
    return identity.Principal(claims["sub"], claims["role"])


class _Verifier:
    def __init__(self, key):
        self._keys = identity.KeySet([key])

    async def verify(self, token):
        return identity.verify_claims(token, self._keys)


@pytest_asyncio.fixture(scope="module")
async def billing_database():
    async with database("parley_billing", SCHEMA) as fresh:
        yield fresh


@pytest.mark.parametrize("mutant", [None, *MUTANTS])
async def test_a_mutant_leaks(billing_database, monkeypatch, mutant):
    key = ECKey.generate_key("P-256", private=True)
    key.ensure_kid()
    forge = Forge(key)
    if mutant:
        MUTANTS[mutant](monkeypatch)
    engine = create_engine(billing_database.app_url)
    served = servicers(Repository(engine), None, welcome_grant=1, new_id=new_id, now=None)
    methods = {method for method in REQUESTS if method.startswith("parley.billing.v1.")}
    user, service = forge.token(role="user"), forge.token(sub="service:chat", role="service")
    async with serve_in_process(served, _Verifier(key)) as (opened, _):
        found = await leaks(opened, methods, forge, user, service)
    await engine.dispose()
    assert bool(found) == bool(mutant), found
