"""docs/api-reference.md, made from the OpenAPI document that the control plane serves. Pure but for that document."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from fanout.control import openapi
from fanout.control.routes import OPERATIONS

_INTRODUCTION: Final = """\
# API reference

<!-- made from the control plane's OpenAPI document: python -m docsite pages -->

Every operation of the control plane, as it describes itself at `/v1/openapi.json` (OpenAPI {openapi}, version
{version}). [The API by example](api.md) shows the way through it.

Calls with a role need `Authorization: Bearer <API key>`. Times are Unix milliseconds by the store's clock where a
name ends in `_ms` or says nothing else. Every error is a [Problem](#problem), `application/problem+json`.
"""
_ATTRIBUTE: Final = re.compile(r"^ +(\w+): (.*(?:\n {9,}.*)*)", re.MULTILINE)


def made() -> str:
    """Return the whole page."""
    document = json.loads(openapi.document(OPERATIONS))
    parts = [_INTRODUCTION.format(openapi=document["openapi"], version=document["info"]["version"])]
    parts.append("## Operations\n")
    for path, item in document["paths"].items():
        parts += [_operation(method, path, operation) for method, operation in item.items()]
    parts.append("## Bodies\n")
    parts += [_schema(name, schema) for name, schema in sorted(document["components"]["schemas"].items())]
    return "\n".join(parts)


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    who = operation.get("description") or (
        "Signed by the caller (`webhook-signature`)." if operation["security"] else "For anybody."
    )
    lines = [f"### {method.upper()} {path}", f"{operation['summary']}. {who}"]
    if parameters := operation["parameters"]:
        rows = [_parameter(each) for each in parameters]
        lines.append(_table(("parameter", "in", "type", "what"), rows))
    if body := operation.get("requestBody"):
        optional = "" if body["required"] else " It may be left out."
        lines.append(f"Body: {_type(body['content']['application/json']['schema'])}.{optional}")
    lines.append("\n".join(_answers(operation["responses"])))
    return "\n\n".join(lines) + "\n"


def _parameter(parameter: dict[str, Any]) -> tuple[str, ...]:
    what = parameter.get("description", "") + _default(parameter["schema"], required=parameter.get("required", False))
    return f"`{parameter['name']}`", parameter["in"], _type(parameter["schema"]), what


def _answers(responses: dict[str, Any]) -> Iterator[str]:
    for status, response in responses.items():
        if status == "default":
            continue
        bodies = [_type(each["schema"]) for each in response.get("content", {}).values() if "schema" in each]
        yield f"- **{status}** {response['description']}" + (f" {bodies[0]}" if bodies else "")


def _schema(name: str, schema: dict[str, Any]) -> str:
    text, notes = _described(schema.get("description", ""))
    lines = [f"### {name}", *([text] if text else [])]
    if "enum" in schema:
        lines.append(_type(schema) + ".")
    required = schema.get("required", [])
    rows = [
        (f"`{field}`", _type(each), _what(each, notes.get(field, ""), field in required))
        for field, each in schema.get("properties", {}).items()
    ]
    if rows:
        lines.append(_table(("field", "type", "what"), rows))
    return "\n\n".join(lines) + "\n"


def _described(text: str) -> tuple[str, dict[str, str]]:
    """Return a docstring's text, and what it says of each field."""
    text, _, attributes = text.partition("Attributes:")
    notes = {name: _prose(note) for name, note in _ATTRIBUTE.findall(attributes)}
    return _prose(text), notes


def _prose(text: str) -> str:
    # Docstrings mark code as reStructuredText does.
    return " ".join(text.replace("``", "`").split())


def _what(schema: dict[str, Any], note: str, required: bool) -> str:
    inner = _prose(_without_null(schema).get("description", ""))
    return " ".join(filter(None, (note, inner if inner != note else ""))) + _default(schema, required=required)


def _default(schema: dict[str, Any], *, required: bool) -> str:
    if required or schema.get("default") is None:
        return "" if required else " May be left out."
    return f" Default: `{json.dumps(schema['default'], ensure_ascii=False)}`."


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    others = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    return {**others[0], **{k: v for k, v in schema.items() if k != "anyOf"}} if len(others) == 1 else schema


def _type(schema: dict[str, Any]) -> str:
    """Return a schema in a few words: its type, and every bound it has."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}" if "items" in schema else "list"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    return str(schema.get("type", "anything")) + "".join(f", {bound}" for bound in _bounds(schema))


def _bounds(schema: dict[str, Any]) -> Iterator[str]:
    if "minLength" in schema and "maxLength" in schema:
        yield f"{schema['minLength']} to {schema['maxLength']} characters"
        schema = {name: value for name, value in schema.items() if name not in ("minLength", "maxLength")}
    words = {
        "minimum": "at least {}",
        "exclusiveMinimum": "more than {}",
        "maximum": "at most {}",
        "exclusiveMaximum": "less than {}",
        "minLength": "{} characters or more",
        "maxLength": "at most {} characters",
        "pattern": "`{}`",
    }
    for name, text in words.items():
        if name in schema:
            yield text.format(schema[name])


def _table(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    cells = [titles, tuple("---" for _ in titles), *rows]
    return "\n".join("| " + " | ".join(cell.strip().replace("|", "\\|") for cell in row) + " |" for row in cells)
