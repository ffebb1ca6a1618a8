# SPDX-License-Identifier: MIT
"""What can be asked of sequences and of generations, as the library takes it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from . import _pith
from ._pith import Policy
from .errors import ArgumentError

if TYPE_CHECKING:
    import numpy.typing as npt

    Ids = Sequence[int] | npt.NDArray[np.integer[Any]]
    Fed = Ids | npt.NDArray[np.floating[Any]]  # or embeddings [tokens, d_model] in place of token ids
    Path = str | os.PathLike[str]


class SessionOptions(TypedDict, total=False):
    """How a sequence is remembered."""

    policy: str | Policy | None  # default: the learned gate if the model has one, else nothing is forgotten
    kv: str  # how keys and values are stored: "f32" (default, exact), "f16", "bf16", "q8_0", "q4_0", "k=…,v=…"
    gate_keys: str | None  # "f32" or "f16"
    chunk: int  # tokens of a prompt that are seen and judged together (256)
    context: int  # the longest sequence; 0: what the model was made for
    kv_budget: int  # bytes of keys and values, 0: unlimited
    record_drops: bool  # keep drop_at


class RequestOptions(TypedDict, total=False):
    """What is wanted of a generation."""

    max_tokens: int | None  # default: until the text ends or the context is full
    temperature: float  # 1; 0: the likeliest token
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    repetition_window: int  # how many of the latest tokens are penalised (64)
    seed: int
    stop: str | Sequence[str]  # texts before which the text ends
    ends: Sequence[int] | None  # tokens that end the text; default: those of the model
    logprobs: int | None  # of each token, and of so many likeliest
    logit_bias: dict[int, float]
    banned: Sequence[int]
    allowed: Sequence[int]
    draft: int  # guesses fed ahead, at most 8; the tokens stay the same
    draft_layers: int
    tau: float | None  # strength of the learned gate, in place of the policy's
    pinned: int  # so many of the prompt's first tokens stay, whatever the policy does
    prefix: int  # so many of them are a prompt of their own, at whose end policies act, and with which others begin, too


class GenerateOptions(SessionOptions, RequestOptions, total=False):
    """Both."""


SESSION_KEYS = frozenset(SessionOptions.__annotations__)
REQUEST_KEYS = frozenset(RequestOptions.__annotations__)


def ids_of(tokens: Ids) -> npt.NDArray[np.int32]:
    """Token ids, or positions, as the library takes them."""
    given = np.asarray(tokens)
    if given.ndim != 1 or (given.size > 0 and given.dtype.kind not in "iu"):
        raise TypeError(f"token ids: expected a list of whole numbers, found {given.dtype} {list(given.shape)}")
    ids = np.ascontiguousarray(given, dtype=np.int32)
    if given.size > 0 and not np.array_equal(ids, given):
        raise ArgumentError("token ids: expected 32-bit numbers, found larger ones")
    return ids


def fed_of(tokens: Fed) -> npt.NDArray[np.int32] | npt.NDArray[np.float32]:
    """Token ids, or embeddings, as the library takes them."""
    given = np.asarray(tokens)
    return np.ascontiguousarray(given, dtype=np.float32) if given.ndim == 2 and given.dtype.kind == "f" else ids_of(given)


def policy_of(policy: str | Policy | None) -> Policy | None:
    return Policy(policy) if isinstance(policy, str) else policy


def check_known(options: dict[str, Any], known: frozenset[str]) -> None:
    if unknown := options.keys() - known:
        raise TypeError(f"unknown option {min(unknown)!r}; there are {', '.join(sorted(known))}")


def request_of(options: dict[str, Any]) -> _pith.Request:
    check_known(options, REQUEST_KEYS)
    stop = options.get("stop")
    if isinstance(stop, str):
        options["stop"] = [stop]
    elif stop is not None:
        options["stop"] = list(stop)
    for name in ("ends", "banned", "allowed"):
        if options.get(name) is not None:
            options[name] = [int(token) for token in options[name]]
    return _pith.Request(**options)


def split(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of a session, and of a request."""
    check_known(options, SESSION_KEYS | REQUEST_KEYS)
    session = {name: value for name, value in options.items() if name in SESSION_KEYS}
    return session, {name: value for name, value in options.items() if name in REQUEST_KEYS}
