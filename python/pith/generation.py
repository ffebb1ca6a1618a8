# SPDX-License-Identifier: MIT
"""Prompts in, pieces of text out: one by one, or side by side."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import _pith
from .errors import Error
from .options import ids_of, request_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Unpack

    from .model import Model
    from .options import Ids, Path, RequestOptions, SessionOptions


@dataclass
class Generation:
    """What came of a prompt."""

    text: str = ""
    tokens: list[int] = field(default_factory=list)  # chosen, with the one that ended the text
    finish: str | None = None  # "end", "stop", "length", "context", "cancelled"; None: not yet
    logprobs: list[float] = field(default_factory=list)  # of each token, where asked for
    top: list[list[tuple[int, float]]] = field(default_factory=list)  # the likeliest, where asked for
    stats: dict[str, Any] | None = None  # of its sequence, at its end
    drop_at: npt.NDArray[np.int32] | None = None  # with record_drops: [layer, lane, position], -1: not dropped
    drafts: tuple[int, int] = (0, 0)  # guesses that were fed, and how many of them were right
    reused: int = 0  # of the prompt, its first tokens, which were not read (prefix_bytes)

    def _add(self, piece: _pith.Piece) -> None:
        self.text += piece.text
        if piece.token is not None:
            self.tokens.append(piece.token)
        if piece.logprob is not None:
            self.logprobs.append(piece.logprob)
            self.top.append(piece.top)
        if piece.finish is not None:
            self.finish = piece.finish
            self.stats = piece.stats
            self.drop_at = piece.drop_at if piece.stats is not None and piece.drop_at.size > 0 else None
            self.drafts = piece.drafts
            self.reused = piece.reused


class Stream(Iterator[str]):
    """Pieces of a text as they become certain: whole characters. `result` is what there is so far. Ends with the text,
    with close(), and when nobody holds it any more."""

    def __init__(self, generator: Generator, request: int, save: str | None) -> None:
        self._generator: Generator | None = generator
        self._request = request
        self._save = save
        self._texts: list[str] = []
        self._error: Exception | None = None
        self.result = Generation()

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> str:
        while not self._texts:
            if self._error is not None:
                self._generator = None
                error, self._error = self._error, None
                raise error
            if self._generator is None:
                raise StopIteration
            if self.result.finish is not None:
                self._end()
            else:
                self._generator.step()
        return self._texts.pop(0)

    def __del__(self) -> None:
        if getattr(self, "_generator", None) is not None:
            self._generator._inner.cancel(self._request)

    def close(self) -> None:
        """Ends the generation where it is, saves it where that is wanted, and frees what it holds."""
        if self._generator is None:
            return
        self._generator._inner.cancel(self._request)
        while self._save is not None and self.result.finish is None:
            self._generator.step()
        self._texts.clear()
        self._end()

    def text(self) -> str:
        """The whole text: what is left is generated first."""
        for _ in self:
            pass
        return self.result.text

    def _take(self, piece: _pith.Piece) -> None:
        self.result._add(piece)
        if piece.text:
            self._texts.append(piece.text)
        try:
            piece.raise_error()
        except Exception as error:
            self._error = error

    def _end(self) -> None:
        generator, self._generator = self._generator, None
        if self._save is not None and self._error is None:
            generator._inner.save(generator._conversations[self._request], self._save)
        if self.result.finish is not None:
            generator._leave(self._request)


class Generator:
    """Generations that come and go side by side, in one ragged batch over one session: each gets the tokens that it
    would get alone, bit for bit. Whichever stream is asked for its next piece, all of them go on.

    at_once:      how many run side by side; the others wait their turn
    prefix_bytes: of what prompts begin with, at most so many bytes of rows are kept for those that begin alike, and need
                  not read it again; 0: nothing
    Others are Model.session()'s.
    """

    def __init__(
        self, model: Model, *, at_once: int = 16, prefix_bytes: int = 0, **options: Unpack[SessionOptions]
    ) -> None:
        self._model = model
        try:
            tokenizer = model.tokenizer
        except Error:  # then prompts are token ids, and there is no text
            tokenizer = None
        self._inner = _pith.Generator(model._model, tokenizer, model._options(dict(options)), at_once, prefix_bytes)
        self._streams: weakref.WeakValueDictionary[int, Stream] = weakref.WeakValueDictionary()
        self._conversations: dict[int, int] = {}  # of requests that load or save
        self._turn = threading.Lock()

    def submit(
        self,
        prompt: str | Ids,
        *,
        load: Path | None = None,
        save: Path | None = None,
        **options: Unpack[RequestOptions],
    ) -> Stream:
        """Goes on from a text, or from token ids: pieces of text as they come. The work is done as they are asked for.

        load: a file in which a generation was saved: the prompt follows it, and nothing of it is read again
        save: a file that is written once the text has ended: what was read and written, with all that is held of it
        """
        if isinstance(prompt, str) and load is not None:
            prompt = self._model.tokenizer.encode(prompt, "plain")  # in the middle of a text
        elif isinstance(prompt, str):
            self._model.tokenizer  # what is wrong with it is said now
        how = request_of(dict(options))
        conversation = None
        if load is not None:
            conversation = self._inner.restore(load)
        elif save is not None:
            conversation = self._inner.open()
        try:
            request = self._inner.submit(prompt if isinstance(prompt, str) else ids_of(prompt), how, conversation)
        except BaseException:
            if conversation is not None:
                self._inner.close(conversation)
            raise
        if conversation is not None:
            self._conversations[request] = conversation
        stream = Stream(self, request, os.fspath(save) if save is not None else None)
        self._streams[request] = stream
        return stream

    def step(self) -> bool:
        """One forward pass for all that run; False when nothing is left to do."""
        return self._pass()[1]

    def _pass(self) -> tuple[list[int], bool]:
        """Which requests ended, and whether there is more to do."""
        ended = []
        with self._turn:
            pieces, more = self._inner.step()
            for piece in pieces:
                stream = self._streams.get(piece.request)
                if stream is not None and stream._generator is not None:
                    stream._take(piece)
                elif piece.finish is not None:
                    self._leave(piece.request)
                if piece.finish is not None:
                    ended.append(piece.request)
        return ended, more

    def _leave(self, request: int) -> None:
        """What a request that has ended went on from is let go."""
        if (conversation := self._conversations.pop(request, None)) is not None:
            self._inner.close(conversation)

    @property
    def pending(self) -> int:
        """Generations that have not ended."""
        return self._inner.pending

    @property
    def stats(self) -> dict[str, Any]:
        """What is held of all of them together, as the latest step left it."""
        return self._inner.stats

    @property
    def prefixes(self) -> dict[str, int]:
        """How often prompts went on from what others began with: prompts, hits, tokens_reused; why the others did not:
        not_kept, policy_looks_ahead, read_whole; dropped, as there was no room; kept now, and their bytes."""
        with self._turn:
            return self._inner.prefixes
