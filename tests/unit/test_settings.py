"""The stack's inputs: what is valid, what is not, and the error messages."""

from __future__ import annotations

import asyncio
import json
from datetime import date
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi.runtime import set_all_config

from components.policy import DOCKER_HUB_HOSTS
from components.types import Access, Edition, Engine
from settings import Settings, load, parse, warnings
from settings.errors import PROJECT, Problem, SettingsError
from settings.model import SECTIONS
from tests.support.configs import ENTERPRISE, GHCR, MICRO, QUAY, changed, config, kubeconfig


def problems(document: dict[str, Any], region: str | None = "cn-beijing") -> list[Problem]:
    with pytest.raises(SettingsError) as caught:
        parse(document, region=region)
    return caught.value.problems


def settings(document: dict[str, Any], region: str = "cn-beijing") -> Settings:
    return parse(document, region=region)


def by_kubeconfig(text: str, name: str = "apps") -> dict[str, Any]:
    return {"name": name, "kubeconfig": text, "vpcId": "vpc-1", "subnetId": "subnet-1"}


def test_a_micro_stack_needs_only_a_name_and_a_namespace() -> None:
    read = settings({"registry": {"name": "hub", "namespaces": ["library"]}})
    assert read.registry.edition is Edition.MICRO
    assert read.registry.namespaces[0].access is Access.PRIVATE
    assert read.registry.protection
    assert read.redirect.engine is Engine.CLUSTER_POLICY
    assert read.redirect.failure_policy == "Ignore"


def test_a_configured_zero_or_false_is_not_turned_into_a_default() -> None:
    assert settings(changed(MICRO, "redirect.enabled", False)).redirect.enabled is False


ENTERPRISE_GHCR = {**GHCR, "edition": "Enterprise"}
WITH_GHCR = changed(MICRO, "upstreams", [GHCR])
WITH_BOTH = changed(MICRO, "upstreams", [QUAY, GHCR])

BAD = [
    pytest.param(
        MICRO, "registry.name", "1hub", "registry.name", "'1hub'", "3 to 30 of", id="digit-first"
    ),
    pytest.param(
        MICRO, "registry.name", "hub-", "registry.name", "'hub-'", "not ending", id="hyphen-last"
    ),
    pytest.param(MICRO, "registry.name", "hb", "registry.name", "'hb'", "3 to 30", id="too-short"),
    pytest.param(
        MICRO, "registry.name", ..., "registry.name", "nothing", "a value is required", id="unnamed"
    ),
    pytest.param(
        MICRO,
        "registry.edition",
        "Small",
        "registry.edition",
        "'Small'",
        "'Micro' or 'Enterprise'",
        id="edition",
    ),
    pytest.param(
        MICRO,
        "registry.namespaces",
        [],
        "registry.namespaces",
        "an empty list",
        "at least 1 item",
        id="no-namespace",
    ),
    pytest.param(
        MICRO,
        "registry.namespaces.0.name",
        "Library",
        "registry.namespaces[0].name",
        "'Library'",
        "the very name used at the upstream",
        id="upper-case-namespace",
    ),
    pytest.param(
        MICRO,
        "registry.namespaces.0.name",
        "a__b",
        "registry.namespaces[0].name",
        "'a__b'",
        "no separator first, last or twice",
        id="doubled-separator",
    ),
    pytest.param(
        MICRO,
        "registry.namespaces.0.name",
        "localhost",
        "registry.namespaces[0].name",
        "'localhost'",
        "not 'localhost'",
        id="namespace-that-is-a-host",
    ),
    pytest.param(
        MICRO,
        "registry.namespaces.0.name",
        "quay.io",
        "registry.namespaces[0].name",
        "'quay.io'",
        "without a '.'",
        id="namespace-with-a-dot",
    ),
    pytest.param(
        MICRO,
        "registry.namespaces.0.access",
        "public",
        "registry.namespaces[0].access",
        "'public'",
        "'Private' or 'Public'",
        id="access",
    ),
    pytest.param(
        MICRO,
        "registry.namespaces",
        ["library", "library"],
        "registry.namespaces",
        "a list of 2",
        "each namespace once; more than once here: library",
        id="namespace-twice",
    ),
    pytest.param(
        MICRO,
        "registry.namespaces",
        ["library", "bitnami"],
        "registry.namespaces[1]",
        "'bitnami'",
        "only 'library' without Docker Hub credentials (page)",
        id="anonymous-serves-only-library",
    ),
    pytest.param(
        ENTERPRISE,
        "dockerhub.password",
        ...,
        "dockerhub.password",
        "nothing, with username 'someone'",
        "username and password together",
        id="username-without-password",
    ),
    pytest.param(
        ENTERPRISE,
        "dockerhub.username",
        ...,
        "dockerhub.username",
        "nothing, with a password",
        "username and password together",
        id="password-without-username",
    ),
    pytest.param(
        ENTERPRISE,
        "clusters",
        [],
        "clusters",
        "no cluster and no registry.extraVpcs",
        "at least one VPC with edition Enterprise (cn-beijing allows 3 per account)",
        id="enterprise-without-vpc",
    ),
    pytest.param(
        MICRO,
        "registry.extraVpcs",
        [{"vpcId": "vpc-1", "subnetId": "subnet-1"}],
        "registry.extraVpcs",
        "a list of 1",
        "none with edition Micro",
        id="micro-takes-no-vpc",
    ),
    pytest.param(
        ENTERPRISE,
        "registry.extraVpcs",
        [{"vpcId": "vpc-1", "subnetId": "subnet-1"}] * 2,
        "registry.extraVpcs",
        "a list of 2",
        "each VPC once; more than once here: vpc-1",
        id="vpc-twice",
    ),
    pytest.param(
        ENTERPRISE,
        "clusters.1.name",
        "apps",
        "clusters",
        "a list of 2",
        "each cluster name once; more than once here: apps",
        id="cluster-name-twice",
    ),
    pytest.param(
        ENTERPRISE,
        "clusters.1.clusterId",
        "ccapps01",
        "clusters[1].clusterId",
        "'ccapps01', as in cluster 'apps'",
        "each cluster once",
        id="cluster-twice",
    ),
    pytest.param(
        MICRO,
        "clusters.0.clusterId",
        ...,
        "clusters[0]",
        "neither clusterId nor kubeconfig",
        "exactly one of the two",
        id="cluster-without-address",
    ),
    pytest.param(
        MICRO,
        "clusters.0.kubeconfig",
        kubeconfig(),
        "clusters[0]",
        "both clusterId and kubeconfig",
        "exactly one of the two",
        id="cluster-with-two-addresses",
    ),
    pytest.param(
        MICRO,
        "clusters.0.vpcId",
        "vpc-1",
        "clusters[0].vpcId",
        "a VPC or subnet beside clusterId",
        "neither: the VPC is looked up",
        id="vpc-of-a-vke-cluster",
    ),
    pytest.param(
        ENTERPRISE,
        "clusters.0",
        {"name": "apps", "kubeconfig": kubeconfig()},
        "clusters[0].vpcId",
        "nothing, with a kubeconfig and edition Enterprise",
        "the cluster's VPC",
        id="enterprise-kubeconfig-without-vpc",
    ),
    pytest.param(
        MICRO,
        "clusters.0.ways",
        ["pods"],
        "clusters[0].ways[0]",
        "'pods'",
        "'admission', 'nodes' or 'vci'",
        id="unknown-way",
    ),
    pytest.param(
        changed(MICRO, "login", {}),
        "registry.namespaces.0.access",
        "Private",
        "login.password",
        "nothing, with private namespaces: library",
        "nobody pulls from a private namespace without a login",
        id="private-namespace-without-login",
    ),
    pytest.param(
        MICRO,
        "pullCheck.image",
        "bitnami/redis:7.2",
        "pullCheck.image",
        "'bitnami/redis:7.2'",
        "an image of a namespace served here: library",
        id="pull-check-of-another-namespace",
    ),
    pytest.param(
        MICRO,
        "pullCheck.image",
        "ghcr.io/library/busybox:latest",
        "pullCheck.image",
        "'ghcr.io/library/busybox:latest'",
        "an image of a namespace served here: library",
        id="pull-check-of-another-registry",
    ),
    pytest.param(
        MICRO,
        "redirect.engine",
        "MutatingAdmissionPolicy",
        "clusters[0].kubernetesVersion",
        "nothing, with engine MutatingAdmissionPolicy",
        "the cluster's version",
        id="native-engine-without-version",
    ),
    pytest.param(
        changed(MICRO, "redirect.engine", "MutatingAdmissionPolicy"),
        "clusters.0.kubernetesVersion",
        "v1.30.4-vke.1",
        "clusters[0].kubernetesVersion",
        "'v1.30.4-vke.1'",
        "1.34 or newer, for a MutatingAdmissionPolicy",
        id="native-engine-on-old-kubernetes",
    ),
    pytest.param(
        changed(MICRO, "redirect.warnUnserved", value=True),
        "clusters.0.kubernetesVersion",
        "1.28",
        "clusters[0].kubernetesVersion",
        "'1.28', with redirect.warnUnserved",
        "1.30 or newer, for a ValidatingAdmissionPolicy",
        id="warning-on-old-kubernetes",
    ),
    pytest.param(
        MICRO,
        "clusters.0.kubernetesVersion",
        "1.27",
        "clusters[0].kubernetesVersion",
        "'1.27'",
        "1.28 or newer, for a ClusterPolicy",
        id="kubernetes-without-match-conditions",
    ),
    pytest.param(
        MICRO,
        "kyverno.version",
        "3.2.8",
        "kyverno.version",
        "'3.2.8', which is Kyverno 1.12",
        "Kyverno 1.13 to 1.19 (charts 3.3 to 3.9) for a ClusterPolicy",
        id="kyverno-that-reads-every-image",
    ),
    pytest.param(
        MICRO,
        "kyverno.version",
        "3.10.0",
        "kyverno.version",
        "'3.10.0', which is Kyverno 1.20",
        "Kyverno 1.13 to 1.19 (charts 3.3 to 3.9) for a ClusterPolicy",
        id="kyverno-without-cluster-policy",
    ),
    pytest.param(
        changed(MICRO, "redirect.engine", "MutatingPolicy"),
        "kyverno.version",
        "3.7.1",
        "kyverno.version",
        "'3.7.1', which is Kyverno 1.17",
        "Kyverno 1.18 and newer (charts 3.8 and newer) for a MutatingPolicy",
        id="mutating-policy-on-old-kyverno",
    ),
    pytest.param(
        MICRO,
        "login.password",
        "too-simple",
        "login.password",
        "a secret (not shown)",
        "8 to 20 characters",
        id="simple-login-password",
    ),
    pytest.param(
        changed(
            changed(MICRO, "redirect.engine", "MutatingAdmissionPolicy"),
            "clusters.0.kubernetesVersion",
            "1.36",
        ),
        "registry.namespaces.0.access",
        "Private",
        "redirect.engine",
        "'MutatingAdmissionPolicy', with private namespaces: library",
        "an engine of Kyverno's, which also brings Pods the login they need",
        id="native-engine-with-private-namespaces",
    ),
    pytest.param(
        ENTERPRISE,
        "login.pods",
        "service-accounts",
        "login.pods",
        "'service-accounts'",
        "'secret' or 'addon'",
        id="unknown-login-of-pods",
    ),
    pytest.param(
        changed(ENTERPRISE, "login.pods", "addon"),
        "clusters.1",
        {"name": "data", "kubeconfig": kubeconfig(), "vpcId": "vpc-1", "subnetId": "subnet-1"},
        "clusters[1].clusterId",
        "a kubeconfig alone, with login.pods 'addon'",
        "VKE clusters by id",
        id="addon-in-a-cluster-that-is-not-vke's",
    ),
    pytest.param(
        changed(ENTERPRISE, "login.pods", "addon"),
        "login.addon",
        {"version": "latest"},
        "login.addon.version",
        "'latest'",
        "one exact version of the add-on",
        id="unpinned-addon",
    ),
    pytest.param(
        changed(ENTERPRISE, "login.pods", "addon"),
        "login.addon",
        {"namespaces": ""},
        "login.addon.namespaces",
        "''",
        "at least 1 character",
        id="addon-for-no-namespace",
    ),
    pytest.param(
        ENTERPRISE,
        "login.addon",
        {"namespaces": "apps"},
        "login.addon",
        "settings of the add-on, with login.pods 'secret'",
        "only with login.pods: addon",
        id="addon-settings-without-the-addon",
    ),
    pytest.param(
        changed(ENTERPRISE, "login", {"pods": "addon", "password": "Login-password-1"}),
        "login.password",
        ...,
        "login.password",
        "nothing, with private namespaces: bitnami",
        "a password",
        id="addon-without-the-login-that-nodes-and-the-pull-check-use",
    ),
    pytest.param(
        ENTERPRISE,
        "clusters.1.ways",
        ["nodes", "vci"],
        "clusters[1].ways",
        "'vci', with private namespaces: bitnami",
        "everyone who may see the Pod reads the password",
        id="vci-with-private-namespaces",
    ),
    pytest.param(
        changed(MICRO, "redirect.engine", "MutatingAdmissionPolicy"),
        "clusters.0.ways",
        ["vci"],
        "redirect.engine",
        "'MutatingAdmissionPolicy', with the way 'vci' in cluster 'dev'",
        "an engine of Kyverno's",
        id="vci-with-the-native-engine",
    ),
    pytest.param(
        changed(MICRO, "kyverno.version", "3.10.0"),
        "clusters.0.ways",
        ["vci"],
        "kyverno.version",
        "'3.10.0', which is Kyverno 1.20",
        "Kyverno 1.13 to 1.19 (charts 3.3 to 3.9) for a ClusterPolicy",
        id="vci-with-a-kyverno-without-cluster-policy",
    ),
    pytest.param(
        MICRO, "kyverno.replicas", 2, "kyverno.replicas", "2", "1, or 3 and more", id="two-replicas"
    ),
    pytest.param(
        MICRO,
        "kyverno.version",
        "latest",
        "kyverno.version",
        "'latest'",
        "one exact version of chart 3",
        id="unpinned-chart",
    ),
    pytest.param(
        MICRO,
        "kyverno",
        {"chart": "oci://example.com/kyverno", "repository": "https://example.com"},
        "kyverno.repository",
        "'https://example.com'",
        "nothing when kyverno.chart is a path or an OCI reference",
        id="repository-of-an-oci-chart",
    ),
    pytest.param(
        MICRO,
        "kyverno.imageRegistry",
        "https://example.com",
        "kyverno.imageRegistry",
        "'https://example.com'",
        "no scheme",
        id="image-registry-with-scheme",
    ),
    pytest.param(
        MICRO,
        "redirect.failurePolicy",
        "Deny",
        "redirect.failurePolicy",
        "'Deny'",
        "'Ignore' or 'Fail'",
        id="failure-policy",
    ),
    pytest.param(
        MICRO,
        "redirect.timeoutSeconds",
        31,
        "redirect.timeoutSeconds",
        "31",
        "less than or equal to 30",
        id="timeout",
    ),
    pytest.param(
        MICRO,
        "clusters.0",
        by_kubeconfig(""),
        "clusters[0].kubeconfig",
        "a secret (not shown)",
        "its current context leads to no server",
        id="empty-kubeconfig",
    ),
    pytest.param(
        MICRO,
        "clusters.0",
        by_kubeconfig("~/.kube/config"),
        "clusters[0].kubeconfig",
        "a secret (not shown)",
        "leads to no server",
        id="kubeconfig-path",
    ),
    pytest.param(
        MICRO,
        "clusters.0",
        by_kubeconfig("a: {"),
        "clusters[0].kubeconfig",
        "a secret (not shown)",
        "it is not YAML",
        id="kubeconfig-that-is-no-yaml",
    ),
    pytest.param(
        MICRO,
        "clusters.0",
        {
            "name": "apps",
            "kubeconfig": kubeconfig().replace("https://", ""),
            "vpcId": "vpc-1",
            "subnetId": "subnet-1",
        },
        "clusters[0].kubeconfig",
        "a secret (not shown)",
        "leads to no server",
        id="kubeconfig-without-server",
    ),
    pytest.param(
        MICRO,
        "clusters.0",
        {
            "name": "apps",
            "kubeconfig": kubeconfig().replace("current-context", "context"),
            "vpcId": "vpc-1",
            "subnetId": "subnet-1",
        },
        "clusters[0].kubeconfig",
        "a secret (not shown)",
        "leads to no server",
        id="kubeconfig-without-context",
    ),
    pytest.param(
        ENTERPRISE,
        "clusters",
        [
            {"name": "a", "kubeconfig": kubeconfig(), "vpcId": "vpc-1", "subnetId": "subnet-1"},
            {
                "name": "b",
                "kubeconfig": f"{kubeconfig()} ",
                "vpcId": "vpc-1",
                "subnetId": "subnet-1",
            },
        ],
        "clusters[1].kubeconfig",
        "a kubeconfig of the same cluster, as in cluster 'a'",
        "each cluster once",
        id="kubeconfig-twice",
    ),
    pytest.param(
        changed(ENTERPRISE, "registry.extraVpcs", [{"vpcId": "vpc-1", "subnetId": "subnet-1"}]),
        "clusters.0",
        by_kubeconfig(kubeconfig()),
        "clusters[0].vpcId",
        "'vpc-1', as in registry.extraVpcs[0]",
        "each VPC once",
        id="extra-vpc-of-a-cluster",
    ),
    pytest.param(
        MICRO,
        "redirect.exclude.podLabels",
        ["app=a b"],
        "redirect.exclude.podLabels[0]",
        "'app=a b'",
        "a label's key",
        id="pod-label-with-blank-in-value",
    ),
    pytest.param(
        MICRO,
        "redirect.exclude.podLabels",
        ["a b"],
        "redirect.exclude.podLabels[0]",
        "'a b'",
        "a label's key",
        id="pod-label-with-blank",
    ),
    pytest.param(
        MICRO,
        "redirect.exclude.podLabels",
        [""],
        "redirect.exclude.podLabels[0]",
        "''",
        "a label's key",
        id="pod-label-empty",
    ),
    pytest.param(
        MICRO,
        "redirect.exclude.podLabels",
        ["a/b/c"],
        "redirect.exclude.podLabels[0]",
        "'a/b/c'",
        "a label's key",
        id="pod-label-two-slashes",
    ),
    pytest.param(
        MICRO,
        "kyverno.imageRegistry",
        "registry.example.com/mirror/",
        "kyverno.imageRegistry",
        "'registry.example.com/mirror/'",
        "a registry host",
        id="image-registry-slash-last",
    ),
    pytest.param(
        MICRO,
        "kyverno.imageRegistry",
        "mycompany",
        "kyverno.imageRegistry",
        "'mycompany'",
        "a registry host",
        id="image-registry-no-host",
    ),
    pytest.param(
        MICRO,
        "kyverno.imageRegistry",
        "host:99999999",
        "kyverno.imageRegistry",
        "'host:99999999'",
        "a registry host",
        id="image-registry-port",
    ),
    pytest.param(
        MICRO,
        "kyverno.imageRegistry",
        "...",
        "kyverno.imageRegistry",
        "'...'",
        "a registry host",
        id="image-registry-dots",
    ),
    pytest.param(
        MICRO,
        "kyverno.repository",
        "not a url",
        "kyverno.repository",
        "'not a url'",
        "the URL of a Helm repository",
        id="repository-no-url",
    ),
    pytest.param(
        MICRO,
        "kyverno.repository",
        "",
        "kyverno.repository",
        "''",
        "the URL of a Helm repository",
        id="repository-empty",
    ),
    pytest.param(
        MICRO,
        "kyverno.repository",
        "oci://example.com/charts",
        "kyverno.repository",
        "'oci://example.com/charts'",
        "the URL of a Helm repository",
        id="repository-oci",
    ),
    pytest.param(
        MICRO,
        "kyverno.replicas",
        True,
        "kyverno.replicas",
        "True",
        "a whole number",
        id="replicas-that-are-true",
    ),
    pytest.param(
        MICRO,
        "kyverno",
        None,
        "kyverno",
        "nothing",
        "a mapping",
        id="section-without-keys",
    ),
    pytest.param(
        MICRO,
        "clusters.0.ways",
        "admission",
        "clusters[0].ways",
        "text",
        "a list",
        id="text-for-a-list",
    ),
    pytest.param(
        MICRO,
        "dockerhub",
        {"username": 12345, "password": "p"},
        "dockerhub.username",
        "12345",
        "text",
        id="number-for-text",
    ),
    pytest.param(
        MICRO,
        "registry.allowReplacementOn",
        "tomorrow",
        "registry.allowReplacementOn",
        "'tomorrow'",
        "a day, such as",
        id="no-day",
    ),
    pytest.param(
        MICRO,
        "nodeMirror.caCertificate",
        "/etc/ca.pem",
        "nodeMirror.caCertificate",
        "'/etc/ca.pem'",
        "certificates in PEM",
        id="certificate-path",
    ),
    pytest.param(
        MICRO,
        "nodeMirror.maxUnavailable",
        "150%",
        "nodeMirror.maxUnavailable",
        "'150%'",
        "a number from 1 on, or a percentage",
        id="more-than-all-nodes",
    ),
    pytest.param(
        MICRO,
        "nodeMirror.maxUnavailable",
        0,
        "nodeMirror.maxUnavailable",
        "0",
        "a number from 1 on, or a percentage",
        id="no-node-at-a-time",
    ),
    pytest.param(
        MICRO,
        "nodeMirror.intervalSeconds",
        1,
        "nodeMirror.intervalSeconds",
        "1",
        "5",
        id="too-short-an-interval",
    ),
    pytest.param(
        MICRO,
        "dockerhub",
        {"username": "a", "password": ""},
        "dockerhub.password",
        "a secret (not shown)",
        "a value that is not empty",
        id="empty-password",
    ),
    pytest.param(
        changed(MICRO, "login", {}),
        "registry.namespaces.0.access",
        "private",
        "registry.namespaces[0].access",
        "'private'",
        "'Private' or 'Public'",
        id="access-and-what-hangs-on-it",
    ),
    pytest.param(
        ENTERPRISE,
        "login.password",
        "weak",
        "login.password",
        "a secret (not shown)",
        "8 to 20 characters",
        id="weak-password-and-what-hangs-on-it",
    ),
    pytest.param(
        changed(ENTERPRISE, "registry.extraVpcs", [{"vpcId": "vpc-1", "subnetId": "subnet-1"}]),
        "registry.edition",
        "enterprise",
        "registry.edition",
        "'enterprise'",
        "'Micro' or 'Enterprise'",
        id="edition-and-what-hangs-on-it",
    ),
    pytest.param(
        MICRO,
        "clusters.0.clusterId",
        "",
        "clusters[0].clusterId",
        "''",
        "a VKE cluster id",
        id="cluster-id-and-what-hangs-on-it",
    ),
    *(
        pytest.param(
            WITH_GHCR,
            "upstreams.0.host",
            host,
            "upstreams[0].host",
            repr(host),
            "another registry than Docker Hub",
            id=f"docker-hub-by-another-name-{host}",
        )
        for host in DOCKER_HUB_HOSTS
    ),
    *(
        pytest.param(
            WITH_GHCR,
            "upstreams.0.host",
            host,
            "upstreams[0].host",
            repr(host),
            "a registry's host as images name it",
            id=f"upstream-{name}",
        )
        for name, host in {
            "with-scheme": "https://ghcr.io",
            "with-path": "ghcr.io/kyverno",
            "with-port": "ghcr.io:443",
            "in-upper-case": "GHCR.io",
            "without-dot": "localhost",
            "with-dot-last": "ghcr.io.",
            "too-long-for-kubernetes-names": f"{'a' * 48}.io",
        }.items()
    ),
    pytest.param(
        WITH_GHCR,
        "upstreams.0.host",
        ...,
        "upstreams[0].host",
        "nothing",
        "a value is required",
        id="upstream-without-host",
    ),
    pytest.param(
        WITH_GHCR,
        "upstreams",
        [GHCR, {**GHCR, "name": "ghcr-two"}],
        "upstreams",
        "a list of 2",
        "each host once; more than once here: ghcr.io",
        id="upstream-twice",
    ),
    pytest.param(
        WITH_GHCR,
        "upstreams.0.name",
        "hub-dev",
        "upstreams[0].name",
        "'hub-dev', as in registry.name",
        "a name of its own",
        id="two-registries-of-one-name",
    ),
    pytest.param(
        WITH_BOTH,
        "upstreams.1.name",
        "quay-dev",
        "upstreams[0].name",
        "'quay-dev', as in upstreams[1].name",
        "a name of its own",
        id="two-upstreams-of-one-name",
    ),
    pytest.param(
        WITH_GHCR,
        "upstreams.0.namespaces",
        [{"name": "kyverno", "access": "Public"}, {"name": "library", "access": "Public"}],
        "upstreams[0].namespaces[1]",
        "'library', of ghcr.io",
        "only Docker Hub's images without one are in 'library'",
        id="library-of-an-upstream",
    ),
    pytest.param(
        WITH_GHCR,
        "upstreams.0.username",
        "robot",
        "upstreams[0].password",
        "nothing, with username 'robot'",
        "username and password together",
        id="upstream-username-without-password",
    ),
    pytest.param(
        WITH_GHCR,
        "upstreams.0.endpoint",
        "ghcr.io",
        "upstreams[0].endpoint",
        "'ghcr.io'",
        "the URL of a registry, 'https://<host>'",
        id="endpoint-without-scheme",
    ),
    pytest.param(
        WITH_GHCR,
        "upstreams.0.extraVpcs",
        [{"vpcId": "vpc-1", "subnetId": "subnet-1"}],
        "upstreams[0].extraVpcs",
        "a list of 1",
        "none with edition Micro",
        id="micro-upstream-takes-no-vpc",
    ),
    pytest.param(
        changed(WITH_GHCR, "clusters", []),
        "upstreams.0.edition",
        "Enterprise",
        "clusters",
        "no cluster and no upstreams[0].extraVpcs",
        "at least one VPC with edition Enterprise",
        id="enterprise-upstream-without-vpc",
    ),
    pytest.param(
        changed(WITH_GHCR, "clusters", [by_kubeconfig(kubeconfig())]),
        "upstreams.0",
        {**ENTERPRISE_GHCR, "extraVpcs": [{"vpcId": "vpc-1", "subnetId": "subnet-1"}]},
        "clusters[0].vpcId",
        "'vpc-1', as in upstreams[0].extraVpcs[0]",
        "each VPC once",
        id="extra-vpc-of-a-cluster-in-an-upstream",
    ),
    pytest.param(
        changed(WITH_GHCR, "clusters", [{"name": "a", "kubeconfig": kubeconfig()}]),
        "upstreams.0.edition",
        "Enterprise",
        "clusters[0].vpcId",
        "nothing, with a kubeconfig and edition Enterprise",
        "the cluster's VPC",
        id="enterprise-upstream-kubeconfig-without-vpc",
    ),
    pytest.param(
        ENTERPRISE,
        "upstreams",
        [
            ENTERPRISE_GHCR,
            {**QUAY, "edition": "Enterprise"},
            {**ENTERPRISE_GHCR, "host": "registry.k8s.io", "name": "k8s"},
        ],
        "upstreams[2].edition",
        "'Enterprise', which makes 4 of them in cn-beijing",
        "3 Enterprise registries per account in cn-beijing",
        id="more-enterprise-registries-than-the-quota",
    ),
    pytest.param(
        changed(changed(MICRO, "login", {}), "upstreams", [GHCR]),
        "upstreams.0.namespaces.0.access",
        "Private",
        "login.password",
        "nothing, with private namespaces: ghcr.io/kyverno",
        "nobody pulls from a private namespace without a login",
        id="private-namespace-of-an-upstream-without-login",
    ),
    pytest.param(
        changed(
            changed(WITH_GHCR, "redirect.engine", "MutatingAdmissionPolicy"),
            "clusters.0.kubernetesVersion",
            "1.36",
        ),
        "upstreams.0.namespaces.0.access",
        "Private",
        "redirect.engine",
        "'MutatingAdmissionPolicy', with private namespaces: ghcr.io/kyverno",
        "an engine of Kyverno's",
        id="native-engine-with-a-private-namespace-of-an-upstream",
    ),
    pytest.param(
        changed(WITH_GHCR, "clusters.0.ways", ["vci"]),
        "upstreams.0.namespaces.0.access",
        "Private",
        "clusters[0].ways",
        "'vci', with private namespaces: ghcr.io/kyverno",
        "everyone who may see the Pod reads the password",
        id="vci-with-a-private-namespace-of-an-upstream",
    ),
    pytest.param(
        WITH_GHCR,
        "upstreams.0.pullCheckImage",
        "prometheus/busybox:latest",
        "upstreams[0].pullCheckImage",
        "'prometheus/busybox:latest'",
        "an image of a namespace served here: kyverno",
        id="pull-check-of-another-namespace-of-an-upstream",
    ),
    pytest.param(
        WITH_GHCR,
        "upstreams",
        {"ghcr.io": GHCR},
        "upstreams",
        "a mapping",
        "a list",
        id="upstreams-by-host",
    ),
]


@pytest.mark.parametrize(("base", "path", "value", "setting", "found", "allowed"), BAD)
def test_an_invalid_setting_is_named_with_what_was_found_and_what_is_allowed(
    base: dict[str, Any], path: str, value: Any, setting: str, found: str, allowed: str
) -> None:
    (problem,) = problems(changed(base, path, value))
    assert problem.setting == setting
    assert problem.found == found
    assert allowed in problem.allowed
    assert problem.do


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("registry.namespace", "did you mean 'namespaces'?"),
        ("clusters.0.clusterID", "did you mean 'clusterId'?"),
        ("registry.namespaces.0.acces", "did you mean 'access'?"),
        ("redirect.exclude.podLabel", "did you mean 'podLabels'?"),
        ("login.pod", "did you mean 'pods'?"),
        ("login.addon.namespace", "did you mean 'namespaces'?"),
        ("registries", "did you mean 'registry'?"),
        ("upstream", "did you mean 'upstreams'?"),
        ("redirct", "did you mean 'redirect'?"),
        ("kyverno.zzz", "remove it"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest_known_one(path: str, near: str) -> None:
    (problem,) = problems(changed(MICRO, path, "x"))
    assert problem.found == "an unknown key"
    assert problem.do == near


def test_the_native_engine_is_valid_with_private_namespaces_where_the_addon_brings_logins() -> None:
    document = changed(ENTERPRISE, "redirect.engine", "MutatingAdmissionPolicy")
    for index in (0, 1):
        document = changed(document, f"clusters.{index}.kubernetesVersion", "1.36")
    assert {each.setting for each in problems(document)} == {"redirect.engine"}
    assert settings(changed(document, "login.pods", "addon")).registry.private_namespaces


def test_an_addon_nobody_needs_is_warned_of() -> None:
    (note,) = warnings(settings(changed(MICRO, "login.pods", "addon")))
    assert "login.pods is addon, but every namespace is public" in note
    assert warnings(settings(changed(ENTERPRISE, "login.pods", "addon"))) == []


def test_all_problems_inside_sections_are_reported_at_once() -> None:
    document = changed(MICRO, "registry.edition", "Small")
    document = changed(document, "registry.namespaces", ["library", "bitnami", "BAD"])
    document = changed(document, "kyverno.replicas", 2)
    found = {problem.setting for problem in problems(document, region=None)}
    assert found == {
        "volcengine:region",
        "registry.edition",
        "registry.namespaces[2].name",
        "kyverno.replicas",
    }


def test_all_problems_between_settings_are_reported_at_once_when_each_is_valid() -> None:
    document = changed(MICRO, "registry.namespaces", ["BAD", "bitnami"])
    document = changed(document, "pullCheck.image", "other/image:1")
    assert [each.setting for each in problems(document)] == ["registry.namespaces[0].name"]
    document = changed(document, "registry.namespaces", [{"name": "library", "access": "Public"}])
    document = changed(document, "kyverno", {"chart": "./chart", "repository": "https://a.example"})
    found = [each.setting for each in problems(document)]
    assert found == ["kyverno.repository", "pullCheck.image"]


def test_two_clusters_in_one_vpc_are_valid_but_not_with_two_subnets() -> None:
    first = by_kubeconfig(kubeconfig("a"), name="a")
    same = changed(
        ENTERPRISE, "clusters", [first, {**first, "name": "b", "kubeconfig": kubeconfig("b")}]
    )
    assert len(settings(same).clusters) == 2
    (problem,) = problems(changed(same, "clusters.1.subnetId", "subnet-2"))
    assert problem.setting == "clusters[1].vpcId"
    assert problem.found == "'vpc-1', as in clusters[0]"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param("dockerhub.password", ["the-secret"], id="list"),
        pytest.param("login.pasword", "the-secret", id="misspelt-key"),
        pytest.param("clusters.0.kubeconfig", {"a": "the-secret"}, id="mapping"),
        pytest.param("clusters.0.kubeconfig", "the-secret", id="kubeconfig"),
        pytest.param("clusters.0", "the-secret", id="in-place-of-a-cluster"),
        pytest.param("clusters", "the-secret", id="in-place-of-clusters"),
        pytest.param("login", "the-secret", id="in-place-of-a-section"),
        pytest.param("dockerhub", "the-secret", id="in-place-of-the-account"),
        pytest.param("upstreams", [{**QUAY, "password": ["the-secret"]}], id="of-an-upstream"),
    ],
)
def test_an_error_never_shows_a_secret(path: str, value: Any) -> None:
    shown = "\n".join(str(problem) for problem in problems(changed(ENTERPRISE, path, value)))
    assert "the-secret" not in shown


def test_a_secret_of_the_wrong_kind_is_to_be_set_as_a_secret() -> None:
    (problem,) = problems(changed(ENTERPRISE, "login.password", 12345678))
    assert problem.do == "pulumi config set --secret --path 'vke-dockerhub-proxy:login.password'"


def test_settings_do_not_show_their_secrets_when_printed() -> None:
    assert "hub-password" not in repr(settings(ENTERPRISE))


def load_as_configured(document: dict[str, Any], *, secret_keys: list[str]) -> Settings:
    return load_from(dict(config(document).values), secret_keys)


def load_from(values: dict[str, str], secret_keys: list[str]) -> Settings:
    async def read() -> Settings:
        pulumi.runtime.set_mocks(_Nothing(), project=PROJECT, stack="test")
        set_all_config(values, secret_keys)
        return load()

    return asyncio.run(read())


class _Nothing(pulumi.runtime.Mocks):
    def new_resource(self, args: Any) -> tuple[str | None, dict[Any, Any]]:
        raise AssertionError(f"{args.typ} was registered")

    def call(self, args: Any) -> tuple[dict[Any, Any], None]:
        raise AssertionError(f"{args.token} was called")


def test_a_secret_in_plaintext_is_refused_with_the_command_that_encrypts_it() -> None:
    with pytest.raises(SettingsError) as caught:
        load_as_configured(ENTERPRISE, secret_keys=[f"{PROJECT}:dockerhub"])
    (problem,) = caught.value.problems
    assert problem.setting == "login.password"
    assert problem.found == "a secret in plaintext (not shown)"
    assert "pulumi config set --secret --path 'vke-dockerhub-proxy:login.password'" in problem.do
    assert "Login-password-1" not in str(caught.value)


def test_encrypted_secrets_are_read() -> None:
    read = load_as_configured(ENTERPRISE, secret_keys=[f"{PROJECT}:dockerhub", f"{PROJECT}:login"])
    assert read.login.password is not None
    assert read.login.password.get_secret_value() == "Login-password-1"


@pytest.mark.parametrize(
    ("key", "do"),
    [
        ("redirct", "did you mean 'redirect'?"),
        ("zone", "remove it"),
        ("region", "did you mean 'volcengine:region'?"),
        (
            "registry.name",
            (
                "pulumi config rm 'vke-dockerhub-proxy:registry.name'; then pulumi config set"
                " --path 'vke-dockerhub-proxy:registry.name' <value>"
            ),
        ),
    ],
    ids=["misspelt", "unlike-any", "of-the-provider", "set-without-path"],
)
def test_a_key_of_the_stack_file_that_is_no_section_is_refused(key: str, do: str) -> None:
    values = {**config(MICRO).values, f"{PROJECT}:{key}": "false", "other:redirct": "false"}
    with pytest.raises(SettingsError) as caught:
        load_from(values, [f"{PROJECT}:login"])
    (problem,) = caught.value.problems
    assert (problem.setting, problem.found) == (key, "an unknown key")
    assert problem.do == do


def test_a_secret_in_plaintext_beside_an_encrypted_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import settings.reader as module

    clusters = [
        by_kubeconfig(kubeconfig("a"), name="a"),
        by_kubeconfig(kubeconfig("b"), name="b"),
    ]
    stack_file = {
        "config": {
            f"{PROJECT}:clusters": [
                {**clusters[0], "kubeconfig": {"secure": "AAAB"}},
                clusters[1],
            ]
        }
    }
    (tmp_path / "Pulumi.test.yaml").write_text(json.dumps(stack_file))
    monkeypatch.setattr(module, "STACK_FILES", tmp_path)
    with pytest.raises(SettingsError) as caught:
        load_as_configured(
            changed(MICRO, "clusters", clusters),
            secret_keys=[f"{PROJECT}:login", f"{PROJECT}:clusters"],
        )
    (problem,) = caught.value.problems
    assert problem.setting == "clusters[1].kubeconfig"
    assert problem.found == "a secret in plaintext (not shown)"
    assert "kubeconfig-secret" not in str(caught.value)


def test_a_section_that_is_text_is_refused() -> None:
    values = {f"{PROJECT}:registry": "hub", "volcengine:region": "cn-beijing"}
    with pytest.raises(SettingsError) as caught:
        load_from(values, [])
    (problem,) = caught.value.problems
    assert (problem.setting, problem.found) == ("registry", "text, not a structure")


@pytest.mark.parametrize("label", ["cnpg.io/cluster", "application=spilo", "empty="])
def test_pods_are_left_alone_by_a_label_or_by_its_value(label: str) -> None:
    read = settings(changed(MICRO, "redirect.exclude", {"podLabels": [label]}))
    assert read.redirect.exclude.pod_labels == [label]


@pytest.mark.parametrize(("kubernetes", "warned"), [("1.35", True), ("1.36", False)])
def test_the_native_engine_is_warned_of_where_it_is_off_by_default(
    kubernetes: str, warned: bool
) -> None:
    document = changed(MICRO, "redirect.engine", "MutatingAdmissionPolicy")
    document = changed(document, "clusters.0.kubernetesVersion", kubernetes)
    notes = warnings(settings(document))
    assert any("has it off unless its API server" in each for each in notes) == warned


@pytest.mark.parametrize(
    ("strict", "ways", "warned"),
    [(True, ["nodes"], True), (False, ["nodes"], False), (True, ["admission"], False)],
)
def test_strict_nodes_are_warned_of_with_the_namespaces_that_are_left(
    strict: bool, ways: list[str], warned: bool
) -> None:
    document = changed(MICRO, "nodeMirror.strict", strict)
    notes = warnings(settings(changed(document, "clusters.0.ways", ways)))
    assert any("pull nothing else of Docker Hub than" in each for each in notes) == warned
    assert all("library" in each for each in notes if "nodeMirror.strict" in each)


@pytest.mark.parametrize(
    ("document", "region", "warned"),
    [
        pytest.param(ENTERPRISE, "cn-shanghai", "registry.edition: ", id="the-one-there-may-be"),
        pytest.param(ENTERPRISE, "cn-beijing", None, id="one-of-three"),
        pytest.param(ENTERPRISE, "cn-elsewhere", None, id="a-region-of-unknown-quota"),
        pytest.param(MICRO, "cn-shanghai", None, id="micro"),
        pytest.param(
            changed(ENTERPRISE, "upstreams", [GHCR]),
            "cn-shanghai",
            "registry.edition: ",
            id="a-micro-upstream-beside",
        ),
        pytest.param(
            changed(MICRO, "upstreams", [ENTERPRISE_GHCR]),
            "cn-guangzhou",
            "upstreams[0].edition: ",
            id="the-upstream-is-the-one",
        ),
        pytest.param(
            changed(ENTERPRISE, "upstreams", [{**QUAY, "edition": "Enterprise"}, ENTERPRISE_GHCR]),
            "cn-beijing",
            "registry.edition, upstreams[1].edition, upstreams[0].edition: ",
            id="all-three",
        ),
    ],
)
def test_a_stack_that_takes_all_of_the_quota_is_warned_of(
    document: dict[str, Any], region: str, warned: str | None
) -> None:
    notes = [each for each in warnings(settings(document, region=region)) if "quota" in each]
    assert len(notes) == (warned is not None)
    assert all(each.startswith(warned or "") for each in notes)


@pytest.mark.parametrize(
    ("upstream", "warned"),
    [
        pytest.param(QUAY, False, id="an-image-is-named"),
        pytest.param({**QUAY, "pullCheckImage": None}, True, id="none-is"),
        pytest.param(GHCR, False, id="kyvernos-own-images"),
        pytest.param({**GHCR, "namespaces": ["acme"]}, True, id="ghcr-without-kyverno"),
        pytest.param({**GHCR, "host": "quay.io"}, True, id="kyverno-elsewhere"),
    ],
)
def test_a_proxy_that_no_pull_check_tries_is_warned_of(
    upstream: dict[str, Any], warned: bool
) -> None:
    document = changed(MICRO, "upstreams", [upstream])
    told = [each for each in warnings(settings(document)) if "pullCheckImage is not set" in each]
    assert len(told) == warned
    assert all(each.startswith("upstreams[0].") for each in told)
    for without in ("pullCheck.enabled", "clusters"):
        quiet = changed(document, without, False if without != "clusters" else [])
        assert not any("pullCheckImage is not set" in each for each in warnings(settings(quiet)))


@pytest.mark.parametrize(
    ("version", "registry", "warned"),
    [
        pytest.param("3.8.0", None, False, id="all-images-are-kyvernos"),
        pytest.param("3.7.2", None, True, id="kubectl-is-from-elsewhere"),
        pytest.param("3.7.2", "mirror.example.com", False, id="from-where-the-user-says"),
    ],
)
def test_a_chart_with_others_images_is_not_pulled_through_the_proxy_of_ghcr(
    version: str, registry: str | None, warned: bool
) -> None:
    document = changed(WITH_GHCR, "kyverno", {"version": version, "imageRegistry": registry})
    read = settings(document)
    assert any(each.startswith("kyverno.version") for each in warnings(read)) == warned
    assert (read.kyverno_proxy is not None) == (version == "3.8.0")


def test_proxies_are_in_the_same_order_however_they_are_written() -> None:
    other = changed(MICRO, "upstreams", [GHCR, QUAY])
    hosts = ["docker.io", "ghcr.io", "quay.io"]
    for document in (WITH_BOTH, other):
        assert [each.host for each in settings(document).proxies] == hosts
    assert [each.setting for each in settings(WITH_BOTH).proxies] == [
        "registry",
        "upstreams[1]",
        "upstreams[0]",
    ]


def test_replacement_is_allowed_on_the_day_named_and_on_no_other() -> None:
    registry = settings(changed(MICRO, "registry.allowReplacementOn", "2026-02-03")).registry
    assert registry.replacement_allowed(date(2026, 2, 3))
    assert not registry.replacement_allowed(date(2026, 2, 4))
    assert not settings(MICRO).registry.replacement_allowed()


def test_every_section_of_the_model_is_described_in_the_project_file() -> None:
    import yaml

    from tests.support.recorder import ROOT

    declared = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
    assert set(declared) == set(SECTIONS)
    assert all(json.dumps(each["description"]) for each in declared.values())


PUBLIC = {"name": "bitnami", "access": "Public"}


def test_a_mutating_policy_beside_private_namespaces_needs_a_kyverno_that_copies_logins() -> None:
    document = changed(ENTERPRISE, "redirect.engine", "MutatingPolicy")
    settings(document)
    document = changed(document, "kyverno.version", "3.8.1")
    (problem,) = problems(document)
    assert problem.setting == "kyverno.version"
    assert "does not change a login it has copied" in problem.allowed
    settings(changed(document, "registry.namespaces.1", PUBLIC))
    settings(changed(document, "login.pods", "addon"))


@pytest.mark.parametrize(
    ("document", "warned"),
    [
        pytest.param(changed(ENTERPRISE, "registry.namespaces.1", PUBLIC), True, id="public"),
        pytest.param(ENTERPRISE, False, id="private"),
        pytest.param(MICRO, False, id="no-account"),
        pytest.param(WITH_GHCR, False, id="an-upstream-without-account"),
    ],
)
def test_an_account_beside_a_public_namespace_is_warned_of(
    document: dict[str, Any], warned: bool
) -> None:
    """Whoever reaches the registry pulls what the account may read; official images are public."""
    notes = [each for each in warnings(settings(document)) if "may read there" in each]
    assert bool(notes) == warned
    if notes:
        assert "Public: bitnami;" in notes[0]
        assert "'someone'" in notes[0]


def test_an_account_of_an_upstream_beside_its_public_namespace_is_warned_of() -> None:
    (note,) = (each for each in warnings(settings(WITH_BOTH)) if "may read there" in each)
    assert note.startswith("upstreams[0].namespaces: Public: prometheus;")
    assert "the quay.io account 'robot'" in note


def test_the_secret_of_an_upstream_in_plaintext_is_refused() -> None:
    document = changed(MICRO, "upstreams", [QUAY])
    with pytest.raises(SettingsError) as caught:
        load_as_configured(document, secret_keys=[f"{PROJECT}:login"])
    (problem,) = caught.value.problems
    assert problem.setting == "upstreams[0].password"
    assert "quay-password" not in str(caught.value)
