"""`python -m inventory`: what images are used, and what a stack would do about them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Console

from inventory import access, clusters, manifests
from inventory.answer import Answer, answer
from inventory.formats import json_format, markdown, page, table, words
from inventory.stack import Stack, load_stack, no_stack
from inventory.workloads import Found
from settings import SettingsError

UNSERVED = 1
"""Exit status of `--check` where a namespace is used that is not served."""
PARTIAL = 3
"""Exit status where not all that was asked for could be read. (2 is a wrong command line.)"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Format(StrEnum):
    """How the answer is written."""

    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"
    HTML = "html"


@app.command()
def inventory(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files and directories of manifests; '-' is standard input, for example of"
            " `helm template`. Without any, a cluster is read.",
            show_default=False,
        ),
    ] = None,
    context: Annotated[
        list[str] | None,
        typer.Option(help="A context of the kubeconfig to read; may be repeated."),
    ] = None,
    all_contexts: Annotated[bool, typer.Option(help="Read every context.")] = False,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="In place of KUBECONFIG and ~/.kube/config.")
    ] = None,
    namespace: Annotated[
        list[str] | None,
        typer.Option(help="Read only this Kubernetes namespace; may be repeated."),
    ] = None,
    stack: Annotated[
        str | None, typer.Option(help="Compare with what this stack serves: Pulumi.<stack>.yaml.")
    ] = None,
    crds: Annotated[
        bool, typer.Option("--crds", help="Custom resources too: whatever a key calls an image.")
    ] = False,
    output: Annotated[
        Format, typer.Option("--format", help="How to write the answer.")
    ] = Format.TABLE,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Say only what is not served, by file and line; exit 1 if anything is."
        ),
    ] = False,
    rbac: Annotated[
        bool, typer.Option("--rbac", help="Print the ClusterRole that reading a cluster needs.")
    ] = False,
) -> None:
    """What images clusters and manifests use, and what the stack would do about each.

    Exit status: 0, 1 (--check: a namespace is not served), 2 (wrong command line), 3 (something
    could not be read: the answer is partial and says what is missing).
    """
    if rbac:
        typer.echo(access.role(custom_resources=crds), nl=False)
        return
    if check and stack is None:
        raise typer.BadParameter("give --stack too: it says what is served", param_hint="--check")
    known = _stack(stack)
    try:
        found = _read(
            paths or [],
            context or [],
            all_contexts,
            kubeconfig,
            known,
            crds,
            tuple(namespace or ()),
        )
    except (FileNotFoundError, clusters.ContextError) as error:
        raise typer.BadParameter(str(error)) from None
    said = answer(found, known)
    if check:
        _check(said)
    else:
        _write(said, output)
    if check and said.unserved:
        raise typer.Exit(UNSERVED)
    if not said.complete:
        raise typer.Exit(PARTIAL)


def _stack(name: str | None) -> Stack:
    if name is None:
        return no_stack()
    try:
        return load_stack(name)
    except (OSError, yaml.YAMLError, SettingsError) as error:
        raise typer.BadParameter(str(error), param_hint="--stack") from None


def _read(
    paths: list[str],
    names: list[str],
    all_contexts: bool,
    kubeconfig: Path | None,
    stack: Stack,
    crds: bool,
    namespaces: tuple[str, ...],
) -> Found:
    """Read all that was asked for; the current context where nothing was."""
    found = manifests.read(paths, label_keys=stack.label_keys, custom_resources=crds)
    if names or all_contexts or not paths:
        there, current = clusters.contexts(kubeconfig)
        for each in there if all_contexts else names or [current]:
            reading = clusters.Reading(
                label_keys=stack.label_keys, namespaces=namespaces, custom_resources=crds
            )
            found.merge(clusters.read(each, kubeconfig, reading))
    return found


def _check(said: Answer) -> None:
    for use in said.unserved:
        typer.echo(f"{use.location}: {words.to_add(use, said)}")
    for each in said.missing:
        typer.echo(f"not read: {each.source}: {each.what}: {each.why}", err=True)


def _write(said: Answer, output: Format) -> None:
    if output is Format.TABLE:
        table.write(said, Console())
    else:
        write = {Format.JSON: json_format.write, Format.MARKDOWN: markdown.write}
        typer.echo(write.get(output, page.write)(said), nl=False)
        for each in said.missing:
            typer.echo(f"not read: {each.source}: {each.what}: {each.why}", err=True)
