"""What the dialects of chat platforms have in common, beyond CommonMark."""

from __future__ import annotations

from dataclasses import replace
from unicodedata import category

from core.markdown.links import misleads, safe
from core.markdown.mentions import BREAK, harmless_target
from core.markdown.plaintext import plain
from core.markdown.tables import without_table
from core.markdown.tree import Blocks, Emphasis, Inline, Inlines, Quote, Strike, Strong, Table, Text
from core.markdown.writer import FLUSH, Writer


class ChatWriter(Writer):
    """Boxes for tasks, a drawn rule, formulas as code, tables as code or records, images as links.

    A dialect says how it writes a link (`anchor`) and escapes text; where its parser is strict about marks beside
    punctuation it sets `strict_marks`.
    """

    strict_marks = False
    """Marks beside punctuation are not understood between letters: the punctuation is moved out of the style."""
    flush_code = True
    """Code stands at the margin, also in a list: the indent would be shown as part of it."""

    def checkbox(self, checked: bool) -> str:
        return "☑ " if checked else "☐ "

    def rule(self) -> str:
        return "──────────"

    def maths(self, text: str) -> str:
        return self.code(text)

    def maths_block(self, body: str) -> str:
        return self.code_block("", body + "\n")

    def code_block(self, info: str, body: str) -> str:
        language = info.split(maxsplit=1)[0] if info.strip() else ""
        language = "".join(c for c in language if c.isalnum() or c in "+#-._")
        body = self.code_text(body.rstrip("\n").replace("```", f"`{BREAK}`{BREAK}`"))
        lines = [f"```{language}", *body.split("\n"), "```"]
        return "\n".join((FLUSH if self.flush_code else "") + line for line in lines)

    def code_text(self, text: str) -> str:
        """What stands in code, where the platform reads something into it even there."""
        return text

    def table(self, table: Table) -> str:
        return self.blocks(without_table(table))

    def image(self, source: str, alt: str) -> str:
        return self.link(source, (Text(alt.strip() or source),))

    def link(self, target: str, children: Inlines) -> str:
        """A link that says where it leads if its words say otherwise; only http, https and mailto can be followed."""
        words = plain(children).strip()
        if words and not safe(target):
            return f"{self.span(children)} ({self.text(target)})" if target and target != words else self.span(children)
        if not safe(target):
            return self.text(target)
        target = harmless_target(target)
        if words == target or not words or words == target.removeprefix("mailto:"):
            return self.address(target)
        if misleads(words, target):
            return f"{self.span(children)} ({self.address(target)})"
        return self.anchor(target, children)

    def anchor(self, target: str, children: Inlines) -> str:
        """Words that lead to `target`, which is safe to follow."""
        return f"{self.span(children)} ({self.address(target)})"

    def address(self, target: str) -> str:
        """The target itself, to be followed."""
        return target

    def inlines(self, inlines: Inlines) -> str:
        return super().inlines(tidied(inlines) if self.strict_marks else inlines)


def unquoted(blocks: Blocks) -> Blocks:
    """Without a second level of quotes, for platforms that have one."""
    return tuple(
        inner for block in blocks for inner in (unquoted(block.children) if isinstance(block, Quote) else (block,))
    )


def tidied(inlines: Inlines) -> Inlines:
    """The same words with punctuation at the edge of a style moved out of it where it touches a letter.

    A closing mark between punctuation and a letter is none to most Markdown parsers: `**注意：**内容`.
    """
    result: list[Inline] = []
    for index, inline in enumerate(inlines):
        if not isinstance(inline, Emphasis | Strong | Strike):
            result.append(inline)
            continue
        children = tidied(inline.children)
        before = plain(tuple(result))[-1:]
        after = plain(inlines[index + 1 : index + 2])[:1]
        lead, inner = _lead(children)
        tail, inner = _tail(inner)
        if (lead and before.isalnum()) or (tail and after.isalnum()):
            # Both sides, so that a pair of brackets or quotes stays together.
            keep_lead, keep_tail = not (before.isalnum() or _opens(lead)), not (after.isalnum() or _closes(tail))
            children = ((Text(lead),) if lead and keep_lead else ()) + inner
            children += (Text(tail),) if tail and keep_tail else ()
            lead, tail = "" if keep_lead else lead, "" if keep_tail else tail
        else:
            lead = tail = ""
        result.extend([Text(lead)] if lead else [])
        result.extend([replace(inline, children=children)] if children else [])
        result.extend([Text(tail)] if tail else [])
    return tuple(result)


def _is_punctuation(character: str) -> bool:
    return category(character)[0] in "PS"


def _opens(text: str) -> bool:
    return text != "" and category(text[-1]) in ("Ps", "Pi")


def _closes(text: str) -> bool:
    return text != "" and category(text[0]) in ("Pe", "Pf")


def _lead(children: Inlines) -> tuple[str, Inlines]:
    if not children or not isinstance(children[0], Text):
        return "", children
    text = children[0].text
    rest = text.lstrip("".join(filter(_is_punctuation, set(text))))
    return text[: len(text) - len(rest)], (((Text(rest),) if rest else ()) + children[1:])


def _tail(children: Inlines) -> tuple[str, Inlines]:
    if not children or not isinstance(children[-1], Text):
        return "", children
    text = children[-1].text
    rest = text.rstrip("".join(filter(_is_punctuation, set(text))))
    return text[len(rest) :], children[:-1] + ((Text(rest),) if rest else ())
