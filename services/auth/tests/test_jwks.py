import json

from joserfc import jwt
from joserfc.jwk import KeySet

from .world import address


async def test_the_published_keys_verify_what_auth_signs(client):
    session = await client.sign_up(address())
    body, headers = await client.jwks()
    assert body.content_type == "application/json"
    assert headers["cache-control"] == "public, max-age=300"
    keys = KeySet.import_key_set(json.loads(body.data))
    decoded = jwt.decode(session.access_token, keys, algorithms=["ES256"])
    assert decoded.claims["sub"] == session.user.id
    assert decoded.claims["iss"] == decoded.claims["aud"] == "parley"
    assert decoded.claims["role"] == "user"
    assert decoded.claims["exp"] - decoded.claims["iat"] == session.expires_in
