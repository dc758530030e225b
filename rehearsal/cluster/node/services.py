"""The services of a real node and what manages them, as systemd would.

A service that ends is started again a second later. `systemctl restart <service>` works in the
node, and in a Pod that has changed its root to the node's: it is this module, and asks the manager
by a socket.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

SOCKET = "/run/real-node/manager.sock"
_RESTART_SECONDS = 1.0
_ANSWER_SECONDS = 30.0


class Manager:
    """Runs services as children of this process, which is the first of its PID namespace."""

    def __init__(
        self,
        commands: Mapping[str, Sequence[str]],
        environment: Mapping[str, str],
        logs: Mapping[str, int],
    ) -> None:
        self._commands = commands
        self._environment = environment
        self._logs = logs
        self._running: dict[str, int] = {}
        self._asked: set[str] = set()
        self._changed = threading.Condition()

    def run(self) -> None:
        """Start all services, and reap and restart until this process is ended."""
        for name in self._commands:
            self._start(name)
        threading.Thread(target=self._answer, daemon=True).start()
        while True:
            ended, _ = os.wait()
            for name in [name for name, pid in self._running.items() if pid == ended]:
                os.write(self._logs[name], f"{name} ended and is started again\n".encode())
                if name not in self._asked:
                    time.sleep(_RESTART_SECONDS)
                self._start(name)

    def _start(self, name: str) -> None:
        command = self._commands[name]
        with self._changed:
            self._asked.discard(name)
            self._running[name] = os.posix_spawn(
                command[0],
                list(command),
                {**os.environ, **self._environment},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, self._logs[name], 1),
                    (os.POSIX_SPAWN_DUP2, self._logs[name], 2),
                ],
                setsid=True,
            )
            self._changed.notify_all()

    def _restart(self, name: str) -> None:
        """End a service and wait until it is started again."""
        with self._changed:
            before = self._running[name]
            self._asked.add(name)
            os.kill(before, signal.SIGTERM)
            self._changed.wait_for(lambda: self._running[name] != before, _ANSWER_SECONDS)

    def _answer(self) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(SOCKET)
            server.listen()
            while True:
                asking, _ = server.accept()
                with asking:
                    verb, _, name = asking.recv(256).decode().partition(" ")
                    name = name.removesuffix(".service")
                    if verb == "restart" and name in self._commands:
                        self._restart(name)
                        asking.sendall(b"ok")
                    else:
                        asking.sendall(f"this node has no `{verb} {name}`".encode())


def ask(words: Sequence[str]) -> str | None:
    """Ask the manager; None if it has done it, else why not."""
    with socket.socket(socket.AF_UNIX) as manager:
        manager.connect(SOCKET)
        manager.sendall(" ".join(words).encode())
        manager.shutdown(socket.SHUT_WR)
        said = manager.recv(4096).decode()
    return None if said == "ok" else said or "the manager did not answer"


def write_systemctl(path: Path) -> None:
    """Write the program `systemctl` of a node."""
    path.unlink(missing_ok=True)
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -I {Path(__file__).resolve()} "$@"\n')
    path.chmod(0o755)


if __name__ == "__main__":
    sys.exit(ask(sys.argv[1:]))
