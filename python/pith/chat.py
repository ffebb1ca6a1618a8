# SPDX-License-Identifier: MIT
"""Conversations in a chat template's form."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import _pith
from ._pith import Answer
from .options import request_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Unpack

    from .options import Path, RequestOptions


class Chat(_pith.Chat):
    """A conversation: only what is new is fed, the system prompt is pinned, the policy decides what stays of the rest."""

    def ask(
        self, message: str, *, on_text: Callable[[str], Any] | None = None, **options: Unpack[RequestOptions]
    ) -> Answer:
        """The answer to the user's next message; on_text is given its pieces as they come."""
        return super().say(message, request_of(dict(options)), on_text)

    def save(self, path: Path) -> None:
        """The conversation with its rows, for restore() of one of the same model, policy and formats: nothing is read
        again. An Error (state) where nothing is held of it: nothing was said since it began, or was restored from
        messages."""
        super().save(os.fspath(path))

    def restore(self, saved: Path | Sequence[tuple[str, str]]) -> None:
        """Goes on with a conversation: with a file that was saved, or from messages, pairs of a role and a content as
        `messages` has them, which are read again."""
        if isinstance(saved, (str, os.PathLike)):
            super().restore_file(os.fspath(saved))
        else:
            super().restore([(role, content) for role, content in saved])
