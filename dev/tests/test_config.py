import pytest
from parley_dev.config import ROOT, SERVICES, CannotRunError, Mesh
from parley_dev.envoy import write_configuration

URLS = {f"{service.schema}_app": "postgresql://x" for service in SERVICES}


def test_ports_are_distinct_and_complete(home):
    mesh = Mesh(home=home)
    assert sorted(mesh.ports()) == [8080, 9090, *range(9101, 9107), *range(9151, 9157), 9190, 9199]


def test_an_external_postgres_needs_no_port():
    assert 9199 not in Mesh(database_url="postgresql://db/x").ports()


def test_a_port_that_is_none_is_named():
    with pytest.raises(CannotRunError, match="PARLEY_EDGE_PORT=http"):
        Mesh.from_env({"PARLEY_EDGE_PORT": "http"})
    with pytest.raises(CannotRunError, match="PARLEY_BASE_PORT=65500"):
        Mesh.from_env({"PARLEY_BASE_PORT": "65500"})


@pytest.mark.parametrize("given", ["PARLEY_EDGE_USER_PER_MINUTE=0", "PARLEY_EDGE_TRUSTED_HOPS=some"])
def test_a_limit_that_is_none_is_named(home, given):
    with pytest.raises(CannotRunError, match=given):
        write_configuration(Mesh(home=home, extra_env=dict([given.split("=")])))


def test_the_edge_is_limited_as_the_environment_says(home):
    text = write_configuration(Mesh(home=home, extra_env={"PARLEY_EDGE_USER_PER_MINUTE": "77"})).read_text()
    assert "max_tokens: 77," in text


def test_defaults():
    assert Mesh.from_env({}) == Mesh(home=ROOT / ".parley")


def test_no_service_sees_another_ones_database_or_secret(home):
    mesh = Mesh(home=home)
    for service in SERVICES:
        settings = mesh.service_env(service, URLS | {f"{service.schema}_app": f"postgresql://{service.schema}_app"})
        assert all(name.startswith(service.prefix) for name in settings)
        assert settings.get(f"{service.prefix}DATABASE_URL", "").removeprefix("postgresql://") in {
            f"{service.schema}_app",
            "",
        }
        secret = settings.get(f"{service.prefix}SERVICE_SECRET_FILE", "")
        assert secret == ("" if service.name == "auth" else str(mesh.secrets / "services" / service.name))


def test_a_folder_given_as_model_is_found_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert Mesh.from_env({"PARLEY_INFERENCE_LLM_MODEL": "mine"}).model == str(tmp_path / "mine")
    assert Mesh.from_env({"PARLEY_INFERENCE_LLM_MODEL": "org/name@abc"}).model == "org/name@abc"


def test_one_port_for_two_is_named():
    mesh = Mesh.from_env({"PARLEY_BASE_PORT": "23500", "PARLEY_INTERNAL_PORT": "23590"})
    with pytest.raises(CannotRunError, match=r"23590 would be both envoy \(internal\)'s .* and envoy \(admin\)'s"):
        mesh.ports()
