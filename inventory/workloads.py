"""What is kept of a Kubernetes object: the images of its Pods, and what the redirect looks at."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

ORIGINAL_ANNOTATION: Final = "original.vke-dockerhub-proxy"
ORIGINAL_VOLUME_ANNOTATION: Final = "original-volume.vke-dockerhub-proxy"
_APPS = ("spec", "template")
POD_TEMPLATES: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("", "Pod"): (),
    ("", "PodTemplate"): ("template",),
    ("", "ReplicationController"): _APPS,
    ("apps", "DaemonSet"): _APPS,
    ("apps", "Deployment"): _APPS,
    ("apps", "ReplicaSet"): _APPS,
    ("apps", "StatefulSet"): _APPS,
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
    ("batch", "Job"): _APPS,
}
"""Group and kind of what makes Pods, and the way from the object to the Pod it makes."""

_IMAGE_KEY = re.compile(r"image|.*Image|image(?:Name|Ref|Reference)")
"""Keys whose value is an image in custom resources: `image`, `baseImage`, `imageName`, …"""
_MIRROR_POD = "kubernetes.io/config.mirror"


@dataclass(frozen=True, slots=True)
class Place:
    """The workload that says what image is used, and where it was read."""

    source: str
    """The context of a cluster, or a file."""
    is_file: bool
    namespace: str | None
    """None for a manifest that names none."""
    kind: str
    name: str

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {where}{self.name}"


@dataclass(frozen=True, slots=True)
class Image:
    """An image as one container, or one volume, of a workload has it."""

    reference: str
    """As written; in a Pod that was redirected, what had been written before."""
    container: str
    """The container's name, `volumes/<name>` of an image volume, or a custom resource's field."""
    never_pulled: bool = False
    line: int | None = None
    """In a file, the line it is on, from 1."""


@dataclass(slots=True)
class Workload:
    """A workload and the images of its Pods."""

    place: Place
    labels: Mapping[str, str]
    """The labels of its Pods, those the redirect looks at."""
    is_static: bool
    """Static Pods are started by a kubelet, whatever the API server says."""
    images: tuple[Image, ...]
    pods: int = 0
    """How many Pods were seen; 0 where only a template was read."""


@dataclass(frozen=True, kw_only=True)
class Missing:
    """Something that was asked for and could not be read."""

    source: str
    what: str
    why: str


@dataclass(kw_only=True)
class Found:
    """What was read of all sources."""

    workloads: list[Workload] = field(default_factory=list)
    opted_out: set[tuple[str | None, str]] = field(default_factory=set)
    """Context (None for files) and name of namespaces whose label opts them out."""
    missing: list[Missing] = field(default_factory=list)
    sources: Counter[str] = field(default_factory=Counter)
    """Each source, with how many objects were read there."""

    def merge(self, more: Found) -> None:
        """Take in what was read elsewhere."""
        self.workloads += more.workloads
        self.opted_out |= more.opted_out
        self.missing += more.missing
        self.sources.update(more.sources)


def workload(
    document: Mapping[str, Any], source: str, *, is_file: bool, label_keys: Collection[str]
) -> Workload | None:
    """The workload that an object is; None for one that makes no Pods.

    Of the Pods' labels those in `label_keys` are kept.
    """
    group = str(document.get("apiVersion", "")).rpartition("/")[0]
    kind = document.get("kind")
    path = POD_TEMPLATES.get((group if group != "extensions" else "apps", str(kind)))
    if path is None:
        return None
    metadata = _mapping(document.get("metadata"))
    pod: Any = document
    for key in path:
        pod = _mapping(pod).get(key)
    pod = _mapping(pod)
    pod_metadata = _mapping(pod.get("metadata"))
    labels = _mapping(pod_metadata.get("labels"))
    return Workload(
        place=Place(
            source=source,
            is_file=is_file,
            namespace=metadata.get("namespace"),
            kind=str(kind),
            name=str(metadata.get("name") or metadata.get("generateName") or "(no name)"),
        ),
        labels={key: str(labels[key]) for key in labels.keys() & label_keys},
        is_static=_is_static(pod_metadata),
        images=tuple(pod_images(_mapping(pod.get("spec")), pod_metadata)),
    )


def pod_images(spec: Mapping[str, Any], metadata: Mapping[str, Any]) -> Iterator[Image]:
    """The images of a Pod, as they were written before a redirect."""
    annotations = _mapping(metadata.get("annotations"))
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        for each in _sequence(spec.get(kind)):
            name = str(each.get("name", ""))
            original = annotations.get(f"{ORIGINAL_ANNOTATION}/{name}")
            yield from _image(name, original, each.get("image"), each.get("imagePullPolicy"))
    for each in _sequence(spec.get("volumes")):
        image = _mapping(each.get("image"))
        name = str(each.get("name", ""))
        original = annotations.get(f"{ORIGINAL_VOLUME_ANNOTATION}/{name}")
        yield from _image(
            f"volumes/{name}", original, image.get("reference"), image.get("pullPolicy")
        )


def custom_images(value: Any, at: str = "") -> Iterator[Image]:
    """What looks like images in a custom resource: whatever a key says is one.

    A string, or a mapping of `repository` with `registry` and `tag` or `digest`, as charts have it.
    """
    if isinstance(value, Mapping):
        for key, child in value.items():
            here = f"{at}.{key}" if at else str(key)
            if _IMAGE_KEY.fullmatch(str(key)):
                reference = child if isinstance(child, str) else _put_together(child)
                if reference:
                    yield Image(reference, here, line=getattr(child, "line", None))
                    continue
            yield from custom_images(child, here)
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from custom_images(child, f"{at}[{index}]")


def joined(workloads: Iterable[Workload]) -> list[Workload]:
    """One entry a workload: Pods with the template they were created from.

    A workload whose Pods carry other labels of interest than its template has two.
    """
    found: dict[tuple[Place, tuple[tuple[str, str], ...], bool], Workload] = {}
    for each in workloads:
        key = (each.place, tuple(sorted(each.labels.items())), each.is_static)
        known = found.setdefault(key, each)
        if known is not each:
            known.images = tuple(dict.fromkeys((*known.images, *each.images)))
            known.pods += each.pods
    return list(found.values())


def _image(name: str, original: Any, written: Any, policy: Any) -> Iterator[Image]:
    reference = original or written
    if isinstance(reference, str) and reference:
        yield Image(reference, name, policy == "Never", getattr(written, "line", None))


def _is_static(metadata: Mapping[str, Any]) -> bool:
    owners = _sequence(metadata.get("ownerReferences"))
    mirrored = _MIRROR_POD in _mapping(metadata.get("annotations"))
    return mirrored or any(owner.get("kind") == "Node" for owner in owners)


def _put_together(value: Any) -> str | None:
    """A reference of the parts that charts and operators give it in."""
    if not isinstance(value, Mapping) or not isinstance(value.get("repository"), str):
        return None
    registry, tag, digest = (value.get(key) for key in ("registry", "tag", "digest"))
    name = f"{registry}/{value['repository']}" if registry else value["repository"]
    return name + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []
