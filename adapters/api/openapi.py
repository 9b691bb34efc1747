"""The OpenAPI document of the API. What requests must look like comes from the models that check them."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic.json_schema import models_json_schema

from adapters.api.bodies import ChatBody, CompletionBody

_REQUEST_ID = {"X-Request-Id": {"description": "Finds the request in the log.", "schema": {"type": "string"}}}
_RETRY_AFTER = {
    "Retry-After": {"description": "Seconds after which trying again makes sense.", "schema": {"type": "string"}}
}
_REPLAYED = {
    "Idempotent-Replayed": {
        "description": "`true` when the answer was there already.",
        "schema": {"type": "string", "enum": ["true"]},
    }
}

_MEANING = {
    400: "The body, a field or a header is wrong; `field` names it.",
    401: "No valid key.",
    403: "The key has not the scope, the sender is not allowed, or a page of another site asks.",
    404: "There is no such model.",
    405: "Another method is needed; see `Allow`.",
    408: "The body did not arrive in time.",
    409: "The question was dropped because the session was cleared or another one overtook it.",
    413: "The body or the message is too long.",
    415: "The body is not `application/json` in UTF-8.",
    422: "The Idempotency-Key belongs to another message, or the model refuses to answer.",
    429: "A limit of the sender is reached.",
    500: "A fault of the gateway; the log has the id.",
    502: "The gateway's access to the model is not set up correctly.",
    503: "Overloaded, starting, stopping, or the model does not answer.",
    504: "The answer takes longer than a request may wait. It is kept.",
}

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "id"],
            "additionalProperties": False,
            "properties": {
                "code": {"type": "string", "description": "What happened, for programs."},
                "message": {"type": "string", "description": "What happened, for people."},
                "id": {"type": "string", "description": "Finds the request in the log."},
                "field": {"type": "string", "description": "The field or header that is wrong."},
            },
        }
    },
}
_OPENAI_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "additionalProperties": False,
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        }
    },
}
_CHAT_ANSWER = {
    "type": "object",
    "required": ["response"],
    "additionalProperties": False,
    "properties": {"response": {"type": "string", "description": "CommonMark; `done` for `reset`."}},
}
_USAGE = {
    "type": "object",
    "required": ["prompt_tokens", "completion_tokens", "total_tokens"],
    "properties": {
        "prompt_tokens": {"type": "integer"},
        "completion_tokens": {"type": "integer"},
        "total_tokens": {"type": "integer"},
    },
}
_COMPLETION = {
    "type": "object",
    "required": ["id", "object", "created", "model", "choices"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "chat.completion"},
        "created": {"type": "integer"},
        "model": {"type": "string"},
        "choices": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "type": "object",
                "required": ["index", "message", "finish_reason"],
                "properties": {
                    "index": {"const": 0},
                    "message": {
                        "type": "object",
                        "required": ["role", "content"],
                        "properties": {"role": {"const": "assistant"}, "content": {"type": "string"}},
                    },
                    "finish_reason": {"type": "string"},
                },
            },
        },
        "usage": _USAGE,
    },
}
_MODEL = {
    "type": "object",
    "required": ["id", "object", "created", "owned_by"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "model"},
        "created": {"type": "integer"},
        "owned_by": {"type": "string"},
    },
}

_MODELS = {
    "type": "object",
    "required": ["object", "data"],
    "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": _MODEL}},
}

_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Requests with the same key, user and message are one question; it is asked and answered once.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}


_ASK_ONE = {
    "operationId": "createChatCompletion",
    "description": "Each model may be asked.",
    "requestBody": {"model": "$response.body#/data/0/id", "messages": [{"role": "user", "content": "Hello"}]},
}


@cache
def document() -> dict[str, Any]:
    """OpenAPI 3.1, to be served as JSON."""
    _, definitions = models_json_schema(
        [(ChatBody, "validation"), (CompletionBody, "validation")], ref_template="#/components/schemas/{model}"
    )
    asked = (400, 401, 403, 405, 408, 409, 413, 415, 422, 429, 500, 502, 503, 504)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "chatgpt-ms",
            "version": "1",
            "description": "Sessions with a language model over HTTP, in two forms: a simple one and OpenAI's.",
        },
        "paths": {
            "/chat": {
                "post": {
                    "operationId": "chat",
                    "summary": "Ask, and wait for the whole answer",
                    "parameters": [_IDEMPOTENCY_KEY],
                    "requestBody": _body("ChatBody"),
                    "responses": {
                        "200": _answer("The answer.", {"application/json": _CHAT_ANSWER}),
                        **_errors("Error", asked),
                    },
                }
            },
            "/chat-stream": {
                "post": {
                    "operationId": "chatStream",
                    "summary": "Ask, and see the answer grow",
                    "description": "One JSON object a line, each with the whole text so far; after the last one "
                    '`{"response": "[DONE]"}`. A failure in the middle is a line `{"error": …}`, and the end.',
                    "parameters": [_IDEMPOTENCY_KEY],
                    "requestBody": _body("ChatBody"),
                    "responses": {
                        "200": _answer("The answer, line by line.", {"application/x-ndjson": {"type": "string"}}),
                        **_errors("Error", asked),
                    },
                }
            },
            "/v1/chat/completions": {
                "post": {
                    "operationId": "createChatCompletion",
                    "summary": "OpenAI's chat completions",
                    "description": "With `user` the server keeps the session; without it nothing is stored.",
                    "parameters": [_IDEMPOTENCY_KEY],
                    "requestBody": _body("CompletionBody"),
                    "responses": {
                        "200": _answer(
                            "The answer, or with `stream` its chunks.",
                            {"application/json": _COMPLETION, "text/event-stream": {}},
                        ),
                        **_errors("OpenAIError", (*asked, 404)),
                    },
                }
            },
            "/v1/models": {
                "get": {
                    "operationId": "listModels",
                    "summary": "The models a request may name",
                    "responses": {
                        "200": {
                            "description": "The models.",
                            "content": {"application/json": {"schema": _MODELS}},
                            "links": {"ask": _ASK_ONE},
                        },
                        **_errors("OpenAIError", (401, 403, 405, 500)),
                    },
                }
            },
            "/v1/models/{model}": {
                "get": {
                    "operationId": "getModel",
                    "summary": "One of the models",
                    "parameters": [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}],
                    "responses": {
                        "200": {"description": "The model.", "content": {"application/json": {"schema": _MODEL}}},
                        **_errors("OpenAIError", (401, 403, 404, 405, 500)),
                    },
                }
            },
            "/openapi.json": {
                "get": {
                    "operationId": "openapi",
                    "summary": "This document",
                    "security": [],
                    "responses": {
                        "200": {
                            "description": "OpenAPI 3.1.",
                            "content": {"application/json": {"schema": {"type": "object"}}},
                        },
                        **_errors("Error", (403, 405, 500)),
                    },
                }
            },
        },
        "security": [{"key": []}],
        "components": {
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Not asked for on a loopback address without any key.",
                }
            },
            "schemas": {**definitions["$defs"], "Error": _ERROR, "OpenAIError": _OPENAI_ERROR},
        },
    }


def _body(schema: str) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": _reference(schema)}}}


def _answer(description: str, schemas: dict[str, Any]) -> dict[str, Any]:
    content = {media_type: {"schema": schema} for media_type, schema in schemas.items()}
    return {"description": description, "headers": _REPLAYED, "content": content}


def _errors(schema: str, statuses: tuple[int, ...]) -> dict[str, Any]:
    return {
        str(status): {
            "description": _MEANING[status],
            "headers": {**_REQUEST_ID, **(_RETRY_AFTER if status in (429, 503, 504) else {})},
            "content": {"application/json": {"schema": _reference(schema)}},
        }
        for status in sorted(statuses)
    }


def _reference(schema: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema}"}
