"""One servicer per proto service; together: the servicers of auth with the functions that add them to a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from parley.auth.v1.account_service_pb2_grpc import add_AccountServiceServicer_to_server
from parley.auth.v1.admin_service_pb2_grpc import add_AdminServiceServicer_to_server
from parley.auth.v1.api_key_service_pb2_grpc import add_ApiKeyServiceServicer_to_server
from parley.auth.v1.device_service_pb2_grpc import add_DeviceServiceServicer_to_server
from parley.auth.v1.email_service_pb2_grpc import add_EmailServiceServicer_to_server
from parley.auth.v1.guest_service_pb2_grpc import add_GuestServiceServicer_to_server
from parley.auth.v1.identity_service_pb2_grpc import add_IdentityServiceServicer_to_server
from parley.auth.v1.jwks_service_pb2_grpc import add_JwksServiceServicer_to_server
from parley.auth.v1.mfa_service_pb2_grpc import add_MfaServiceServicer_to_server
from parley.auth.v1.oidc_service_pb2_grpc import add_OidcServiceServicer_to_server
from parley.auth.v1.passkey_service_pb2_grpc import add_PasskeyServiceServicer_to_server
from parley.auth.v1.passkey_sign_in_service_pb2_grpc import add_PasskeySignInServiceServicer_to_server
from parley.auth.v1.password_reset_service_pb2_grpc import add_PasswordResetServiceServicer_to_server
from parley.auth.v1.password_service_pb2_grpc import add_PasswordServiceServicer_to_server
from parley.auth.v1.reauthentication_service_pb2_grpc import add_ReauthenticationServiceServicer_to_server
from parley.auth.v1.service_token_service_pb2_grpc import add_ServiceTokenServiceServicer_to_server
from parley.auth.v1.session_service_pb2_grpc import add_SessionServiceServicer_to_server
from parley.auth.v1.totp_service_pb2_grpc import add_TotpServiceServicer_to_server
from parley.auth.v1.user_service_pb2_grpc import add_UserServiceServicer_to_server
from parley.edge.v1.external_auth_pb2_grpc import add_AuthorizationServicer_to_server

from parley_auth.access_tokens import AccessTokens
from parley_auth.accounts import Accounts
from parley_auth.admin import Admin
from parley_auth.api_keys import ApiKeys
from parley_auth.email_addresses import EmailAddresses
from parley_auth.erasures import Erasures
from parley_auth.exports import Exports
from parley_auth.federation import Federation
from parley_auth.guests import Guests
from parley_auth.key_exchange import KeyExchange
from parley_auth.passkeys import Passkeys
from parley_auth.password_resets import PasswordResets
from parley_auth.rpc.account import AccountService
from parley_auth.rpc.admin import AdminService
from parley_auth.rpc.api_keys import ApiKeyService
from parley_auth.rpc.devices import DeviceService
from parley_auth.rpc.emails import EmailService
from parley_auth.rpc.external_auth import Authorization
from parley_auth.rpc.guests import GuestService
from parley_auth.rpc.identities import IdentityService
from parley_auth.rpc.jwks import JwksService
from parley_auth.rpc.mfa import MfaService
from parley_auth.rpc.oidc import OidcService
from parley_auth.rpc.passkeys import PasskeyService, PasskeySignInService
from parley_auth.rpc.password_resets import PasswordResetService
from parley_auth.rpc.passwords import PasswordService
from parley_auth.rpc.reauthentication import ReauthenticationService
from parley_auth.rpc.service_tokens import ServiceTokenService
from parley_auth.rpc.sessions import SessionService
from parley_auth.rpc.totp import TotpService
from parley_auth.rpc.users import UserService
from parley_auth.second_factors import SecondFactors
from parley_auth.service_tokens import ServiceTokens
from parley_auth.sessions import Sessions


def servicers(
    accounts: Accounts,
    sessions: Sessions,
    tokens: AccessTokens,
    service_tokens: ServiceTokens,
    api_keys: ApiKeys,
    key_exchange: KeyExchange,
    admin: Admin,
    addresses: EmailAddresses,
    resets: PasswordResets,
    guests: Guests,
    federation: Federation,
    second_factors: SecondFactors,
    passkeys: Passkeys,
    erasures: Erasures,
    exports: Exports,
) -> list[tuple[Any, Callable[..., None]]]:
    """Return what the server serves."""
    return [
        (SessionService(accounts, sessions), add_SessionServiceServicer_to_server),
        (DeviceService(sessions), add_DeviceServiceServicer_to_server),
        (PasswordService(accounts), add_PasswordServiceServicer_to_server),
        (EmailService(addresses), add_EmailServiceServicer_to_server),
        (PasswordResetService(resets), add_PasswordResetServiceServicer_to_server),
        (GuestService(guests), add_GuestServiceServicer_to_server),
        (OidcService(federation), add_OidcServiceServicer_to_server),
        (IdentityService(federation), add_IdentityServiceServicer_to_server),
        (MfaService(second_factors), add_MfaServiceServicer_to_server),
        (TotpService(second_factors), add_TotpServiceServicer_to_server),
        (ReauthenticationService(second_factors), add_ReauthenticationServiceServicer_to_server),
        (PasskeyService(passkeys), add_PasskeyServiceServicer_to_server),
        (PasskeySignInService(passkeys), add_PasskeySignInServiceServicer_to_server),
        (AccountService(erasures, exports), add_AccountServiceServicer_to_server),
        (UserService(accounts), add_UserServiceServicer_to_server),
        (JwksService(tokens), add_JwksServiceServicer_to_server),
        (ApiKeyService(api_keys), add_ApiKeyServiceServicer_to_server),
        (AdminService(admin), add_AdminServiceServicer_to_server),
        (Authorization(key_exchange), add_AuthorizationServicer_to_server),
        (ServiceTokenService(service_tokens), add_ServiceTokenServiceServicer_to_server),
    ]
