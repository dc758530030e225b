"""For programs: everything the answer has."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from inventory.answer import Answer, Share
from inventory.formats import words


def write(answer: Answer) -> str:
    """The answer as one JSON object."""
    return json.dumps(document(answer), ensure_ascii=False) + "\n"


def document(answer: Answer) -> dict[str, Any]:
    """The answer in JSON's types, names in camelCase."""
    return {
        "stack": answer.stack.name,
        "complete": answer.complete,
        "sources": dict(answer.sources),
        "missing": [asdict(each) for each in answer.missing],
        "images": _share(answer.image_share),
        "containers": _share(answer.container_share),
        "namespaces": [
            {
                "host": each.host,
                "namespace": each.namespace,
                "served": each.served,
                "proposed": each.proposed,
                "workloads": len(each.workloads),
                "pods": each.pods,
                "images": sorted(each.images),
            }
            for each in answer.namespaces
        ],
        "uses": [
            {
                "image": use.image.reference,
                "outcome": use.prediction.outcome.value,
                "to": use.prediction.to,
                "why": words.what_happens(use.prediction),
                "source": use.place.source,
                "line": use.image.line,
                "namespace": use.place.namespace,
                "kind": use.place.kind,
                "name": use.place.name,
                "container": use.image.container,
            }
            for use in answer.uses
        ],
        "mutableTags": list(answer.mutable),
        "proposal": {
            "namespaces": {
                host: {name: access.value for name, access in names.items()}
                for host, names in answer.proposal.namespaces.items()
            },
            "yaml": answer.proposal.yaml,
            "notes": list(answer.proposal.notes),
        },
    }


def _share(share: Share) -> dict[str, int]:
    return {"total": share.total, "servedNow": share.now, "servedAfter": share.after}
