"""Everything the gateway itself says in a chat, in English and Chinese. One catalogue; nobody else writes sentences.

A text is short and kind; where it speaks of a fault it carries an id under which the log has the cause.
"""

from __future__ import annotations

import re
from typing import Literal

from core.messages import InboundMessage

Language = Literal["en", "zh"]

SLASHES = ("/", "／")
"""What a command begins with. Chinese input methods write the full-width one (U+FF0F)."""

_CJK = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")


def language_of(message: InboundMessage) -> Language:
    """The language to answer in: that of the text if it tells, else the person's locale, else English."""
    if _CJK.search(message.text):
        return "zh"
    command = message.text.lstrip().startswith(SLASHES)
    if message.sender.locale and (command or not re.search("[A-Za-z]{3}", message.text)):
        return "zh" if message.sender.locale.lower().startswith("zh") else "en"
    return "en"


_TEXTS: dict[str, tuple[str, str]] = {
    # Failures
    "rate_limited": (
        "That was a little fast for me. Please try again in {seconds} s.",
        "您发得有点快，请在 {seconds} 秒后再试。",
    ),
    "queued": (
        "I still have {count} of your messages to answer. Please wait for those first.",
        "您还有 {count} 条消息在等我回答，请稍候再发。",
    ),
    "busy_account": (
        "I am asked for more than I may answer at once. Please try again in {seconds} s.",
        "现在问我的人太多，请在 {seconds} 秒后再试。",
    ),
    "busy_everybody": (
        "More is asked for than may be answered at once. Please try again in {seconds} s.",
        "当前请求过多，请在 {seconds} 秒后再试。",
    ),
    "messages_per_day_person": (
        "You have reached today's limit of {count} messages. It starts afresh at {reset} UTC.",
        "您今天的 {count} 条消息额度已用完，将于 {reset}（UTC）重置。",
    ),
    "tokens_per_day_person": (
        "You have used up today's amount of text ({count} tokens). It starts afresh at {reset} UTC.",
        "您今天的用量（{count} tokens）已用完，将于 {reset}（UTC）重置。",
    ),
    "money_per_month_person": (
        "You have used up this month's budget ({count}). It starts afresh at {reset} UTC.",
        "您本月的额度（{count}）已用完，将于 {reset}（UTC）重置。",
    ),
    "messages_per_day_account": (
        "Everyone here together has reached today's limit of {count} messages. It starts afresh at {reset} UTC.",
        "这里所有人今天共用的 {count} 条消息额度已用完，将于 {reset}（UTC）重置。",
    ),
    "tokens_per_day_account": (
        "Everyone here together has used up today's amount of text ({count} tokens). It starts afresh at {reset} UTC.",
        "这里所有人今天共用的用量（{count} tokens）已用完，将于 {reset}（UTC）重置。",
    ),
    "money_per_month_account": (
        "Everyone here together has used up this month's budget ({count}). It starts afresh at {reset} UTC.",
        "这里所有人本月共用的额度（{count}）已用完，将于 {reset}（UTC）重置。",
    ),
    "messages_per_day_everybody": (
        "All my chats together have reached today's limit of {count} messages. It starts afresh at {reset} UTC.",
        "所有平台今天共用的 {count} 条消息额度已用完，将于 {reset}（UTC）重置。",
    ),
    "tokens_per_day_everybody": (
        "All my chats together have used up today's amount of text ({count} tokens). It starts afresh at {reset} UTC.",
        "所有平台今天共用的用量（{count} tokens）已用完，将于 {reset}（UTC）重置。",
    ),
    "money_per_month_everybody": (
        "All my chats together have used up this month's budget ({count}). It starts afresh at {reset} UTC.",
        "所有平台本月共用的额度（{count}）已用完，将于 {reset}（UTC）重置。",
    ),
    "too_long": (
        "That message is too long for me ({length} characters, at most {limit}). Please shorten it.",
        "这条消息太长了（{length} 个字符，上限 {limit}），请缩短后再发。",
    ),
    "overloaded": (
        "I can't take this in at the moment. Please try again in a minute.",
        "我现在忙不过来，请过一分钟再试。",
    ),
    "not_allowed": (
        "I may not talk with you here. Your id is {person}; whoever runs me can allow it.",
        "我还没有获准在这里与您对话。您的 ID 是 {person}，管理员可以为您开通。",
    ),
    "pairing": (
        "I may not talk with you yet. Your code is {code}, for one hour; whoever runs me lets you in with it:\n\n{how}",
        "我还没有获准与您对话。您的配对码是 {code}，一小时内有效，管理员可用它为您开通：\n\n{how}",
    ),
    "pairing_waits": (
        "I may not talk with you yet. The code you were told is still valid; whoever runs me can let you in with it.",
        "我还没有获准与您对话。之前给您的配对码仍然有效，请等管理员为您开通。",
    ),
    "pairing_full": (
        "I may not talk with you yet, and several people wait to be let in already. Please try again later.",
        "我还没有获准与您对话，而且已有几位在等待开通，请稍后再试。",
    ),
    "repeating": (
        "I have answered this same message several times now, so I leave it for a minute.",
        "同样的消息我已经回答过几次了，一分钟内不再重复回答。",
    ),
    "channel_paused": (
        "There is more going on here than I can follow. I take a break in this channel for {minutes} minutes.",
        "这里的消息太多了，我在这个频道休息 {minutes} 分钟。",
    ),
    "model_unavailable": (
        "I can't reach the model right now. Please try again in a moment with /retry. ({id})",
        "现在连接不上模型，请稍后用 /retry 重试。（{id}）",
    ),
    "model_misconfigured": (
        "The model is not set up correctly, so I can't answer. Whoever runs me finds the cause under {id}.",
        "模型配置有误，暂时无法回答。管理员可用 {id} 查到原因。",
    ),
    "model_refused": (
        "The model would not answer this message. Rephrasing it may help. ({id})",
        "模型没有回答这条消息，换个说法也许可以。（{id}）",
    ),
    "model_cut_short": (
        "The model came to its longest answer before it had said anything. A simpler question may help. ({id})",
        "模型还没说出内容就达到了回答的长度上限，把问题问得简单些也许可以。（{id}）",
    ),
    "context_too_long": (
        "This is more text than the model can take at once. Please shorten it or start afresh with /new. ({id})",
        "内容超出了模型一次能处理的长度，请缩短，或用 /new 开始新会话。（{id}）",
    ),
    "broken_off": (
        "The answer broke off here. /retry asks again. ({id})",
        "回答在这里中断了，可用 /retry 重试。（{id}）",
    ),
    "internal": (
        "Something went wrong on my side. Please try again. ({id})",
        "我这边出了点问题，请再试一次。（{id}）",
    ),
    "gave_up": (
        "I could not answer this message after several attempts. ({id})",
        "多次尝试后仍无法回答这条消息。（{id}）",
    ),
    "expired": (
        "I was away and {count} of your messages grew old meanwhile. Please send again what still matters.",
        "我刚才离线了，您有 {count} 条消息已过时。仍需要的请再发一次。",
    ),
    "superseded": (
        "A new conversation was started before this message had its turn.",
        "在轮到这条消息之前，会话已重新开始。",
    ),
    "only_files": (
        "I can't read files yet. Tell me in words what you would like to know.",
        "我还不能读取文件，请用文字告诉我您想了解什么。",
    ),
    # Marks on answers
    "stopped": ("(stopped)", "（已停止）"),
    "interrupted": ("(interrupted)", "（已打断）"),
    "cut_short": (
        "(This is as long as one answer can be. Ask me to go on for the rest.)",
        "（一次回答的长度到此为止，可以让我继续。）",
    ),
    "filtered": ("(The model's content filter ended the answer here.)", "（模型的内容过滤在此中止了回答。）"),
    "repeated": ("(may be repeated)", "（可能重复）"),
    # Commands
    "new": ("Started a new conversation.", "已开始新会话。"),
    "new_dropped": (
        "Started a new conversation. {count} waiting messages were set aside.",
        "已开始新会话，另有 {count} 条等待中的消息不再回答。",
    ),
    "stop_done": ("Stopped.", "已停止。"),
    "stop_nothing": ("There is nothing to stop.", "现在没有正在进行的回答。"),
    "retry_nothing": ("There is nothing to retry yet.", "还没有可以重试的内容。"),
    "model_now": (
        "This conversation uses {model}. Available: {models}. Change it with `/model NAME`.",
        "当前会话使用 {model}。可选：{models}。用 `/model 名称` 切换。",
    ),
    "model_set": ("This conversation now uses {model}.", "当前会话已切换到 {model}。"),
    "model_unknown": (
        "There is no model {model} here. Available: {models}.",
        "没有名为 {model} 的模型。可选：{models}。",
    ),
    "persona_none": ("There are no personas here.", "这里没有可选的角色。"),
    "persona_default": (
        "No persona is chosen. Available: {personas}. Choose one with `/persona NAME`.",
        "当前没有选择角色。可选：{personas}。用 `/persona 名称` 选择。",
    ),
    "persona_now": (
        "The persona here is {persona}. Available: {personas}. `/persona default` leaves it.",
        "当前角色：{persona}。可选：{personas}。用 `/persona default` 恢复默认。",
    ),
    "persona_set": ("From now on the persona here is {persona}.", "当前会话的角色已切换为 {persona}。"),
    "persona_left": ("Back to the default persona.", "已恢复默认角色。"),
    "persona_unknown": (
        "There is no persona {persona} here. Available: {personas}.",
        "没有名为 {persona} 的角色。可选：{personas}。",
    ),
    "admins_only": ("Only an admin of this bot can do that.", "只有这个机器人的管理员才能这样做。"),
    "whoami": (
        "Your id is `{user}` on the account `{account}`. This conversation: `{conversation}`.",
        "您的 ID 是 `{user}`，账号 `{account}`。当前会话：`{conversation}`。",
    ),
    "whoami_here": ("Your id is `{user}` on the account `{account}`.", "您的 ID 是 `{user}`，账号 `{account}`。"),
    "whoami_channel": ("This channel: `{channel}`.", "当前频道：`{channel}`。"),
    "whoami_linked": ("Linked with: {others}.", "已关联：{others}。"),
    "link_identity": ("{user} on {account}", "{account} 上的 {user}"),
    "link_identity_named": ("{called} ({user} on {account})", "{called}（{account} 上的 {user}）"),
    "link_comma": (", ", "、"),
    "link_code": (
        "Your code: `{code}`. Within {minutes} minutes, send me `/link {code}` on the other platform, then `/link` here. Show it to nobody.",
        "您的关联码：`{code}`。请在 {minutes} 分钟内在另一平台发送 `/link {code}`，再回到这里发送 `/link`。请勿给任何人看。",
    ),
    "link_entered": (
        "This is the code of {owner}. If that is you, send `/link` on {account} to confirm: that conversation then goes on here, and the one here rests. If not, send `/link no`: they could read what you write.",
        "这是 {owner} 的关联码。如果是您本人，请到 {account} 发送 `/link` 确认，之后那边的会话会在这里继续，这里的会话暂时搁置。如果不是，请发送 `/link no`，否则对方能读到您写的内容。",
    ),
    "link_answered": (
        "Your code was entered by {other}. If that is you, send `/link yes`: this conversation can then be read there too. Else send `/link no`.",
        "{other} 输入了您的关联码。如果是您本人，请发送 `/link yes`，那边便可读到本会话；如果不是，请发送 `/link no`。",
    ),
    "link_done": (
        "Linked with {other}. This conversation now goes on there too, and the one that was there rests. `/unlink` undoes it.",
        "已与 {other} 关联。本会话现在也可以在那边继续，那边原来的会话暂时搁置。用 `/unlink` 可以取消。",
    ),
    "link_declined": (
        "All right. Nothing was linked, and the code is no longer valid.",
        "好的，没有建立关联，关联码已失效。",
    ),
    "link_nothing": (
        "Nobody has entered a code of yours. `/link` gives you one.",
        "还没有人输入您的关联码。发送 `/link` 可以获取一个。",
    ),
    "link_linked": (
        "You are linked with {others}. `/unlink` undoes it.",
        "您已与 {others} 关联。用 `/unlink` 可以取消。",
    ),
    "link_unknown_code": (
        "I don't know this code. It may be mistyped, used or too old. `/link` on the other platform gives a new one.",
        "没有这个关联码，可能输错了、用过了或已过期。请在另一平台发送 `/link` 重新获取。",
    ),
    "link_too_many_tries": (
        "Those were too many codes that I don't know. Please try again in {minutes} minutes.",
        "输错的次数太多了，请 {minutes} 分钟后再试。",
    ),
    "link_own_code": (
        "This is your own code. Please send it to me on the other platform.",
        "这是您自己的关联码，请在另一平台发送给我。",
    ),
    "link_same_account": (
        "The owner of this code is known on {account} already, and nobody can be two people there.",
        "这个关联码的主人在 {account} 上已有身份，同一账号上的两个人不能关联。",
    ),
    "link_too_late": (
        "That can't be linked any more, one of the two is linked otherwise now. `/link` gives you a new code.",
        "其中一方已另有关联，这次无法完成。发送 `/link` 可以重新获取关联码。",
    ),
    "link_direct": (
        "A code is a secret, and others read along here. Please send me `/link` in a direct message.",
        "关联码需要保密，而这里其他人也能看到。请用私信向我发送 `/link`。",
    ),
    "link_shared": (
        "Conversations here don't belong to one person, so there is nothing to link.",
        "这里的会话不属于某一个人，无法关联。",
    ),
    "link_claimed": (
        "Linking works on chat platforms only: here nobody but the program says who you are.",
        "只有在聊天平台上才能关联：这里只能由程序说明您是谁。",
    ),
    "unlink_nothing": ("You are not linked with anybody.", "您没有任何关联。"),
    "unlink_done": (
        "You are no longer linked. The conversation you had here goes on.",
        "已取消关联，您在这里原来的会话已恢复。",
    ),
    "unlink_all": (
        "Nothing is linked with this conversation any more; {count} links ended. It goes on here.",
        "已取消本会话的 {count} 个关联，会话在这里继续。",
    ),
    "whoami_admin": ("You are an admin of this bot.", "您是这个机器人的管理员。"),
    "whoami_allowed": ("You were let in by its admins.", "您已由管理员开通。"),
    "whoami_listed": ("You are on its list of those who may talk with me.", "您在允许对话的名单上。"),
    "access_title": ("Who may talk with me on {account}", "{account} 的权限"),
    "access_rules": (
        "Direct messages: `{direct}` · channels: `{channels}` · guests: `{guests}` · refusals: `{refusals}`",
        "私信：`{direct}` · 频道：`{channels}` · 访客：`{guests}` · 拒绝时：`{refusals}`",
    ),
    "access_always": ("Channels without a mention: {ids}", "无需提及的频道：{ids}"),
    "access_listed": ("Listed in the configuration: {ids}", "配置中的名单：{ids}"),
    "access_admins": ("Admins: {ids}", "管理员：{ids}"),
    "access_allowed": ("Let in: {ids}", "已开通：{ids}"),
    "access_blocked": ("Kept out: {ids}", "已封禁：{ids}"),
    "access_waiting": ("Waiting to be let in: {ids}", "等待开通：{ids}"),
    "access_resting": ("Too much going on, resting in: {ids}", "消息过多，暂停的频道：{ids}"),
    "access_minutes": ("{id}, {minutes} min", "{id}，{minutes} 分钟"),
    "access_more": ("and {count} more", "另有 {count} 个"),
    "approved": ("{person} may talk with me now.", "{person} 现在可以与我对话了。"),
    "approve_unknown": (
        "No such code is valid here; it may be mistyped, used or more than an hour old. `/access` shows who waits.",
        "没有这个有效的配对码，可能输错了、用过了或超过一小时。`/access` 可查看谁在等待。",
    ),
    "approve_usage": ("Please send `/approve CODE`.", "请发送 `/approve 配对码`。"),
    "blocked": ("{person} is kept out from now on.", "{person} 已被封禁。"),
    "block_admin": (
        "{person} is an admin, so I can't keep them out. Who is one is decided in the configuration (`access.admins`).",
        "{person} 是管理员，无法封禁。管理员由配置（`access.admins`）决定。",
    ),
    "no_person": (
        "I need somebody's id, not their name (at most {longest} characters). `/whoami` shows a person's own; `/access`, `chatgpt-ms people list` and `chatgpt-ms sessions list` show those of others.",
        "需要用户的 ID，而不是名字（最长 {longest} 个字符）。用户可用 `/whoami` 查看自己的 ID；`/权限`、`chatgpt-ms people list` 和 `chatgpt-ms sessions list` 可查看其他人的 ID。",
    ),
    "budget_of": (
        "The budget of {person}: messages a day: {messages}; tokens a day: {tokens}; money a month: {money}.",
        "{person} 的额度：每天消息：{messages}；每天 tokens：{tokens}；每月费用：{money}。",
    ),
    "budget_default": ("as configured", "按配置"),
    "budget_linked": (
        "{person} is linked with another account, and one budget holds for both: it is decided there.",
        "{person} 已与另一账号关联，两边共用一份额度，请在那边设置。",
    ),
    "budget_unpriced": (
        "I can't count money: nobody told me the price of {models}. It belongs into the configuration, under `chat.prices`.",
        "无法计算费用：不知道 {models} 的价格，请在配置的 `chat.prices` 中填写。",
    ),
    "budget_usage": (
        "Please send `/budget ID`, `/budget ID messages=100 tokens=50000 money=5` or `/budget ID default`.",
        "请发送 `/budget ID`、`/budget ID messages=100 tokens=50000 money=5` 或 `/budget ID default`。",
    ),
    "status": ("Model: {model}\nTurns in this conversation: {turns}", "模型：{model}\n本会话轮数：{turns}"),
    "status_summed_up": ("Summed up: {count} earlier turns", "已概括：较早的 {count} 轮"),
    "status_in_view": ("The model sees the newest {count} of them", "模型能看到其中最近的 {count} 轮"),
    "status_persona": ("Persona: {persona}", "角色：{persona}"),
    "status_now": ("Now: {activity}", "当前：{activity}"),
    "activity_idle": ("idle", "空闲"),
    "activity_held_up": ("{count} waiting until a budget has room", "{count} 条等待额度空出"),
    "activity_busy": ("answering, {count} waiting", "正在回答，{count} 条等待"),
    "export_empty": ("There is nothing to export yet.", "还没有可以导出的内容。"),
    "export_title": ("Conversation, {date}", "会话记录，{date}"),
    "export_you": ("You", "您"),
    "export_bot": ("Assistant", "助手"),
    "export_attached": ("Here is this conversation as a file.", "这是本会话的文件。"),
    "forget_ask": (
        "This deletes everything stored of this conversation, for good. To confirm, send `/forget yes`.",
        "这将永久删除本会话存储的全部内容。确认请发送 `/forget yes`。",
    ),
    "forget_done": (
        "Done. {count} turns of this conversation were deleted for good.",
        "已完成，永久删除了本会话的 {count} 轮内容。",
    ),
    "usage_person": ("Your usage", "您的用量"),
    "usage_account": ("Everyone on this account", "此账号所有人"),
    "usage_everybody": ("All accounts", "所有账号"),
    "usage_today": (
        "{title}, today: {messages} messages, {tokens} tokens",
        "{title}，今天：{messages} 条消息，{tokens} tokens",
    ),
    "usage_month": (
        "{title}, this month: {messages} messages, {tokens} tokens{money}",
        "{title}，本月：{messages} 条消息，{tokens} tokens{money}",
    ),
    "usage_of": ("{used} of {cap}", "{used}/{cap}"),
    "usage_cost": (", cost {money}", "，花费 {money}"),
    "usage_resets": (
        "The day starts afresh at {day} UTC, the month at {month} UTC.",
        "每日额度于 {day}（UTC）重置，每月额度于 {month}（UTC）重置。",
    ),
    "help_title": ("What I understand besides questions:", "除了提问，我还懂这些命令："),
    "help_new": ("start a new conversation", "开始新会话"),
    "help_stop": ("stop the answer that is being written", "停止正在写的回答"),
    "help_retry": ("ask the last question again", "重新回答上一个问题"),
    "help_status": ("what this conversation uses and does", "查看会话状态"),
    "help_model": ("show or choose the model", "查看或切换模型"),
    "help_persona": ("show or choose the persona", "查看或切换角色"),
    "help_usage": ("what you used today and this month", "查看今天和本月的用量"),
    "help_whoami": ("show your id", "查看您的 ID"),
    "help_link": ("continue here what you began on another platform", "与您在另一平台的会话关联"),
    "help_unlink": ("undo that", "取消关联"),
    "help_export": ("the whole conversation as text", "导出会话内容"),
    "help_forget": ("delete what is stored of this conversation", "删除本会话的存储内容"),
    "help_access": ("who may talk with me here", "查看谁可以与我对话"),
    "help_approve": ("let somebody in by the code they were given", "凭配对码批准用户"),
    "help_allow": ("let somebody in by their id", "按 ID 允许用户"),
    "help_block": ("keep somebody out by their id", "按 ID 封禁用户"),
    "help_budget": ("show or set what somebody may use", "查看或设置用户额度"),
    "help_help": ("this list", "显示本列表"),
}


def say(name: str, language: Language, **values: object) -> str:
    """The text called `name`. Raises KeyError for a name or value that is missing: a mistake in the program."""
    english, chinese = _TEXTS[name]
    return (chinese if language == "zh" else english).format(**values)
