import json
from core.adapter import ReplyChannel, TextLimits


class R(ReplyChannel):
    limits = TextLimits(max_length=10000)

    def __init__(self, chats, address):
        self.chats = chats
        self.a = address

    async def send(self, text, *, key):
        d = await self.chats.api.call(
            "POST",
            f"/open-apis/im/v1/messages/{self.a.message_id}/reply"
            if not self.a.direct
            else "/open-apis/im/v1/messages",
            params={"receive_id_type": "chat_id"} if self.a.direct else None,
            body={
                **({"receive_id": self.a.chat_id} if self.a.direct else {}),
                "msg_type": "text",
                "content": json.dumps({"text": text}),
                "uuid": key,
            },
            pace=self.a.chat_id,
        )
        return d["data"]["message_id"]


RICHEST = R


def reply_to(chats, address):
    return R(chats, address)
