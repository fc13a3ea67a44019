"""The outbox: what is stored is sent, by SMTP or into a folder, and then forgotten."""

import asyncio
import datetime as dt
import email
import email.policy
import re
import ssl
import uuid
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from parley_auth.mail_delivery import FolderMail, SmtpMail, SmtpServer, Undeliverable
from parley_auth.mail_queue import MailQueue
from parley_auth.mail_text import QueuedMail, Writer
from parley_auth.mailing import Kind
from parley_auth.repository import Repository

from .world import address

WRITER = Writer(sender="Parley <parley@example.com>", app_url="https://app.example.com/")


class Mailbox:
    """What the SMTP server received; `answer` is what it says to a message, `refuse` whom it does not know."""

    def __init__(self):
        self.messages, self.answer, self.refuse = [], "250 OK", None

    async def handle_RCPT(self, server, session, envelope, rcpt, options):
        if self.refuse is not None:
            return self.refuse
        envelope.rcpt_tos.append(rcpt)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if self.answer.startswith("250"):
            self.messages.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return self.answer


@pytest.fixture
def inbox():
    return Mailbox()


@asynccontextmanager
async def serving(inbox, **options):
    """Be a real SMTP server; yields its port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(inbox, loop=loop, **options), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest_asyncio.fixture
async def smtp(inbox):
    async with serving(inbox) as port:
        yield SmtpMail(SmtpServer("127.0.0.1", port, "none", timeout=5))


@pytest_asyncio.fixture
async def store(engine, rows):
    await rows("DELETE FROM auth.mails RETURNING id")
    return Repository(engine)


@pytest.fixture
def queue(store, clock, smtp):
    return MailQueue(store, smtp, WRITER, clock=clock)


async def waiting(rows):
    return (await rows("SELECT count(*) FROM auth.mails"))[0][0]


async def test_a_mail_is_sent_once_and_its_token_forgotten(client, queue, inbox, rows, mailbox):
    name = address()
    session = await client.sign_up_only(name)
    token = await mailbox(name)
    await queue.drain()
    await queue.drain()
    (message,) = inbox.messages
    assert (message["to"], message["from"]) == (name, "Parley <parley@example.com>")
    assert message["auto-submitted"] == "auto-generated"
    text = message.get_content()
    assert f"https://app.example.com/verify-email?token={token}" in text
    assert re.search(rf"^{re.escape(token)}\r?$", text, re.MULTILINE)
    assert await waiting(rows) == 0
    await client.verify_email(session.access_token, token)


async def test_a_mail_to_nobody_is_forgotten_and_not_sent(client, queue, inbox, rows):
    await client.request_reset(address())
    assert await waiting(rows) == 1
    await queue.drain()
    assert (inbox.messages, await waiting(rows)) == ([], 0)


async def test_every_mail_is_sent_by_one_of_many_replicas(client, store, clock, smtp, inbox):
    for _ in range(12):
        await client.sign_up_only(address())
    replicas = [MailQueue(store, smtp, WRITER, clock=clock) for _ in range(4)]
    await asyncio.gather(*(replica.drain() for replica in replicas))
    assert len({message["to"] for message in inbox.messages}) == len(inbox.messages) == 12


@pytest.mark.parametrize("fault", ["451 later", "421 closing"])
async def test_what_cannot_be_sent_now_is_tried_again_later(client, queue, inbox, rows, clock, fault):
    await client.sign_up_only(address())
    inbox.answer = fault
    await queue.drain()
    inbox.answer = "250 OK"
    await queue.drain()
    assert (len(inbox.messages), await waiting(rows)) == (0, 1)  # not at once
    clock.pass_by(minutes=2)
    await queue.drain()
    assert (len(inbox.messages), await waiting(rows)) == (1, 0)


async def test_what_the_server_refuses_for_good_is_dropped(client, queue, inbox, rows):
    for inbox.answer, inbox.refuse in (("554 no", None), ("250 OK", "550 unknown")):
        await client.sign_up_only(address())
        await queue.drain()
        assert await waiting(rows) == 0


async def test_nothing_is_tried_for_longer_than_six_hours(client, queue, inbox, rows, clock):
    await client.sign_up_only(address())
    inbox.answer = "451 later"
    tries = 0
    while await waiting(rows):
        await queue.drain()
        tries += 1
        clock.pass_by(minutes=30)
    assert tries == 13


async def test_a_replica_that_dies_after_sending_sends_the_same_message_again(client, store, queue, inbox, clock):
    await client.sign_up_only(address())
    (taken,) = await store.take_mails(clock(), 10)
    await queue._mail.send(WRITER.write(taken))  # and dies
    clock.pass_by(minutes=2)
    await queue.drain()
    assert len({message["message-id"] for message in inbox.messages}) == 1
    assert len(inbox.messages) == 2


async def test_a_folder_gets_whole_files(tmp_path, clock):
    mail = QueuedMail(uuid.uuid4(), Kind.RESET_PASSWORD, "a@example.org", "the-token", clock(), 1)
    folder = FolderMail(tmp_path / "outbox")
    for _ in range(2):
        await folder.send(Writer(sender="a@b.org", app_url="").write(mail))
    (file,) = (tmp_path / "outbox").iterdir()
    assert file.name == f"{mail.id}.eml"
    assert b"\r\nthe-token\r\n" in file.read_bytes()
    assert b"http" not in file.read_bytes()


@pytest.fixture
def certificate(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "cert.pem").write_bytes(made.public_bytes(pem))
    (tmp_path / "key.pem").write_bytes(private)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return context, tmp_path / "cert.pem"


async def test_the_line_is_encrypted_and_the_password_is_only_said_on_it(certificate, inbox, tmp_path, monkeypatch):
    context, trusted = certificate
    said = []

    def authenticate(server, session, envelope, mechanism, data):
        assert isinstance(data, LoginPassword)
        said.append((data.login, data.password, session.ssl is not None))
        return AuthResult(success=data.password == b"secret")

    options = {"tls_context": context, "authenticator": authenticate, "auth_require_tls": True, "auth_required": True}
    async with serving(inbox, **options) as port:
        password = tmp_path / "password"
        password.write_text("secret\n")
        server = SmtpServer("localhost", port, "starttls", 5, "parley", password)
        mail = QueuedMail(uuid.uuid4(), Kind.PASSWORD_CHANGED, "a@example.org", None, dt.datetime.now(dt.UTC), 1)
        with pytest.raises(Exception, match="certificate"):  # nobody vouches for it yet
            await SmtpMail(server).send(WRITER.write(mail))
        assert said == []
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        await SmtpMail(server).send(WRITER.write(mail))
        assert said == [(b"parley", b"secret", True)]
        assert len(inbox.messages) == 1
        password.write_text("wrong")
        with pytest.raises(Exception) as refused:  # ours to repair: no reason to drop the mail
            await SmtpMail(server).send(WRITER.write(mail))
        assert not isinstance(refused.value, Undeliverable)


async def test_a_server_without_starttls_is_told_nothing(inbox, smtp):
    server = SmtpServer("127.0.0.1", smtp._server.port, "starttls", 5)
    mail = QueuedMail(uuid.uuid4(), Kind.PASSWORD_CHANGED, "a@example.org", None, dt.datetime.now(dt.UTC), 1)
    with pytest.raises(Exception, match="STARTTLS"):
        await SmtpMail(server).send(WRITER.write(mail))
    assert inbox.messages == []
