"""What a simulated Feishu tells an app of itself: its bot, its scopes, its published version.

https://open.feishu.cn/document/ukTMukTMukTM/uAjMxEjLwITMx4CMyETM (the bot),
https://open.feishu.cn/document/server-docs/application-v6/application/get (the app and its versions).
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tests.simulators.feishu_content import Refused
from tests.simulators.feishu_rest import SCOPES_WANTED, Api, Call
from tests.simulators.feishu_state import FeishuState


class FeishuAppInfo:
    """Handlers for `FeishuApi.apis`."""

    def __init__(self, state: FeishuState) -> None:
        self.state = state

    def apis(self) -> list[Api]:
        one = "/application/v6/applications/{app}"
        return [
            Api("bot.v3.info", "GET", "/bot/v3/info", "nothing", self._bot),
            Api("application.v6.scope.list", "GET", "/application/v6/scopes", "nothing", self._scopes),
            Api("application.v6.application.get", "GET", one, "itself", self._app),
            Api(
                "application.v6.application_app_version.get",
                "GET",
                f"{one}/app_versions/{{id}}",
                "itself",
                self._version,
            ),
        ]

    async def _bot(self, call: Call) -> web.Response:
        if not call.app.published:
            raise Refused(11205, "app do not have bot")
        bot = {
            "activate_status": call.app.activate_status,
            "app_name": call.app.name,
            "avatar_url": "https://s1-imfile.feishucdn.com/static-resource/v1/simulated",
            "ip_white_list": [],
            "open_id": call.app.open_id,
        }
        return web.json_response({"code": 0, "msg": "ok", "bot": bot})

    async def _scopes(self, call: Call) -> dict[str, Any]:
        known = {scope for scopes in SCOPES_WANTED.values() for scope in scopes} | call.app.scopes
        return {
            "scopes": [
                {"scope_name": scope, "grant_status": 1 if scope in call.app.scopes else 2} for scope in sorted(known)
            ]
        }

    async def _app(self, call: Call) -> dict[str, Any]:
        self._itself(call)
        published = {"online_version_id": f"oav_{call.app.number}"} if call.app.published else {}
        return {"app": {"app_id": call.app.id, "status": 1, "scene_type": 0, "app_name": call.app.name, **published}}

    async def _version(self, call: Call) -> dict[str, Any]:
        self._itself(call)
        events = sorted(call.app.events)
        infos = [{"event_type": event, "event_name": event, "event_description": ""} for event in events]
        return {
            "app_version": {
                "app_id": call.app.id,
                "version": "1.0.0",
                "version_id": call.path["id"],
                "events": events,
                "event_infos": infos,
            }
        }

    def _itself(self, call: Call) -> None:
        if call.path["app"] not in ("me", call.app.id):
            raise Refused(210508, "no permission to read another app", mistake=True)
        if "lang" not in call.query:
            raise Refused(99992402, "field validation failed, lang", mistake=True)
