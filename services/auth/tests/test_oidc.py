"""Signing in with an identity provider: whose account it is."""

import asyncio
import uuid

import pytest
from parley_kit.errors import ParleyError
from parley_kit.testing import serve_in_process

from .world import Client, address, provider, refusal, replica


class Someone:
    """A user of the issuer."""

    def __init__(self, client, issuer, clock, **claims):
        self.client, self.issuer, self.clock = client, issuer, clock
        self.claims = {"sub": uuid.uuid4().hex} | claims

    async def token(self, **claims):
        nonce = await self.client.nonce()
        return self.issuer.token(nonce, now=self.clock(), **self.claims | claims), nonce

    async def sign_in(self, **more):
        return await self.client.sign_in_oidc(*await self.token(), **more)


@pytest.fixture
def someone(client, issuer, clock):
    return lambda **claims: Someone(client, issuer, clock, **claims)


async def test_the_first_time_makes_an_account_and_the_next_finds_it(someone, client):
    email = address()
    who = someone(email=email.upper(), email_verified=True)
    first = await who.sign_in(device_name="phone")
    assert first.user.email == email
    assert (await client.me(first.access_token)) == first.user
    again = await who.sign_in()
    assert again.user == first.user
    assert (await client.refresh(again.refresh_token)).user == first.user
    listed = (await client.list(again.access_token)).sessions
    assert [session.device_name for session in listed][1] == "phone"


async def test_the_account_is_the_subjects_whatever_the_e_mail(someone):
    who = someone(email=address(), email_verified=True)
    first = await who.sign_in()
    who.claims["email"] = address()
    assert (await who.sign_in()).user == first.user
    other = someone(email=address(), email_verified=True)
    assert (await other.sign_in()).user.id != first.user.id


@pytest.mark.parametrize("verified", [False, "false", None, "True", 1, "yes", [True]])
async def test_an_e_mail_that_nobody_vouches_for_is_not_the_accounts(someone, client, verified):
    owner = await client.sign_up(address())
    session = await someone(email=owner.user.email, email_verified=verified).sign_in()
    assert session.user.id != owner.user.id
    assert session.user.email == ""
    assert [known.email for known in await client.identities(session.access_token)] == [owner.user.email]


@pytest.mark.parametrize("verified", [True, "true"])
async def test_a_vouched_e_mail_finds_the_account_that_verified_it(someone, client, verified):
    owner = await client.sign_up(address())
    who = someone(email=owner.user.email.title(), email_verified=verified)
    assert (await who.sign_in()).user == owner.user
    assert (await who.sign_in()).user == owner.user
    await client.sign_in(owner.user.email)  # the password goes on


async def test_an_account_that_only_claims_the_e_mail_is_not_linked(someone, client):
    """Else whoever signs up with somebody's e-mail beforehand would share the account, by the password."""
    squatter = await client.sign_up_only(address())
    owner = await someone(email=squatter.user.email, email_verified=True).sign_in()
    assert owner.user.id != squatter.user.id
    assert (owner.user.email, owner.user.email_verified) == (squatter.user.email, True)
    assert await client.identities(squatter.access_token) == []
    assert await refusal(client.sign_in(squatter.user.email)) == "INVALID_CREDENTIALS"


async def test_an_account_from_before_addresses_were_proved_is_not_linked(someone, client, rows):
    squatter = await client.sign_up(address())
    statement = "UPDATE auth.users SET email_verified_at = NULL WHERE id = :id RETURNING 1"
    await rows(statement, id=uuid.UUID(squatter.user.id))
    with pytest.raises(ParleyError) as refused:
        await someone(email=squatter.user.email, email_verified=True).sign_in()
    assert (refused.value.code, refused.value.rule.http_status) == ("EMAIL_TAKEN", 409)
    assert await client.identities(squatter.access_token) == []


@pytest.mark.parametrize(
    "email", ["no address", "x" * 250 + "@example.org", "a\0@example.org", 7, ["a@example.org"], ""]
)
async def test_what_is_no_e_mail_is_none(someone, email):
    assert (await someone(email=email, email_verified=True).sign_in()).user.email == ""


async def test_google_vouches_for_mailboxes_that_it_hosts(engine, clock, tokens, secrets, passwords, issuer):
    served = replica(
        engine, clock, tokens, secrets, passwords, providers=[provider(issuer, "google", email_trust="google")]
    )
    async with serve_in_process(served, tokens) as (channel, _):
        client = Client(channel)

        async def email(**claims):
            nonce = await client.nonce()
            token = issuer.token(nonce, now=clock(), email_verified=True, **claims)
            return (await client.sign_in_oidc(token, nonce, "google")).user.email

        hosted = f"{uuid.uuid4().hex}@gmail.com"
        assert await email(email=hosted) == hosted
        assert await email(email="elsewhere@example.org") == ""
        assert await email(email="domain@example.org", hd="example.org") == "domain@example.org"


async def test_one_account_for_many_first_times_at_once(someone, rows):
    who = someone(email=address(), email_verified=True)
    tokens = [await who.token() for _ in range(20)]
    sessions = await asyncio.gather(*(who.client.sign_in_oidc(*token) for token in tokens))
    assert len({session.user.id for session in sessions}) == 1
    assert await rows("SELECT count(*) FROM auth.users WHERE email = :email", email=who.claims["email"]) == [(1,)]


async def test_a_replayed_token_is_refused(someone, client):
    token, nonce = await someone().token()
    await client.sign_in_oidc(token, nonce)
    assert await refusal(client.sign_in_oidc(token, nonce)) == "INVALID_ID_TOKEN"
    assert await refusal(client.sign_in_oidc(token, await client.nonce())) == "INVALID_ID_TOKEN"


async def test_of_a_hundred_racers_with_one_token_one_signs_in(
    someone, client, engine, other_engine, clock, tokens, secrets, passwords, issuer
):
    token, nonce = await someone().token()
    other = replica(other_engine, clock, tokens, secrets, passwords, providers=[provider(issuer)])
    async with serve_in_process(other, tokens) as (channel, _):
        replicas = [client, Client(channel)]
        answers = await asyncio.gather(
            *(replicas[number % 2].sign_in_oidc(token, nonce) for number in range(100)), return_exceptions=True
        )
    refused = [answer.code for answer in answers if isinstance(answer, ParleyError)]
    assert refused == ["INVALID_ID_TOKEN"] * 99


async def test_nonces_expire_and_must_be_ours(someone, client, clock, issuer):
    token, nonce = await someone(exp=int(clock().timestamp()) + 3600).token()
    clock.pass_by(minutes=10)
    assert await refusal(client.sign_in_oidc(token, nonce)) == "INVALID_ID_TOKEN"
    ours_it_is_not = issuer.token("made up", now=clock())
    assert await refusal(client.sign_in_oidc(ours_it_is_not, "made up")) == "INVALID_ID_TOKEN"


async def test_a_token_that_does_not_hold_uses_up_no_nonce(someone, client):
    who = someone()
    bad, nonce = await who.token(aud="another")
    assert await refusal(client.sign_in_oidc(bad, nonce)) == "INVALID_ID_TOKEN"
    await client.sign_in_oidc(who.issuer.token(nonce, now=who.clock(), **who.claims), nonce)


async def test_an_unknown_provider_is_named(client):
    with pytest.raises(ParleyError) as refused:
        await client.sign_in_oidc("x", "x", "nobody")
    assert [error.field for error in refused.value.fields] == ["provider"]


async def test_neither_tokens_nor_nonces_nor_e_mails_are_logged_or_stored(someone, client, capfd, caplog, rows):
    caplog.set_level("DEBUG")
    who = someone(email=address(), email_verified=True)
    token, nonce = await who.token()
    bad, unused = await who.token(aud="another")
    assert await refusal(client.sign_in_oidc(bad, unused)) == "INVALID_ID_TOKEN"
    await client.sign_in_oidc(token, nonce)
    written = "".join(capfd.readouterr()) + caplog.text
    assert "SignInWithOidc" in written
    for secret in (token, bad, nonce, unused, who.claims["email"], who.claims["sub"]):
        assert secret not in written
    (stored,) = await rows(
        "SELECT count(*) FROM auth.challenges WHERE encode(hash, 'escape') LIKE :nonce", nonce=unused
    )
    assert stored == (0,)
