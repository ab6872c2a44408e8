"""The OpenAPI document, made from the route table and the structs. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fanout import __version__, limits
from fanout.roles import Role

if TYPE_CHECKING:
    from fanout.control.routes import Operation

_REF: Final = "#/components/schemas/{name}"
_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "description": "RFC 9457. Further members depend on the type.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "examples": ["urn:fanout:problem:gate"]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What was sent, what is allowed, what to do."},
    },
    "additionalProperties": True,
}
_PATH_PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "id": {"type": "string", "maxLength": limits.NAME_CHARS_MAX},
    "rev": {"type": "integer"},
    "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
}
_IDEMPOTENCY_KEY: Final[dict[str, Any]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Repeating a request with its key gives its first answer. Made for you if left out.",
    "schema": {"type": "string", "minLength": 1, "maxLength": limits.KEY_CHARS_MAX, "pattern": "^[!-~]+$"},
}
_IF_MATCH: Final[dict[str, Any]] = {
    "name": "If-Match",
    "in": "header",
    "description": "ETag of the campaign you have seen; 412 if it has changed since.",
    "schema": {"type": "string"},
}
_IF_NONE_MATCH: Final[dict[str, Any]] = {
    "name": "If-None-Match",
    "in": "header",
    "schema": {"type": "string"},
}


def document(operations: Iterable[Operation]) -> bytes:
    """Return the document as JSON bytes."""
    operations = list(operations)
    structs = {kind for o in operations for kind in (o.body, o.answer) if kind is not None}
    # Sorted, so that the document is the same at every start.
    ordered = sorted(structs, key=lambda kind: kind.__name__)
    _, schemas = msgspec.json.schema_components(ordered, ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        item = paths.setdefault(operation.path, {})
        item[operation.method.lower()] = _operation(operation)
        if operation.name == "bundle":
            item["head"] = _operation(operation, head=True)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "fanout control plane",
                "version": __version__,
                "description": "Campaigns in two phases: prefetch, then activate. Times are Unix milliseconds "
                "by the store's clock.",
            },
            "paths": paths,
            "components": {
                "schemas": {**schemas, "Problem": _PROBLEM},
                "securitySchemes": {
                    "apiKey": {"type": "http", "scheme": "bearer"},
                    "webhook": {"type": "apiKey", "in": "header", "name": "webhook-signature"},
                },
            },
        }
    )


def _operation(operation: Operation, *, head: bool = False) -> dict[str, Any]:
    result: dict[str, Any] = {
        "operationId": operation.name + ("Head" if head else ""),
        "summary": operation.summary,
        "parameters": _parameters(operation),
        "responses": _responses(operation, head),
        "security": [{"webhook": []}] if operation.signed else [] if operation.role is None else [{"apiKey": []}],
    }
    if operation.role is not None:
        above = [role for role in Role if role.includes(operation.role)]
        result["description"] = f"Role: {', '.join(above)}."
    if operation.body is not None:
        result["requestBody"] = {
            "required": not operation.body_optional,
            "content": {"application/json": {"schema": _ref(operation.body)}},
        }
    return result


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _PATH_PARAMETERS[name]}
        for name in _PARAMETER.findall(operation.path)
    ]
    if operation.query is not None:
        parameters += [_query_parameter(field) for field in msgspec.structs.fields(operation.query)]
    if operation.keyed:
        parameters.append(_IDEMPOTENCY_KEY)
    if operation.press:
        parameters.append(_IF_MATCH)
    if operation.name == "bundle":
        parameters.append(_IF_NONE_MATCH)
    return parameters


def _query_parameter(field: msgspec.structs.FieldInfo) -> dict[str, Any]:
    schema = msgspec.json.schema(field.type)
    if not field.required:
        schema["default"] = field.default
    return {"name": field.encode_name, "in": "query", "required": field.required, "schema": schema}


def _responses(operation: Operation, head: bool) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, description in operation.answers.items():
        responses[str(status)] = {"description": description}
        if operation.answer is not None:
            responses[str(status)]["content"] = {"application/json": {"schema": _ref(operation.answer)}}
        elif status == 200 and not head:
            responses["200"]["content"] = {"text/plain" if operation.name == "metrics" else "application/json": {}}
    problem = {"schema": {"$ref": _REF.format(name="Problem")}}
    responses["default"] = {
        "description": "A problem.",
        "content": {} if head else {"application/problem+json": problem},
    }
    if operation.name == "readyz":
        responses["503"] = {**responses["200"], "description": "The store does not answer."}
    return responses


def _ref(kind: type[Any]) -> dict[str, str]:
    return {"$ref": _REF.format(name=kind.__name__)}
