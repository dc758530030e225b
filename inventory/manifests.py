"""Directories, files and streams of manifests: YAML of several documents, and JSON."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import deque
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml

from components.policy import OPT_OUT_LABEL, OPT_OUT_VALUE
from inventory.workloads import Found, Missing, Place, Workload, custom_images, workload

STANDARD_INPUT: Final = "-"
_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
SEVERAL: Final = 200
"""From so many files on they are read by several processes."""

_DOCUMENT = re.compile(r"^---(?=\s|$)", re.MULTILINE)
"""Where a document begins: `---` at the start of a line, which nothing inside one can have."""
_DIRECTIVES = re.compile(r"^%.*$", re.MULTILINE)
_KIND = re.compile(r"^kind:[ \t]*[\"']?(\w+)", re.MULTILINE)
_IMAGE_IN_JSON = re.compile(r'"(?:\w*[iI]mage\w*|reference)"\s*:\s*("(?:[^"\\]|\\.)*")')


class Text(str):
    """A value of a manifest that knows the line it is on, from 1."""

    __slots__ = ("line",)
    line: int

    @classmethod
    def at(cls, value: str, line: int) -> Text:
        """The value, on that line."""
        text = cls(value)
        text.line = line
        return text


class _Loader(yaml.CSafeLoader):
    """libyaml's loader, with the line kept of what may be an image and of nothing else."""

    first_line = 1
    """The line of the file that the document begins on."""

    def mapping(self, node: yaml.MappingNode) -> Iterator[dict[Any, Any]]:
        """A mapping, as PyYAML builds it: first empty, so that it may hold itself."""
        mapping: dict[Any, Any] = {}
        yield mapping
        self.flatten_mapping(node)
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    problem="a key is a mapping or a list", problem_mark=key_node.start_mark
                )
            value = self.construct_object(value_node)
            if isinstance(value, str) and isinstance(key, str):
                lower = key.lower()
                if "image" in lower or lower == "reference":
                    value = Text.at(value, self.first_line + value_node.start_mark.line)
            mapping[key] = value


_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.mapping)


def read(
    paths: Iterable[str], *, label_keys: Collection[str], custom_resources: bool = False
) -> Found:
    """Read files, directories with all below them, and `-`, standard input.

    A chart's templates are no manifests: `Missing` says so. A document that cannot be read is
    missing, and the rest of its file is not.

    Raises:
        FileNotFoundError: when one of `paths` is not there.
    """
    found = Found()
    files: list[str] = []
    for path in paths:
        if path == STANDARD_INPUT:
            text = sys.stdin.read()
            found.merge(_read_text("standard input", text, label_keys, custom_resources))
        else:
            files += _files(Path(path), found)
    one = partial(_read_file, label_keys=frozenset(label_keys), custom_resources=custom_resources)
    if len(files) < SEVERAL or (os.cpu_count() or 1) == 1:
        results: Iterable[Found] = map(one, files)
        for each in results:
            found.merge(each)
    else:
        with ProcessPoolExecutor() as pool:
            for each in pool.map(one, files, chunksize=50):
                found.merge(each)
    return found


def _files(path: Path, found: Found) -> list[str]:
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file or directory")
    if path.is_file():
        return [str(path)]
    files: list[str] = []
    for folder, names, inside in os.walk(path):
        names[:] = sorted(name for name in names if not name.startswith("."))
        if "Chart.yaml" in inside and "templates" in names:
            names.remove("templates")
            found.missing.append(
                Missing(
                    source=folder,
                    what="a chart",
                    why=f"it is read as rendered: helm template {folder} | python -m inventory -",
                )
            )
        files += [
            str(Path(folder, name)) for name in sorted(inside) if Path(name).suffix in _SUFFIXES
        ]
    return files


def _read_file(path: str, *, label_keys: Collection[str], custom_resources: bool) -> Found:
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        return Found(missing=[Missing(source=path, what="the file", why=str(error))])
    return _read_text(path, text, label_keys, custom_resources)


def _read_text(
    source: str, text: str, label_keys: Collection[str], custom_resources: bool
) -> Found:
    found = Found()
    found.sources[source] += 0
    for document in _documents(source, text, custom_resources, found):
        for each in _objects(document):
            found.sources[source] += 1
            _take(each, source, label_keys, custom_resources, found)
    return found


def _documents(source: str, text: str, custom_resources: bool, found: Found) -> Iterator[Any]:
    """The documents of a text that may matter."""
    if text.lstrip()[:1] in {"{", "["}:
        try:
            yield _from_json(text)
        except json.JSONDecodeError:
            pass  # a flow mapping in YAML begins so too
        else:
            return
    line, start = 1, 0
    starts = [match.start() for match in _DOCUMENT.finditer(text)]
    for end in [*starts, len(text)]:
        part = text[start:end]
        if _may_matter(part, custom_resources):
            try:
                yield _from_yaml(part if start else _DIRECTIVES.sub("", part), line)
            except (yaml.YAMLError, ValueError, RecursionError) as error:
                found.missing.append(_unreadable(source, line, error))
        line, start = line + part.count("\n"), end


def _may_matter(part: str, custom_resources: bool) -> bool:
    """Whether a document may have an image, or a namespace with the opt-out label.

    By its text, for reading it all costs a hundred times as much.
    """
    if "mage" not in part:
        return OPT_OUT_LABEL in part
    return custom_resources or _KIND.findall(part) != ["CustomResourceDefinition"]


def _from_yaml(part: str, line: int) -> Any:
    loader = _Loader(part)
    loader.first_line = line
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _unreadable(source: str, line: int, error: Exception) -> Missing:
    mark = getattr(error, "problem_mark", None)
    why = getattr(error, "problem", None) or str(error)
    at = line + (mark.line if mark else 0)
    return Missing(source=f"{source}:{at}", what="a document", why=str(why))


def _from_json(text: str) -> Any:
    """A JSON document, with the lines of what may be images."""
    document = json.loads(text)
    lines: dict[str, deque[int]] = {}
    line, start = 1, 0
    for match in _IMAGE_IN_JSON.finditer(text):
        line += text.count("\n", start, match.start(1))
        start = match.start(1)
        lines.setdefault(json.loads(match[1]), deque()).append(line)

    def located(value: Any) -> Any:
        if isinstance(value, dict):
            for key, child in value.items():
                if isinstance(child, str):
                    at = lines.get(child) if "mage" in key or key == "reference" else None
                    if at:
                        value[key] = Text.at(child, at.popleft())
                else:
                    located(child)
        elif isinstance(value, list):
            for child in value:
                located(child)
        return value

    return located(document)


def _objects(document: Any) -> Iterator[Mapping[str, Any]]:
    """The objects of a document: itself, or those of a list."""
    if isinstance(document, list):
        for each in document:
            yield from _objects(each)
    elif isinstance(document, Mapping) and isinstance(document.get("kind"), str):
        items = document.get("items")
        if document["kind"].endswith("List") and isinstance(items, list):
            yield from _objects(items)
        else:
            yield document


def _take(
    document: Mapping[str, Any],
    source: str,
    label_keys: Collection[str],
    custom_resources: bool,
    found: Found,
) -> None:
    metadata = document.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    if document["kind"] == "Namespace":
        labels = metadata.get("labels")
        if isinstance(labels, Mapping) and labels.get(OPT_OUT_LABEL) == OPT_OUT_VALUE:
            found.opted_out.add((None, str(metadata.get("name"))))
        return
    read = workload(document, source, is_file=True, label_keys=label_keys)
    if read is None and custom_resources:
        images = tuple(custom_images(document))
        name = str(metadata.get("name", "(no name)"))
        place = Place(source, True, metadata.get("namespace"), document["kind"], name)
        read = Workload(place, {}, False, images)
    if read is not None and read.images:
        found.workloads.append(read)
