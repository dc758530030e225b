"""Pods and workloads to send to the API server, and what to look at in those it answers with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.support.harness import Cluster

DIGEST = "sha256:" + "0123456789abcdef" * 4


def pod(*images: str, metadata: Mapping[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """A Pod with a container of each image; without a name of its own, of a new one."""
    containers = [{"name": f"c{at}", "image": image} for at, image in enumerate(images)]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": dict(metadata or {"generateName": "test-"}),
        "spec": {"containers": containers, **spec},
    }


def named(name: str, *images: str, **spec: Any) -> dict[str, Any]:
    """A Pod of a name, which is the value of its label `test` too."""
    return pod(*images, metadata={"name": name, "labels": {"test": name}}, **spec)


def labelled(labels: Mapping[str, str], *images: str, **spec: Any) -> dict[str, Any]:
    """A Pod of a new name, with labels."""
    return pod(*images, metadata={"generateName": "test-", "labels": labels}, **spec)


def workload(kind: str, name: str, made: Mapping[str, Any]) -> dict[str, Any]:
    """An object of a kind that makes such Pods, with the label `test` beside theirs."""
    labels = {"test": name}
    template: dict[str, Any] = {
        "metadata": {"labels": {**made["metadata"].get("labels", {}), **labels}},
        "spec": dict(made["spec"]),
    }
    spec: dict[str, Any] = {"selector": {"matchLabels": labels}, "template": template}
    if kind in {"Job", "CronJob"}:
        template["spec"]["restartPolicy"] = "Never"
        spec = {"template": template}
    if kind == "CronJob":
        spec = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": spec}}
    group = "batch/v1" if kind in {"Job", "CronJob"} else "apps/v1"
    return {"apiVersion": group, "kind": kind, "metadata": {"name": name}, "spec": spec}


@contextmanager
def stored(cluster: Cluster, written: Mapping[str, Any]) -> Iterator[str]:
    """The name of a Pod that is there while the context lasts."""
    name: str = written["metadata"]["name"]
    cluster.stored(written)
    try:
        yield name
    finally:
        cluster.delete(written, "default")


def images(found: Mapping[str, Any], kind: str = "containers") -> list[str]:
    """The images of a Pod's containers, or of another list of them."""
    return [each["image"] for each in found["spec"].get(kind, [])]


def originals(found: Mapping[str, Any]) -> dict[str, str]:
    """The images as written, by container, and by `volumes/` and volume."""
    kept = {}
    for key, image in found["metadata"].get("annotations", {}).items():
        prefix, _, name = key.partition("/")
        if prefix in {"original.vke-dockerhub-proxy", "original-volume.vke-dockerhub-proxy"}:
            kept[f"volumes/{name}" if "volume" in prefix else name] = image
    return kept
