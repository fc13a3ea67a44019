"""What is set up half is said at the start, and the catalogue is checked."""

import datetime as dt
from pathlib import Path

import pytest
from parley_billing.catalogue import Package, read
from parley_billing.settings import Settings
from parley_billing.shop import build_shop
from parley_billing.stripe_api import is_live

HERE = Path(__file__).resolve().parents[1]


@pytest.fixture
def settings(tmp_path, monkeypatch):
    def make(**given):
        for name, value in given.items():
            if name.endswith("_file"):
                file = tmp_path / name
                file.write_text(value)
                given[name] = file
        return Settings(**given)

    return make


def build(settings):
    return build_shop(settings, lambda: dt.datetime.now(dt.UTC))


def test_nothing_is_set_up_by_default(settings):
    shop = build(settings())
    assert (shop.checkouts, shop.stripe, shop.revenuecat) == (None, None, None)
    assert [package.id for package in shop.catalogue.packages] == ["credits-5", "credits-22"]


def test_stripe_is_set_up_as_a_whole_or_not_at_all(settings):
    whole = {
        "stripe_api_key_file": "sk_test_x\n",
        "stripe_webhook_secret_file": "whsec_x\n",
        "checkout_success_url": "https://a.test/",
        "checkout_cancel_url": "https://a.test/",
    }
    shop = build(settings(**whole))
    assert shop.checkouts is not None
    assert shop.stripe is not None
    for name in whole:
        if name != "stripe_api_key_file":
            with pytest.raises(SystemExit, match="needed as well"):
                build(settings(**{key: value for key, value in whole.items() if key != name}))
    with pytest.raises(SystemExit, match="empty"):
        build(settings(**whole | {"stripe_api_key_file": "\n"}))


def test_app_stores_need_one_secret(settings):
    assert build(settings(revenuecat_authorization_file="a")).revenuecat is not None
    assert build(settings(revenuecat_signing_secret_file="s")).revenuecat is not None


@pytest.mark.parametrize(
    ("key", "live"), [("sk_live_x", True), ("rk_live_x", True), ("sk_test_x", False), ("rk_test_x", False)]
)
def test_the_key_says_whether_money_is_real(key, live):
    assert is_live(key) is live


def test_store_products_mean_one_thing():
    catalogue = read(HERE / "catalogue.yaml")
    assert isinstance(catalogue.in_stores("parley_credits_5"), Package)
    assert catalogue.in_stores("parley_plus:monthly") == catalogue.plan("plus")
    assert catalogue.in_stores("x") is None


PACKAGE = "{id: a, display_name: A, credits_micros: 1, prices: {eur: 1}"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("packages: [{id: a}]", "packages.0.credits_micros"),
        (f"packages: [{PACKAGE}, more: 1}}]", "packages.0.more"),
        (f"packages: [{PACKAGE}}}, {PACKAGE}}}]", "the package a is there twice"),
        (f"packages: [{PACKAGE}, store_products: [x, x]}}]", "the store product x is there twice"),
        ("packages: [{id: a, display_name: A, credits_micros: 1, prices: {EUR: 1}}]", "prices.EUR"),
        ("packages: [{id: a, display_name: A, credits_micros: 1, prices: {}}]", "packages.0.prices"),
        ("packages: [{id: a, display_name: A, credits_micros: 0, prices: {eur: 1}}]", "credits_micros"),
        ("[", "is not YAML"),
    ],
)
def test_a_wrong_catalogue_is_explained(tmp_path, text, wrong):
    file = tmp_path / "catalogue.yaml"
    file.write_text(text)
    with pytest.raises(SystemExit) as refused:
        read(file)
    assert wrong in str(refused.value)


def test_a_missing_catalogue_is_explained(tmp_path):
    with pytest.raises(SystemExit, match="cannot be read"):
        read(tmp_path / "none.yaml")
