# SPDX-License-Identifier: MIT
"""Methods of forgetting: a function for each that the library lists, made of that list.

    pith.policies.snapkv(rows=512)
    pith.policies.chain(pith.policies.gate(), pith.policies.h2o(share=0.25, rows=1024))
    pith.policies.for_layers(pith.policies.tova(rows=256), layers="0-3")

Options are keywords, with the library's defaults; help() of a function says what they mean. What a function gives is a
Policy, whose text any call that takes a policy reads as well: "h2o(rows=1024,recent=256)".
"""

from __future__ import annotations

import inspect
import keyword
from typing import TYPE_CHECKING, Any, Protocol

from ._pith import MethodText, OptionText, Policy, Rows, catalogue
from ._pith import chain as _chain
from ._pith import scored as _scored
from .errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np


class Scorer(Protocol):
    """Says what the rows of one lane are worth: float32 [rows], higher is worth more; infinite: not to be judged."""

    def __call__(self, rows: Rows) -> np.ndarray: ...


def chain(*policies: str | Policy) -> Policy:
    """These in turn, each on what those before it have left."""
    return _chain([Policy(one) if isinstance(one, str) else one for one in policies])


def scored(
    scorer: Scorer,
    *,
    rows: int = 1024,
    share: float = 0.0,
    columns: Sequence[str] = (),
    sinks: int = 4,
    recent: int = 32,
    slack: int = 0,
    per_head: bool = True,
    on_prefill: bool = False,
) -> Policy:
    """A method of one's own: a function of Python says what rows are worth, once per pass and lane. Slow, for research.

    scorer:     given the Rows of a lane, which are good until it returns; what it raises comes out of the call that
                fed the tokens, and nothing is evicted
    rows:       all that stay in a lane; or with share above 0, that share of the tokens so far
    columns:    of evidence that it reads: "mass", "window", "peak", "last", "times", "last_attended", "value_norm", or
                names of its own (Rows.set_column)
    sinks, recent: first and latest tokens that always stay
    slack:      rows above the budget before it is cut to
    per_head:   every kv-head forgets for itself; else a layer's heads together
    on_prefill: acts at the end of a prompt, and not in decoding
    """
    return _scored(scorer, list(columns), rows, share, sinks, recent, slack, per_head, on_prefill)


def _default(option: OptionText) -> Any:
    """An option's default as a value of its kind."""
    kind = int if option.range.startswith("a whole number") else float if option.range.startswith("a number") else str
    return kind(option.fallback)


def _spell(value: Any) -> str:
    """A value as the text of a policy has it: a range of layers, or of heads a list, or a list for each layer."""
    if isinstance(value, range):
        return f"{value.start}-{value.stop - 1}"
    if isinstance(value, dict):
        return "+".join(f"{layer}.{head}" for layer, heads in value.items() for head in heads)
    if isinstance(value, (list, tuple)):
        return "+".join(str(one) for one in value)
    if isinstance(value, bool):
        return str(int(value))
    text = str(value)
    if any(sign in text for sign in ",()"):
        raise ArgumentError(f"policy: a value without commas and parentheses, found '{text}'")
    return text


def _parameters(method: MethodText) -> list[inspect.Parameter]:
    """What a method's function takes: policies it applies, what has to be said, and its options."""
    arguments = method.arguments.split(",") if method.arguments else []
    parameters = []
    if "POLICY" in arguments:
        parameters.append(inspect.Parameter("policy", inspect.Parameter.POSITIONAL_ONLY, annotation="str | Policy"))
    for one in arguments:
        if "=" in one:
            name = one.partition("=")[0]
            parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation="Any"))
    for option in method.options:
        default = _default(option)
        parameters.append(
            inspect.Parameter(
                option.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=type(default).__name__
            )
        )
    return parameters


def _document(method: MethodText) -> str:
    paper = f" (arXiv {method.paper})" if method.paper else ""
    lines = [f"{method.what[:1].upper()}{method.what[1:]}{paper}. Acts: {method.acts}."]
    if method.options:
        lines += ["", *(f"{option.name}: {option.what}; {option.range}" for option in method.options)]
    return "\n".join(lines)


def _function(method: MethodText) -> Callable[..., Policy]:
    signature = inspect.Signature(_parameters(method), return_annotation="Policy")

    def make(*args: Any, **options: Any) -> Policy:
        given = signature.bind(*args, **options).arguments
        inner = given.pop("policy", None)
        parts = [f"{name}={_spell(value)}" for name, value in given.items()]
        if inner is not None:
            if isinstance(inner, Policy) and not inner.is_text:
                raise ArgumentError(f"{method.name}: a policy that a text can say, found {inner}: see scored()")
            parts.append(str(inner))
        return Policy(f"{method.name}({','.join(parts)})" if parts else method.name)

    make.__name__ = make.__qualname__ = method.name
    make.__doc__ = _document(method)
    make.__module__ = __name__
    make.__signature__ = signature  # type: ignore[attr-defined]
    return make


_methods = {one.name: one for one in catalogue() if one.name != "chain" and not keyword.iskeyword(one.name)}
globals().update({name: _function(one) for name, one in _methods.items()})

__all__ = ["Policy", "Rows", "Scorer", "chain", "scored", *_methods]
