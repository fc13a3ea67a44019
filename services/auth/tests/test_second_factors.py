"""Authenticator apps and recovery codes."""

import asyncio
import uuid

import pyotp
import pytest
import pytest_asyncio
import sqlalchemy as sa
from parley_auth import totp
from parley_auth.repository import Repository, second_factors
from parley_kit.errors import ParleyError
from parley_kit.testing import serve_in_process

from .test_oidc import Someone
from .world import LIMIT, NEW_PASSWORD, PASSWORD, Client, address, provider, refusal, replica


class Phone:
    """An account with an authenticator app."""

    def __init__(self, client, clock, session, secret, codes):
        self.client, self.clock, self.session = client, clock, session
        self.app, self.recovery_codes = pyotp.TOTP(secret), codes

    @classmethod
    async def of(cls, client, clock, session, password=PASSWORD):
        enrolled = await client.enrol(session.access_token, password)
        made = cls(client, clock, session, enrolled.secret, [])
        made.recovery_codes = await client.confirm(
            session.access_token, made.code(-1)
        )  # so that the present one is unused
        return made

    @property
    def email(self):
        return self.session.user.email

    def code(self, steps=0):
        return self.app.at(self.clock(), counter_offset=steps)

    def wrong(self):
        """Return a code that is none of the times around."""
        near = {self.code(steps) for steps in range(-3, 4)}
        return next(code for number in range(10) if (code := f"{number:06d}") not in near)

    async def challenge(self, password=PASSWORD):
        answer = await self.client.sign_in(self.email, password)
        assert (answer.access_token, answer.refresh_token, answer.HasField("user")) == ("", "", False)
        return answer.mfa.token

    async def sign_in(self, code):
        return await self.client.complete(await self.challenge(), code)


@pytest_asyncio.fixture
async def phone(client, clock):
    return await Phone.of(client, clock, await client.sign_up(address()))


@pytest_asyncio.fixture
async def replicas(engine, other_engine, clock, tokens, secrets, passwords, issuer):
    """Two that let a hundred guesses pass, so that what decides a race is the code itself."""
    made = [
        replica(one, clock, tokens, secrets, passwords, limit=1000, providers=[provider(issuer)])
        for one in (engine, other_engine)
    ]
    async with serve_in_process(made[0], tokens) as (first, _), serve_in_process(made[1], tokens) as (second, _):
        yield [Client(first), Client(second)]


async def race(replicas, calls):
    """Run calls on two replicas at once; returns what succeeded, and the codes of the refusals."""
    answers = await asyncio.gather(
        *(call(replicas[number % 2]) for number, call in enumerate(calls)), return_exceptions=True
    )
    refused = [answer.code for answer in answers if isinstance(answer, ParleyError)]
    won = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert len(won) + len(refused) == len(calls), answers
    return won, refused


async def test_enrol_confirm_sign_in(client, clock):
    session = await client.sign_up(address())
    token = session.access_token
    assert not (await client.totp(token)).enabled
    enrolled = await client.enrol(token)
    app = pyotp.parse_uri(enrolled.uri)
    assert (app.secret, app.issuer, app.name) == (enrolled.secret, "Parley", session.user.email)
    assert (await client.sign_in(session.user.email)).access_token  # it does not count yet
    codes = await client.confirm(token, app.at(clock()))
    assert len(set(codes)) == 10
    state = await client.totp(token)
    assert (state.enabled, state.recovery_codes_left) == (True, 10)
    assert state.enable_time.ToDatetime().replace(microsecond=0) == clock().replace(tzinfo=None, microsecond=0)

    challenge = await client.sign_in(session.user.email, device_name="phone")
    assert (challenge.access_token, challenge.refresh_token, challenge.mfa.expires_in) == ("", "", 300)
    clock.pass_by(seconds=30)
    signed_in = await client.complete(challenge.mfa.token, app.at(clock()))
    assert signed_in.user == session.user
    assert not signed_in.HasField("mfa")
    assert (await client.refresh(signed_in.refresh_token)).access_token  # renewing needs no second factor
    assert "phone" in {listed.device_name for listed in (await client.list(token)).sessions}


async def test_sessions_that_live_go_on(client, phone):
    await client.refresh(phone.session.refresh_token)


@pytest.mark.parametrize("steps", [-2, -1, 0, 1, 2])
async def test_a_code_is_good_for_one_step_around(client, phone, clock, steps):
    clock.pass_by(minutes=5)
    if abs(steps) == 2:
        assert await refusal(phone.sign_in(phone.code(steps))) == "INVALID_CODE"
    else:
        assert (await phone.sign_in(phone.code(steps))).access_token


async def test_a_code_counts_once_and_none_before_it(phone, clock):
    clock.pass_by(minutes=5)
    code, before = phone.code(), phone.code(-1)
    await phone.sign_in(code)
    assert await refusal(phone.sign_in(code)) == "INVALID_CODE"
    assert await refusal(phone.sign_in(before)) == "INVALID_CODE"
    await phone.sign_in(phone.code(+1))


async def test_the_code_that_confirmed_is_used(client, clock):
    session = await client.sign_up(address())
    phone = Phone(client, clock, session, (await client.enrol(session.access_token)).secret, [])
    code = phone.code()
    await client.confirm(session.access_token, code)
    assert await refusal(phone.sign_in(code)) == "INVALID_CODE"


async def test_a_wrong_code_leaves_the_sign_in_open(client, phone):
    challenge = await phone.challenge()
    assert await refusal(client.complete(challenge, phone.wrong())) == "INVALID_CODE"
    assert (await client.complete(challenge, f" {phone.code()[:3]} {phone.code()[3:]} ")).access_token
    assert await refusal(client.complete(challenge, phone.code(+1))) == "INVALID_MFA_TOKEN"


async def test_a_challenge_expires(client, phone, clock):
    challenge = await phone.challenge()
    clock.pass_by(minutes=5)
    assert await refusal(client.complete(challenge, phone.code())) == "INVALID_MFA_TOKEN"
    assert await refusal(client.complete("made up", phone.code())) == "INVALID_MFA_TOKEN"


async def test_a_wrong_password_gets_no_challenge(client, phone):
    assert await refusal(client.sign_in(phone.email, "wrong")) == "INVALID_CREDENTIALS"


async def test_a_challenge_ends_with_the_password_that_it_began_with(client, phone):
    challenge = await phone.challenge()
    await client.change_password(phone.session.access_token)
    assert await refusal(client.complete(challenge, phone.code())) == "INVALID_MFA_TOKEN"
    assert (await client.complete(await phone.challenge(NEW_PASSWORD), phone.code(+1))).access_token


async def test_a_recovery_code_counts_once(client, phone):
    first, second = phone.recovery_codes[:2]
    await phone.sign_in(first)
    assert await refusal(phone.sign_in(first)) == "INVALID_CODE"
    await phone.sign_in(second.replace("-", " ").upper())
    assert (await client.totp(phone.session.access_token)).recovery_codes_left == 8


async def test_another_ones_codes_are_no_good(client, phone, clock):
    other = await Phone.of(client, clock, await client.sign_up(address()))
    assert await refusal(phone.sign_in(other.recovery_codes[0])) == "INVALID_CODE"
    assert await refusal(phone.sign_in(other.code())) == "INVALID_CODE"
    await other.sign_in(other.recovery_codes[0])


async def test_regenerated_codes_replace_all(client, phone):
    token = phone.session.access_token
    with pytest.raises(ParleyError) as refused:
        await client.regenerate(token, phone.wrong())
    assert [error.field for error in refused.value.fields] == ["code"]
    fresh = await client.regenerate(token, phone.recovery_codes[0])
    assert not set(fresh) & set(phone.recovery_codes)
    assert await refusal(phone.sign_in(phone.recovery_codes[1])) == "INVALID_CODE"
    await phone.sign_in(fresh[0])
    assert (await client.totp(token)).recovery_codes_left == 9


async def test_turning_it_off_needs_password_and_code(client, phone):
    token = phone.session.access_token
    for password, code, field in (("wrong", phone.code(), "password"), (PASSWORD, phone.wrong(), "code")):
        with pytest.raises(ParleyError) as refused:
            await client.disable(token, code, password)
        assert [error.field for error in refused.value.fields] == [field]
    challenge = await phone.challenge()
    await client.disable(token, phone.code())
    assert not (await client.totp(token)).enabled
    assert (await client.sign_in(phone.email)).access_token
    assert await refusal(client.complete(challenge, phone.code(+1))) == "INVALID_MFA_TOKEN"
    assert await refusal(client.disable(token, phone.code(+1))) == "FAILED_PRECONDITION"
    assert await refusal(client.regenerate(token, phone.code(+1))) == "FAILED_PRECONDITION"


async def test_enrolling_needs_the_password_and_no_second_factor_yet(client, phone):
    session = await client.sign_up(address())
    with pytest.raises(ParleyError) as refused:
        await client.enrol(session.access_token, "wrong")
    assert [error.field for error in refused.value.fields] == ["password"]
    assert await refusal(client.confirm(session.access_token, "123456")) == "FAILED_PRECONDITION"
    assert await refusal(client.enrol(phone.session.access_token)) == "FAILED_PRECONDITION"
    assert await refusal(client.confirm(phone.session.access_token, phone.code())) == "FAILED_PRECONDITION"


async def test_a_secret_that_was_enrolled_before_is_void(client, clock):
    session = await client.sign_up(address())
    old = Phone(client, clock, session, (await client.enrol(session.access_token)).secret, [])
    new = Phone(client, clock, session, (await client.enrol(session.access_token)).secret, [])
    with pytest.raises(ParleyError) as refused:
        await client.confirm(session.access_token, old.code())
    assert [error.field for error in refused.value.fields] == ["code"]
    await client.confirm(session.access_token, new.code())


async def test_a_device_that_was_signed_out_changes_nothing(client, phone):
    token = phone.session.access_token
    await client.sign_out(token)
    for call in (
        client.enrol(token), client.confirm(token, "123456"), client.totp(token), client.disable(token, phone.code()),
        client.regenerate(token, phone.code()),
    ):  # fmt: skip
        assert await refusal(call) == "UNAUTHENTICATED"


async def test_codes_are_guessed_ten_times_in_all(client, phone, clock, rows):
    challenge, token = await phone.challenge(), phone.session.access_token
    for number in range(LIMIT):
        wrong = client.complete(challenge, phone.wrong()) if number % 2 else client.disable(token, phone.wrong())
        assert await refusal(wrong) in {"INVALID_CODE", "INVALID_ARGUMENT"}
    with pytest.raises(ParleyError) as refused:
        await client.complete(challenge, phone.code())
    assert (refused.value.code, refused.value.retry_after) == ("RATE_LIMITED", 900)
    assert await refusal(client.complete(challenge, phone.recovery_codes[0])) == "RATE_LIMITED"
    assert (await client.sign_in(phone.email)).mfa.token  # passwords are counted apart
    await client.refresh(phone.session.refresh_token)
    clock.pass_by(minutes=15)
    await phone.sign_in(phone.code())


async def test_right_codes_are_not_counted(phone, clock):
    for _ in range(LIMIT + 2):
        await phone.sign_in(phone.code())
        clock.pass_by(seconds=30)


async def test_guesses_at_once_cannot_slip_through_together(client, phone):
    challenge = await phone.challenge()
    _, refused = await race([client, client], [lambda c: c.complete(challenge, phone.wrong())] * 100)
    assert (refused.count("INVALID_CODE"), refused.count("RATE_LIMITED")) == (LIMIT, 100 - LIMIT)


async def test_of_a_hundred_racers_with_one_code_one_signs_in(phone, replicas):
    challenges, code = [await phone.challenge() for _ in range(5)], phone.code()
    calls = [lambda c, at=number: c.complete(challenges[at % 5], code) for number in range(100)]
    won, refused = await race(replicas, calls)
    assert len(won) == 1
    assert set(refused) <= {"INVALID_CODE", "INVALID_MFA_TOKEN"}


async def test_of_a_hundred_racers_with_one_recovery_code_one_signs_in(phone, replicas):
    challenges, code = [await phone.challenge() for _ in range(5)], phone.recovery_codes[0]
    calls = [lambda c, at=number: c.complete(challenges[at % 5], code) for number in range(100)]
    won, refused = await race(replicas, calls)
    assert len(won) == 1
    assert set(refused) <= {"INVALID_CODE", "INVALID_MFA_TOKEN"}


async def test_of_a_hundred_racers_with_one_challenge_one_signs_in(phone, replicas):
    """Each with a code of its own, or at least one of ten."""
    challenge = await phone.challenge()
    calls = [lambda c, at=number: c.complete(challenge, phone.recovery_codes[at % 10]) for number in range(100)]
    won, refused = await race(replicas, calls)
    assert len(won) == 1
    assert set(refused) <= {"INVALID_CODE", "INVALID_MFA_TOKEN"}
    assert (await phone.client.totp(phone.session.access_token)).recovery_codes_left == 9  # the losers keep theirs


async def test_of_a_hundred_confirmations_one_shows_codes(client, clock, replicas):
    session = await client.sign_up(address())
    phone = Phone(client, clock, session, (await client.enrol(session.access_token)).secret, [])
    code = phone.code()
    won, _ = await race(replicas, [lambda c: c.confirm(session.access_token, code)] * 100)
    assert len(won) == 1
    phone.recovery_codes = won[0]
    await phone.sign_in(phone.recovery_codes[0])


async def test_a_provider_does_not_get_around_it(client, phone, issuer, clock):
    who = Someone(client, issuer, clock)
    link = await client.link(phone.session.access_token, *await who.token())
    challenge = await who.sign_in()
    assert (challenge.access_token, bool(challenge.mfa.token)) == ("", True)
    assert (await client.complete(challenge.mfa.token, phone.code())).user == phone.session.user
    challenge = await who.sign_in()
    await client.unlink(phone.session.access_token, link.id)
    assert await refusal(client.complete(challenge.mfa.token, phone.code(+1))) == "INVALID_MFA_TOKEN"


async def test_an_account_without_a_password_is_asked_for_none(client, issuer, clock):
    session = await Someone(client, issuer, clock).sign_in()
    phone = await Phone.of(client, clock, session, password="")
    await client.disable(session.access_token, phone.code(), "")


async def test_secrets_are_sealed_and_codes_hashed(client, phone, rows):
    user = uuid.UUID(phone.session.user.id)
    ((sealed,),) = await rows("SELECT sealed FROM auth.totp WHERE user_id = :user", user=user)
    secret = phone.app.byte_secret()
    assert secret not in sealed
    assert phone.app.secret.encode() not in sealed
    hashes = {
        row[0] for row in await rows("SELECT code_hash FROM auth.recovery_codes WHERE user_id = :user", user=user)
    }
    assert hashes == {totp.recovery_hash(code) for code in phone.recovery_codes}


async def test_a_secret_moved_to_another_account_opens_nothing(client, phone, clock, rows):
    """Whoever can write the database cannot put a secret of his own before somebody else's account."""
    mine = await Phone.of(client, clock, await client.sign_up(address()))
    statement = """
        UPDATE auth.totp SET sealed = (SELECT sealed FROM auth.totp WHERE user_id = :mine) WHERE user_id = :victim RETURNING 1
    """
    await rows(statement, mine=uuid.UUID(mine.session.user.id), victim=uuid.UUID(phone.session.user.id))
    assert await refusal(phone.sign_in(mine.code())) == "INTERNAL"
    await phone.sign_in(phone.recovery_codes[0])  # recovery codes need no key


async def test_all_of_it_goes_with_the_account(client, phone, rows):
    await phone.challenge()
    user = uuid.UUID(phone.session.user.id)
    await rows("DELETE FROM auth.users WHERE id = :user RETURNING 1", user=user)
    for table in ("totp", "recovery_codes", "pending_sign_ins"):
        assert await rows(f"SELECT count(*) FROM auth.{table} WHERE user_id = :user", user=user) == [(0,)]


async def test_neither_secrets_nor_codes_are_logged(client, clock, capfd, caplog):
    caplog.set_level("DEBUG")
    phone = await Phone.of(client, clock, await client.sign_up(address()))
    challenge, code = await phone.challenge(), phone.code()
    assert await refusal(client.complete(challenge, phone.recovery_codes[0] + "x")) == "INVALID_CODE"
    await client.complete(challenge, code)
    written = "".join(capfd.readouterr()) + caplog.text
    assert "CompleteMfa" in written
    for secret in (phone.app.secret, challenge, *phone.recovery_codes):
        assert secret not in written


async def test_a_mutant_that_takes_codes_twice_is_found(phone, replicas, monkeypatch):
    """The races above are won by the row's condition, not by luck."""
    careless = str(second_factors._USE_STEP).replace("AND last_step < :step", "")
    assert careless != str(second_factors._USE_STEP)
    monkeypatch.setattr(second_factors, "_USE_STEP", sa.text(careless))
    challenges, code = [await phone.challenge() for _ in range(5)], phone.code()
    won, _ = await race(replicas, [lambda c, at=number: c.complete(challenges[at], code) for number in range(5)])
    assert len(won) == 5


class Paused(Repository):
    """Waits where a sign-in has looked at its challenge and not yet used it."""

    reached: asyncio.Event
    go: asyncio.Event

    async def complete(self, *given):
        self.reached.set()
        await self.go.wait()
        return await super().complete(*given)


async def test_a_password_changed_meanwhile_ends_the_sign_in(client, phone, engine, clock, tokens, secrets, passwords):
    Paused.reached, Paused.go = asyncio.Event(), asyncio.Event()
    slow = replica(engine, clock, tokens, secrets, passwords, repository=Paused)
    challenge = await phone.challenge()
    async with serve_in_process(slow, tokens) as (channel, _):
        completing = asyncio.ensure_future(refusal(Client(channel).complete(challenge, phone.code())))
        await Paused.reached.wait()
        await client.change_password(phone.session.access_token)
        Paused.go.set()
        assert await completing == "INVALID_MFA_TOKEN"
