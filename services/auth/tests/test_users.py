import datetime as dt
import uuid

from parley.auth.v1 import session_service_pb2 as pb
from parley.auth.v1.session_service_pb2_grpc import SessionServiceStub

from .world import address, refusal


async def test_me(client, clock):
    clock.pass_by(microseconds=123456)
    session = await client.sign_up(address())
    signed_up = clock.now
    clock.pass_by(seconds=5)
    me = await client.me(session.access_token)
    assert me == session.user
    assert me.create_time.ToDatetime(dt.UTC) == signed_up


async def test_me_needs_a_token(client):
    assert await refusal(client.me()) == "UNAUTHENTICATED"


async def test_me_refuses_an_expired_token(client, clock):
    clock.pass_by(minutes=-20)
    session = await client.sign_up_only(address())
    clock.pass_by(minutes=20)
    assert await refusal(client.me(session.access_token)) == "UNAUTHENTICATED"


async def test_me_of_an_account_that_is_gone(client, tokens, clock):
    token = tokens.issue(str(uuid.uuid4()), "user", clock())
    assert await refusal(client.me(token)) == "UNAUTHENTICATED"


async def test_a_service_has_no_account(client, tokens, clock):
    assert await refusal(client.me(tokens.issue("service:chat", "service", clock()))) == "UNAUTHENTICATED"


async def test_a_refresh_token_is_no_access_token(client):
    session = await client.sign_up(address())
    assert await refusal(client.me(session.refresh_token)) == "UNAUTHENTICATED"


async def test_public_calls_do_not_mind_a_stale_token(client, channel, clock):
    """An app refreshes exactly when its access token has expired, and its HTTP client adds that token all the same."""
    session = await client.sign_up(address())
    answer = await SessionServiceStub(channel).RefreshSession(
        pb.RefreshSessionRequest(refresh_token=session.refresh_token), metadata=[("authorization", "Bearer stale")]
    )
    assert answer.user == session.user
