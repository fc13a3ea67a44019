"""The catalogue's file: what it may say, and what becomes of it."""

import copy
import json

import pytest
import sqlalchemy as sa
from parley_registry import seed
from parley_registry.seed import Catalogue
from parley_registry.settings import Settings

from .conftest import CATALOGUE


def changed(**changes):
    copied = copy.deepcopy(CATALOGUE)
    copied["models"][0] |= changes
    return copied


def test_the_shipped_catalogue_is_good(monkeypatch):
    monkeypatch.delenv("PARLEY_REGISTRY_CATALOGUE_FILE", raising=False)
    ids = {model.id for model in seed.read(Settings().catalogue_file).models}
    assert ids == {"parley-nano-chat", "parley-nano-image"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"aliases": ["painter"]}, "belongs to both big and painter"),
        ({"aliases": ["default"]}, "belongs to both"),
        ({"task": "song"}, "models.0.task"),
        ({"price": {"input_micros_per_million_tokens": -1}}, "input_micros_per_million_tokens"),
        ({"price": {"input_micros_per_million_tokens": 0.5}}, "input_micros_per_million_tokens"),
        ({"context_window": 0}, "states context_window"),
        ({"price": {"cached_input_micros_per_million_tokens": 1}}, "is more than input_micros_per_million_tokens"),
        ({"fallbacks": ["big"]}, "big cannot be a fallback of big"),
        ({"fallbacks": ["painter"]}, "painter cannot be a fallback of big"),
        ({"fallbacks": ["nobody"]}, "nobody cannot be a fallback of big"),
        ({"tokens_per_minute": -1}, "tokens_per_minute"),
        ({"colour": "red"}, "models.0.colour"),
        ({"id": "two words"}, "models.0.id"),
    ],
)
def test_a_wrong_file_is_named_with_its_place(tmp_path, changes, said):
    file = tmp_path / "catalogue.yaml"
    file.write_text(str(changed(**changes)).replace("True", "true"))
    with pytest.raises(SystemExit, match=said):
        seed.read(file)


@pytest.mark.parametrize("text", ["{", "models: 5", ""])
def test_what_is_no_catalogue(tmp_path, text):
    file = tmp_path / "catalogue.yaml"
    file.write_text(text)
    with pytest.raises(SystemExit, match=r"catalogue\.yaml"):
        seed.read(file)
    with pytest.raises(SystemExit, match="cannot be read"):
        seed.read(tmp_path / "none.yaml")


async def test_seeding_twice_changes_nothing(repository, rows):
    before = await rows("SELECT * FROM registry.models ORDER BY id"), await rows("SELECT * FROM registry.prices")
    await repository.seed(Catalogue.model_validate(CATALOGUE))
    after = await rows("SELECT * FROM registry.models ORDER BY id"), await rows("SELECT * FROM registry.prices")
    assert after == before


async def test_a_changed_price_is_a_new_version_and_the_old_one_stays(client, repository):
    old = (await client.resolve("big")).model.price
    prices = {"input_micros_per_million_tokens": 11, "output_micros_per_million_tokens": 22}
    await repository.seed(Catalogue.model_validate(changed(price=prices)))
    new = (await client.resolve("big")).model.price
    assert (new.version, new.input_micros_per_million_tokens) == (old.version + 1, 11)
    assert await client.price("big", old.version) == old


async def test_cached_tokens_and_sound_are_priced(client, repository):
    assert (await client.resolve("big")).model.price.cached_input_micros_per_million_tokens == 10  # as the others
    prices = {
        "input_micros_per_million_tokens": 10,
        "cached_input_micros_per_million_tokens": 4,
        "micros_per_million_audio_seconds": 6,
    }
    await repository.seed(Catalogue.model_validate(changed(price=prices)))
    await repository.seed(Catalogue.model_validate(changed(price=prices)))
    price = (await client.resolve("big")).model.price
    assert (price.cached_input_micros_per_million_tokens, price.micros_per_million_audio_seconds) == (4, 6)
    listed = json.loads((await client.find("big")).data)["price"]
    assert listed["cached_input_micros_per_million_tokens"] == 4
    assert listed["micros_per_million_audio_seconds"] == 6
    assert listed["version"] == price.version


async def test_fallbacks_are_told_in_their_order(client, repository):
    more = changed(fallbacks=["second", "third"])
    more["models"] += [
        more["models"][0] | {"id": name, "aliases": [], "default": False, "fallbacks": []}
        for name in ("second", "third")
    ]
    await repository.seed(Catalogue.model_validate(more))
    assert list((await client.resolve("large")).model.fallbacks) == ["second", "third"]
    assert json.loads((await client.find("big")).data)["fallbacks"] == ["second", "third"]


async def test_prices_are_immutable(rows):
    for statement in ("UPDATE registry.prices SET input_price = 1", "DELETE FROM registry.prices"):
        with pytest.raises(sa.exc.DBAPIError, match="are immutable"):
            await rows(statement)


async def test_a_model_taken_out_is_not_listed_unless_it_lives(client, repository):
    without = copy.deepcopy(CATALOGUE)
    del without["models"][0]
    await repository.seed(Catalogue.model_validate(without))
    assert b'"big"' not in (await client.list()).data
    await client.renew("big")
    assert b'"big"' in (await client.list()).data
    assert (await client.price("big", 1)).version == 1
