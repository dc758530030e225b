"""Files of Go modules that only tests need."""

from __future__ import annotations

import tempfile
from pathlib import Path

from rehearsal.locations import cache
from rehearsal.parts.build import go_environment, keep, locked
from rehearsal.progress import Progress


def module_files(source: str, name: str, progress: Progress) -> Path:
    """A file or folder of a Go module, `module@version//path`, downloaded once into the cache.

    `name` is what it is kept as. Nothing else of the module stays.

    Raises:
        PartError: when the module or the path in it cannot be had.
    """
    target = cache() / "module-files" / name
    with locked(f"module-files-{name}"):
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
                environment = {**go_environment(progress), "GOMODCACHE": f"{scratch}/modules"}
                partial = Path(scratch) / "kept"
                with progress.step(f"downloading {source}"):
                    keep(source, partial, Path(scratch), environment)
                partial.rename(target)
    return target
