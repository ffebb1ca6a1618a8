# SPDX-License-Identifier: MIT
"""Texts and conversations as token ids."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from . import _pith

Message = dict[str, Any]


class Tokenizer(_pith.Tokenizer):
    """Text to token ids and back, as the model's own tokenizer file defines it."""

    def chat(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Any] | None = None,
        **variables: Any,
    ) -> list[int]:
        """A conversation by the model's own chat template. What messages bring is text: no special token comes of it.
        Other keywords are the template's variables (enable_thinking=False)."""
        return self.chat_json(*self._json(messages, add_generation_prompt, tools, variables))

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Any] | None = None,
        **variables: Any,
    ) -> str:
        """The text that the chat template writes."""
        return self.render_json(*self._json(messages, add_generation_prompt, tools, variables))

    @staticmethod
    def _json(
        messages: Sequence[Message], add_generation_prompt: bool, tools: Sequence[Any] | None, variables: dict[str, Any]
    ) -> tuple[str, bool, str, str]:
        return (
            json.dumps(list(messages)),
            add_generation_prompt,
            json.dumps(list(tools)) if tools is not None else "",
            json.dumps(variables) if variables else "",
        )
