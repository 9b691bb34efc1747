"""Everything the gateway itself says in a chat, in English and Chinese. One catalogue; nobody else writes sentences.

A text is short and kind; where it speaks of a fault it carries an id under which the log has the cause. `{count:message|messages}`
is the word that fits the number.
"""

from core.texts.say import SLASHES, TEXTS, Language, language_of, say

__all__ = ["SLASHES", "TEXTS", "Language", "language_of", "say"]
