"""The services of a real node and what manages them, as systemd would.

A service that ends is started again a second later. `systemctl restart <service>` works in the
node, and in a Pod that has changed its root to the node's: it is this module, and asks the manager
by a socket. `systemctl stop <service>` is for a service that has crashed for good: it is killed.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

FOLDER = Path("/run/real-node")
"""What is a node's own, in the node."""
SOCKET = FOLDER / "manager.sock"
ENVIRONMENT = FOLDER / "environment"
"""What `systemctl show -p Environment` says of every service; without the file, nothing."""
_RESTART_SECONDS = 1.0
_ANSWER_SECONDS = 30.0
_SYSTEMCTL = """\
#!/bin/sh
if [ "$1" = show ]; then
  [ "$3" != Environment ] || cat {environment} 2>/dev/null
  exit 0
fi
exec {python} -I -S {module} "$@"
"""


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
        self._stopped: set[str] = set()
        self._changed = threading.Condition()

    def run(self) -> None:
        """Start all services, and reap and restart until this process is ended."""
        for name in self._commands:
            self._start(name)
        threading.Thread(target=self._answer, daemon=True).start()
        while True:
            try:
                ended, _ = os.wait()
            except ChildProcessError:
                with self._changed:
                    self._changed.wait_for(lambda: self._running)
                continue
            with self._changed:
                for name in [name for name, pid in self._running.items() if pid == ended]:
                    del self._running[name]
                    self._changed.notify_all()
                    if name not in self._stopped:
                        self._note(name, f"{name} ended and is started again")
                        threading.Timer(_RESTART_SECONDS, self._start, [name]).start()

    def _start(self, name: str) -> None:
        """Start a service unless it runs, or was stopped since."""
        with self._changed:
            if name in self._running or name in self._stopped:
                return
            command = self._commands[name]
            self._running[name] = os.posix_spawn(
                command[0],
                list(command),
                self._environment,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, self._logs[name], 1),
                    (os.POSIX_SPAWN_DUP2, self._logs[name], 2),
                ],
                setsid=True,
            )
            self._changed.notify_all()

    def _stop(self, name: str, number: signal.Signals) -> None:
        """End a service by a signal, wait until it has ended, and leave it so."""
        with self._changed:
            self._stopped.add(name)
            if name in self._running:
                os.kill(self._running[name], number)
                self._changed.wait_for(lambda: name not in self._running, _ANSWER_SECONDS)

    def _answer(self) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(SOCKET))
            server.listen()
            while True:
                asking, _ = server.accept()
                with asking:
                    verb, _, name = asking.recv(256).decode().partition(" ")
                    name = name.removesuffix(".service")
                    if verb in ("restart", "stop") and name in self._commands:
                        self._note(name, f"systemctl {verb} {name}")
                        again = verb == "restart"
                        self._stop(name, signal.SIGTERM if again else signal.SIGKILL)
                        if again:
                            self._stopped.discard(name)
                            self._start(name)
                        asking.sendall(b"ok")
                    else:
                        asking.sendall(f"this node has no `{verb} {name}`".encode())

    def _note(self, name: str, text: str) -> None:
        os.write(self._logs[name], f"{text}\n".encode())


def ask(words: Sequence[str], root: Path = Path("/")) -> str | None:
    """Ask the manager of the node with this root; None if it has done it, else why not."""
    with socket.socket(socket.AF_UNIX) as manager:
        manager.connect(str(root / SOCKET.relative_to("/")))
        manager.sendall(" ".join(words).encode())
        manager.shutdown(socket.SHUT_WR)
        said = manager.recv(4096).decode()
    return None if said == "ok" else said or "the manager did not answer"


def write_systemctl(path: Path) -> None:
    """Write the program `systemctl` of a node."""
    path.unlink(missing_ok=True)
    module = Path(__file__).resolve()
    path.write_text(
        _SYSTEMCTL.format(environment=ENVIRONMENT, python=sys.executable, module=module)
    )
    path.chmod(0o755)


if __name__ == "__main__":
    sys.exit(ask(sys.argv[1:]))
