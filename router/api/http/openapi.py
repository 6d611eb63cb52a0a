"""OpenAPI: the description of this door, as it is published at /openapi.json.

Made once. It names the fields that are spoken and their bounds; one with a field it does not name
goes to an engine that understands it, or is refused by that name.
"""

from typing import Any, Final

import msgspec

from radixroute import __version__
from radixroute.request.limits import MOST_ANSWERS, MOST_BIASES, MOST_LOGPROBS, SEED_END
from radixroute.router.api.http.asked.openai_request import U32_END

_ERRORS: Final = {
    400: "The request must be changed; `param` names the field.",
    401: "No key, or none that is known.",
    404: "No such model.",
    405: "Another method.",
    408: "The request did not come in time.",
    413: "The body is too large. It was not read.",
    429: "The queue is full: come back after `Retry-After` seconds.",
    431: "The head is too large.",
    500: "The request was tried and failed.",
    503: "No worker, or the router is ending: come back after `Retry-After` seconds.",
    504: "The deadline passed.",
}


def _number(low: float, high: float) -> dict[str, Any]:
    return {"type": ["number", "null"], "minimum": low, "maximum": high}


def _integer(low: int, high: int | None = None) -> dict[str, Any]:
    most = {} if high is None else {"maximum": high}
    return {"type": ["integer", "null"], "minimum": low, **most}


_ID: Final = {"type": "integer", "minimum": 0, "maximum": U32_END - 1}
_STOP: Final = {
    "anyOf": [
        {"type": "string", "minLength": 1, "maxLength": 256},
        {"type": "array", "maxItems": 16, "items": {"type": "string", "minLength": 1}},
        {"type": "null"},
    ]
}
_SAMPLING: Final[dict[str, Any]] = {
    "model": {"type": ["string", "null"]},
    "stream": {"type": ["boolean", "null"]},
    "stream_options": {
        "type": ["object", "null"],
        "properties": {"include_usage": {"type": ["boolean", "null"]}},
    },
    "temperature": _number(0, 100),
    "top_p": _number(1e-6, 1),
    "top_k": _integer(-1, 1 << 31),
    "min_p": _number(0, 1),
    "seed": _integer(-(SEED_END >> 1), SEED_END - 1),
    "max_tokens": _integer(1, U32_END - 1),
    "min_tokens": _integer(0, U32_END - 1),
    "stop": _STOP,
    "stop_token_ids": {"type": ["array", "null"], "maxItems": 64, "items": _ID},
    "ignore_eos": {"type": ["boolean", "null"]},
    "n": _integer(1, MOST_ANSWERS),
    "presence_penalty": _number(-2, 2),
    "frequency_penalty": _number(-2, 2),
    "repetition_penalty": _number(1e-6, 2),
    "logit_bias": {
        "type": ["object", "null"],
        "maxProperties": MOST_BIASES,
        "propertyNames": {"pattern": "^[0-9]{1,10}$"},
        "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
    },
    "user": {"type": ["string", "null"]},
}
_IDS: Final = {"type": "array", "minItems": 1, "items": _ID}
_PROMPT: Final = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        _IDS,
        {"type": "array", "minItems": 1, "maxItems": 8, "items": {"type": "string"}},
        {"type": "array", "minItems": 1, "maxItems": 8, "items": _IDS},
    ]
}
_MESSAGE: Final = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {
        "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
        "content": {"type": "string"},
    },
}
_COMPLETION: Final = {
    "type": "object",
    "required": ["prompt"],
    "properties": {
        "prompt": _PROMPT,
        **_SAMPLING,
        "logprobs": _integer(0, MOST_LOGPROBS),
    },
}
_CHAT: Final = {
    "type": "object",
    "required": ["messages"],
    "properties": {
        "messages": {"type": "array", "minItems": 1, "items": _MESSAGE},
        **_SAMPLING,
        "max_completion_tokens": _integer(1, U32_END - 1),
        "logprobs": {"type": ["boolean", "null"]},
        "top_logprobs": _integer(0, MOST_LOGPROBS),
    },
}


def _record(**properties: Any) -> dict[str, Any]:
    """An answer's object: all of its fields are always there."""
    return {"type": "object", "required": list(properties), "properties": properties}


_COUNT: Final = {"type": "integer", "minimum": 0}
_TEXT: Final = {"type": "string"}
_MAYBE: Final = {"type": ["object", "null"]}
_USAGE: Final = _record(
    prompt_tokens=_COUNT,
    completion_tokens=_COUNT,
    total_tokens=_COUNT,
    prompt_tokens_details=_record(cached_tokens=_COUNT),
)


def _completion(kind: str, **content: Any) -> dict[str, Any]:
    end = {"enum": ["stop", "length", "error"]}
    choice = _record(index=_COUNT, **content, logprobs=_MAYBE, finish_reason=end)
    return _record(
        id=_TEXT,
        object={"const": kind},
        created=_COUNT,
        model=_TEXT,
        choices={"type": "array", "minItems": 1, "items": choice},
        usage=_USAGE,
    )


_MODEL: Final = _record(
    id=_TEXT,
    object={"const": "model"},
    created=_COUNT,
    owned_by=_TEXT,
    max_model_len=_COUNT,
    root=_TEXT,
    parent={"type": ["string", "null"]},
)
_MODELS: Final = _record(object={"const": "list"}, data={"type": "array", "items": _MODEL})
_STATUS: Final = _record(status=_TEXT)
_MESSAGE_OUT: Final = _record(
    role={"const": "assistant"}, content=_TEXT, refusal={"type": ["string", "null"]}
)


def _answer(meaning: str, schema: dict[str, Any], kind: str = "application/json") -> dict[str, Any]:
    return {"description": meaning, "content": {kind: {"schema": schema}}}


def _errors(*codes: int) -> dict[str, Any]:
    reference = {"$ref": "#/components/schemas/Error"}
    return {
        str(code): {
            "description": _ERRORS[code],
            "content": {"application/json": {"schema": reference}},
        }
        for code in codes
    }


def _post(meaning: str, schema: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    return {
        "post": {
            "summary": meaning,
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
            "responses": {
                "200": {
                    "description": "The answer, whole or as server-sent events (`stream`).",
                    "content": {
                        "application/json": {"schema": answer},
                        "text/event-stream": {},
                    },
                },
                **_errors(*_ERRORS),
            },
        }
    }


def _get(
    meaning: str, schema: dict[str, Any], *codes: int, kind: str = "application/json"
) -> dict[str, Any]:
    responses = {"200": _answer(meaning, schema, kind), **_errors(*codes)}
    return {"get": {"summary": meaning, "responses": responses}}


_MODEL_NAME: Final = {
    "name": "model", "in": "path", "required": True, "schema": {"type": "string"},
}  # fmt: skip
DESCRIPTION: Final[dict[str, Any]] = {
    "openapi": "3.1.0",
    "info": {"title": "radixroute", "version": __version__},
    "paths": {
        "/v1/completions": _post(
            "Goes on with a text or with token ids.",
            _COMPLETION,
            _completion("text_completion", text=_TEXT),
        ),
        "/v1/chat/completions": _post(
            "Answers a chat.", _CHAT, _completion("chat.completion", message=_MESSAGE_OUT)
        ),
        "/v1/models": _get("The model that is served, and its adapters.", _MODELS, 401),
        "/v1/models/{model}": {
            **_get("One of them.", _MODEL, 401, 404),
            "parameters": [_MODEL_NAME],
        },
        "/healthz": _get("The process is sound.", _STATUS),
        "/readyz": {
            "get": {
                "summary": "Whether requests should be sent here.",
                "responses": {"200": _answer("Yes.", _STATUS), "503": _answer("Not now.", _STATUS)},
            }
        },
        "/metrics": _get("For Prometheus.", _TEXT, 401, 500, kind="text/plain"),
        "/openapi.json": _get("This.", {"type": "object"}),
    },
    "components": {
        "schemas": {
            "Error": {
                "type": "object",
                "required": ["error"],
                "properties": {
                    "error": {
                        "type": "object",
                        "required": ["message", "type", "param", "code"],
                        "properties": {
                            "message": {"type": "string"},
                            "type": {"type": "string"},
                            "param": {"type": ["string", "null"]},
                            "code": {"type": ["string", "null"]},
                        },
                    }
                },
            }
        }
    },
}
OPENAPI: Final = msgspec.json.encode(DESCRIPTION)
