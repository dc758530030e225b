"""Which stacks a change affects: changed paths on standard input → a JSON list on standard output.

A stack is affected when its own file changes, and every stack when the program, its policies or
its pinned packages do. The rehearsal's stack has no cloud account to preview in.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

PROGRAM = ("Pulumi.yaml", "__main__.py", "requirements.txt")
FOLDERS = ("settings/", "components/", "policies/", "nodes/")
NOT_PREVIEWED = {"rehearsal"}


def affected(changed: Iterable[str], stacks: Iterable[str]) -> list[str]:
    """The stacks, of those there are, that these changed paths affect."""
    paths = set(changed)
    known = sorted(set(stacks) - NOT_PREVIEWED)
    if any(path in PROGRAM or path.startswith(FOLDERS) for path in paths):
        return known
    return [stack for stack in known if f"Pulumi.{stack}.yaml" in paths]


def main() -> None:
    """Print the affected stacks of this checkout."""
    root = Path(__file__).resolve().parent.parent
    stacks = [
        each.name.removeprefix("Pulumi.").removesuffix(".yaml")
        for each in root.glob("Pulumi.*.yaml")
    ]
    changed = (line.strip() for line in sys.stdin)
    sys.stdout.write(json.dumps(affected(changed, stacks)) + "\n")


if __name__ == "__main__":
    main()
