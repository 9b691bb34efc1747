"""What people are told that no command asked for: why a message got no answer, and marks on answers."""

from __future__ import annotations

NOTICES: dict[str, tuple[str, str]] = {
    # Failures
    "rate_limited": (
        "That was a little fast for me. Please try again in {seconds} s.",
        "您发得有点快，请在 {seconds} 秒后再试。",
    ),
    "queued": (
        "I still have {count} of your messages to answer. Please wait until I have.",
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
        "You have reached today's limit of {count} {count:message|messages}. It starts afresh at {reset} UTC.",
        "您今天的 {count} 条消息额度已用完，将于 {reset}（UTC）重置。",
    ),
    "tokens_per_day_person": (
        "You have used up today's amount of text ({count} {count:token|tokens}). It starts afresh at {reset} UTC.",
        "您今天的用量（{count} tokens）已用完，将于 {reset}（UTC）重置。",
    ),
    "money_per_month_person": (
        "You have used up this month's budget ({count}). It starts afresh at {reset} UTC.",
        "您本月的额度（{count}）已用完，将于 {reset}（UTC）重置。",
    ),
    "messages_per_day_account": (
        "Everyone here together has reached today's limit of {count} {count:message|messages}. It starts afresh at {reset} UTC.",
        "这里所有人今天共用的 {count} 条消息额度已用完，将于 {reset}（UTC）重置。",
    ),
    "tokens_per_day_account": (
        "Everyone here together has used up today's amount of text ({count} {count:token|tokens}). It starts afresh at {reset} UTC.",
        "这里所有人今天共用的用量（{count} tokens）已用完，将于 {reset}（UTC）重置。",
    ),
    "money_per_month_account": (
        "Everyone here together has used up this month's budget ({count}). It starts afresh at {reset} UTC.",
        "这里所有人本月共用的额度（{count}）已用完，将于 {reset}（UTC）重置。",
    ),
    "messages_per_day_everybody": (
        "All my chats together have reached today's limit of {count} {count:message|messages}. It starts afresh at {reset} UTC.",
        "所有平台今天共用的 {count} 条消息额度已用完，将于 {reset}（UTC）重置。",
    ),
    "tokens_per_day_everybody": (
        "All my chats together have used up today's amount of text ({count} {count:token|tokens}). It starts afresh at {reset} UTC.",
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
    "welcome": ("You were let in: you may talk with me now.", "您已获准，现在可以与我对话了。"),
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
}
