from parley_auth.repository import Repository
from parley_auth.upkeep import sweep

from .world import LIMIT, WINDOW, address, refusal


async def test_sweeps_what_has_expired_and_nothing_else(client, clock, engine, rows):
    repository = Repository(engine)
    for table in ("users", "password_guesses", "mail_counts", "challenges"):  # what other tests left
        await rows(f"WITH gone AS (DELETE FROM auth.{table} RETURNING 1) SELECT count(*) FROM gone")
    dead, living = await client.sign_up(address()), await client.sign_up(address())
    clock.pass_by(days=20)
    living = await client.refresh(living.refresh_token)
    clock.pass_by(days=12)  # the sign-ups' tokens have expired: a whole session, and a spent token of the other
    await client.sign_up_only(address())  # a token and a count that hold still
    # … and the counts of the two mails; their tokens were used.
    assert await sweep(repository, clock(), WINDOW) == 4
    assert await rows("SELECT count(*) FROM auth.mail_tokens") == [(1,)]
    clock.pass_by(hours=25)
    assert await sweep(repository, clock(), WINDOW) == 2
    assert await rows("SELECT count(*) FROM auth.sessions WHERE expires_at < :now", now=clock()) == [(0,)]
    assert await refusal(client.refresh(dead.refresh_token)) == "INVALID_REFRESH_TOKEN"
    assert await sweep(repository, clock(), WINDOW) == 0
    await client.refresh(living.refresh_token)
    await client.sign_in(dead.user.email)


async def test_sweeps_guesses_when_they_count_no_more(client, clock, engine, rows):
    repository = Repository(engine)
    await rows("WITH gone AS (DELETE FROM auth.password_guesses RETURNING 1) SELECT count(*) FROM gone")
    old, fresh = address(), address()
    for _ in range(LIMIT):
        assert await refusal(client.sign_in(old)) == "INVALID_CREDENTIALS"
    clock.pass_by(minutes=10)
    for _ in range(LIMIT):
        assert await refusal(client.sign_in(fresh)) == "INVALID_CREDENTIALS"
    clock.pass_by(minutes=5, seconds=1)
    await sweep(repository, clock(), WINDOW)
    assert await rows("SELECT count(*) FROM auth.password_guesses") == [(1,)]
    assert await refusal(client.sign_in(old)) == "INVALID_CREDENTIALS"
    assert await refusal(client.sign_in(fresh)) == "RATE_LIMITED"


async def test_sweeps_challenges_that_nobody_brought_back(client, clock, engine, rows):
    await rows("WITH gone AS (DELETE FROM auth.challenges RETURNING 1) SELECT count(*) FROM gone")
    await client.nonce()
    clock.pass_by(minutes=5)
    await client.nonce()
    clock.pass_by(minutes=5, seconds=1)
    await sweep(Repository(engine), clock(), WINDOW)
    assert await rows("SELECT count(*) FROM auth.challenges") == [(1,)]
