"""Pods start while Kyverno is down or does not answer."""

from __future__ import annotations

import time

import pytest

from rehearsal.admit import admit
from tests.conformance.harness import (
    DOMAIN,
    WEBHOOK_TIMEOUT_SECONDS,
    Cluster,
    KyvernoProcess,
    until,
)


@pytest.mark.parametrize("kyverno_engine", ["ClusterPolicy", "MutatingPolicy"])
class TestOutage:
    def test_a_frozen_kyverno_costs_a_pod_no_more_than_the_timeout(
        self, cluster: Cluster, kyverno: KyvernoProcess, kyverno_engine: str
    ) -> None:
        with cluster.policy(kyverno_engine, failure_policy="Ignore"), kyverno.frozen():
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
        self, cluster: Cluster, kyverno: KyvernoProcess, kyverno_engine: str
    ) -> None:
        with cluster.policy(kyverno_engine, failure_policy="Ignore"):
            images = [f"nginx:{at}" for at in range(40)]
            made = admit(cluster.api, images, namespace="default", workers=2)
            first = [next(made) for _ in range(5)]
            kyverno.stop()
            rest = list(made)
            kyverno.start()
            until(lambda: cluster.admitted("nginx") == f"{DOMAIN}/library/nginx", "it is back", 60)
        assert all(each.admitted == f"{DOMAIN}/library/{each.image}" for each in first)
        assert all(each.error is None for each in rest)
        assert rest[-1].admitted == rest[-1].image
