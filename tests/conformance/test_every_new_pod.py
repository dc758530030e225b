"""The setting that has Kyverno called for every new Pod."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from components.types import Engine
from tests.conformance.test_field import AT_THE_PROXY, PROXIES, injected_by, meshed
from tests.support.harness import Cluster
from tests.support.injectors import ISTIO, VAULT, injectors
from tests.support.pods import images


def test_what_is_injected_is_redirected_wherever_the_webhook_is_called_again(
    cluster: Cluster, engine: Engine, tmp_path: Path
) -> None:
    """Which Kyverno 1.19 does not ask the API server for on behalf of a MutatingPolicy."""
    with ExitStack() as stack:
        configurations = stack.enter_context(injectors(tmp_path))
        stack.enter_context(cluster.policy(engine, PROXIES, every_new_pod=True))
        for each in configurations.values():
            stack.enter_context(injected_by(cluster, each))
        found = cluster.create(meshed("registry.example.com/acme/app:1"))
    of_vault = AT_THE_PROXY[VAULT]
    if engine is Engine.MUTATING_POLICY:
        of_vault = "hashicorp/vault:1.20.0"
    assert images(found)[1:] == [AT_THE_PROXY[ISTIO], of_vault]
