import hashlib

import pytest
from joserfc.errors import JoseError
from joserfc.jwe import decrypt_compact
from joserfc.jwk import OctKey
from parley_auth.refresh_tokens import new_refresh_token, seal, token_hash, unseal


def test_only_the_presented_token_opens_the_seal():
    presented, successor = new_refresh_token(), new_refresh_token()
    sealed = seal(successor, presented)
    assert successor not in sealed
    assert unseal(sealed, presented) == successor
    for other in (new_refresh_token(), successor, presented + "x", ""):
        with pytest.raises(JoseError):
            unseal(sealed, other)


def test_the_database_alone_does_not_open_it():
    """What is stored beside the seal, the hash of the presented token, is not its key."""
    presented = new_refresh_token()
    sealed = seal(new_refresh_token(), presented)
    for stored in (token_hash(presented), hashlib.sha256(token_hash(presented)).digest()):
        with pytest.raises(JoseError):
            decrypt_compact(sealed, OctKey.import_key(stored), algorithms=["dir", "A256GCM"])


def test_two_seals_of_one_token_differ():
    assert seal("same", "presented") != seal("same", "presented")
