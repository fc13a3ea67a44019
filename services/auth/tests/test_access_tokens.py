import base64
import datetime as dt
import hmac
import json
import uuid

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from parley_auth.access_tokens import AccessTokens
from parley_auth.signing_key_files import load_key
from parley_auth.signing_keys import CannotSign, SigningKeys
from parley_kit.errors import Unauthenticated

USER = "0190a0a0-0000-7000-8000-000000000001"
LIFETIME = dt.timedelta(minutes=15)


def now():
    return dt.datetime.now(dt.UTC)


def new_key():
    key = ECKey.generate_key("P-256", private=True)
    key.ensure_kid()
    return key


@pytest.fixture
def key():
    return new_key()


@pytest.fixture
def tokens(key):
    return AccessTokens(SigningKeys.only(key), LIFETIME)


def encoded(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def claims(**changed):
    issued = int(now().timestamp())
    return {
        "iss": "parley", "aud": "parley", "sub": USER, "role": "user", "jti": "1", "iat": issued, "nbf": issued,
        "exp": issued + 900, **changed,
    }  # fmt: skip


def signed(key, alg="ES256", **changed):
    content = {name: value for name, value in claims(**changed).items() if value is not None}
    return jwt.encode({"alg": alg, "kid": key.kid}, content, key, algorithms=[alg])


def test_claims_as_an_independent_reader_sees_them(tokens):
    moment = now()
    session = uuid.uuid4()
    token = tokens.issue(USER, "user", moment, session)
    published = KeySet.import_key_set(json.loads(tokens.jwks))
    decoded = jwt.decode(token, published, algorithms=["ES256"])
    issued = int(moment.timestamp())
    jti = decoded.claims.pop("jti")
    assert uuid.UUID(jti)
    assert decoded.claims == {
        "iss": "parley", "aud": "parley", "sub": USER, "role": "user", "sid": str(session),
        "iat": issued, "nbf": issued, "exp": issued + 900,
    }  # fmt: skip
    assert decoded.header == {"alg": "ES256", "typ": "JWT", "kid": json.loads(tokens.jwks)["keys"][0]["kid"]}
    assert tokens.issue(USER, "user", moment, session) != token


def test_published_keys_hold_nothing_private_and_are_named_by_their_thumbprint(tokens, key):
    (published,) = json.loads(tokens.jwks)["keys"]
    assert set(published) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert (published["kty"], published["crv"], published["use"], published["alg"]) == ("EC", "P-256", "sig", "ES256")
    assert published["kid"] == key.thumbprint()


async def test_verifies_its_own(tokens):
    principal = await tokens.verify(tokens.issue(USER, "user", now()))
    assert (principal.subject, principal.role, principal.session_id) == (USER, "user", None)


def none_token(key):
    return f"{encoded({'alg': 'none', 'kid': key.kid})}.{encoded(claims())}."


def hmac_token(key):
    """The classic confusion: the public key as the secret of HS256."""
    signed_part = f"{encoded({'alg': 'HS256', 'kid': key.kid})}.{encoded(claims())}"
    signature = hmac.digest(key.as_pem(private=False), signed_part.encode(), "sha256")  # joserfc itself would refuse
    return f"{signed_part}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def other_payload(key):
    head, _, signature = signed(key).split(".")
    return f"{head}.{encoded(claims(role='admin'))}.{signature}"


FORGERIES = {
    "other key, our kid": lambda key: jwt.encode(
        {"alg": "ES256", "kid": key.kid}, claims(), new_key(), algorithms=["ES256"]
    ),
    "other key": lambda key: signed(new_key()),
    "alg none": none_token,
    "hmac with the public key": hmac_token,
    "payload changed": other_payload,
    "expired": lambda key: signed(key, exp=int(now().timestamp()) - 60),
    "without expiry": lambda key: signed(key, exp=None),
    "not yet": lambda key: signed(key, nbf=int(now().timestamp()) + 600),
    "other audience": lambda key: signed(key, aud="somebody"),
    "without audience": lambda key: signed(key, aud=None),
    "other issuer": lambda key: signed(key, iss="somebody"),
    "without subject": lambda key: signed(key, sub=None),
    "unknown role": lambda key: signed(key, role="root"),
    "no token": lambda key: "",
    "no JWT": lambda key: "a.b.c",
    "too long": lambda key: signed(key, sub="x" * 5000),
}


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_refuses(tokens, key, forgery):
    with pytest.raises(Unauthenticated):
        await tokens.verify(FORGERIES[forgery](key))


async def test_what_is_refused_would_pass_without_its_fault(tokens, key):
    assert (await tokens.verify(signed(key))).subject == USER


def test_the_key_is_named_alike_after_a_restart(tmp_path, key):
    file = tmp_path / "key.pem"
    file.write_bytes(key.as_pem(private=True))
    kids = {
        json.loads(AccessTokens(SigningKeys.only(load_key(file)), LIFETIME).jwks)["keys"][0]["kid"] for _ in range(2)
    }
    assert kids == {key.thumbprint()}


@pytest.mark.parametrize("content", [b"", b"not a key", ECKey.generate_key("P-384").as_pem(private=True)])
def test_a_bad_key_file_is_one_readable_line(tmp_path, content):
    file = tmp_path / "key.pem"
    file.write_bytes(content)
    with pytest.raises(CannotSign, match=r"key\.pem"):
        load_key(file)


def test_a_public_key_cannot_sign(tmp_path, key):
    file = tmp_path / "key.pem"
    file.write_bytes(key.as_pem(private=False))
    with pytest.raises(CannotSign, match="private key"):
        load_key(file)


def test_an_absent_key_file_is_one_readable_line(tmp_path):
    with pytest.raises(CannotSign, match="absent"):
        load_key(tmp_path / "absent.pem")
