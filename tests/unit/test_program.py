"""The whole program under mocks: what it registers, with which options, and what it must not."""

from __future__ import annotations

import json
from typing import Any

import pulumi
import pytest

from components import PACKAGE
from components.labels import LABELS, NODES_NAMESPACE
from components.labels import NAMESPACE as PROXY_NAMESPACE
from components.types import Engine
from rehearsal.deploy.embedded import Secret
from settings import SettingsError
from settings.model import Registry
from tests.support.configs import ENTERPRISE, MICRO, changed, config, kubeconfig
from tests.support.recorder import Cloud, Recording, Type, known_as, record, stack

PROVIDER = "pulumi:providers:kubernetes"
CLUSTER_PROXY = f"{PACKAGE}:index:ClusterProxy"


@pytest.fixture(scope="module")
def micro() -> Recording:
    return record(config(MICRO))


@pytest.fixture(scope="module")
def enterprise() -> Recording:
    return record(config(ENTERPRISE))


def test_a_micro_stack_is_a_registry_its_namespaces_and_a_policy_in_each_cluster(
    micro: Recording,
) -> None:
    tokens = sorted({each.type for each in micro.resources if each.custom})
    assert tokens == [
        Type.JOB,
        "kubernetes:core/v1:Namespace",
        Type.SECRET,
        Type.RELEASE,
        Type.POLICY,
        PROVIDER,
        Type.NAMESPACE,
        Type.REGISTRY,
    ]


def test_micro_gets_no_vpc_access(micro: Recording) -> None:
    assert micro.of_type(Type.VPC) == []
    assert micro.of_type(f"{PACKAGE}:index:VpcAccess") == []
    assert micro.outputs["vpcs"] == []


def test_enterprise_lets_in_each_distinct_vpc_of_its_clusters(enterprise: Recording) -> None:
    assert enterprise.one(Type.VPC).inputs["vpcs"] == [
        {"vpcId": "vpc-ccapps01", "subnetId": "subnet-ccapps01"},
        {"vpcId": "vpc-ccdata01", "subnetId": "subnet-ccdata01"},
    ]
    assert enterprise.outputs["vpcs"] == ["vpc-ccapps01", "vpc-ccdata01"]


def test_two_clusters_in_one_vpc_let_it_in_once() -> None:
    one = {"name": "a", "kubeconfig": kubeconfig("a"), "vpcId": "vpc-1", "subnetId": "subnet-1"}
    document = changed(
        ENTERPRISE, "clusters", [one, {**one, "name": "b", "kubeconfig": kubeconfig("b")}]
    )
    document = changed(document, "registry.extraVpcs", [{"vpcId": "vpc-2", "subnetId": "subnet-2"}])
    vpcs = record(config(document)).one(Type.VPC).inputs["vpcs"]
    assert [each["vpcId"] for each in vpcs] == ["vpc-1", "vpc-2"]


def test_the_registry_is_what_the_settings_say(enterprise: Recording) -> None:
    assert enterprise.one(Type.REGISTRY).inputs == {
        "name": "hub-prod",
        "type": "Enterprise",
        "project": "default",
        "proxyCacheEnabled": True,
        "proxyCache": {
            "type": "DockerHub",
            "username": "someone",
            "password": "hub-password",
        },
        "password": "Login-password-1",
        "resourceTags": [{"key": "env", "value": "prod"}, {"key": "team", "value": "platform"}],
        "deleteImmediately": True,
    }


def test_an_anonymous_registry_sends_no_credentials(micro: Recording) -> None:
    assert micro.one(Type.REGISTRY).inputs["proxyCache"] == {"type": "DockerHub"}
    assert "resourceTags" not in micro.one(Type.REGISTRY).inputs


def test_namespaces_are_private_unless_config_says_public(enterprise: Recording) -> None:
    access = {
        each.inputs["name"]: each.inputs["repositoryDefaultAccessLevel"]
        for each in enterprise.of_type(Type.NAMESPACE)
    }
    assert access == {"bitnami": "Private", "library": "Public"}


def test_what_would_replace_the_registry_is_not_passed_on(enterprise: Recording) -> None:
    registry = enterprise.one(Type.REGISTRY)
    assert {"name", "type", "proxyCache", "proxyCache.password", "resourceTags"} <= set(
        registry.ignore_changes
    )
    assert registry.protect
    assert registry.delete_before_replace


def test_on_the_day_named_the_registry_may_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Registry, "replacement_allowed", lambda *_: True)
    document = changed(ENTERPRISE, "registry.allowReplacementOn", "2026-01-01")
    registry = record(config(document)).one(Type.REGISTRY)
    assert registry.ignore_changes == ()
    assert not registry.protect
    assert registry.delete_before_replace


DIFFERENT: list[Any] = [
    pytest.param({"type": "Micro"}, "registry.edition", id="edition"),
    pytest.param({"name": "hub-old"}, "registry.name", id="name"),
    pytest.param(
        {"resourceTags": [{"key": "team", "value": "platform"}]}, "registry.tags", id="tag"
    ),
    pytest.param(
        {"proxyCache": {"type": "DockerHub"}}, "dockerhub.username", id="docker-hub-credentials"
    ),
]


@pytest.mark.parametrize(("existing", "setting"), DIFFERENT)
def test_a_registry_that_differs_from_config_stops_the_update_before_anything_depends_on_it(
    existing: dict[str, Any], setting: str
) -> None:
    cloud = Cloud(existing=existing)
    with pytest.raises(pulumi.RunError, match="was left as it is") as caught:
        record(config(ENTERPRISE), cloud=cloud)
    assert setting in str(caught.value)
    assert "registry.allowReplacementOn" in str(caught.value)
    assert not cloud.seen & {Type.NAMESPACE, Type.VPC, Type.RELEASE, Type.POLICY, Type.JOB}


def test_a_tag_put_on_the_registry_by_others_does_not_stop_the_update() -> None:
    tags = [
        {"key": key, "value": value}
        for key, value in (("env", "prod"), ("team", "platform"), ("billing", "x"))
    ]
    assert record(config(ENTERPRISE), cloud=Cloud(existing={"resourceTags": tags})).outputs[
        "domain"
    ]


def test_every_kubernetes_resource_is_given_the_provider_of_its_own_cluster(
    enterprise: Recording,
) -> None:
    inside = [each for each in enterprise.resources if each.type.startswith("kubernetes:")]
    assert {each.name.partition("-")[0] for each in inside} == {"apps", "data"}
    for each in inside:
        cluster = each.name.partition("-")[0]
        assert each.provider.endswith(f"::{cluster}-provider::{cluster}-provider-id")


def test_a_provider_is_replaced_only_for_another_cluster(enterprise: Recording) -> None:
    identifiers = {
        each.name: each.inputs["clusterIdentifier"] for each in enterprise.of_type(PROVIDER)
    }
    assert identifiers == {"apps-provider": "ccapps01", "data-provider": "ccdata01"}


def test_the_newest_kubeconfig_of_the_wanted_endpoint_is_used_and_is_secret() -> None:
    document = changed(MICRO, "clusters.0.endpoint", "Private")
    provider = record(config(document)).one(PROVIDER)
    assert provider.inputs["kubeconfig"].endswith("# Private 2")
    assert provider.raw["kubeconfig"] != provider.inputs["kubeconfig"]


SECRETS = ("hub-password", "Login-password-1", "kubeconfig-secret")


@pytest.mark.parametrize(
    "document",
    [MICRO, ENTERPRISE, changed(ENTERPRISE, "login.pods", "addon")],
    ids=["micro", "enterprise", "addon"],
)
def test_no_secret_leaves_the_program_in_plain(document: dict[str, Any]) -> None:
    recording = record(config(document))
    for each in recording.resources:
        shown = repr(each.shown)
        assert not any(secret in shown for secret in SECRETS), each.name
    secret = {key for key, value in recording.outputs.items() if isinstance(value, Secret)}
    assert secret == {"nodePoolScripts"}
    shown = repr({key: value for key, value in recording.outputs.items() if key not in secret})
    assert not any(each in shown for each in SECRETS)


def test_the_domain_and_what_follows_from_it_are_not_secret(enterprise: Recording) -> None:
    assert enterprise.outputs["domain"] == "hub-prod-cn-test.cr.volces.com"
    assert enterprise.outputs["image"] == "hub-prod-cn-test.cr.volces.com/library/nginx:latest"
    assert enterprise.outputs["namespaces"] == ["bitnami", "library"]
    assert enterprise.outputs["policies"] == {
        "apps": "dockerhub-image-redirect",
        "data": "dockerhub-image-redirect",
    }


def test_the_registry_users_name_is_an_output_and_the_password_is_none(
    enterprise: Recording, micro: Recording
) -> None:
    assert enterprise.outputs["username"] == "user@1"
    assert set(enterprise.outputs) == set(micro.outputs)


def test_the_order_is_registry_namespaces_and_vpcs_pull_check_kyverno_policy(
    enterprise: Recording,
) -> None:
    order = [each.type for each in enterprise.resources if each.name.startswith(("docker", "apps"))]
    last = {token: len(order) - 1 - order[::-1].index(token) for token in set(order)}
    first = {token: order.index(token) for token in set(order)}
    assert first[Type.REGISTRY] < first[Type.NAMESPACE]
    assert max(last[Type.NAMESPACE], last[Type.VPC]) < first[Type.JOB] < first[Type.POLICY]
    assert last[Type.RELEASE] < first[Type.POLICY]


def test_the_policy_depends_on_all_that_must_serve_before_it(enterprise: Recording) -> None:
    policy = enterprise.named("apps-redirect-policy")
    cluster = next(each for each in enterprise.of_type(CLUSTER_PROXY) if each.name == "apps")
    assert {
        "apps-pull-check-job",
        "apps-kyverno-release",
        "apps-pull-credentials-policy",
    } <= set(policy.depends_on)
    assert {
        "dockerhub-namespace-library",
        "dockerhub-namespace-bitnami",
        "dockerhub-endpoint",
    } <= set(cluster.depends_on)


def test_components_register_what_they_promise(enterprise: Recording) -> None:
    registered = enterprise.registered_outputs
    assert registered["ProxyRegistry", "dockerhub"]
    assert registered["Cluster", "apps"] == {"vpc_id", "subnet_id", "kubernetes_version"}
    assert registered["ClusterProxy", "apps"] == {"redirect_policy"}
    assert registered["Kyverno", "apps-kyverno"] == {"namespace", "version"}
    assert registered["PullCheck", "apps-pull-check"] == {"image"}
    assert "policy_name" in registered["ImageRedirect", "apps-redirect"]


EVERYTHING = changed(ENTERPRISE, "clusters.0.ways", ["admission", "nodes"])


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(EVERYTHING, id="admission-and-nodes"),
        pytest.param(changed(MICRO, "clusters.0.ways", ["admission", "vci"]), id="vci"),
        pytest.param(changed(ENTERPRISE, "login.pods", "addon"), id="addon"),
    ],
)
def test_a_stack_from_before_its_parts_had_a_common_parent_keeps_them(
    document: dict[str, Any],
) -> None:
    recording = record(config(document))
    known = known_as(recording)
    below = [each for each in recording.resources if f"{CLUSTER_PROXY}$" in each.urn]
    (namespaces, others) = (
        [each for each in below if each.name.endswith("-namespace") is wanted]
        for wanted in (True, False)
    )
    assert others
    for each in others:
        assert each.urn.replace(f"{CLUSTER_PROXY}$", "") in known[each.urn], each.name
    shared = next(each for each in namespaces if each.inputs["metadata"]["name"] == PROXY_NAMESPACE)
    cluster = shared.name.removesuffix("-namespace")
    before = f"{PACKAGE}:index:PullCredentials$kubernetes:core/v1:Namespace"
    assert (
        f"urn:pulumi:test::{PACKAGE}::{before}::{cluster}-pull-credentials-namespace"
        in known[shared.urn]
    )


def test_what_somebody_patched_by_hand_is_the_stacks_again(enterprise: Recording) -> None:
    assert all(each.inputs["enablePatchForce"] for each in enterprise.of_type(PROVIDER))


def test_a_failed_pull_check_is_made_anew_by_the_next_update(micro: Recording) -> None:
    job = micro.one(Type.JOB)
    annotations = job.inputs["metadata"]["annotations"]
    assert annotations["pulumi.com/replaceUnready"] == "true"
    assert annotations["pulumi.com/skipAwait"] == "true"
    assert len(job.after_create) == 1


@pytest.mark.parametrize("engine", [each.value for each in Engine])
def test_all_it_makes_in_a_cluster_is_found_by_its_labels_and_in_its_namespaces(
    engine: str,
) -> None:
    clusters = {"kubernetesVersion": "1.34", "ways": ["admission", "nodes"]}
    document = changed(ENTERPRISE, "redirect", {"engine": engine})
    for index in range(len(ENTERPRISE["clusters"])):
        for name, value in clusters.items():
            document = changed(document, f"clusters.{index}.{name}", value)
    if engine == Engine.MUTATING_ADMISSION_POLICY:
        document = changed(document, "login", {**ENTERPRISE["login"], "pods": "addon"})
    found = [
        each
        for each in record(config(document)).resources
        if each.type.startswith("kubernetes:")
        and each.type != "kubernetes:helm.sh/v3:Release"  # its objects are the chart's
    ]
    for each in found:
        assert LABELS.items() <= each.inputs["metadata"].get("labels", {}).items(), each.name
    namespaces = {each.inputs["metadata"].get("namespace") for each in found}
    assert namespaces - {None} <= {PROXY_NAMESPACE, NODES_NAMESPACE}


def test_children_stand_below_their_component(enterprise: Recording) -> None:
    parents = {each.name: each.parent for each in enterprise.resources if each.custom}
    assert parents["dockerhub-registry"] == "dockerhub"
    assert parents["dockerhub-endpoint"] == "dockerhub"
    assert parents["apps-provider"] == "apps"
    assert parents["apps-namespace"] == "apps"
    assert parents["apps-kyverno-release"] == "apps-kyverno"
    assert parents["apps-pull-check-job"] == "apps-pull-check"


NATIVE = "kubernetes:admissionregistration.k8s.io/v1:MutatingAdmissionPolicy"


def test_the_native_engine_installs_no_kyverno() -> None:
    document = changed(MICRO, "redirect.engine", "MutatingAdmissionPolicy")
    document = changed(document, "clusters.0.kubernetesVersion", "1.36")
    recording = record(config(document))
    assert len(recording.of_type(NATIVE)) == len(recording.of_type(f"{NATIVE}Binding")) == 1
    assert recording.of_type(Type.RELEASE) == []
    assert recording.of_type(Type.POLICY) == []


def test_an_older_kubernetes_gets_the_native_policy_in_its_own_version() -> None:
    document = changed(MICRO, "redirect.engine", "MutatingAdmissionPolicy")
    document = changed(document, "clusters.0.kubernetesVersion", "1.34")
    recording = record(config(document))
    assert len(recording.of_type(NATIVE.replace("/v1:", "/v1beta1:"))) == 1


WARNING = f"{NATIVE.replace('Mutating', 'Validating')}"


@pytest.mark.parametrize(
    ("version", "wanted", "ways", "warns"),
    [
        (None, None, ["admission"], False),
        ("1.28", None, ["admission"], False),
        ("1.30", None, ["admission"], True),
        ("v1.34.1-vke.2", None, ["nodes"], True),
        ("1.34", False, ["admission"], False),
        (None, True, ["admission"], True),
        ("1.34", None, [], False),
    ],
)
def test_a_cluster_that_can_warn_of_unserved_images_does_unless_it_is_not_to(
    version: str | None, wanted: bool | None, ways: list[str], warns: bool
) -> None:
    document = changed(MICRO, "clusters.0.ways", ways)
    if version:
        document = changed(document, "clusters.0.kubernetesVersion", version)
    if wanted is not None:
        document = changed(document, "redirect.warnUnserved", wanted)
    recording = record(config(document))
    assert len(recording.of_type(WARNING)) == len(recording.of_type(f"{WARNING}Binding")) == warns


def test_the_warning_knows_what_is_served_and_left_alone() -> None:
    document = changed(ENTERPRISE, "redirect.warnUnserved", True)
    document = changed(document, "redirect.exclude.podLabels", ["example.com/operated"])
    document = changed(document, "redirect.exclude.namespaces", ["ci"])
    policy = record(config(document)).of_type(WARNING)[0].inputs["spec"]
    variables = {each["name"]: each["expression"] for each in policy["variables"]}
    assert json.loads(variables["served"]) == ["docker.io/bitnami", "docker.io/library"]
    assert set(json.loads(variables["proxied"]).values()) == {"docker.io"}
    assert {"cnpg.io/cluster", "example.com/operated"} < set(json.loads(variables["podsLeftAlone"]))
    assert '"kyverno", "ci"' in policy["matchConditions"][0]["expression"]
    assert policy["failurePolicy"] == "Ignore"


def test_an_update_is_held_until_a_new_policy_has_reached_every_api_server(
    micro: Recording,
) -> None:
    assert len(micro.one(Type.POLICY).after_create) == 1


def test_a_native_policy_is_there_before_its_binding_which_alone_holds_the_update() -> None:
    document = changed(MICRO, "redirect.engine", "MutatingAdmissionPolicy")
    document = changed(document, "clusters.0.kubernetesVersion", "1.36")
    recording = record(config(document))
    policy, binding = recording.one(NATIVE), recording.one(f"{NATIVE}Binding")
    assert policy.name in binding.depends_on
    assert (len(policy.after_create), len(binding.after_create)) == (0, 1)


def test_a_policy_itself_depends_on_kyverno_so_that_it_goes_first_when_engines_are_switched(
    micro: Recording,
) -> None:
    assert micro.one(Type.RELEASE).name in micro.one(Type.POLICY).depends_on


def test_a_changed_login_changes_secrets_where_they_are(enterprise: Recording) -> None:
    assert all(each.inputs["enableSecretMutable"] for each in enterprise.of_type(PROVIDER))


def test_the_successor_of_cluster_policy_can_be_chosen() -> None:
    recording = record(config(changed(MICRO, "redirect.engine", "MutatingPolicy")))
    policy = recording.one("kubernetes:policies.kyverno.io/v1:MutatingPolicy")
    assert policy.inputs["metadata"]["annotations"]["pulumi.com/waitFor"].startswith("jsonpath=")
    assert len(recording.of_type(Type.RELEASE)) == 1


def test_nodes_are_left_alone_unless_a_cluster_asks(enterprise: Recording) -> None:
    assert enterprise.of_type(Type.DAEMON_SET) == []
    assert enterprise.outputs["nodePoolScripts"].value == {}


def test_a_cluster_can_use_both_ways() -> None:
    document = changed(ENTERPRISE, "clusters.0.ways", ["nodes", "admission"])
    recording = record(config(document))
    (daemon_set,) = recording.of_type(Type.DAEMON_SET)
    assert daemon_set.provider.endswith("::apps-provider-id")
    assert recording.outputs["nodeMirrors"] == {"apps": "dockerhub-proxy-nodes/node-mirror"}
    assert set(recording.outputs["nodePoolScripts"].value) == {"apps"}
    assert len(recording.of_type(Type.POLICY)) == 4


def test_private_namespaces_bring_a_login_for_redirected_pods(enterprise: Recording) -> None:
    copying = [each for each in enterprise.of_type(Type.POLICY) if "credentials" in each.name]
    assert {each.name for each in copying} == {
        "apps-pull-credentials-policy",
        "data-pull-credentials-policy",
    }
    redirect = enterprise.named("apps-redirect-policy")
    values = redirect.parameters
    assert values["pullSecret"] == "dockerhub-proxy-login"
    assert values["private"] == {"hub-prod-cn-test.cr.volces.com": " bitnami "}


def test_where_every_namespace_is_public_there_is_no_login(micro: Recording) -> None:
    assert [each for each in micro.resources if "credentials" in each.name] == []


WITH_ADDON = changed(ENTERPRISE, "login.pods", "addon")


@pytest.fixture(scope="module")
def addon() -> Recording:
    return record(config(WITH_ADDON))


def test_there_is_no_addon_unless_it_is_asked_for(micro: Recording, enterprise: Recording) -> None:
    assert [*micro.of_type(Type.ADDON), *enterprise.of_type(Type.ADDON)] == []


def test_the_addon_stands_in_each_cluster_in_place_of_the_copied_login(addon: Recording) -> None:
    assert {each.name: each.inputs for each in addon.of_type(Type.ADDON)} == {
        f"{cluster}-credential-addon-addon": {
            "clusterId": f"cc{cluster}01",
            "name": "cr-credential-controller",
            "deployMode": "Unmanaged",
            "deployNodeType": "Node",
            "config": json.dumps(
                {
                    "CrConfigmapData": {
                        "Namespace": "*",
                        "ServiceAccount": "*",
                        "Registries": [
                            {
                                "Instance": "hub-prod",
                                "Region": "cn-beijing",
                                "Domains": ["hub-prod-cn-test.cr.volces.com"],
                            }
                        ],
                    }
                }
            ),
        }
        for cluster in ("apps", "data")
    }
    assert [each for each in addon.resources if "pull-credentials" in each.name] == []


def test_redirected_pods_get_no_pull_secret_of_this_stack_beside_the_addon(
    addon: Recording,
) -> None:
    for policy in addon.of_type(Type.POLICY):
        assert policy.parameters["pullSecret"] == ""
        assert policy.parameters["private"] == {"hub-prod-cn-test.cr.volces.com": " bitnami "}
    assert len(addon.of_type(Type.POLICY)) == 2


def test_the_addon_comes_before_the_policy_and_so_goes_after_it(addon: Recording) -> None:
    installed = addon.named("apps-credential-addon-addon")
    redirect = addon.named("apps-redirect")
    component = addon.named(installed.parent)
    assert installed.name in redirect.depends_on
    assert "apps-pull-check-job" in component.depends_on
    assert addon.registered_outputs["CredentialAddon", "apps-credential-addon"] == {"addon_name"}


def test_an_addon_made_anew_is_deleted_first_because_its_name_is_taken(addon: Recording) -> None:
    for each in addon.of_type(Type.ADDON):
        assert each.delete_before_replace
        assert not each.protect
        assert each.ignore_changes == ()


def test_the_pull_check_and_the_nodes_keep_the_registry_login_beside_the_addon() -> None:
    document = changed(WITH_ADDON, "clusters.0.ways", ["admission", "nodes"])
    document = changed(document, "pullCheck", {"image": "bitnami/redis:7.2"})
    names = {each.name for each in record(config(document)).of_type(Type.SECRET)}
    assert names >= {"apps-pull-check-login", "data-pull-check-login"}
    assert any(name.startswith("apps-node-mirror") for name in names)


def test_the_addon_can_be_limited_and_pinned() -> None:
    document = changed(
        WITH_ADDON,
        "login.addon",
        {"version": "v1.3.5", "namespaces": "apps", "serviceAccounts": "default"},
    )
    for each in record(config(document)).of_type(Type.ADDON):
        data = json.loads(each.inputs["config"])["CrConfigmapData"]
        assert (data["Namespace"], data["ServiceAccount"]) == ("apps", "default")
        assert each.inputs["version"] == "v1.3.5"


def test_the_addon_serves_a_cluster_that_redirects_nothing() -> None:
    document = changed(WITH_ADDON, "redirect.enabled", False)
    assert len(record(config(document)).of_type(Type.ADDON)) == 2


def test_the_addon_is_not_installed_where_every_namespace_is_public() -> None:
    assert record(config(changed(MICRO, "login.pods", "addon"))).of_type(Type.ADDON) == []


def test_the_addon_lets_the_native_engine_serve_private_namespaces() -> None:
    document = changed(WITH_ADDON, "redirect.engine", "MutatingAdmissionPolicy")
    for index in (0, 1):
        document = changed(document, f"clusters.{index}.kubernetesVersion", "1.36")
    recording = record(config(document))
    assert len(recording.of_type(NATIVE)) == len(recording.of_type(Type.ADDON)) == 2
    assert recording.of_type(Type.RELEASE) == []
    for policy in recording.of_type(NATIVE):
        variables = {each["name"]: each for each in policy.inputs["spec"]["variables"]}
        assert variables["pullSecret"]["expression"] == '""'


VCI_KEY = "+(vci.volcengine.com/registry-mirror-config)"
WITH_VCI = changed(MICRO, "clusters.0.ways", ["vci"])


@pytest.fixture(scope="module")
def vci() -> Recording:
    return record(config(WITH_VCI))


def test_the_way_vci_is_one_policy_after_kyverno(vci: Recording) -> None:
    policy = vci.one(Type.POLICY)
    assert (policy.name, policy.parent) == ("dev-vci-mirror-policy", "dev-vci-mirror")
    assert policy.inputs["metadata"]["name"] == "dockerhub-vci-mirror"
    assert policy.inputs["metadata"]["annotations"]["pulumi.com/waitFor"] == "condition=Ready"
    assert policy.provider.endswith("::dev-provider-id")
    component = vci.named("dev-vci-mirror")
    assert {"dev-kyverno-release", "dev-pull-check-job"} <= set(component.depends_on)
    assert vci.outputs["vciMirrors"] == {"dev": "dockerhub-vci-mirror"}
    assert vci.outputs["policies"] == {}
    assert vci.registered_outputs["VciMirror", "dev-vci-mirror"] == {"policy_name"}


def test_pods_are_annotated_with_the_proxy_and_nothing_secret(vci: Recording) -> None:
    policy = vci.one(Type.POLICY)
    assert policy.raw == policy.inputs
    (rule,) = policy.inputs["spec"]["rules"]
    annotations = rule["mutate"]["patchStrategicMerge"]["metadata"]["annotations"]
    text = annotations[VCI_KEY]
    assert json.loads(text) == {"mirrors": {"docker.io": ["hub-dev-cn-test.cr.volces.com"]}}


def test_no_pod_waits_for_its_annotation(vci: Recording) -> None:
    spec = vci.one(Type.POLICY).inputs["spec"]
    assert spec["failurePolicy"] == "Ignore"
    assert spec["webhookConfiguration"]["timeoutSeconds"] == 2
    *_, sieve = spec["webhookConfiguration"]["matchConditions"]
    assert '" library ".contains' in sieve["expression"]


def test_every_namespace_served_is_in_the_match_condition() -> None:
    document = changed(ENTERPRISE, "clusters.0.ways", ["vci"])
    document = changed(document, "registry.namespaces.1", {"name": "bitnami", "access": "Public"})
    document = changed(document, "redirect.exclude", {"namespaces": ["legacy"]})
    recording = record(config(document))
    (policy,) = (each for each in recording.of_type(Type.POLICY) if "vci" in each.name)
    left_alone, _, sieve = policy.inputs["spec"]["webhookConfiguration"]["matchConditions"]
    assert '" bitnami library ".contains' in sieve["expression"]
    assert '"legacy"]' in left_alone["expression"]
    excluded = policy.inputs["spec"]["rules"][0]["exclude"]["any"][0]["resources"]["namespaces"]
    assert excluded == ["kube-system", "kube-public", "kube-node-lease", "kyverno", "legacy"]


def test_pods_left_alone_by_label_are_not_annotated_either() -> None:
    labels = {"podLabels": ["example.com/operated"]}
    (policy,) = record(config(changed(WITH_VCI, "redirect.exclude", labels))).of_type(Type.POLICY)
    left_alone, *_ = policy.inputs["spec"]["webhookConfiguration"]["matchConditions"]
    assert '"example.com/operated"' in left_alone["expression"]
    assert "cnpg.io/cluster" not in left_alone["expression"]  # an annotation changes no image


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(changed(MICRO, "clusters.0.ways", ["admission", "vci"]), id="vci"),
        pytest.param(ENTERPRISE, id="private-namespaces"),
    ],
)
def test_with_the_engine_mutatingpolicy_there_is_no_policy_of_kyvernos_old_kinds(
    document: dict[str, Any],
) -> None:
    recording = record(config(changed(document, "redirect.engine", "MutatingPolicy")))
    policies = {each.type for each in recording.resources if each.type.endswith("Policy")}
    assert {each.split(":")[1] for each in policies} == {"policies.kyverno.io/v1"}
    assert len(policies) == (1 if "vci" in repr(document) else 2)


def test_vci_beside_admission_shares_its_kyverno() -> None:
    recording = record(config(changed(MICRO, "clusters.0.ways", ["admission", "vci"])))
    assert len(recording.of_type(Type.RELEASE)) == 1
    assert {each.inputs["metadata"]["name"] for each in recording.of_type(Type.POLICY)} == {
        "dockerhub-image-redirect",
        "dockerhub-vci-mirror",
    }


def test_without_the_way_vci_no_pod_is_annotated(micro: Recording, enterprise: Recording) -> None:
    for recording in (micro, enterprise):
        assert [each for each in recording.resources if "vci" in each.name] == []
        assert recording.outputs["vciMirrors"] == {}


def test_a_namespace_can_be_made_while_kyverno_is_down(enterprise: Recording) -> None:
    for each in enterprise.of_type(Type.POLICY):
        assert each.inputs["spec"]["failurePolicy"] == "Ignore"


def test_kyverno_is_highly_available_and_its_values_can_be_laid_over() -> None:
    document = changed(
        MICRO, "kyverno.values", {"admissionController": {"container": {"priority": "high"}}}
    )
    document = changed(document, "kyverno.imageRegistry", "mirror.example.com/kyverno")
    values = record(config(document)).one(Type.RELEASE).inputs["values"]
    assert values["admissionController"]["replicas"] == 3
    assert values["admissionController"]["container"] == {
        "extraArgs": {"webhookTimeout": 2},
        "priority": "high",
    }
    assert values["backgroundController"]["replicas"] == 2
    assert values["global"]["image"]["registry"] == "mirror.example.com/kyverno"


def test_kyverno_is_looked_for_before_its_namespace_is_created(micro: Recording) -> None:
    namespaces = micro.of_type("kubernetes:core/v1:Namespace")
    (namespace,) = (each for each in namespaces if each.parent == "dev-kyverno")
    assert len(namespace.before_create) == 1
    assert namespace.name in micro.one(Type.RELEASE).depends_on


def test_kyverno_never_waits_on_itself(micro: Recording) -> None:
    values = micro.one(Type.RELEASE).inputs["values"]
    (expression,) = values["config"]["webhooks"]["namespaceSelector"]["matchExpressions"]
    assert expression["operator"] == "NotIn"
    assert expression["values"] == ["kube-system", "kyverno"]


def test_a_kyverno_that_is_there_is_not_installed() -> None:
    recording = record(config(changed(MICRO, "kyverno.install", False)))
    assert recording.of_type(Type.RELEASE) == []
    assert len(recording.of_type(Type.POLICY)) == 1


def test_with_the_redirect_off_there_is_neither_policy_nor_kyverno() -> None:
    recording = record(config(changed(MICRO, "redirect.enabled", False)))
    assert recording.of_type(Type.POLICY) == []
    assert recording.of_type(Type.RELEASE) == []
    assert recording.outputs["policies"] == {}


def test_a_cluster_that_does_not_use_admission_gets_no_policy() -> None:
    recording = record(config(changed(MICRO, "clusters.0.ways", [])))
    assert recording.of_type(Type.POLICY) == []
    assert recording.of_type(Type.RELEASE) == []


def test_bad_config_registers_nothing() -> None:
    cloud = Cloud()
    with pytest.raises(SettingsError):
        record(config(changed(MICRO, "registry.edition", "Small")), cloud=cloud)
    assert cloud.seen == set()


@pytest.mark.parametrize(
    "document",
    [MICRO, ENTERPRISE, WITH_ADDON, WITH_VCI],
    ids=["micro", "enterprise", "addon", "vci"],
)
def test_a_first_preview_shows_every_resource_with_all_that_is_unknown_unknown(
    document: dict[str, Any],
) -> None:
    before = {each.name for each in record(config(document)).resources}
    preview = record(config(document), preview=True)
    assert {each.name for each in preview.resources} == before


@pytest.mark.parametrize("name", ["dev", "rehearsal"])
def test_the_stack_files_of_the_project_stand(name: str) -> None:
    assert record(stack(name)).outputs["domain"]


def test_the_production_stack_asks_for_nothing_but_the_readers_secrets() -> None:
    with pytest.raises(SettingsError) as caught:
        record(stack("prod-cn-beijing"))
    assert {each.setting for each in caught.value.problems} == {"dockerhub.password"}
