import asyncio
import threading

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.low_level import Type
from parley_auth.passwords import Passwords
from parley_kit.errors import Unavailable

PASSWORD = "correct horse battery"


@pytest.fixture
def passwords():
    made = Passwords(threads=2, queue=8)
    yield made
    made.close()


class Held:
    """A hasher that says where it runs and waits until it is let go."""

    def __init__(self, inner):
        self._inner = inner
        self.go = threading.Event()
        self.started = threading.Semaphore(0)
        self.threads = []

    def hash(self, password):
        self.threads.append(threading.current_thread())
        self.started.release()
        assert self.go.wait(30)
        return self._inner.hash(password)


async def test_hashes_are_argon2id_with_owasps_parameters_and_a_salt_of_their_own(passwords):
    first, second = await passwords.hash(PASSWORD), await passwords.hash(PASSWORD)
    for encoded in (first, second):
        parameters = extract_parameters(encoded)
        assert parameters.type is Type.ID
        assert parameters.memory_cost >= 19 * 1024
        assert parameters.time_cost >= 2
    assert first != second
    assert PASSWORD not in first


async def test_verify(passwords):
    encoded = await passwords.hash(PASSWORD)
    assert await passwords.verify(PASSWORD, encoded) == (True, None)
    assert await passwords.verify(PASSWORD + "x", encoded) == (False, None)


async def test_one_password_in_two_unicode_spellings(passwords):
    encoded = await passwords.hash("pässword")  # ä as one code point
    assert (await passwords.verify("pa\u0308ssword", encoded))[0]  # a and a combining diaeresis


async def test_nobodys_hash_costs_what_a_real_one_costs_and_never_matches(passwords):
    assert extract_parameters(passwords._nobody) == extract_parameters(await passwords.hash(PASSWORD))
    assert await passwords.verify("nobody has this password", None) == (False, None)


async def test_a_hash_with_older_parameters_is_replaced(passwords):
    old = PasswordHasher(time_cost=1, memory_cost=8 * 1024, parallelism=1).hash(PASSWORD)
    matches, better = await passwords.verify(PASSWORD, old)
    assert matches
    assert extract_parameters(better).memory_cost >= 19 * 1024
    assert await passwords.verify(PASSWORD, better) == (True, None)


async def test_hashing_runs_in_capped_threads_and_refuses_what_would_only_wait():
    passwords = Passwords(threads=1, queue=1)
    held = Held(passwords._hasher)
    passwords._hasher = held
    running = asyncio.create_task(passwords.hash("one"))
    # The loop goes on while the thread is held: that this await returns at all shows it.
    await asyncio.to_thread(held.started.acquire)
    waiting = asyncio.create_task(passwords.hash("two"))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as refused:
        await passwords.hash("three")
    assert refused.value.retry_after
    # Someone who hangs up frees no place: the thread is still at it.
    running.cancel()
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await passwords.hash("four")
    held.go.set()
    assert (await waiting).startswith("$argon2id$")
    assert threading.main_thread() not in held.threads
    assert len(set(held.threads)) == 1
    assert (await passwords.hash("five")).startswith("$argon2id$")
    passwords.close()
