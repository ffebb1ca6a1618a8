# SPDX-License-Identifier: MIT
"""Sequences in the making, for those who feed tokens themselves."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, overload

import numpy as np

from . import _pith
from .errors import ArgumentError, Error
from .options import fed_of, ids_of

if TYPE_CHECKING:
    import numpy.typing as npt
    from typing_extensions import Unpack

    from .model import Model
    from .options import Fed, Ids, Path, SessionOptions


class Restored(NamedTuple):
    """What Session.restore() made."""

    sequence: int
    note: str  # that was saved beside it


class Session(_pith.Session):
    """Sequences in the making: tokens in, logits out. For one thread at a time; another call meanwhile is an Error
    (state). `sequence` None means that of feed().

    Logits are views of the memory that the pass wrote, read-only, and good as long as they are held. feed() of more
    tokens than a chunk copies them together. drop_at and stats are copies.
    """

    def __init__(self, model: Model, **options: Unpack[SessionOptions]) -> None:
        super().__init__(model._model, model._options(dict(options)))
        self._model = model

    def feed(self, tokens: Fed, sequence: int | None = None, decoded: bool = False) -> npt.NDArray[np.float32]:
        """Feeds one sequence, and gives the logits after each of the tokens: float32 [tokens, vocab]. The first call
        begins the session's own sequence; later ones go on behind it, as another prompt, at whose end policies act, or
        with `decoded` as tokens that were chosen, one after another. In place of token ids, here and in add(), prompt()
        and push(), there may be embeddings: an array of floats [tokens, d_model]; Model.embed() has those of tokens."""
        return super().feed(fed_of(tokens), sequence, decoded)

    def add(self, tokens: Fed, logits: str = "last") -> int:
        """Starts a sequence with its prompt. logits: "last", "all" or "none", to come out of step()."""
        return super().add(fed_of(tokens), logits)

    def prompt(self, sequence: int, tokens: Fed, logits: str = "last") -> None:
        """One more prompt behind all that the sequence was given."""
        super().prompt(sequence, fed_of(tokens), logits)

    def push(self, sequence: int, tokens: Fed | int, logits: str = "last") -> None:
        """Decoded tokens: as if pushed one after another."""
        super().push(sequence, fed_of([tokens] if isinstance(tokens, (int, np.integer)) else tokens), logits)

    def step(self) -> list[tuple[int, npt.NDArray[np.float32]]]:
        """Feeds what is pending, all sequences together, until some have logits: pairs of a sequence and its logits
        [vocab]. Empty when nothing is left to come. Ctrl-C is heard between passes, and the next step goes on."""
        return super().step()

    def keep(self, positions: Ids, sequence: int | None = None) -> None:
        """These tokens stay from now on, whatever the policy does."""
        super().keep(ids_of(positions), sequence)

    def forget(self, layer: int, positions: Ids, sequence: int | None = None) -> None:
        """These tokens leave one layer now."""
        super().forget(layer, ids_of(positions), sequence)

    @overload
    def save(self, path: None = None, *, sequence: int | None = None) -> bytes: ...
    @overload
    def save(self, path: Path, *, note: str = "", sequence: int | None = None) -> None: ...
    def save(self, path: Path | None = None, *, note: str = "", sequence: int | None = None) -> bytes | None:
        """A sequence with all that is held of it, as bytes, or to a file, which is replaced as a whole. restore() in
        another session of the same model, policy and cache formats, in another process, too, makes it again, and what
        it is fed then has, bit for bit, the logits and drops that it would have had here. A file has room for a note."""
        if path is not None:
            super().save_file(path, note, sequence)
            return None
        if note:
            raise ArgumentError("save: expected a path, as bytes have no room for a note, found none")
        return super().save(sequence)

    def restore(self, saved: bytes | bytearray | memoryview | Path) -> Restored:
        """A new sequence that was saved, from its bytes or its file, and its note. A session in which nothing was fed
        goes on with it: it is that of feed(). Where anything is wrong with what was saved, or it is another model's, or
        another policy's, Error says so, and the session is as it was."""
        of_file = isinstance(saved, (str, os.PathLike))
        return Restored(*super().restore(os.fspath(saved) if of_file else bytes(saved)))

    def compress(self, begin: int, end: int, pins: Ids, sequence: int | None = None) -> None:
        """Of the tokens [begin, end) only the pins stay, in all layers, from the token on that follows them; where some
        of them are yet to come, once the last is read."""
        super().compress(begin, end, ids_of(pins), sequence)

    def kvzip(
        self,
        share: float = 0.3,
        *,
        sinks: int = 4,
        chunk: int = 2048,
        overlap: int = 8,
        sequence: int | None = None,
    ) -> None:
        """Of all that the sequence was fed this share of its rows stays: those that the model looks at most while it
        writes the whole again (KVzip, Kim et al., arXiv 2505.23416), and the first tokens. For a text that will be
        asked about many times; of a policy per head ("per_head(none)") each kv-head keeps what it looks at itself.

        chunk:   tokens that are written again at a time
        overlap: so many tokens before each later part say where it begins
        """
        tokenizer = self._model.tokenizer
        try:
            turn = tokenizer.render([{"role": "user", "content": "0"}]).rpartition("0")[2]
        except Error:  # no template, or one that has other demands
            turn = "\n"
        whole, part, answer = (
            tokenizer.encode(text, "parse_only")
            for text in (
                "\n\nRepeat the previous context exactly.",
                "\n\nRepeat the part of the previous context exactly, starting with",
                turn,
            )
        )
        super().replay(share, sinks, chunk, overlap, whole, part, answer, sequence)
