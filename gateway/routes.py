"""What the accounts serve over HTTP."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp.web import AbstractRouteDef, RouteDef

from core.adapter import Adapter, ServesHttp
from core.errors import ConfigError
from core.messages import AccountId


def routes_of(adapters: Mapping[AccountId, Adapter]) -> list[AbstractRouteDef]:
    """The routes of all of them. Raises ConfigError where two want the same place."""
    routes: list[AbstractRouteDef] = []
    owners: dict[tuple[str, str], AccountId] = {}
    for name, adapter in adapters.items():
        if not isinstance(adapter, ServesHttp):
            continue
        for route in adapter.routes():
            routes.append(route)
            place = (route.method, route.path) if isinstance(route, RouteDef) else ("", "")
            other = owners.setdefault(place, name)
            if other != name and isinstance(route, RouteDef):
                raise ConfigError(
                    f"accounts.{name}: serves {route.path!r}, as the account {other!r} does; turn one of them off"
                )
    return routes
