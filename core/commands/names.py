"""What the chat commands are called, and how one is recognised in a text."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from core.codes import HIDDEN
from core.texts import SLASHES

NAMES: Mapping[str, tuple[str, ...]] = {
    "help": ("/help", "/帮助"),
    "new": ("/new", "/reset", "/新会话", "/重置"),
    "stop": ("/stop", "/cancel", "/停止"),
    "retry": ("/retry", "/重试"),
    "status": ("/status", "/状态"),
    "model": ("/model", "/模型"),
    "persona": ("/persona", "/角色"),
    "usage": ("/usage", "/用量"),
    "whoami": ("/whoami", "/我是谁"),
    "link": ("/link", "/关联"),
    "unlink": ("/unlink", "/取消关联"),
    "export": ("/export", "/导出"),
    "forget": ("/forget", "/忘记"),
    "access": ("/access", "/权限"),
    "approve": ("/approve", "/批准"),
    "allow": ("/allow", "/允许"),
    "block": ("/block", "/封禁"),
    "budget": ("/budget", "/额度"),
}
"""Every command with the words for it, the first English one and the first Chinese one being those that are shown."""

FOR_ADMINS = frozenset({"access", "approve", "allow", "block", "budget"})
"""Commands of those whom the account's `access.admins` names."""

PRIVATE = FOR_ADMINS | {"usage", "whoami", "link", "unlink", "export"}
"""Commands whose answer is for their person alone: after a slash command others do not see it, where there is a way."""

_WITH_CODE = frozenset({"link", "approve"})
_OF_PEOPLE = frozenset({"allow", "block", "budget"})
_WITH_ARGUMENT = _OF_PEOPLE | {"model", "persona", "link", "forget", "approve"}
_WIDE_SPACE = "\u3000"  # as Chinese input methods write it
_BY_WORD = {word: name for name, words in NAMES.items() for word in words}


@dataclass(frozen=True, slots=True)
class Command:
    """A command as it was typed."""

    name: str
    argument: str

    @property
    def bypasses(self) -> bool:
        """Whether it is carried out at once. Only /retry waits for its turn: it asks the model."""
        return self.name != "retry"


def parse_command(text: str) -> Command | None:
    """The command that `text` is, or None. A bare `reset` is one too; `/new` followed by more words is not."""
    stripped = text.strip()
    if stripped.lower() == "reset":
        return Command("new", "")
    if not stripped.startswith(SLASHES):
        return None
    word, _, argument = f"/{stripped[1:]}".replace(_WIDE_SPACE, " ").partition(" ")
    name = _BY_WORD.get(word.lower())
    argument = argument.strip()
    if name is None or (argument and name not in _WITH_ARGUMENT):
        return None
    return Command(name, argument)


def without_code(text: str) -> str:
    """What is kept of a command that takes or tells a one-time code, once it was carried out. Empty: of that text, all."""
    command = parse_command(text)
    if command is None or command.name not in _WITH_CODE:
        return ""
    word = text.split(maxsplit=1)[0]
    return f"{word} {HIDDEN}" if command.argument else word


DEFAULT = ("default", "默认")
"""Words for what is not set any more."""

BUDGETS = {"messages": "messages_per_day", "tokens": "tokens_per_day", "money": "money_per_month"}
"""What `/budget` sets, by the words for it."""


def with_person(text: str, mentioned: Collection[str]) -> str:
    """For platforms that tell whom a message mentions, but not where in it: a command about somebody with their id for the
    name, or at the place of a name that the platform took out. Other texts, and where it is not clear who is meant, as
    they are."""
    command, ids = parse_command(text), set(mentioned)
    if command is None or command.name not in _OF_PEOPLE or len(ids) != 1:
        return text
    words = command.argument.split()
    named = next((place for place, word in enumerate(words) if sets_budget(word)), len(words))
    name = " ".join(words[:named])
    if name and (not name.startswith("@") or "@" in name[1:]):
        return text
    return " ".join((text.split(maxsplit=1)[0], *ids, *words[named:]))


def sets_budget(word: str) -> bool:
    """Whether `/budget` takes it for something to set, and not for a part of an id."""
    return word.lower() in DEFAULT or word.partition("=")[0].lower() in BUDGETS


def is_about_somebody(text: str) -> bool:
    """Whether `text` is a command that takes a person's id. An adapter puts ids for the mentions in it, names elsewhere:
    whoever types `/block @Bob` chose a person from a list, not a name."""
    command = parse_command(text)
    return command is not None and command.name in _OF_PEOPLE
