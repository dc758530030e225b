"""What is compared: the policies, and the Pods each is measured with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from bench.cluster import WEBHOOK_TIMEOUT_SECONDS
from bench.load import DOMAIN, Case
from components.policy import Redirect, redirect
from components.types import DOCKER_HUB, Access, Engine, FailurePolicy, Proxy

NO_POLICY = "no policy"
ONE, FIVE, TWENTY = Case(), Case(containers=5), Case(containers=20)
NOTHING = Case(redirected=False)
NOTHING_OF_TWENTY = Case(containers=20, redirected=False)
AT_ONCE = Case(workers=16)
NOTHING_AT_ONCE = Case(redirected=False, workers=16)
ALL = (ONE, FIVE, TWENTY, NOTHING, NOTHING_OF_TWENTY, AT_ONCE, NOTHING_AT_ONCE)
ALLOW_LISTS = (1, 100, 1000)
"""Namespaces in the allow-list; the one that counts is Docker Hub's `library`."""
HOSTS = (DOCKER_HUB, "ghcr.io", "gcr.io", "quay.io", "registry.k8s.io")
"""The registries that the longest allow-list is also spread over."""
SPREAD = (ALLOW_LISTS[-1], HOSTS)
"""What is held against as many namespaces of one host."""
DELAYS = (0, 50, 200)
"""Milliseconds after which Docker Hub answers the vendor's policy."""

_VENDOR_POLICY = Path(__file__).with_name("vendor-policy.yaml")
_SIMPLEST_POLICIES = Path(__file__).with_name("simplest-policies.yaml")
_KYVERNO_DEFAULT_TIMEOUT_SECONDS = 10


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One policy in one setting."""

    name: str
    documents: Sequence[Mapping[str, Any]]
    cases: Sequence[Case]
    delay: int = 0
    """Milliseconds after which Docker Hub answers."""
    freezes: bool = False
    """Whether Pods are created with Kyverno frozen too."""

    @property
    def slow(self) -> bool:
        """Whether a Pod may take seconds: measured in the first rounds alone."""
        return self.delay > 0


def variants(beside: Sequence[Path] = ()) -> list[Variant]:
    """All of them, but for no policy, which is measured before each.

    `beside` are files with other policies to compare, such as ours as they were.
    """
    return [
        *(
            Variant(
                name=file.stem,
                documents=list(yaml.safe_load_all(file.read_text())),
                cases=(ONE, TWENTY, NOTHING),
            )
            for file in beside
        ),
        *(
            _ours(engine, size, hosts)
            for engine in Engine
            for size, hosts in (*((size, HOSTS[:1]) for size in ALLOW_LISTS), SPREAD)
        ),
        *(_for_every_new_pod(engine) for engine in Engine if engine.needs_kyverno),
        *(_simplest(engine) for engine in Engine),
        *(_vendors(delay) for delay in DELAYS),
    ]


def our_name(engine: Engine, size: int, hosts: Sequence[str] = HOSTS[:1]) -> str:
    """What a variant with one of our engines is called."""
    if size == 1:
        return engine
    return f"{engine}, {size:,} namespaces{f' of {len(hosts)} hosts' if len(hosts) > 1 else ''}"


def simplest_name(engine: Engine) -> str:
    """What the variant with an engine's simplest policy is called."""
    return f"{engine}, the simplest there is"


def _ours(engine: Engine, size: int, hosts: Sequence[str]) -> Variant:
    return Variant(
        name=our_name(engine, size, hosts),
        documents=redirect(_values(engine, size, hosts)),
        cases=ALL if size == 1 else (ONE, TWENTY, NOTHING),
        freezes=size == 1,
    )


def _for_every_new_pod(engine: Engine) -> Variant:
    """An engine of Kyverno's that is called for new Pods with nothing to redirect too."""
    values = replace(_values(engine, 1, HOSTS[:1]), every_new_pod=True)
    return Variant(
        name=f"{engine}, called for every new Pod",
        documents=redirect(values),
        cases=(NOTHING, NOTHING_OF_TWENTY),
    )


def _values(engine: Engine, size: int, hosts: Sequence[str]) -> Redirect:
    served = ["library", *(f"team{number:04}" for number in range(1, size))]
    return Redirect(
        engine=engine,
        proxies=[
            Proxy(
                host=host,
                domain=DOMAIN if host == DOCKER_HUB else f"{host}.example",
                namespaces=dict.fromkeys(served[at :: len(hosts)], Access.PUBLIC),
            )
            for at, host in enumerate(hosts)
        ],
        timeout_seconds=WEBHOOK_TIMEOUT_SECONDS,
        failure_policy=FailurePolicy.IGNORE,
        every_new_pod=False,
    )


def _simplest(engine: Engine) -> Variant:
    """The least that a policy of an engine costs."""
    documents = yaml.safe_load_all(_SIMPLEST_POLICIES.read_text())
    kinds = {engine, f"{engine}Binding"}
    return Variant(
        name=simplest_name(engine),
        documents=[each for each in documents if each["kind"] in kinds],
        cases=(ONE, TWENTY, NOTHING),
    )


def _vendors(delay: int) -> Variant:
    policy = yaml.safe_load(_VENDOR_POLICY.read_text())
    # As under a Kyverno installed without flags, which is how the page installs it.
    policy["spec"]["webhookTimeoutSeconds"] = _KYVERNO_DEFAULT_TIMEOUT_SECONDS
    return Variant(
        name=f"vendor's policy, {delay} ms",
        documents=[policy],
        cases=(ONE, FIVE, TWENTY, NOTHING, AT_ONCE) if delay == 0 else (ONE, FIVE, TWENTY),
        delay=delay,
    )
