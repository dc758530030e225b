"""Every reference is redirected exactly as the parser containerd uses reads it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from kubernetes import client

from components.types import DOCKER_HUB, Access, Engine, FailurePolicy, Proxy
from inventory.prediction import Outcome, predict
from inventory.stack import Stack
from inventory.workloads import Image, Place, Workload
from rehearsal.admit import Admission, admit
from tests.support.harness import Cluster, KyvernoProcess, docker_hub
from tests.support.pods import pod
from tests.support.references import HOSTS, Oracle, Reading, generated, near_misses, wild

GENERATED = 2400
SEED = 20261124
OTHER_DOMAINS = {"ghcr.io": "ghcr-proxy.example.com", "quay.io": "quay-proxy.example.com:5443"}
"""Other registries that have a proxy, and where it is."""
SERVED_BY = {
    "on-all": {DOCKER_HUB, *OTHER_DOMAINS},
    "on-two": {DOCKER_HUB, "ghcr.io"},
    "on-one": {"quay.io"},
    "library": {DOCKER_HUB},
}
"""The registries that have a namespace of a name which all of them may have."""

_GENERATED_NAME = re.compile(r'Pod "admit-[^"]*"')
_IMAGE_ID = re.compile(r"[^/]+/library/[0-9a-f]{64}")


@pytest.fixture(scope="module")
def references(oracle: Oracle) -> list[str]:
    hosts = [each for host in HOSTS for each in (host, *near_misses(host))]
    same = [f"{host}/{name}/app:1" for host in hosts for name in SERVED_BY]
    bare = [f"{host}/{name}" for host in hosts for name in SERVED_BY]
    return list(
        dict.fromkeys([*oracle.tables(), *wild(), *same, *bare, *generated(GENERATED, SEED)])
    )


@pytest.fixture(scope="module")
def read(oracle: Oracle, references: list[str]) -> list[Reading]:
    """What the parser makes of each reference."""
    return oracle.read(references)


@pytest.fixture(scope="module")
def proxies(read: list[Reading]) -> list[Proxy]:
    """Proxies of three registries that serve three of four of the namespaces referred to.

    Not those that the settings refuse: of Docker Hub, `localhost` and names with a dot.
    """

    def served_by(registry: str) -> list[str]:
        names = sorted({each.namespace for each in read if each.registry == registry} - {""})
        some = {name for at, name in enumerate(names) if at % 4} - SERVED_BY.keys()
        return sorted(some | {name for name, by in SERVED_BY.items() if registry in by})

    served = {registry: served_by(registry) for registry in (DOCKER_HUB, *OTHER_DOMAINS)}
    hub = [name for name in served[DOCKER_HUB] if "." not in name and name != "localhost"]
    return [
        docker_hub(*hub),
        *(
            Proxy(host=host, domain=at, namespaces=dict.fromkeys(served[host], Access.PUBLIC))
            for host, at in OTHER_DOMAINS.items()
        ),
    ]


def admit_together(cluster: Cluster, references: Sequence[str]) -> Iterator[Admission]:
    """As `admit`, in Pods of 20 containers; those of a Pod that is refused again, each alone."""
    for at in range(0, len(references), 20):
        some = references[at : at + 20]
        try:
            containers = cluster.create(pod(*some))["spec"]["containers"]
        except client.ApiException:
            yield from admit(cluster.api, some)
            continue
        for written, each in zip(some, containers, strict=True):
            yield Admission(image=written, admitted=each["image"], error=None)


@pytest.fixture(scope="module")
def plain(cluster: Cluster, references: list[str]) -> list[Admission]:
    """What the API server makes of the references without any policy."""
    return list(admit_together(cluster, references))


@pytest.fixture(scope="module")
def found(
    cluster: Cluster, engine: Engine, read: list[Reading], proxies: list[Proxy]
) -> list[Admission]:
    """What the API server makes of the references with the policy of an engine.

    A policy of Kyverno's gets them together: for which of them Kyverno is called, another test asks
    of each alone.
    """
    with cluster.policy(engine, proxies):
        images = [each.reference for each in read]
        if engine.needs_kyverno:
            return list(admit_together(cluster, images))
        return list(admit(cluster.api, images))


def redirect_of(reading: Reading, proxies: list[Proxy]) -> str | None:
    """The image at its proxy; None for one that is to stay as written."""
    for proxy in proxies:
        if proxy.host == reading.registry and reading.namespace in proxy.namespaces:
            return reading.at(str(proxy.domain))
    return None


def cannot_be_pulled(reading: Reading) -> bool:
    """Whether no registry has it: it is no reference, or a bare name at a host of Docker Hub's
    with which the parser adds no `library`."""
    return bool(reading.error) or (reading.registry == DOCKER_HUB and not reading.namespace)


def passes_the_sieve_alone(reading: Reading) -> bool:
    """Whether Kyverno may be called for it in vain: nobody has such an image, or for its name alone
    (`ghcr.io/kyverno`)."""
    return not reading.namespace or (reading.registry == DOCKER_HUB and "." in reading.namespace)


def test_every_reference_is_redirected_as_the_parser_reads_it(
    engine: Engine,
    oracle: Oracle,
    read: list[Reading],
    proxies: list[Proxy],
    plain: list[Admission],
    found: list[Admission],
) -> None:
    wrong, loose = [], []
    for reading, before, after in zip(read, plain, found, strict=True):
        # What Kubernetes itself refuses, an empty image and one with leading or trailing
        # whitespace, it refuses in the same words with the policy.
        wanted = before.error or redirect_of(reading, proxies) or reading.reference
        if _result(after) == _GENERATED_NAME.sub("Pod", wanted):
            continue
        if cannot_be_pulled(reading) and before.error is None and after.admitted is not None:
            loose.append((reading, after.admitted))
        else:
            wrong.append((reading.reference, wanted, _result(after)))
    assert wrong == []
    for (reading, changed), again in zip(
        loose, oracle.read(changed for _, changed in loose), strict=True
    ):
        # No reference becomes pullable: Docker Hub has no official image that is named by an id.
        assert not reading.error or again.error or _IMAGE_ID.fullmatch(changed), reading
    redirected = Counter(each.registry for each in read if redirect_of(each, proxies))
    assert len(read) >= GENERATED + 400
    assert redirected.total() >= 1000
    assert all(redirected[each.host] >= 60 for each in proxies), redirected
    print(  # noqa: T201
        f"{engine}: {len(read)} references, {redirected.total()} to redirect, none wrong;"
        f" {sum(map(cannot_be_pulled, read))} cannot be pulled, {len(loose)} of them redirected;"
        f" {sum(bool(each.error) for each in plain)} refused by Kubernetes itself"
    )


def test_the_inventory_predicts_what_becomes_of_every_reference(
    proxies: list[Proxy], found: list[Admission]
) -> None:
    there = Workload(Place("x", False, "default", "Pod", "x"), {}, False, ())
    stack = Stack(proxies=proxies)
    wrong = []
    for each in found:
        prediction = predict(Image(each.image, "c"), there, stack, opted_out=False)
        if each.error or prediction.outcome is Outcome.INVALID:
            continue  # no image can be pulled by it, whatever it becomes
        if each.admitted != (prediction.to or each.image):
            wrong.append((each, prediction))
    assert wrong == []


def test_every_image_of_the_wild_list_comes_from_the_proxy_of_its_registry(
    cluster: Cluster, engine: Engine, oracle: Oracle
) -> None:
    """All but those in no namespace, such as `registry.k8s.io/pause`: CR cannot name them."""
    found = oracle.read(wild())
    proxies = [
        Proxy(
            host=registry,
            domain=f"{registry.replace('.', '-')}-proxy.example.com",
            namespaces=dict.fromkeys(
                sorted({each.namespace for each in found if each.registry == registry} - {""})
                or ["none-of-these"],
                Access.PUBLIC,
            ),
        )
        for registry in dict.fromkeys([DOCKER_HUB, *(each.registry for each in found)])
    ]
    with cluster.policy(engine, proxies):
        admitted = list(admit(cluster.api, wild()))
    expected = [redirect_of(each, proxies) or each.reference for each in found]
    assert [each.admitted for each in admitted] == expected
    left = {each.registry for each in found if not redirect_of(each, proxies)}
    assert left == {"registry.k8s.io"}


def test_kyverno_is_called_for_what_is_to_be_redirected_and_for_no_other_reference(
    cluster: Cluster,
    engine: Engine,
    read: list[Reading],
    proxies: list[Proxy],
    plain: list[Admission],
    request: pytest.FixtureRequest,
) -> None:
    """Kyverno is dead and the policy denies what it cannot ask it about."""
    if not engine.needs_kyverno:
        return
    kyverno: KyvernoProcess = request.getfixturevalue("kyverno")
    with (
        cluster.policy(engine, proxies, failure_policy=FailurePolicy.FAIL),
        kyverno.stopped(),
    ):
        images = [each.reference for each in read]
        found = list(admit(cluster.api, images))
    wrong = [
        reading.reference
        for reading, before, after in zip(read, plain, found, strict=True)
        if before.error is None and not cannot_be_pulled(reading)
        if not passes_the_sieve_alone(reading)
        if (after.error is not None) != (redirect_of(reading, proxies) is not None)
    ]
    assert wrong == []


def test_what_is_redirected_reads_back_as_the_same_image(
    oracle: Oracle, read: list[Reading], proxies: list[Proxy]
) -> None:
    before = [each for each in read if redirect_of(each, proxies)]
    after = oracle.read(str(redirect_of(each, proxies)) for each in before)
    domains = {proxy.host: proxy.domain for proxy in proxies}
    for old, new in zip(before, after, strict=True):
        assert new == replace(old, reference=new.reference, domain=str(domains[old.registry]))


def _result(admission: Admission) -> str:
    """The image as admitted, or why it was not."""
    return admission.admitted or _GENERATED_NAME.sub("Pod", admission.error or "")
