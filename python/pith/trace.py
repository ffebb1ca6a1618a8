# SPDX-License-Identifier: MIT
"""What a sequence forgot, when, and by whom: as arrays, and as the library's own pictures."""

from __future__ import annotations

import html
import os
from typing import TYPE_CHECKING

from . import _pith
from .errors import ArgumentError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .options import Path


class Trace:
    """What a sequence forgot, when, and by whom."""

    def __init__(self, recorded: _pith.Trace) -> None:
        self._trace = recorded

    def __repr__(self) -> str:
        return f"<pith.Trace of {len(self.tokens)} tokens, policy {self.policy}: {self.kept:.1%} kept>"

    @property
    def tokens(self) -> list[int]:
        return self._trace.tokens

    @property
    def pieces(self) -> list[str]:
        """The text of each token."""
        return self._trace.pieces

    @property
    def policy(self) -> str:
        return self._trace.policy

    @property
    def prompt_tokens(self) -> int:
        return self._trace.prompt_tokens

    @property
    def kept(self) -> float:
        """Of all pairs of a query and a token at or before it, the share that is visible, mean over layers."""
        return self._trace.kept

    @property
    def drop_at(self) -> npt.NDArray[np.int32]:
        """[layer, lane, position]: the first position that did not see the token, -1: none."""
        return self._trace.drop_at

    @property
    def gate_score(self) -> npt.NDArray[np.float32]:
        """[layer, lane, position]: the gate's s - threshold - tau at the drop; NaN: not dropped by it."""
        return self._trace.gate_score

    @property
    def logprob(self) -> npt.NDArray[np.float32]:
        """Of each token given those before it, in nats; NaN: not known."""
        return self._trace.logprob

    @property
    def entropy(self) -> npt.NDArray[np.float32]:
        """Of the distribution that each token was drawn from, in nats; NaN: not known."""
        return self._trace.entropy

    def json(self) -> str:
        """The trace as `pith trace --json` writes it."""
        return self._trace.json()

    def html(self, other: Trace | None = None) -> str:
        """The report of `pith trace --html`: a page of its own, beside another trace if one is given."""
        return self._trace.html(other.json() if other is not None else "null")

    def svg(self, layer: int | None = None) -> str:
        """The picture of `pith trace --svg`, of all layers together or of one."""
        return self._trace.svg(layer)

    def save(self, path: Path) -> None:
        """Writes the report (.html), the picture (.svg) or the trace (.json)."""
        ending = os.path.splitext(os.fspath(path))[1]
        if ending == ".html":
            text = self.html()
        elif ending == ".svg":
            text = self.svg()
        elif ending == ".json":
            text = self.json()
        else:
            raise ArgumentError(f"{os.fspath(path)}: expected a name that ends in .html, .svg or .json")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def _repr_html_(self) -> str:
        """The report in a frame of its own, whose styles and scripts stay there."""
        page = html.escape(self.html(), quote=True)
        return f'<iframe srcdoc="{page}" style="width:100%;height:720px;border:0" title="{html.escape(repr(self))}"></iframe>'
