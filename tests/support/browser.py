"""A browser without a window, for the pages and pictures the project has."""

from __future__ import annotations

import hashlib
import html
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rehearsal.locations import cache
from rehearsal.parts import debian
from rehearsal.progress import Progress
from tests.support.machine import need

_ON_PATH = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
_PACKAGE = "chromium-headless-shell"
_FONTS = ("fonts-dejavu-core", "fonts-liberation")
"""DejaVu Sans, the widest of the common ones, and Liberation Sans, as wide as Arial."""
_RESULT = re.compile(r'<pre id="browser-result">(.*?)</pre>', re.DOTALL)
_TIMEOUT_SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class Browser:
    """Chromium, started for each call; it reaches no network."""

    program: Path
    folder: Path
    """For its profile and the pages it opens."""
    environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def obtain(cls, folder: Path) -> Browser:
        """The Chromium on PATH, or Debian's, unpacked into the cache; with two common fonts.

        Raises:
            PackageError: when it or the fonts cannot be had.
        """
        fonts = debian.unpacked(_FONTS, Progress())
        configuration = folder / "fonts.conf"
        configuration.write_text(
            '<fontconfig><include ignore_missing="yes">/etc/fonts/fonts.conf</include>'
            + "".join(f"<dir>{each}</dir>" for each in fonts.values())
            + f"<cachedir>{folder}</cachedir></fontconfig>"
        )
        environment = {"FONTCONFIG_FILE": str(configuration)}
        for name in _ON_PATH:
            if found := shutil.which(name):
                return cls(program=Path(found), folder=folder, environment=environment)
        root = _unpacked_with_dependencies(_PACKAGE, Progress())
        libraries = [*root.glob("lib/*-linux-gnu"), *root.glob("usr/lib/*-linux-gnu")]
        libraries += [each / "pulseaudio" for each in libraries]
        environment["LD_LIBRARY_PATH"] = ":".join(map(str, libraries))
        program = root / "usr/lib/chromium" / _PACKAGE
        return cls(program=program, folder=folder, environment=environment)

    def evaluate(self, page: str, expression: str) -> Any:
        """The JSON value of a JavaScript expression in an HTML page that has been loaded.

        Raises:
            AssertionError: with the text of the error, when the expression throws one.
        """
        script = (
            "<script>window.addEventListener('load', async () => {"
            "  let result; try {"
            f"    result = {{value: await ({expression})}} }}"
            "  catch (error) { result = {error: String(error)} }"
            "  const pre = document.createElement('pre'); pre.id = 'browser-result';"
            "  pre.textContent = JSON.stringify(result); document.body.append(pre) })</script>"
        )
        dom = self._run("--dump-dom", self._file(page + script))
        found = _RESULT.search(dom)
        assert found, f"the page has no result:\n{dom[:2000]}"
        result = json.loads(html.unescape(found[1]))
        assert "error" not in result, result["error"]
        return result.get("value")

    def _file(self, page: str) -> str:
        file = self.folder / "page.html"
        file.write_text(page, encoding="utf-8")
        return file.as_uri()

    def _run(self, *arguments: str) -> str:
        command = [
            str(self.program), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND",
            "--virtual-time-budget=10000", f"--user-data-dir={self.folder / 'profile'}", *arguments,
        ]  # fmt: skip
        done = subprocess.run(
            command,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def _unpacked_with_dependencies(name: str, progress: Progress) -> Path:
    """One folder with the files of a package and of all it needs that is not installed.

    Raises PackageError.
    """
    listing = debian.offered("install", "--no-install-recommends", name)
    files = sorted(match[1] for match in re.finditer(r"^'[^']+' (\S+) ", listing, re.MULTILINE))
    digest = hashlib.sha256("\n".join(files).encode()).hexdigest()
    folder = cache() / "parts" / f"debian-{name}-and-dependencies-{digest[:16]}"
    if not folder.is_dir():
        with progress.step(f"fetching Debian's {name} and what it needs"):
            debian.fetch([each.partition("_")[0] for each in files], folder)
    return folder


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    """Chromium; the test is skipped where it cannot be had."""
    folder = tmp_path_factory.mktemp("browser")
    try:
        return Browser.obtain(folder)
    except debian.PackageError as error:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            need(f"no Chromium, {error}")
    subprocess.run(["apt-get", "-qq", "update"], check=False)  # a fresh machine has no lists
    return Browser.obtain(folder)
