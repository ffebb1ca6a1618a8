# SPDX-License-Identifier: MIT
"""Corpora larger than one machine: what Ray Data's map_batches is given, for pip install "pith[ray]".

    import pith.ray, ray
    books = ray.data.read_text("books/")                       # rows {"text": …}
    scored = books.map_batches(
        pith.ray.Score, fn_constructor_kwargs={"model": "smollm2.gguf", "policy": "gate"}, batch_size=16,
        num_cpus=4, compute=ray.data.ActorPoolStrategy(size=8),    # eight actors of four threads
    )
    scored.write_parquet("scored/")

Each actor loads the model once, from a path that every machine has. Weights are mapped from the file, so that the actors
of a machine share one copy of them. A row keeps its other columns, its id among them, and what is computed for it depends
on the row alone: a batch that is computed again, because an actor or a machine died meanwhile, gives what it would have
given, and Ray lets each batch's rows out once. Rows come in their order where Ray is asked for that
(DataContext.execution_options.preserve_order).
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import ray

from .errors import ArgumentError
from .model import Model
from .session import Session

if TYPE_CHECKING:
    import numpy.typing as npt

    Batch = dict[str, npt.NDArray[Any]]


class _Worker:
    """An actor's model, and the columns that it reads and adds."""

    adds: tuple[str, ...]

    def __init__(
        self, model: str | os.PathLike[str], column: str, gates: str | os.PathLike[str] | None, threads: int | None
    ) -> None:
        self.model = Model(model, gates=gates, threads=_cpus() if threads is None else threads)
        self.column = column

    def _texts(self, batch: Batch) -> list[str | npt.NDArray[Any]]:
        """The column's texts, or its rows of token ids."""
        if self.column not in batch:
            raise ArgumentError(f"column: expected one of {', '.join(sorted(batch))}, found {self.column}")
        if taken := set(self.adds) & set(batch):
            raise ArgumentError(f"column {min(taken)}: it is to be added, and is there")
        texts = [one if isinstance(one, str) else np.asarray(one) for one in batch[self.column]]
        for place, one in enumerate(texts):
            if not isinstance(one, str) and one.dtype.kind not in "iu":
                raise ArgumentError(f"column {self.column}, row {place} of a batch: expected a text or token ids")
        return texts


class Score(_Worker):
    """Adds how likely each text is: "logprob", the sum of its tokens' log-probabilities in nats, and "tokens", how many
    are in it (all but a window's first, which nothing precedes). A text longer than `window` tokens is scored in windows
    of that many, each by itself; exp(-sum(logprob) / sum(tokens)) over rows is the corpus's perplexity.

    column: of texts, or of lists of token ids
    window: 0: what the model was made for
    threads: default: as many as Ray gives the actor CPUs (num_cpus)
    Others are Model.session()'s: policy, kv, chunk …
    """

    adds = ("logprob", "tokens")

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        column: str = "text",
        gates: str | os.PathLike[str] | None = None,
        threads: int | None = None,
        window: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(model, column, gates, threads)
        self.window = window or self.model.config["context"]
        if self.window < 2:
            raise ArgumentError(f"window: expected at least 2 tokens, found {self.window}")
        self.session = self.model.session(**options)

    def __call__(self, batch: Batch) -> Batch:
        texts = self._texts(batch)
        logprobs, counts = np.zeros(len(texts)), np.zeros(len(texts), np.int64)
        for row, text in enumerate(texts):
            ids = np.asarray(self.model.tokenizer.encode(text) if isinstance(text, str) else text)
            for first in range(0, len(ids), self.window):
                window = ids[first : first + self.window]
                logprobs[row] += _logprob(self.session, window)
                counts[row] += max(0, len(window) - 1)
        return {**batch, "logprob": logprobs, "tokens": counts}


class Generate(_Worker):
    """Adds what the model goes on with: "generated", a text, "finish", why it ended, and "tokens", how many there are.

    column:  of prompts: texts, or lists of token ids, such as tokenizer.chat() gives
    ids:     a column that tells rows apart: each has random numbers of its own, by this and `seed`, whatever batch it
             comes in; None: all have those of `seed`
    at_once: how many of a batch run side by side. Batches are best several times as large.
    threads: default: as many as Ray gives the actor CPUs (num_cpus)
    Others are Model.generate()'s: max_tokens, temperature, policy …
    """

    adds = ("generated", "finish", "tokens")

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        column: str = "text",
        ids: str | None = None,
        gates: str | os.PathLike[str] | None = None,
        threads: int | None = None,
        at_once: int = 16,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(model, column, gates, threads)
        self.ids, self.at_once, self.seed, self.options = ids, at_once, seed, options

    def __call__(self, batch: Batch) -> Batch:
        prompts = self._texts(batch)
        if self.ids is not None and self.ids not in batch:
            raise ArgumentError(f"ids: expected one of {', '.join(sorted(batch))}, found {self.ids}")
        seeds = [self.seed if self.ids is None else _seed(self.seed, batch[self.ids][i]) for i in range(len(prompts))]
        done = self.model.generate_all(prompts, at_once=self.at_once, seeds=seeds, **self.options)
        return {
            **batch,
            "generated": np.array([one.text for one in done], object),
            "finish": np.array([one.finish for one in done], object),
            "tokens": np.array([len(one.tokens) for one in done], np.int64),
        }


def _cpus() -> int:
    """That Ray gave this actor; outside of one, all."""
    if not ray.is_initialized():
        return 0
    return max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 0)))


def _seed(seed: int, id: Any) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed} {id}".encode(), digest_size=8).digest(), "little")


def _logprob(session: Session, ids: npt.NDArray[Any]) -> float:
    """The sum of log p of each token but the first, given those before it."""
    if len(ids) < 2:
        return 0.0
    total, place = 0.0, 1
    sequence = session.add(ids[:-1], "all")
    try:
        while rows := session.step():
            logits = np.stack([row for _, row in rows])
            targets = ids[place : place + len(rows)]
            place += len(rows)
            logits -= logits.max(axis=1, keepdims=True)
            chosen = logits[np.arange(len(rows)), targets].sum(dtype=np.float64)
            np.exp(logits, out=logits)
            total += chosen - np.log(logits.sum(axis=1, dtype=np.float64)).sum()
    finally:
        session.finish(sequence)
    return total
