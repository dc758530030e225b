"""The program with proxies of other registries beside Docker Hub's, under mocks."""

from __future__ import annotations

import base64
import json
from typing import Any

import pulumi
import pytest

from tests.support.configs import ENTERPRISE, GHCR, MICRO, QUAY, changed, config
from tests.support.recorder import Cloud, Recording, Registered, Type, record

EVERY_WAY = changed(ENTERPRISE, "clusters.0.ways", ["admission", "nodes"])
WITH_BOTH = changed(EVERY_WAY, "upstreams", [QUAY, {**GHCR, "edition": "Enterprise"}])
PRIVATE_GHCR = {**GHCR, "namespaces": ["kyverno"]}
DOMAINS = {
    "docker.io": "hub-prod-cn-test.cr.volces.com",
    "ghcr.io": "ghcr-dev-cn-test.cr.volces.com",
    "quay.io": "quay-dev-cn-test.cr.volces.com",
}


@pytest.fixture(scope="module")
def both() -> Recording:
    return record(config(WITH_BOTH))


def test_each_upstream_is_a_registry_of_its_own_type_and_endpoint(both: Recording) -> None:
    caches = {each.name: each.inputs["proxyCache"] for each in both.of_type(Type.REGISTRY)}
    assert caches == {
        "dockerhub-registry": {
            "type": "DockerHub",
            "username": "someone",
            "password": "hub-password",
        },
        "ghcr.io-registry": {"type": "DockerRegistry", "endpoint": "https://ghcr.io"},
        "quay.io-registry": {
            "type": "DockerRegistry",
            "endpoint": "https://quay.io",
            "username": "robot",
            "password": "quay-password",
        },
    }
    access = {
        each.name: each.inputs["repositoryDefaultAccessLevel"]
        for each in both.of_type(Type.NAMESPACE)
    }
    assert access["quay.io-namespace-acme"] == "Private"
    assert access["ghcr.io-namespace-kyverno"] == "Public"


def test_type_and_endpoint_can_be_set() -> None:
    upstream = {**GHCR, "type": "GHCR", "endpoint": "https://ghcr.example.com:8443"}
    recording = record(config(changed(MICRO, "upstreams", [upstream])))
    cache = recording.named("ghcr.io-registry").inputs["proxyCache"]
    assert cache == {"type": "GHCR", "endpoint": "https://ghcr.example.com:8443"}


def test_each_enterprise_registry_lets_the_vpcs_in(both: Recording) -> None:
    vpcs = {each.name: each.inputs["vpcs"] for each in both.of_type(Type.VPC)}
    assert set(vpcs) == {"dockerhub-endpoint", "ghcr.io-endpoint"}
    assert vpcs["dockerhub-endpoint"] == vpcs["ghcr.io-endpoint"]


def test_outputs_are_docker_hubs_and_by_host_those_of_all(both: Recording) -> None:
    assert both.outputs["domain"] == DOMAINS["docker.io"]
    assert both.outputs["namespaces"] == ["bitnami", "library"]
    assert both.outputs["domains"] == DOMAINS
    assert both.outputs["images"] == {
        "docker.io": f"{DOMAINS['docker.io']}/library/nginx:latest",
        "ghcr.io": f"{DOMAINS['ghcr.io']}/kyverno/<image>:<tag>",
        "quay.io": f"{DOMAINS['quay.io']}/prometheus/<image>:<tag>",
    }
    assert both.outputs["image"] == both.outputs["images"]["docker.io"]
    assert both.outputs["usernames"] == dict.fromkeys(DOMAINS, "user@1")
    assert both.outputs["username"] == "user@1"


def test_no_secret_of_an_upstream_leaves_the_program_in_plain(both: Recording) -> None:
    for each in both.resources:
        assert "quay-password" not in repr(each.shown), each.name
    plain = {key: value for key, value in both.outputs.items() if key != "nodePoolScripts"}
    assert "quay-password" not in repr(plain)


def test_the_redirect_knows_every_proxy(both: Recording) -> None:
    values = both.named("apps-redirect-policy").parameters
    assert values["proxies"]["ghcr.io/"] == DOMAINS["ghcr.io"]
    assert values["proxies"]["quay.io/"] == DOMAINS["quay.io"]
    assert values["proxies"][""] == DOMAINS["docker.io"]
    assert values["served"] == {
        DOMAINS["docker.io"]: " bitnami library ",
        DOMAINS["ghcr.io"]: " kyverno ",
        DOMAINS["quay.io"]: " acme prometheus ",
    }
    assert values["private"][DOMAINS["quay.io"]] == " acme "


def logins(secret: Registered) -> dict[str, str]:
    """The password of each domain in a Secret with a Docker config."""
    auths = json.loads(secret.inputs["stringData"][".dockerconfigjson"])["auths"]
    for each in auths.values():
        assert base64.b64decode(each["auth"]).decode() == f"{each['username']}:{each['password']}"
    return {domain: each["password"] for domain, each in auths.items()}


def test_one_pull_secret_holds_the_logins_of_all_private_namespaces(both: Recording) -> None:
    password = "Login-password-1"
    assert logins(both.named("apps-pull-credentials-login")) == {
        DOMAINS["docker.io"]: password,
        DOMAINS["quay.io"]: password,
    }


def test_the_add_on_makes_logins_for_each_registry_with_private_namespaces() -> None:
    document = changed(WITH_BOTH, "login.pods", "addon")
    addon = record(config(document)).named("apps-credential-addon-addon")
    registries = json.loads(addon.inputs["config"])["CrConfigmapData"]["Registries"]
    assert [each["Instance"] for each in registries] == ["hub-prod", "quay-dev"]
    assert [each["Domains"] for each in registries] == [
        [DOMAINS["docker.io"]],
        [DOMAINS["quay.io"]],
    ]


def test_nodes_have_a_mirror_for_each_host_with_its_login(both: Recording) -> None:
    spec = both.one(Type.DAEMON_SET).inputs["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    (mirrors,) = (each["value"] for each in container["env"] if each["name"] == "POD_PROXIES")
    assert f"ghcr.io {DOMAINS['ghcr.io']} -" in mirrors.splitlines()
    assert f"quay.io {DOMAINS['quay.io']} /login/quay.io" in mirrors.splitlines()
    hosts = {each["Registry"] for each in both.outputs["registryProxyConfigs"]["apps"]}
    assert {"docker.io", "ghcr.io", "quay.io"} <= hosts


def test_the_annotation_of_vci_has_a_mirror_for_each_host() -> None:
    public = {**QUAY, "namespaces": [{"name": "prometheus", "access": "Public"}]}
    document = changed(MICRO, "clusters.0.ways", ["vci"])
    recording = record(config(changed(document, "upstreams", [public, GHCR])))
    (rule,) = recording.named("dev-vci-mirror-policy").inputs["spec"]["rules"]
    annotations = rule["mutate"]["patchStrategicMerge"]["metadata"]["annotations"]
    (text,) = annotations.values()
    assert {host: domain for host, (domain,) in json.loads(text)["mirrors"].items()} == {
        **DOMAINS,
        "docker.io": "hub-dev-cn-test.cr.volces.com",
    }


def test_each_proxy_has_a_pull_check_of_its_own_before_anything_else(both: Recording) -> None:
    jobs = {each.name: each for each in both.of_type(Type.JOB) if each.name.startswith("apps")}
    assert set(jobs) == {
        "apps-pull-check-job",
        "apps-pull-check-ghcr.io-job",
        "apps-pull-check-quay.io-job",
    }
    containers = {
        each.inputs["metadata"]["name"]: each.inputs["spec"]["template"]["spec"]["containers"][0]
        for each in jobs.values()
    }
    assert {name: each["image"] for name, each in containers.items()} == {
        "pull-check": f"{DOMAINS['docker.io']}/library/busybox:latest",
        "pull-check-ghcr.io": f"{DOMAINS['ghcr.io']}/kyverno/kyverno-cli:v1.19.1",
        "pull-check-quay.io": f"{DOMAINS['quay.io']}/prometheus/busybox:latest",
    }
    assert containers["pull-check-quay.io"]["command"] == ["true"]
    assert "command" not in containers["pull-check-ghcr.io"]
    assert containers["pull-check-ghcr.io"]["args"] == ["version"]
    for later in ("apps-kyverno", "apps-redirect", "apps-node-mirror"):
        assert set(jobs) <= set(both.named(later).depends_on), later
    secrets = {each.inputs["metadata"]["name"] for each in both.of_type(Type.SECRET)}
    assert {"proxy-login", "proxy-login-quay.io", "proxy-login-ghcr.io"} <= secrets


def test_an_upstream_of_which_no_image_is_known_is_not_checked() -> None:
    document = changed(MICRO, "upstreams", [{**QUAY, "pullCheckImage": None}])
    assert record(config(document)).one(Type.JOB).name == "dev-pull-check-job"


def test_clusters_come_after_every_registry(both: Recording) -> None:
    (cluster,) = (
        each
        for each in both.resources
        if each.name == "apps" and each.type.endswith("ClusterProxy")
    )
    assert {
        "dockerhub-endpoint",
        "ghcr.io-endpoint",
        "ghcr.io-namespace-kyverno",
        "quay.io-namespace-acme",
    } <= set(cluster.depends_on)


DIFFERENT = [
    pytest.param({"name": "ghcr-old"}, "upstreams[ghcr.io].name", id="name"),
    pytest.param({"type": "Enterprise"}, "upstreams[ghcr.io].edition", id="edition"),
    pytest.param(
        {"proxyCache": {"type": "DockerHub"}}, "upstreams[ghcr.io].type", id="another-upstream"
    ),
    pytest.param(
        {"proxyCache": {"type": "DockerRegistry", "endpoint": "https://quay.io"}},
        "upstreams[ghcr.io].endpoint",
        id="another-endpoint",
    ),
    pytest.param(
        {"proxyCache": {"type": "DockerRegistry", "username": "robot"}},
        "upstreams[ghcr.io].username",
        id="another-account",
    ),
]


@pytest.mark.parametrize(("existing", "setting"), DIFFERENT)
def test_an_upstreams_registry_that_differs_stops_the_update_and_names_its_own_settings(
    existing: dict[str, Any], setting: str
) -> None:
    class OnlyGhcr(Cloud):
        def new_resource(self, args: Any) -> tuple[str | None, dict[Any, Any]]:
            identity, state = super().new_resource(args)
            differs = args.name == "ghcr.io-registry"
            return identity, {**state, **existing} if differs else state

    cloud = OnlyGhcr()
    with pytest.raises(pulumi.RunError, match="was left as it is") as caught:
        record(config(changed(MICRO, "upstreams", [GHCR])), cloud=cloud)
    text = str(caught.value)
    assert setting in text
    assert "upstreams[ghcr.io].allowReplacementOn" in text
    assert "registry." not in text
    assert not cloud.seen & {Type.RELEASE, Type.POLICY, Type.JOB}


def as_registered(recording: Recording) -> dict[str, Registered]:
    return {each.urn: each for each in recording.resources if each.custom}


SHARED = {"apps-node-mirror-daemon-set", "apps-redirect-policy", "data-redirect-policy"}
"""What all proxies are in."""
LOGINS = {"apps-pull-credentials-login", "data-pull-credentials-login"}
KYVERNO = {"apps-kyverno-release", "data-kyverno-release"}
PUBLIC_QUAY = {**QUAY, "namespaces": QUAY["namespaces"][:1]}


@pytest.mark.parametrize(
    ("before", "added", "touched"),
    [
        pytest.param([], PUBLIC_QUAY, SHARED, id="the-first"),
        pytest.param([GHCR], PUBLIC_QUAY, SHARED, id="the-second"),
        pytest.param([GHCR], {**PUBLIC_QUAY, "host": "a.example.com"}, SHARED, id="sorted-before"),
        pytest.param([GHCR], QUAY, SHARED | LOGINS, id="with-a-private-namespace"),
        pytest.param([], GHCR, SHARED | KYVERNO, id="with-kyvernos-images"),
    ],
)
def test_an_upstream_that_comes_or_goes_touches_nothing_of_the_others(
    before: list[dict[str, Any]], added: dict[str, Any], touched: set[str]
) -> None:
    without = as_registered(record(config(changed(EVERY_WAY, "upstreams", before))))
    with_it = as_registered(record(config(changed(EVERY_WAY, "upstreams", [added, *before]))))
    assert set(without) <= set(with_it)
    changed_ones = {
        each.name for urn, each in without.items() if _said(each) != _said(with_it[urn])
    }
    assert changed_ones == touched
    new = {each.name for urn, each in with_it.items() if urn not in without}
    assert all(added["host"] in name for name in new)


def _said(resource: Registered) -> Any:
    """All that the program says of a resource, but for what it comes after."""
    return {
        name: value
        for name, value in vars(resource).items()
        if name not in {"depends_on", "after_create", "after_update", "before_create"}
    }


def test_the_order_in_which_upstreams_are_written_changes_nothing() -> None:
    upstreams = WITH_BOTH["upstreams"]
    recordings = [
        record(config(changed(document, "upstreams", order)))
        for document in [changed(WITH_BOTH, "redirect.engine", "MutatingPolicy")]
        for order in (upstreams, upstreams[::-1])
    ]
    one, other = (
        {urn: _said(each) for urn, each in as_registered(found).items()} for found in recordings
    )
    assert one == other
    assert recordings[0].outputs["domains"] == recordings[1].outputs["domains"]


def test_kyverno_comes_through_the_proxy_of_ghcr_that_serves_it(both: Recording) -> None:
    values = both.named("apps-kyverno-release").inputs["values"]
    for part in ("global", "test", "webhooksCleanup", "policyReportsCleanup"):
        assert values[part]["image"]["registry"] == DOMAINS["ghcr.io"], part
    assert "imagePullSecrets" not in values["global"]


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(changed(MICRO, "upstreams", []), id="no-proxy-of-ghcr"),
        pytest.param(
            changed(MICRO, "upstreams", [{**GHCR, "namespaces": ["acme"]}]), id="kyverno-not-served"
        ),
        pytest.param(
            changed(changed(MICRO, "upstreams", [GHCR]), "kyverno.version", "3.7.2"),
            id="a-chart-with-images-of-others",
        ),
    ],
)
def test_otherwise_kyvernos_images_are_where_the_chart_says(document: dict[str, Any]) -> None:
    values = record(config(document)).one(Type.RELEASE).inputs["values"]
    assert "global" not in values


def test_a_registry_that_is_named_for_kyvernos_images_counts() -> None:
    document = changed(MICRO, "upstreams", [GHCR])
    document = changed(document, "kyverno.imageRegistry", "reg.kyverno.io")
    values = record(config(document)).one(Type.RELEASE).inputs["values"]
    assert values["global"]["image"]["registry"] == "reg.kyverno.io"


def test_from_a_private_namespace_kyverno_comes_with_a_login_in_its_own_namespace() -> None:
    recording = record(config(changed(MICRO, "upstreams", [PRIVATE_GHCR])))
    secret = recording.named("dev-kyverno-image-login")
    assert secret.inputs["metadata"]["name"] == "kyverno-image-login"
    assert secret.inputs["metadata"]["namespace"] == "kyverno"
    assert logins(secret) == {DOMAINS["ghcr.io"]: "Login-password-1"}
    release = recording.one(Type.RELEASE)
    assert release.inputs["values"]["global"]["imagePullSecrets"] == [
        {"name": "kyverno-image-login"}
    ]
    assert secret.name in release.depends_on


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(WITH_BOTH, id="both"),
        pytest.param(changed(MICRO, "upstreams", [PRIVATE_GHCR]), id="private-kyverno"),
        pytest.param(changed(WITH_BOTH, "login.pods", "addon"), id="addon"),
    ],
)
def test_a_first_preview_shows_every_resource(document: dict[str, Any]) -> None:
    names = {each.name for each in record(config(document)).resources}
    assert {each.name for each in record(config(document), preview=True).resources} == names
