"""An answer in messages while it is still being written."""

from __future__ import annotations

from core.markdown.dialect import Dialect
from core.markdown.pieces import sourced
from core.markdown.split import Splitter
from core.markdown.stream import BlockStream


class Preview:
    """Cuts a growing answer into parts, as `split` will cut the whole.

    `feed` is cheap. `complete` are parts that will never change, in order: send each once and leave it. `growing` is
    what stands behind them now; its cost depends on the last part and the last block, not on the answer's length.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._blocks = BlockStream()
        self._splitter = Splitter(dialect)

    def feed(self, piece: str) -> None:
        """Take the next piece of CommonMark."""
        if settled := self._blocks.feed(piece):
            self._splitter.extend(settled)

    @property
    def complete(self) -> list[str]:
        """The parts that are complete; it only grows."""
        return self._splitter.parts

    def growing(self) -> list[str]:
        """The parts that may still change, made presentable: usually one, none before there is anything to show.

        More than one where the last block has outgrown its message; how it is cut is settled only when it ends.
        """
        trial = self._splitter.trial()
        trial.extend(sourced(self._blocks.preview()))
        return trial.finish()

    def finish(self) -> list[str]:
        """All parts, now that the answer is whole: exactly what `split` makes of it."""
        self._splitter.extend(self._blocks.finish())
        return self._splitter.finish()
