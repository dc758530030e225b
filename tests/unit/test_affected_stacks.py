"""Which stacks a pull request previews."""

from __future__ import annotations

import pytest

from scripts.affected_stacks import affected

STACKS = ["dev", "prod-cn-beijing", "rehearsal"]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        pytest.param(["README.md", "tests/unit/x.py"], [], id="nothing-deployed"),
        pytest.param(["Pulumi.dev.yaml"], ["dev"], id="one-stack-file"),
        pytest.param(["settings/reader.py"], ["dev", "prod-cn-beijing"], id="the-program"),
        pytest.param(["policies/image-redirect/x.yaml"], ["dev", "prod-cn-beijing"], id="a-policy"),
        pytest.param(["nodes/node-mirror.sh"], ["dev", "prod-cn-beijing"], id="the-nodes'-script"),
        pytest.param(["settings/rules.py"], ["dev", "prod-cn-beijing"], id="a-rule"),
        pytest.param(["Pulumi.rehearsal.yaml"], [], id="the-rehearsal-is-never-previewed"),
        pytest.param(["Pulumi.gone.yaml"], [], id="a-stack-file-taken-away"),
    ],
)
def test_only_the_stacks_a_change_affects_are_previewed(
    changed: list[str], expected: list[str]
) -> None:
    assert affected(changed, STACKS) == expected
