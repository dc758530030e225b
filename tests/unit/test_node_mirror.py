"""NodeMirror under mocks: what it registers, what Pods may do, and where the login is not."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path
from typing import Any

import pulumi
import pytest

from components import PACKAGE
from components.node_mirror import SCRIPT, NodeMirror, NodeMirrorArgs
from rehearsal.engine.embedded import plain
from tests.unit.recorder import Cloud, Monitor, Recording

DAEMON_SET = "kubernetes:apps/v1:DaemonSet"
SECRET = "kubernetes:core/v1:Secret"
ROLE = "kubernetes:rbac.authorization.k8s.io/v1:Role"
PASSWORD = "login-password-1"
ENCODED = base64.b64encode(f"user@1:{PASSWORD}".encode()).decode()
IMAGE = "hub.example/library/busybox:1.37"


def declare(*, private: bool = True, preview: bool = False, **args: Any) -> Recording:
    """Declare one NodeMirror under mocks."""
    login = {"username": "user@1", "password": pulumi.Output.secret(PASSWORD)} if private else {}

    async def program() -> None:
        mirror = NodeMirror(
            "apps", NodeMirrorArgs(domain="hub.example", image=IMAGE, **login, **args)
        )
        pulumi.export("daemon_set", mirror.daemon_set)
        pulumi.export("node_pool_script", mirror.node_pool_script)

    mocks = Cloud(unknown=preview)
    monitor = Monitor(mocks)
    return run_under(monitor, mocks, program, preview=preview)


def run_under(monitor: Monitor, mocks: Cloud, program: Any, *, preview: bool) -> Recording:
    from pulumi.runtime import mocks as pulumi_mocks
    from pulumi.runtime.stack import wait_for_rpcs

    pulumi_mocks.set_mocks(mocks, "test", "test", preview=preview, monitor=monitor)
    import asyncio

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(
            pulumi.runtime.run_pulumi_func(lambda: asyncio.ensure_future(program()))
        )
        del wait_for_rpcs
    finally:
        loop.close()
    return monitor.recording
