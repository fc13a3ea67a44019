import pytest
from parley_kit.errors import ParleyError

from .world import address

SECRET = "hunter2-hunter2-hunter2"
NEW_SECRET = "hunter3-hunter3-hunter3"


async def test_neither_passwords_nor_tokens_nor_e_mails_are_logged(client, capfd, caplog):
    caplog.set_level("DEBUG")
    email = address()
    session = await client.sign_up(email, SECRET)
    session = await client.refresh((await client.sign_in(email, SECRET)).refresh_token)
    await client.me(session.access_token)
    await client.change_password(session.access_token, SECRET, NEW_SECRET)
    for bad in (
        client.change_password(session.access_token, SECRET, NEW_SECRET),
        client.sign_in(email, SECRET + "x"),
        client.sign_up(SECRET, "x"),
        client.issue("chat", SECRET),
    ):
        with pytest.raises(ParleyError) as refused:
            await bad
        assert SECRET not in refused.value.message
    written = "".join(capfd.readouterr()) + caplog.text
    assert "RefreshSession" in written  # the calls were logged, or this would prove nothing
    for secret in (SECRET, NEW_SECRET, email, session.refresh_token, session.access_token):
        assert secret not in written
