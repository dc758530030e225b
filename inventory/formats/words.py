"""What every format says in the same words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from components.types import DOCKER_HUB
from inventory.answer import Answer, ImageUse, NamespaceUse, Share, Use
from inventory.prediction import WHY, Outcome, Prediction

EXAMPLES = 3
"""How many examples are shown of a thing."""


def summary(answer: Answer) -> list[str]:
    """The answer in a few sentences."""
    sources = len(answer.sources)
    read = f"{sum(answer.sources.values())} objects of {count(sources, 'source')}"
    workloads = len({use.place for use in answer.uses})
    name = f"stack {answer.stack.name}" if answer.stack.name else "no stack yet"
    used = f"{count(len(answer.images), 'image')} in {count(workloads, 'workload')}"
    lines = [
        f"Read {read}: {used}; {name}.",
        f"The proxies serve {_share(answer.image_share, 'images')}.",
        f"From a proxy come {_share(answer.container_share, 'containers and image volumes')}.",
    ]
    if answer.stack.name and not answer.stack.redirects:
        lines.append(
            "No cluster of this stack redirects at admission: what is called redirected here is"
            " what the proxies can serve by another way."
        )
    return lines


def _share(share: Share, what: str) -> str:
    return (
        f"{share.now} of {share.total} {what} ({share.percent(share.now)}),"
        f" {share.after} ({share.percent(share.after)}) after the proposed change"
    )


def count(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def state(namespace: NamespaceUse) -> str:
    """Whether a namespace is served."""
    if namespace.served:
        return "served"
    return "missing: to add" if namespace.proposed else "not served"


def examples(words: Iterable[str], shown: int = EXAMPLES) -> str:
    """The first of them, and how many more there are."""
    all_words = sorted(words)
    rest = len(all_words) - shown
    return ", ".join(all_words[:shown]) + (f" and {rest} more" if rest > 0 else "")


def what_happens(prediction: Prediction) -> str:
    """What will happen to an image, in a line."""
    if prediction.outcome is Outcome.REDIRECTED:
        return f"→ {prediction.to}"
    detail = f" ({prediction.detail})" if prediction.detail else ""
    return WHY[prediction.outcome] + detail


def fates(image: ImageUse) -> Sequence[tuple[Prediction, list[Use]]]:
    """What happens to an image, the most frequent first."""
    return sorted(image.outcomes.items(), key=lambda each: -len(each[1]))


def where(uses: Sequence[Use]) -> str:
    """Where an image is used."""
    return examples({use.location for use in uses}, 2)


def to_add(use: Use, answer: Answer) -> str:
    """What to do about an image of a namespace that is not served."""
    host, namespace = answer.upstream(use)
    setting = "registry.namespaces" if host == DOCKER_HUB else f"upstreams[{host}].namespaces"
    return (
        f"{use.image.reference} is of {host}/{namespace}, which is not served:"
        f" add {namespace} to {setting}"
    )
