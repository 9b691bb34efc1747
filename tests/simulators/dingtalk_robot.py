"""What a simulated DingTalk's robots do: messages by session webhook and by the API, files, the thinking sign.

https://open.dingtalk.com/document/development/robot-message-type and the pages of the calls below it; the limit of a
webhook's body is https://github.com/feiyu563/PrometheusAlert/issues/318, the thinking sign is documented nowhere:
https://github.com/soimy/openclaw-channel-dingtalk/blob/main/src/ack-reaction-service.ts
"""

from __future__ import annotations

import json
import secrets
import time
from collections import deque
from typing import Any

from aiohttp import web

from tests.simulators.dingtalk_api import GROUP, ONE_TO_ONE, WEBHOOK, Arguments, DingTalkApi, Refused, RefusedByOld
from tests.simulators.dingtalk_world import DingTalkApp, DingTalkMessage, DingTalkRoom, DingTalkWorld

LARGEST_PARAM = 15_000
LARGEST_BODY = 20_000
"""Bytes of a webhook's body."""
A_MINUTE = 20
"""Messages that a robot may post to a group by webhook in a minute; beyond, it is shut out for ten."""
SHUT_OUT = 600.0
LARGEST_FILE = 20 * 1024 * 1024

RECALL_ONE_TO_ONE = "POST /v1.0/robot/otoMessages/batchRecall"
RECALL_GROUP = "POST /v1.0/robot/groupMessages/recall"
DOWNLOAD = "POST /v1.0/robot/messageFiles/download"
_MAY_SEND = "qyapi_robot_sendmsg"
_FIELDS = {
    "sampleText": ("content",),
    "sampleMarkdown": ("title", "text"),
    "sampleImageMsg": ("photoURL",),
    "sampleFile": ("mediaId", "fileName", "fileType"),
}
"""Kinds of message that the simulator shows, with what each must say."""


class DingTalkRobots:
    """Registers the robots' calls with the API; add its own routes to the server too."""

    def __init__(self, world: DingTalkWorld, api: DingTalkApi) -> None:
        self.world = world
        self.api = api
        self.base = ""
        self.throttled: set[str] = set()
        """Staff ids that the API writes to no more for now."""
        self.knows_signs = True
        """Whether the call for the thinking sign is there."""
        api.serve(ONE_TO_ONE, _MAY_SEND, self._one_to_one)
        api.serve(GROUP, _MAY_SEND, self._group)
        api.serve(DOWNLOAD, _MAY_SEND, self._download)
        api.serve(RECALL_ONE_TO_ONE, _MAY_SEND, self._recall)
        api.serve(RECALL_GROUP, _MAY_SEND, self._recall)
        api.serve("POST /v1.0/robot/emotion/reply", _MAY_SEND, self._sign)
        api.serve("POST /v1.0/robot/emotion/recall", _MAY_SEND, self._take_sign_back)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/robot/sendBySession", self._serve_webhook),
            web.post("/media/upload", self._upload),
            web.get("/files/{code:.*}", self._file),
        ]

    # The session webhook

    async def _serve_webhook(self, request: web.Request) -> web.StreamResponse:
        return await self.api.guarded(request, lambda: self._webhook(request))

    async def _webhook(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        if request.content_type != "application/json":
            raise self._wrong(43004, "无效的HTTP HEADER Content-Type")
        if len(raw) > LARGEST_BODY:
            raise self._wrong(460101, "description: body 大小不合法;solution:请保持大小在 20000bytes 以内;")
        try:
            arguments = json.loads(raw)
        except ValueError:
            arguments = None
        if not isinstance(arguments, dict):
            raise self._wrong(40035, "缺少参数 json")
        session = self.world.sessions.get(request.query.get("session", ""))
        if session is None or session.until < time.time():
            raise RefusedByOld(300001, "session 不存在")

        async def post() -> dict[str, Any]:
            return self._post(session.app, session.room, arguments)

        place = f"{session.app.name} {session.room.id}"
        return await self.api.carry_out(WEBHOOK, place, session.app, post, arguments)

    def _post(self, app: DingTalkApp, room: DingTalkRoom, arguments: Arguments) -> dict[str, Any]:
        if room.gone:
            raise RefusedByOld(400013, "群已被解散")
        self._count_post(app, room)
        kind = arguments.get("msgtype")
        content = arguments.get(str(kind))
        at = arguments.get("at") or {}
        if not isinstance(content, dict) or not isinstance(at, dict):
            raise self._wrong(40035, f"缺少参数 {kind}")
        if at.get("isAtAll"):
            self.world.complain(f"{WEBHOOK}: everybody is called")
        notified = [str(each) for name in ("atMobiles", "atUserIds", "atDingtalkIds") for each in at.get(name) or ()]
        text, title = content.get("content" if kind == "text" else "text"), content.get("title")
        if kind not in ("text", "markdown"):
            raise self._wrong(400105, "不支持的消息类型")
        if not isinstance(text, str) or not text.strip():
            raise self._wrong(40035, "缺少参数 text")
        if kind == "markdown" and not (isinstance(title, str) and title.strip()):
            raise self._wrong(40035, "缺少参数 title")
        message = DingTalkMessage(self.world.message_id(), app, text, title=title or "", kind=kind)
        message.at = notified + ["all"] * bool(at.get("isAtAll"))
        room.messages.append(message)
        return {"errcode": 0, "errmsg": "ok"}

    def _wrong(self, errcode: int, errmsg: str) -> RefusedByOld:
        self.world.complain(f"{WEBHOOK}: {errcode} {errmsg}")
        return RefusedByOld(errcode, errmsg)

    def _count_post(self, app: DingTalkApp, room: DingTalkRoom) -> None:
        """https://open.dingtalk.com/document/development/custom-robots-send-group-messages"""
        if room.direct:
            return
        now = time.monotonic()
        if now < room.blocked.get(app.name, 0.0):
            raise self._wrong(410100, "发送速度太快而限流")
        sent = room.sent.setdefault(app.name, deque())
        while sent and sent[0] < now - 60:
            sent.popleft()
        if len(sent) >= A_MINUTE:
            room.blocked[app.name] = now + SHUT_OUT
            raise RefusedByOld(410100, "发送速度太快而限流")
        sent.append(now)

    # Messages by the API

    def _mistake(self, call: str, code: str) -> Refused:
        self.world.complain(f"{call}: {code}")
        return Refused(400, code)

    def _message(self, call: str, app: DingTalkApp, arguments: Arguments) -> DingTalkMessage:
        if arguments.get("robotCode") != app.robot_code:
            raise self._mistake(call, "invalidParameter.robotCode.auth")
        kind, param = arguments.get("msgKey"), arguments.get("msgParam")
        if kind not in _FIELDS:
            raise self._mistake(call, "invalidParameter.msgKey.invalid")
        if not isinstance(param, str):
            raise self._mistake(call, "invalidParameter.msgParam.invalid")
        if len(param.encode()) > LARGEST_PARAM:
            raise self._mistake(call, "invalidParameter.msgParam.tooLong")
        try:
            fields = json.loads(param)
            values = [fields[name] for name in _FIELDS[kind]]
        except (ValueError, KeyError, TypeError):
            raise self._mistake(call, "invalidParameter.msgParam.invalid") from None
        if not all(isinstance(value, str) and value.strip() for value in values):
            raise self._mistake(call, "miss.param.markdownTotext")
        if kind == "sampleFile" and values[0] not in self.world.media:
            raise self._mistake(call, "miss.param.file")
        text, title = (values[1], values[0]) if kind in ("sampleMarkdown", "sampleFile") else (values[0], "")
        return DingTalkMessage(encrypted_key(), app, text, title=title, kind=kind)

    async def _one_to_one(self, app: DingTalkApp, arguments: Arguments) -> dict[str, Any]:
        message = self._message(ONE_TO_ONE, app, arguments)
        wanted = arguments.get("userIds")
        if not isinstance(wanted, list) or not wanted or not all(wanted):
            raise self._mistake(ONE_TO_ONE, "invalidParameter.userIds.empty")
        if len(wanted) > 20:
            raise self._mistake(ONE_TO_ONE, "invalidParameter.userIds.overMax")
        invalid, held = [], []
        for staff_id in wanted:
            person = self.world.staff(staff_id)
            room = self.world.direct(person, app) if person is not None else None
            if room is None or room.gone:
                invalid.append(staff_id)
                if person is None:
                    self.world.complain(f"{ONE_TO_ONE}: nobody has the staff id {staff_id!r}")
            elif staff_id in self.throttled:
                held.append(staff_id)
            else:
                room.messages.append(message)
        return {"processQueryKey": message.id, "invalidStaffIdList": invalid, "flowControlledStaffIdList": held}

    async def _group(self, app: DingTalkApp, arguments: Arguments) -> dict[str, Any]:
        message = self._message(GROUP, app, arguments)
        room = self.world.rooms.get(str(arguments.get("openConversationId")))
        if room is None or room.direct:
            raise self._mistake(GROUP, "invalid.openConversationId")
        if room.gone:
            raise Refused(400, "group.disbanded", "群已经解散")
        room.messages.append(message)
        return {"processQueryKey": message.id}

    async def _recall(self, app: DingTalkApp, arguments: Arguments) -> dict[str, Any]:
        """https://open.dingtalk.com/document/development/batch-message-recall-chat and its sister for groups."""
        keys = arguments.get("processQueryKeys")
        if arguments.get("robotCode") != app.robot_code or not isinstance(keys, list) or not 1 <= len(keys) <= 20:
            raise self._mistake("recall", "invalidParameter.param.invalid")
        wanted = arguments.get("openConversationId")
        done, failed = [], {}
        for key in keys:
            for room in self.world.rooms.values():
                for message in [each for each in room.messages if each.id == key and each.app is app]:
                    if wanted in (None, room.id):
                        room.messages.remove(message)
                        done.append(key)
            if key not in done:
                failed[key] = "invalid.processQueryKey"
        return {"successResult": done, "failedResult": failed}

    # The thinking sign

    async def _sign(self, app: DingTalkApp, arguments: Arguments) -> dict[str, Any]:
        self.world.signs[self._signed(app, arguments)] += 1
        return {"success": True}

    async def _take_sign_back(self, app: DingTalkApp, arguments: Arguments) -> dict[str, Any]:
        self.world.signs[self._signed(app, arguments)] -= 1
        return {"success": True}

    def _signed(self, app: DingTalkApp, arguments: Arguments) -> tuple[str, str]:
        if not self.knows_signs:
            raise Refused(404, "InvalidAction.NotFound", "Specified api is not found")
        call, emotion = "emotion", arguments.get("textEmotion")
        if arguments.get("robotCode") != app.robot_code or arguments.get("openConversationId") not in self.world.rooms:
            raise self._mistake(call, "invalidParameter.param.invalid")
        if arguments.get("openMsgId") not in self.world.known_messages:
            raise self._mistake(call, "invalidParameter.openMsgId")
        if arguments.get("emotionType") != 2 or not isinstance(emotion, dict) or not emotion.get("emotionId"):
            raise self._mistake(call, "invalidParameter.textEmotion")
        return app.name, str(arguments["openMsgId"])

    # Files

    async def _download(self, app: DingTalkApp, arguments: Arguments) -> dict[str, Any]:
        file = self.world.files.get(str(arguments.get("downloadCode")))
        if file is None:
            raise Refused(400, "invalidParameter.robotCode.downloadCode", "下载码有误或者已经过期")
        if arguments.get("robotCode") != app.robot_code or file[0] is not app:
            raise self._mistake(DOWNLOAD, "invalidParameter.robotCode.auth")
        expires = int(time.time()) + 600
        here = f"{self.base}/files/{arguments['downloadCode']}?Expires={expires}&Signature={secrets.token_hex(8)}"
        return {"downloadUrl": file[1] or here}

    async def _file(self, request: web.Request) -> web.Response:
        file = self.world.files.get(request.match_info["code"])
        if file is None or not request.query.get("Signature"):
            return web.Response(status=403)
        if request.headers.get("x-acs-dingtalk-access-token"):
            self.world.complain("a file was asked for with the access token")
        return web.Response(body=file[2], content_type=file[3])

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        return await self.api.guarded(request, lambda: self._take_upload(request))

    async def _take_upload(self, request: web.Request) -> web.StreamResponse:
        """https://open.dingtalk.com/document/development/upload-media-files"""
        token = request.query.get("access_token", "")
        if not any(end > time.monotonic() for app in self.world.apps.values() for end in [app.tokens.get(token, 0.0)]):
            raise RefusedByOld(40014, "不合法的access_token")
        form = await request.post()
        media = form.get("media")
        if form.get("type") not in ("image", "voice", "video", "file") or not isinstance(media, web.FileField):
            self.world.complain("POST /media/upload: without a type or a file")
            raise RefusedByOld(40004, "不合法的媒体文件类型")
        content = media.file.read()
        if len(content) > LARGEST_FILE:
            self.world.complain("POST /media/upload: too large")
            raise RefusedByOld(40006, "不合法的文件大小")
        id = f"@lAzPD{secrets.token_hex(10)}"
        self.world.media[id] = (media.filename, content)
        now = int(time.time() * 1000)
        return web.json_response(
            {"errcode": 0, "errmsg": "ok", "media_id": id, "created_at": now, "type": form.get("type")}
        )


def encrypted_key() -> str:
    """A processQueryKey."""
    return f"4v+AzUED{secrets.token_hex(10)}w8="
