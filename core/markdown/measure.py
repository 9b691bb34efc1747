"""How long and how wide text is, and where it may be cut."""

from __future__ import annotations

from unicodedata import category, combining, east_asian_width

_ZWJ = "\u200d"
_LONGEST_CLUSTER = 64
"""Code points. What piles up more marks than this may be cut: it is no writing of any language."""


def utf16_units(text: str) -> int:
    """Length in UTF-16 code units, as JavaScript counts."""
    return len(text) + sum(character > "\uffff" for character in text)


def utf8_bytes(text: str) -> int:
    """Length in bytes of UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def is_boundary(text: str, at: int) -> bool:
    """Whether `text` may be cut before index `at`: not inside what a reader sees as one character.

    The rules of Unicode Standard Annex 29 for extended grapheme clusters, in the direction of keeping together where a
    table of properties would be needed to tell (after a zero-width joiner, after a virama).
    """
    if at <= 0 or at >= len(text):
        return True
    before, after = text[at - 1], text[at]
    if before.isascii() and after.isascii():
        return not (before == "\r" and after == "\n")
    if _extends(after) or before == _ZWJ or (combining(before) == 9 and after.isalpha()):
        return False
    if _is_regional(before) and _is_regional(after):
        count = 0
        while count < at and _is_regional(text[at - 1 - count]):
            count += 1
        return count % 2 == 0
    return not _joins_hangul(before, after)


def boundary_before(text: str, at: int) -> int:
    """The last index up to `at` where `text` may be cut; `at` itself inside a cluster that has no end."""
    start = at
    while start > 0 and not is_boundary(text, start):
        start -= 1
        if at - start > _LONGEST_CLUSTER:
            return at
    return start


def clusters(text: str) -> list[str]:
    """`text` by what a reader sees as one character."""
    found, start = [], 0
    for at in range(1, len(text) + 1):
        if is_boundary(text, at):
            found.append(text[start:at])
            start = at
    return found


def width(text: str) -> int:
    """Columns of a monospaced font: Chinese characters and emoji take two, marks none."""
    if text.isascii():
        return len(text)
    return sum(map(_cluster_width, clusters(text)))


def _cluster_width(cluster: str) -> int:
    if "\ufe0f" in cluster or _is_regional(cluster[0]):
        return 2
    base = cluster[0]
    if category(base) in ("Mn", "Me", "Cf", "Cc"):
        return 0
    return 2 if east_asian_width(base) in "WF" else 1


def _extends(character: str) -> bool:
    return (
        category(character) in ("Mn", "Me", "Mc")
        or character in "\u200c\u200d"
        or "\U0001f3fb" <= character <= "\U0001f3ff"
        or "\U000e0020" <= character <= "\U000e007f"
    )


def _is_regional(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _joins_hangul(before: str, after: str) -> bool:
    def kind(character: str) -> str:
        if "\u1100" <= character <= "\u115f":
            return "L"
        if "\u1160" <= character <= "\u11a7":
            return "V"
        if "\u11a8" <= character <= "\u11ff":
            return "T"
        if "\uac00" <= character <= "\ud7a3":
            return "LV" if (ord(character) - 0xAC00) % 28 == 0 else "LVT"
        return ""

    return kind(after) in {
        "L": ("L", "V", "LV", "LVT"),
        "V": ("V", "T"),
        "LV": ("V", "T"),
        "LVT": ("T",),
        "T": ("T",),
    }.get(kind(before), ())
