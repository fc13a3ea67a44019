import datetime as dt
import json
import stat

import pytest
from joserfc.jwk import ECKey
from parley_auth.access_tokens import AccessTokens
from parley_auth.signing_key_files import FIRST, read_keys, rotate
from parley_auth.signing_keys import CannotSign, SigningKeys
from parley_kit.errors import Unauthenticated

from .world import Clock

LIFE = dt.timedelta(seconds=60)
MARGIN = dt.timedelta(seconds=10)
LEAD = dt.timedelta(seconds=30)


@pytest.fixture
def clock():
    return Clock(dt.datetime(2026, 11, 26, 12, tzinfo=dt.UTC))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / FIRST).write_bytes(ECKey.generate_key("P-256", private=True).as_pem(private=True))
    return tmp_path


@pytest.fixture
def keys(folder, clock):
    return SigningKeys(lambda: read_keys(folder), clock=clock, longest=LIFE, margin=MARGIN)


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def published(keys):
    return [key["kid"] for key in json.loads(keys.jwks)["keys"]]


async def test_a_key_is_published_before_it_signs_and_until_its_last_token_has_expired(folder, keys, clock):
    old = keys.current.kid
    made = rotate(folder, now=clock(), lead=LEAD, longest=LIFE + MARGIN)
    assert made.name == "20261126T120030Z.pem"
    assert published(keys) == [old]  # not read yet
    await keys.reload()
    assert (keys.current.kid, len(published(keys))) == (old, 2)
    clock.pass_by(seconds=29.9)
    assert keys.current.kid == old
    clock.pass_by(seconds=0.1)  # and nothing is read anew
    new = keys.current.kid
    assert published(keys) == [old, new]
    clock.pass_by(seconds=69.9)
    assert published(keys) == [old, new]
    clock.pass_by(seconds=0.1)
    assert published(keys) == [new]
    assert keys.current.kid == new


async def test_every_replica_changes_over_at_the_same_moment(folder, keys, clock):
    other = SigningKeys(lambda: read_keys(folder), clock=clock, longest=LIFE, margin=MARGIN)
    rotate(folder, now=clock(), lead=LEAD, longest=LIFE)
    await keys.reload()
    clock.pass_by(seconds=5)
    await other.reload()
    for _ in range(30):
        clock.pass_by(seconds=1)
        assert keys.current.kid == other.current.kid
    assert len({keys.current.kid, read_keys(folder)[0].key.thumbprint()}) == 2


async def test_every_token_holds_as_long_as_it_lives_through_rotation_after_rotation(folder, keys, clock, monkeypatch):
    """Verified with the published keys only; joserfc asks the machine's clock about expiry, so lives are counted here."""
    tokens, living = AccessTokens(keys, dt.timedelta(hours=1)), []
    for second in range(400):
        if second % 120 == 0:
            rotate(folder, now=clock(), lead=LEAD, longest=LIFE + MARGIN)
        await keys.reload()
        living.append((clock() + LIFE, tokens.issue("x", "user", dt.datetime.now(dt.UTC))))
        living = [(end, token) for end, token in living if end >= clock()]
        for _, token in (living[0], living[-1]):
            assert (await tokens.verify(token)).subject == "x"
        clock.pass_by(seconds=1)
    assert len(names(folder)) <= 3


async def test_a_token_of_a_key_that_is_gone_is_refused(folder, keys, clock):
    tokens = AccessTokens(keys, dt.timedelta(hours=1))
    token = tokens.issue("x", "user", dt.datetime.now(dt.UTC))
    rotate(folder, now=clock(), lead=LEAD, longest=LIFE)
    await keys.reload()
    clock.pass_by(seconds=LEAD.total_seconds() + 71)
    with pytest.raises(Unauthenticated):
        await tokens.verify(token)


def test_a_key_is_made_for_its_owner_only_and_leaves_nothing_else(folder, clock):
    made = rotate(folder, now=clock(), lead=LEAD, longest=LIFE)
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert names(folder) == [made.name, FIRST]


def test_rotating_twice_is_rotating_once(folder, clock):
    made = rotate(folder, now=clock(), lead=LEAD, longest=LIFE)
    with pytest.raises(CannotSign, match="20261126T120030Z"):
        rotate(folder, now=clock(), lead=LEAD, longest=LIFE)
    assert names(folder) == [made.name, FIRST]


def test_keys_whose_last_token_has_expired_are_deleted_and_no_others(folder, clock):
    first = rotate(folder, now=clock(), lead=LEAD, longest=LIFE)
    clock.pass_by(seconds=90)  # the first one's token of 12:00:29 lives until 12:01:29
    second = rotate(folder, now=clock(), lead=LEAD, longest=LIFE)
    assert names(folder) == [first.name, second.name, FIRST]
    clock.pass_by(seconds=31)
    third = rotate(folder, now=clock(), lead=LEAD, longest=LIFE)
    assert names(folder) == [first.name, second.name, third.name]


async def test_what_cannot_be_read_changes_nothing(folder, keys, clock):
    old = keys.current.kid
    (folder / "20261126T120001Z.pem").write_text("half a key")
    await keys.reload()
    clock.pass_by(seconds=5)
    assert keys.current.kid == old
    (folder / "20261126T120001Z.pem").unlink()
    (folder / FIRST).unlink()
    await keys.reload()
    assert keys.current.kid == old


@pytest.mark.parametrize("name", ["mine.pem", "20261126T120000.pem", "20261399T120000Z.pem", "2026-11-26.pem"])
def test_a_file_without_a_moment_is_named(folder, name):
    (folder / name).write_bytes((folder / FIRST).read_bytes())
    with pytest.raises(CannotSign, match=name):
        read_keys(folder)


def test_what_kubernetes_puts_beside_the_keys_is_none(folder):
    (folder / "..2026_11_26").mkdir()
    (folder / "..data").symlink_to("..2026_11_26")
    assert len(read_keys(folder)) == 1


def test_without_a_key_that_has_begun_nothing_starts(tmp_path, clock):
    for content in ({}, {"20261126T120001Z.pem": ECKey.generate_key("P-256", private=True).as_pem(private=True)}):
        for name, pem in content.items():
            (tmp_path / name).write_bytes(pem)
        with pytest.raises(CannotSign, match="No signing key has begun"):
            SigningKeys(lambda: read_keys(tmp_path), clock=clock, longest=LIFE)
    with pytest.raises(CannotSign, match="does not exist"):
        read_keys(tmp_path / "nowhere")
