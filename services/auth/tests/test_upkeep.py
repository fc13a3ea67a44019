from parley_auth.repository import Repository
from parley_auth.upkeep import sweep

from .world import address, refusal


async def test_sweeps_what_has_expired_and_nothing_else(client, clock, engine, rows):
    repository = Repository(engine)
    await rows("WITH gone AS (DELETE FROM auth.users RETURNING 1) SELECT count(*) FROM gone")  # what other tests left
    dead, living = await client.sign_up(address()), await client.sign_up(address())
    clock.pass_by(days=20)
    living = await client.refresh(living.refresh_token)
    clock.pass_by(days=12)  # the sign-ups' tokens have expired: a whole session, and a spent token of the other
    assert await sweep(repository, clock()) == 2
    assert await rows("SELECT count(*) FROM auth.sessions WHERE expires_at < :now", now=clock()) == [(0,)]
    assert await refusal(client.refresh(dead.refresh_token)) == "INVALID_REFRESH_TOKEN"
    assert await sweep(repository, clock()) == 0
    await client.refresh(living.refresh_token)
    await client.sign_in(dead.user.email)
