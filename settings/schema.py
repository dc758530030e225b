"""The JSON schema of `Pulumi.<stack>.yaml`, for editors; `make schema` writes it."""

from __future__ import annotations

import ast
import inspect
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from settings import model as settings_model
from settings.errors import PROJECT
from settings.model import SECTIONS, Section, Settings

SCHEMA = Path(__file__).with_name("stack.schema.json")


class _Untitled(GenerateJsonSchema):
    """Without titles, which would only be the keys again."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        del schema
        return False


def _docstrings(source: str) -> dict[str, dict[str, str]]:
    """The docstrings below the fields of each class."""
    return {
        node.name: {
            field.target.id: inspect.cleandoc(str(text.value.value))
            for field, text in pairwise(node.body)
            if isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        }
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef)
    }


_DESCRIPTIONS = _docstrings(inspect.getsource(settings_model))
"""By class and field. Only the schema needs them: read by pydantic they cost every preview."""


def _describe_fields() -> None:
    for name in _DESCRIPTIONS:
        section = getattr(settings_model, name)
        if issubclass(section, Section):
            for each in reversed(section.__mro__):
                for field, description in _DESCRIPTIONS.get(each.__name__, {}).items():
                    section.model_fields[field].description = description
            section.model_rebuild(force=True)


def stack_file_schema() -> dict[str, Any]:
    """The schema of a whole stack file; a key of another project's may hold anything."""
    _describe_fields()
    model = Settings.model_json_schema(schema_generator=_Untitled)
    key = {each: f"{PROJECT}:{each}" for each in SECTIONS}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": f"Pulumi.<stack>.yaml of {PROJECT}",
        "type": "object",
        "properties": {
            "config": {
                "type": "object",
                "properties": {
                    key.get(name, name): each for name, each in model["properties"].items()
                },
                "required": [key.get(name, name) for name in model["required"]],
                "patternProperties": {f"^{PROJECT}:(?!({'|'.join(SECTIONS)})$)": False},
            }
        },
        "required": ["config"],
        "$defs": model["$defs"],
    }


def text() -> str:
    """The schema as the file has it."""
    return json.dumps(stack_file_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(text(), encoding="utf-8")
