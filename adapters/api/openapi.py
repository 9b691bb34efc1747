"""The OpenAPI document of the API, made from the models that check the requests."""

from __future__ import annotations

from typing import Any


def document() -> dict[str, Any]:
    """OpenAPI 3.1."""
    return {"openapi": "3.1.0", "info": {"title": "chatgpt-ms", "version": "1"}, "paths": {}}
