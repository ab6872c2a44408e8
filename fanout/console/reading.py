"""A campaign in a file, JSON or YAML, read for the form: what is wrong with it is said with its line."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import yaml
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fanout import limits
from fanout.control import auth, bodies, problems
from fanout.control.problems import Problem
from fanout.control.services import Services
from fanout.errors import FanoutError
from fanout.roles import Role

# A few seconds of reading. Larger definitions are made by machines, which write JSON.
YAML_BYTES_MAX: Final = limits.BUNDLE_BYTES_MAX


class _Loader(yaml.SafeLoader):
    """Without aliases: nested, a few lines of them are gigabytes once written out."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases are not allowed; write it out", problem_mark=mark)
        return super().compose_node(parent, index)


def route(services: Services) -> Route:
    """Return where the form sends a file to, and gets it back as JSON."""

    async def endpoint(request: Request) -> Response:
        request.scope["fanout.route"] = "/console/read"
        try:
            await auth.caller(request, services, Role.EDITOR)
            limit = services.config.content_body_bytes_max
            raw = await bodies.read(request, limit, services.config.body_timeout_s)
            # YAML is read slowly, and others press meanwhile.
            return JSONResponse(await asyncio.to_thread(read, raw))
        except FanoutError as exc:
            return problems.of(exc).response()

    return Route("/console/read", endpoint, methods=["POST"])


def read(raw: bytes) -> dict[str, Any]:
    """Return the object in a file. Raises Problem 422, with the line where there is one."""
    try:
        text = raw.decode("utf-8-sig")
        # By its first character: JSON's own messages are better than what a YAML parser says of JSON.
        found = json.loads(text) if text.lstrip()[:1] in ("{", "[") else _yaml(text)
        # What YAML knows and JSON does not, such as dates, cannot travel to devices.
        json.dumps(found, allow_nan=False)
    except json.JSONDecodeError as exc:
        raise _wrong(f"line {exc.lineno}, column {exc.colno}: {exc.msg}") from exc
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        raise _wrong(f"{where}{exc.problem or exc.context or 'not YAML'}") from exc
    except (UnicodeDecodeError, ValueError, TypeError, RecursionError, yaml.YAMLError) as exc:
        raise _wrong(str(exc)) from exc
    if not isinstance(found, dict):
        raise _wrong(f"it holds {type(found).__name__}; send one object with id, title, topic, stages and variants")
    return found


def _yaml(text: str) -> Any:
    if len(text) > YAML_BYTES_MAX:
        raise _wrong(f"it has {len(text)} characters, the limit for YAML is {YAML_BYTES_MAX}; send JSON")
    return yaml.load(text, _Loader)


def _wrong(what: str) -> Problem:
    return Problem(422, "invalid-input", "The file cannot be read", f"The file cannot be read: {what}")
