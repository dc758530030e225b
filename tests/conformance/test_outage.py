"""Pods start while Kyverno is down or does not answer."""

from __future__ import annotations

import time
from typing import Any

import pytest
from kubernetes.client import ApiException

from components.policy import OPT_OUT_LABEL, OPT_OUT_VALUE
from components.types import Engine, FailurePolicy
from rehearsal import wait
from rehearsal.admit import admit
from tests.support.harness import (
    DOMAIN,
    WEBHOOK_TIMEOUT_SECONDS,
    Cluster,
    KyvernoProcess,
)
from tests.support.pods import labelled, named, pod, stored

LABELS = ("cnpg.io/cluster=db", "example.com/operated=")


@pytest.mark.parametrize("kyverno_engine", [Engine.CLUSTER_POLICY, Engine.MUTATING_POLICY])
class TestOutage:
    def test_a_frozen_kyverno_costs_a_pod_no_more_than_the_timeout(
        self, cluster: Cluster, kyverno: KyvernoProcess, kyverno_engine: Engine
    ) -> None:
        with cluster.policy(kyverno_engine, failure_policy=FailurePolicy.IGNORE), kyverno.frozen():
            began = time.monotonic()
            assert cluster.admitted("nginx") == "nginx"
            took = time.monotonic() - began
            began = time.monotonic()
            assert cluster.admitted("quay.io/a/b") == "quay.io/a/b"
            other = time.monotonic() - began
        assert took < WEBHOOK_TIMEOUT_SECONDS + 0.5
        assert other < 0.5
        print(f"{kyverno_engine} frozen: {took:.2f} s; nothing to redirect: {other:.3f} s")  # noqa: T201

    def test_pods_start_while_kyverno_is_dead_and_are_redirected_again_after(
        self, cluster: Cluster, kyverno: KyvernoProcess, kyverno_engine: Engine
    ) -> None:
        with cluster.policy(kyverno_engine, failure_policy=FailurePolicy.IGNORE):
            images = [f"nginx:{at}" for at in range(40)]
            answers = admit(cluster.api, images, namespace="default", workers=2)
            first = [next(answers) for _ in range(5)]
            kyverno.stop()
            rest = list(answers)
            kyverno.start()
            wait.until(lambda: cluster.admitted("nginx") == f"{DOMAIN}/library/nginx", "it is back")
        assert all(each.admitted == f"{DOMAIN}/library/{each.image}" for each in first)
        assert all(each.error is None for each in rest)
        assert rest[-1].admitted == rest[-1].image

    def test_kyverno_is_not_called_for_pods_with_nothing_to_redirect(
        self, cluster: Cluster, kyverno: KyvernoProcess, kyverno_engine: Engine
    ) -> None:
        """Kyverno is dead and the policy denies what it cannot ask it about."""
        excluded: dict[str, Any] = {
            "excluded_namespaces": ["kube-public"],
            "excluded_pod_labels": ["example.com/operated"],
        }
        with (
            cluster.policy(kyverno_engine, failure_policy=FailurePolicy.FAIL, **excluded),
            stored(cluster, named("asleep", "nginx")),
            kyverno.stopped(),
        ):
            cluster.create(pod("quay.io/a/b"))
            for label in (f"{OPT_OUT_LABEL}={OPT_OUT_VALUE}", *LABELS):
                key, _, value = label.partition("=")
                cluster.create(labelled({key: value}, "nginx"))
            for namespace in ("kube-system", "kube-public"):
                cluster.create(pod("nginx"), namespace)
            mirror = {"name": "static", "annotations": {"kubernetes.io/config.mirror": "x"}}
            cluster.create(pod("nginx", metadata=mirror, nodeName="node-a"))
            cluster.kubectl("annotate", "pod", "asleep", "a=b")
            cluster.kubectl("set", "image", "pod/asleep", "c0=quay.io/a/b")
            with pytest.raises(ApiException, match="failed calling webhook"):
                cluster.create(pod("nginx"))
            done = cluster.kubectl("set", "image", "pod/asleep", "c0=redis", check=False)
            assert "failed calling webhook" in done.stderr
