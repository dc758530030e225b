"""The answer to an inventory: what is used, what will happen to it, and what to add."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from inventory.prediction import SERVED, Outcome, Prediction, of_reference, parsed, predict
from inventory.proposal import Proposal, propose
from inventory.reference import Reference
from inventory.stack import Stack, host_of, namespace_of
from inventory.workloads import Found, Image, Missing, Place

_NOT_PULLED: Final = frozenset({Outcome.NEVER_PULLED, Outcome.PLACEHOLDER, Outcome.INVALID})
_COULD_BE_SERVED: Final = frozenset(
    {Outcome.NOT_SERVED, Outcome.OTHER_REGISTRY, Outcome.NO_NAMESPACE}
)
"""What a further namespace or a further proxy may change."""


@dataclass(frozen=True, kw_only=True)
class Use:
    """One image of one workload, and what will happen to it."""

    place: Place
    image: Image
    prediction: Prediction

    @property
    def location(self) -> str:
        """File and line, or cluster and workload."""
        if self.place.is_file:
            return f"{self.place.source}:{self.image.line or 1}"
        return f"{self.place.source}: {self.place}"


@dataclass(kw_only=True)
class NamespaceUse:
    """A namespace of a registry, and how much it is used."""

    host: str
    namespace: str | None
    served: bool
    """Whether the stack's proxies have it."""
    proposed: bool = False
    workloads: set[Place] = field(default_factory=set)
    images: set[str] = field(default_factory=set)
    pods: int = 0

    @property
    def name(self) -> str:
        """Host and namespace, as in an image."""
        return f"{self.host}/{self.namespace}" if self.namespace else f"{self.host}/(no namespace)"


@dataclass(kw_only=True)
class ImageUse:
    """An image as written, and what will happen to it where."""

    reference: str
    outcomes: dict[Prediction, list[Use]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Share:
    """How many of all the proxies serve."""

    total: int
    now: int
    after: int
    """With the proposed change."""

    def percent(self, part: int) -> str:
        """A part of the total, as a person reads it."""
        return f"{100 * part / self.total:.0f} %" if self.total else "none"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What an inventory says."""

    stack: Stack
    sources: Mapping[str, int]
    missing: Sequence[Missing]
    uses: Sequence[Use]
    namespaces: Sequence[NamespaceUse]
    """The most used first."""
    images: Sequence[ImageUse]
    """By reference."""
    image_share: Share
    """Of the images that a registry is asked for."""
    container_share: Share
    """Of the containers and image volumes, each of a workload counted once."""
    proposal: Proposal
    mutable: Sequence[str]
    """Images whose tag says no version, and that have no digest: what is pulled may change."""

    @property
    def complete(self) -> bool:
        """Whether all that was asked for could be read."""
        return not self.missing

    def upstream(self, use: Use) -> tuple[str, str | None]:
        """The registry and the namespace of a use's image."""
        return _upstream(parsed(use.image.reference), self.stack)

    @property
    def unserved(self) -> list[Use]:
        """The uses of namespaces that the proxy of their registry does not have."""
        return [each for each in self.uses if each.prediction.outcome is Outcome.NOT_SERVED]


def answer(found: Found, stack: Stack) -> Answer:
    """Put together what was read and what the stack would do."""
    uses = sorted(
        _uses(found, stack),
        key=lambda use: (use.place.source, use.image.line or 0, str(use.place)),
    )
    pulled = [use for use in uses if use.prediction.outcome not in _NOT_PULLED]
    proposal = propose(
        (
            (host_of(reference), namespace_of(reference))
            for reference in (
                parsed(use.image.reference)
                for use in pulled
                if use.prediction.outcome in _COULD_BE_SERVED
            )
        ),
        stack,
    )
    images: dict[str, ImageUse] = {}
    for use in uses:
        image = images.setdefault(use.image.reference, ImageUse(reference=use.image.reference))
        image.outcomes.setdefault(use.prediction, []).append(use)
    return Answer(
        stack=stack,
        sources=dict(found.sources),
        missing=found.missing,
        uses=uses,
        namespaces=_namespaces(pulled, found, stack, proposal),
        images=[images[key] for key in sorted(images)],
        image_share=_image_share(pulled, stack, proposal),
        container_share=_container_share(pulled, stack, proposal),
        proposal=proposal,
        mutable=sorted({use.image.reference for use in pulled if _is_mutable(use)}),
    )


def _uses(found: Found, stack: Stack) -> Iterator[Use]:
    for each in found.workloads:
        place = each.place
        group = None if place.is_file else place.source
        opted_out = (group, place.namespace) in found.opted_out
        for image in each.images:
            prediction = predict(image, each, stack, opted_out=opted_out)
            yield Use(place=place, image=image, prediction=prediction)


def _namespaces(
    pulled: Sequence[Use], found: Found, stack: Stack, proposal: Proposal
) -> list[NamespaceUse]:
    pods = Counter[Place]()
    for each in found.workloads:
        pods[each.place] += each.pods
    uses: dict[tuple[str, str | None], NamespaceUse] = {}
    for use in pulled:
        host, namespace = _upstream(parsed(use.image.reference), stack)
        if (host, namespace) not in uses:
            there = stack.proxy(host)
            uses[host, namespace] = NamespaceUse(
                host=host,
                namespace=namespace,
                served=there is not None and namespace in there.namespaces,
                proposed=namespace in proposal.namespaces.get(host, {}),
            )
        found_use = uses[host, namespace]
        if use.place not in found_use.workloads:
            found_use.workloads.add(use.place)
            found_use.pods += pods[use.place]
        found_use.images.add(use.image.reference)
    return sorted(uses.values(), key=lambda each: (-len(each.workloads), each.name))


def _upstream(reference: Reference, stack: Stack) -> tuple[str, str | None]:
    """The registry and the namespace an image comes from, also where it names the proxy."""
    proxy = next((each for each in stack.proxies if each.domain == reference.domain), None)
    return proxy.host if proxy else host_of(reference), namespace_of(reference)


def _image_share(pulled: Sequence[Use], stack: Stack, proposal: Proposal) -> Share:
    after = stack.with_namespaces(proposal.namespaces)
    images = {parsed(use.image.reference) for use in pulled}
    return Share(
        total=len(images),
        now=sum(of_reference(each, stack).outcome in SERVED for each in images),
        after=sum(of_reference(each, after).outcome in SERVED for each in images),
    )


def _container_share(pulled: Sequence[Use], stack: Stack, proposal: Proposal) -> Share:
    after = stack.with_namespaces(proposal.namespaces)
    now = [use for use in pulled if use.prediction.outcome in SERVED]
    more = [
        use
        for use in pulled
        if use.prediction.outcome in _COULD_BE_SERVED
        and of_reference(parsed(use.image.reference), after).outcome in SERVED
    ]
    return Share(total=len(pulled), now=len(now), after=len(now) + len(more))


def _is_mutable(use: Use) -> bool:
    """Whether the tag says no version: none, or one without a digit."""
    reference = parsed(use.image.reference)
    return reference.digest is None and not any(map(str.isdigit, reference.tag or ""))
