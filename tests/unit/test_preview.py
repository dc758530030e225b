"""`make preview`: what a stack declares, shown with Python packages only."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from rehearsal.locations import CHECKOUT
from rehearsal.preview import IS_NOT, PreviewError, preview, show
from tests.support.configs import STACK_FILES


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the program and no stack file."""
    for each in ("Pulumi.yaml", "__main__.py"):
        (tmp_path / each).symlink_to(CHECKOUT / each)
    return tmp_path


def shown(stack: str, checkout: Path = CHECKOUT) -> str:
    """What is printed for a stack of a checkout."""
    console = Console(file=io.StringIO(), width=120)
    show(stack, preview(checkout, stack), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("stack", sorted(STACK_FILES))
def test_every_stack_of_a_fresh_checkout_is_shown(stack: str, checkout: Path) -> None:
    (checkout / f"Pulumi.{stack}.yaml").symlink_to(STACK_FILES[stack])
    text = shown(stack, checkout)
    assert "cr.Registry dockerhub-registry" in text
    assert "kyverno.io.ClusterPolicy" in text
    assert IS_NOT in text


def test_the_order_is_the_promised_one() -> None:
    found = preview(CHECKOUT, "rehearsal")
    steps = {found.resources[urn].name: step for urn, step in found.steps().items()}
    order = [
        "dockerhub-registry",
        "dockerhub-namespace-library",
        "rehearsal-pull-check-job",
        "rehearsal-kyverno-release",
        "rehearsal-pull-credentials-policy",
        "rehearsal-redirect-policy",
    ]
    assert sorted(order, key=lambda name: steps[name]) == order
    assert len({steps[name] for name in order}) == len(order)


def test_secrets_are_neither_decrypted_nor_shown() -> None:
    text = shown("rehearsal")
    assert "password: [secret]" in text
    assert "Hidden" not in text
    assert "secure" not in text


def test_what_only_an_update_can_know_is_said_to_be_unknown() -> None:
    assert "domain: (known after the first `pulumi up`)" in shown("dev")


def test_a_stack_that_is_not_there_is_an_error_that_names_those_that_are() -> None:
    with pytest.raises(PreviewError, match=r"no stack file Pulumi\.nope\.yaml.*: dev, rehearsal"):
        preview(CHECKOUT, "nope")


def test_settings_that_are_refused_are_said_in_their_own_words(checkout: Path) -> None:
    text = (CHECKOUT / "Pulumi.dev.yaml").read_text().replace("edition: Micro", "edition: Tiny")
    (checkout / "Pulumi.dev.yaml").write_text(text)
    with pytest.raises(PreviewError, match=r"registry\.edition"):
        preview(checkout, "dev")
