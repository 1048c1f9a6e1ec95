"""The policy language as a JSON Schema, for editors that complete and check YAML while it is written."""

from __future__ import annotations

import json
from typing import Any

from overcommit.policy.schema import PolicyFile

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def document() -> dict[str, Any]:
    """The schema of a whole policy file, in the words that the file uses: ``8%``, not 0.08."""
    schema = _tidied(PolicyFile.model_json_schema())
    return {"$schema": _DIALECT, "title": "overcommit policy", **schema}


def dumps() -> str:
    """The schema as text."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


def _tidied(schema: Any) -> Any:
    """Without the titles that pydantic makes of names, and with descriptions in one line."""
    match schema:
        case dict():
            kept = {key: value for key, value in schema.items() if not _is_title(key, value)}
            return {key: _described(key, _tidied(value)) for key, value in kept.items()}
        case list():
            return [_tidied(item) for item in schema]
        case scalar:
            return scalar


def _is_title(key: str, value: Any) -> bool:
    return key == "title" and isinstance(value, str)


def _described(key: str, value: Any) -> Any:
    return " ".join(value.split()) if key == "description" and isinstance(value, str) else value
