"""Which models may be loaded, against a hub of the tests."""

import json

import pytest
from huggingface_hub import constants
from parley_kit import hub, testing
from parley_kit.hub import UnusableModel
from parley_kit.testing import Hub

PINNED = f"{Hub.NAME}@{Hub.COMMIT}"


@pytest.fixture
def model(tmp_path):
    """A model's files: sound ones, and beside them what nobody may want."""
    folder = tmp_path / "upstream"
    for name in ("config.json", "unet/config.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    for name in ("model.safetensors", "pytorch_model.bin", "modeling.py", "unet/model.bin"):
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def asked(model, tmp_path):
    """The requests to a hub that has the model."""
    with testing.hub(model, tmp_path / "cache") as server:
        yield server.asked


def test_the_catalogues_name_is_the_folders_or_the_hub_id_without_its_commit(model):
    assert hub.served_name(str(model / "unet" / "..")) == "upstream"
    assert hub.served_name(PINNED) == hub.served_name(Hub.NAME) == Hub.NAME


@pytest.mark.parametrize("revision", ["", "@", "@main"])
def test_an_unpinned_model_is_refused_with_the_very_name_to_use(asked, revision):
    with pytest.raises(UnusableModel, match=rf"`main` is now {Hub.COMMIT}: use {PINNED}$"):
        hub.fetch(Hub.NAME + revision, ["*"])
    assert asked == [f"/api/models/{Hub.NAME}/revision/main"]


@pytest.mark.parametrize("revision", ["v1.0", Hub.COMMIT[:12], Hub.COMMIT[:-1], Hub.COMMIT + "0", "ABCDEF0123" * 4])
def test_what_the_hub_does_not_know_either_is_refused_with_the_place_to_look(asked, revision):
    with pytest.raises(UnusableModel, match=rf"{Hub.NAME}/commits/main and use {Hub.NAME}@<commit>$"):
        hub.fetch(f"{Hub.NAME}@{revision}", ["*"])
    assert asked == [f"/api/models/{Hub.NAME}/revision/{revision}"]


def test_an_unpinned_model_is_refused_without_a_network_too(monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # whatever ran before in this process
    with pytest.raises(UnusableModel, match=r"pinned to a commit .*Error.* use somebody/model@<commit>$"):
        hub.fetch(Hub.NAME, ["*"])


def test_of_a_pinned_model_only_what_is_wanted_is_fetched_and_offline_it_is_still_there(asked):
    folder = hub.fetch(PINNED, ["*.json", "*.safetensors"], ["*/*"])
    assert {file.name for file in folder.rglob("*")} == {"config.json", "model.safetensors"}
    assert all(Hub.COMMIT in path for path in asked)
    asked.clear()
    hub.stay_offline()
    assert hub.fetch(PINNED, ["*.json", "*.safetensors"], ["*/*"]) == folder
    with pytest.raises(UnusableModel, match="cannot be fetched"):
        hub.fetch(PINNED, ["*.py"])
    assert asked == []


def test_a_commit_that_the_hub_does_not_have_is_one_line(asked):
    with pytest.raises(UnusableModel, match=r"cannot be fetched: .*404") as refused:
        hub.fetch(f"{Hub.NAME}@{'f' * 40}", ["*"])
    assert "\n" not in str(refused.value)


def test_pickles_beside_safetensors_are_left_alone_and_alone_are_refused(asked, model):
    for name, folder in ((str(model), model), (PINNED, hub.fetch(PINNED, ["*.json"]))):
        hub.check(name, folder)
        with pytest.raises(UnusableModel, match=r"unet/model\.bin is a pickle.*convert"):
            hub.check(name, folder, "unet")
    assert not any(path.endswith(".bin") for path in asked)


@pytest.mark.parametrize("kind", ["bin", "pt", "pth", "ckpt", "pkl", "pickle"])
def test_every_kind_of_pickle_is_known(tmp_path, kind):
    (tmp_path / f"weights.{kind}").touch()
    with pytest.raises(UnusableModel, match=rf"weights\.{kind} is a pickle"):
        hub.check(str(tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("part", "name"), [("", "config.json"), ("", "tokenizer_config.json"), ("unet", "config.json")]
)
def test_code_of_the_models_own_is_refused(model, part, name):
    (model / part / name).write_text(json.dumps({"auto_map": {"AutoConfig": "modeling.Config"}}))
    (model / "unet" / "model.safetensors").touch()
    with pytest.raises(UnusableModel, match=rf"{name} asks for code"):
        hub.check(str(model), model, part)


def test_an_index_that_names_pickles_as_safetensors_is_refused(model):
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": "pytorch_model.bin"}}))
    with pytest.raises(UnusableModel, match=r"index\.json names pytorch_model\.bin"):
        hub.check(str(model), model)


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_files_that_are_no_json_are_named(model, content):
    (model / "config.json").write_text(content)
    with pytest.raises(UnusableModel, match=r"config\.json"):
        hub.check(str(model), model)
