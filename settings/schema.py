"""The JSON schema of `Pulumi.<stack>.yaml`, for editors; `make schema` writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from settings.errors import PROJECT
from settings.model import SECTIONS, Settings

SCHEMA = Path(__file__).with_name("stack.schema.json")


class _Untitled(GenerateJsonSchema):
    """Without titles, which would only be the keys again."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        del schema
        return False


def stack_file_schema() -> dict[str, Any]:
    """The schema of a whole stack file; a key of another project's may hold anything."""
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
