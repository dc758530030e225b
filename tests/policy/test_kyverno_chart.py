"""What Kyverno's chart makes of the stack's values, in every version that can be had."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.kyverno import CHECK_IMAGE, KyvernoArgs, chart_values
from rehearsal.cluster.chart import images_in
from rehearsal.parts.build import obtain
from rehearsal.progress import Progress
from settings.model import Kyverno
from tests.support.kyverno_charts import VERSIONS, chart

MIRROR = "mirror.example.com/kyverno"
PULL_SECRET = "kyverno-image-login"
KEEP = "helm.sh/resource-policy"


@pytest.fixture(scope="module", params=VERSIONS)
def kyverno(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The chart of a version of Kyverno, in a folder, and the settings of its own version."""
    folder = tmp_path_factory.mktemp("chart")
    return folder, Kyverno.model_validate({"version": chart(request.param, folder / "chart")})


@pytest.fixture(scope="module")
def rendered(kyverno: tuple[Path, Kyverno]) -> list[dict[str, Any]]:
    """Every manifest of the release, hooks included."""
    folder, settings = kyverno
    args = KyvernoArgs(
        chart="kyverno",
        version=settings.version,
        namespace=settings.namespace,
        image_registry=MIRROR,
        webhook_timeout_seconds=2,
        replicas=settings.replicas,
    )
    values = chart_values(args, [PULL_SECRET])
    (folder / "values.yaml").write_text(yaml.safe_dump(values))
    helm = obtain(("helm",), Progress())["helm"]
    done = subprocess.run(
        [
            *(helm, "template", "kyverno", folder / "chart", "--namespace=kyverno"),
            *("--values", folder / "values.yaml", "--kube-version=1.34"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    documents = yaml.load_all(done.stdout, Loader=yaml.CSafeLoader)
    return [each for each in documents if each]


def is_hook(manifest: dict[str, Any], kind: str) -> bool:
    annotations = manifest["metadata"].get("annotations") or {}
    return kind in annotations.get("helm.sh/hook", "")


def test_the_image_registry_reaches_every_image_hook_jobs_first(
    rendered: list[dict[str, Any]],
) -> None:
    before_it_goes = [each for each in rendered if is_hook(each, "pre-delete")]
    assert list(images_in(before_it_goes))
    everything = {each for manifest in rendered for each in images_in(manifest)}
    assert len(everything) > 5
    assert [each for each in sorted(everything) if not each.startswith(f"{MIRROR}/")] == []


def pods(value: Any) -> Iterator[dict[str, Any]]:
    """The specs of Pods in a manifest."""
    if isinstance(value, dict):
        if "containers" in value:
            yield value
        for child in value.values():
            yield from pods(child)


def test_the_pull_secret_reaches_every_pod_that_pulls_these_images(
    rendered: list[dict[str, Any]],
) -> None:
    every = [pod for manifest in rendered for pod in pods(manifest)]
    assert len(every) > 5
    assert all({"name": PULL_SECRET} in pod["imagePullSecrets"] for pod in every)


def test_a_proxy_of_ghcr_is_used_for_the_charts_of_which_it_has_all_images(
    kyverno: tuple[Path, Kyverno], rendered: list[dict[str, Any]]
) -> None:
    _, settings = kyverno
    everything = {each for manifest in rendered for each in images_in(manifest)}
    own = all(each.startswith(f"{MIRROR}/kyverno/") for each in everything)
    assert settings.has_own_images_only == own
    if own:  # then the pull check pulls one of them
        assert f"{MIRROR}/{CHECK_IMAGE}:{settings.image_tag}" in everything


def test_no_hook_has_an_image_that_is_gone_from_docker_hub(rendered: list[dict[str, Any]]) -> None:
    everything = {each for manifest in rendered for each in images_in(manifest)}
    assert not any(re.search(r"/bitnami/", each) for each in everything)


def test_no_crd_goes_with_kyverno_and_so_no_policy_of_anybody_does(
    rendered: list[dict[str, Any]],
) -> None:
    crds = [each for each in rendered if each["kind"] == "CustomResourceDefinition"]
    assert {"clusterpolicies.kyverno.io", "policies.kyverno.io"} <= {
        each["metadata"]["name"] for each in crds
    }
    for each in crds:
        assert each["metadata"]["annotations"][KEEP] == "keep", each["metadata"]["name"]
