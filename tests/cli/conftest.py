"""The rehearsal's stack under the Pulumi CLI and its plugins, shared by all tests of this folder.

The CLI comes from Pulumi, not from a package registry: where it is not on PATH these tests are left
out, and the report's header says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from pulumi import automation

from rehearsal.deploy.stack import STACK, cli_stack
from rehearsal.locations import CHECKOUT
from rehearsal.stage import Run
from tests.support.rehearsals import rehearsal, run_of

collect_ignore_glob = [] if shutil.which("pulumi") else ["test_*.py"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One operation's outcome."""

    done: tuple[tuple[str, str], ...]
    """What was done, such as `create`, and to which resource, in the order it was over."""
    changes: Mapping[str, int]
    """How many resources there were of each operation, `same` included."""

    def names(self, operation: str) -> list[str]:
        """The resources this was done to, in the order it was over."""
        return [name for what, name in self.done if what == operation]


@dataclass(frozen=True, kw_only=True)
class Cli:
    """The stack of the rehearsal, with a stack file of its own that tests may change."""

    run: Run
    stack: automation.Stack
    config_file: Path
    first: dict[str, Step] = field(default_factory=dict)
    """The outcomes of the preview from nothing and of the first update."""

    def preview(self) -> Step:
        """`pulumi preview`."""
        return self._seen(self.stack.preview)

    def up(self) -> Step:
        """`pulumi up`."""
        return self._seen(self.stack.up)

    def refresh(self) -> Step:
        """`pulumi refresh`."""
        return self._seen(self.stack.refresh)

    def destroy(self) -> Step:
        """`pulumi destroy`."""
        return self._seen(self.stack.destroy)

    def _seen(self, operation: Callable[..., Any]) -> Step:
        seen = _Seen()
        operation(config_file=str(self.config_file), on_event=seen)
        return seen.step()

    def set(self, path: str, value: str, *, secret: bool = False) -> None:
        """`pulumi config set --path`; the value goes by standard input."""
        subprocess.run(
            [
                *("pulumi", "config", "set", "--path", f"vke-dockerhub-proxy:{path}"),
                *("--stack", STACK, "--config-file", str(self.config_file)),
                "--secret" if secret else "--plaintext",
            ],
            cwd=CHECKOUT,
            env={**os.environ, **self.run.environment()},
            input=value,
            text=True,
            check=True,
            capture_output=True,
        )

    def put_back(self) -> None:
        """Make the stack file the rehearsal's again."""
        shutil.copyfile(CHECKOUT / f"Pulumi.{STACK}.yaml", self.config_file)

    def setting(self, name: str) -> Any:
        """A setting of the stack file."""
        return yaml.safe_load(self.config_file.read_text())["config"][f"vke-dockerhub-proxy:{name}"]


class _Seen:
    """The events of an operation."""

    def __init__(self) -> None:
        self._done: list[tuple[str, str]] = []
        self._changes: Mapping[str, int] = {}

    def __call__(self, event: automation.EngineEvent) -> None:
        if event.res_outputs_event is not None:
            over = event.res_outputs_event.metadata
            self._done.append((str(over.op.value), over.urn.rpartition("::")[2]))
        if event.summary_event is not None:
            self._changes = {
                str(getattr(each, "value", each)): count
                for each, count in event.summary_event.resource_changes.items()
            }

    def step(self) -> Step:
        return Step(done=tuple(self._done), changes=self._changes)


@pytest.fixture(scope="package")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A stage with the stack on it, previewed from nothing and created by the CLI."""
    run = run_of(rehearsal("up", "--no-node"))
    cli = Cli(
        run=run,
        stack=cli_stack(run),
        config_file=tmp_path_factory.mktemp("stack") / f"Pulumi.{STACK}.yaml",
    )
    cli.put_back()
    cli.first["preview"] = cli.preview()
    cli.first["up"] = cli.up()
    yield cli
    rehearsal("down", folder=run.folder)
