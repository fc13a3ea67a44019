import pytest
from parley_auth.oidc_providers import EmailTrust, load_providers

GOOD = """
providers:
  - {name: google, preset: google, audiences: [web-client]}
  - {name: apple, preset: apple, audiences: [org.example.app], algorithms: [RS256]}
  - {name: work, issuer: "https://login.example.org/realms/staff", audiences: [app], email_trust: never}
"""


def load(tmp_path, text):
    file = tmp_path / "providers.yaml"
    file.write_text(text)
    return load_providers(file)


def test_presets_fill_in_what_is_known(tmp_path):
    providers = load(tmp_path, GOOD)
    assert list(providers) == ["google", "apple", "work"]
    google, apple, work = providers.values()
    assert (google.issuer, google.also_issuers) == ("https://accounts.google.com", ("accounts.google.com",))
    assert google.email_trust is EmailTrust.GOOGLE
    assert (apple.issuer, apple.algorithms) == ("https://appleid.apple.com", ("RS256",))
    assert (work.email_trust, work.algorithms) == (EmailTrust.NEVER, ("RS256", "ES256", "PS256"))


def test_no_file_is_no_providers():
    assert load_providers(None) == {}


def test_the_example_is_good():
    from parley_dev.config import ROOT  # noqa: PLC0415

    assert set(load_providers(ROOT / "services/auth/oidc-providers.example.yaml")) == {"apple", "google", "company"}


@pytest.mark.parametrize(
    "entry",
    [
        "{name: x, audiences: [a]}",
        "{name: x, issuer: 'https://x.example.org'}",
        "{name: x, issuer: 'https://x.example.org', audiences: []}",
        "{name: x, issuer: 'http://x.example.org', audiences: [a]}",
        "{name: x, issuer: 'https://user:pw@x.example.org', audiences: [a]}",
        "{name: x, issuer: 'x.example.org', audiences: [a]}",
        "{name: x, issuer: 'https://x.example.org', audiences: [a], algorithms: [none]}",
        "{name: x, issuer: 'https://x.example.org', audiences: [a], algorithms: [HS256]}",
        "{name: x, issuer: 'https://x.example.org', audiences: [a], algorithms: []}",
        "{name: x, issuer: 'https://x.example.org', audiences: [a], audience: a}",
        "{name: X Y, issuer: 'https://x.example.org', audiences: [a]}",
        "{name: x, preset: facebook, audiences: [a]}",
        "{name: x, preset: google, audiences: [a]}\n  - {name: x, preset: apple, audiences: [a]}",
        "{name: x, preset: google, audiences: [a]}\n  - {name: y, preset: google, audiences: [a]}",
        "[",
    ],
)
def test_what_makes_no_sense_is_refused_at_the_start(tmp_path, entry):
    with pytest.raises(SystemExit, match=r"providers\.yaml"):
        load(tmp_path, f"providers:\n  - {entry}\n")
