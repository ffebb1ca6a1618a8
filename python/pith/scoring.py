# SPDX-License-Identifier: MIT
"""How likely continuations are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from .session import Session


@dataclass(frozen=True)
class Likelihood:
    """Of a continuation, given its context."""

    logprob: float  # in nats, of all of it
    greedy: bool  # it is what the model would write, always choosing the likeliest token
    tokens: int
    kept: float  # of the context's rows, over layers and lanes, the share that is left where the continuation begins


def _logprobs(logits: npt.NDArray[np.float32], token: int) -> tuple[float, bool]:
    """log p of a token, and whether it is the likeliest."""
    best = int(logits.argmax())
    shifted = logits.astype(np.float64) - float(logits[best])
    return float(shifted[token] - np.log(np.exp(shifted).sum())), token == best


def score(session: Session, groups: Sequence[Any], results: list[Likelihood | None]) -> None:
    """Contexts side by side, then all of their continuations but what the context's own logits say."""
    places = {session.add(context): continuations for context, continuations in groups}
    waiting: dict[int, tuple[int, npt.NDArray[np.int32], float, list[tuple[float, bool]]]] = {}
    finished = {}
    while rows := session.step():
        for sequence, logits in rows:
            finished[sequence] = logits
    for sequence, continuations in places.items():
        stats = session.stats(sequence)
        kept = sum(stats["live_rows"]) / stats["seen_rows"]
        for i, tokens in continuations:
            first = _logprobs(finished[sequence], int(tokens[0]))
            if len(tokens) == 1:
                results[i] = Likelihood(first[0], first[1], 1, kept)
                continue
            branch = session.fork(sequence)
            session.push(branch, tokens[:-1], "all")
            waiting[branch] = (i, tokens, kept, [first])
        session.finish(sequence)
    while rows := session.step():
        for branch, logits in rows:
            i, tokens, kept, parts = waiting[branch]
            parts.append(_logprobs(logits, int(tokens[len(parts)])))
            if len(parts) == len(tokens):
                results[i] = Likelihood(
                    sum(part[0] for part in parts), all(part[1] for part in parts), len(tokens), kept
                )
                session.finish(branch)
