# SPDX-License-Identifier: MIT
"""What can go wrong, as Python's exceptions with the library's own words."""

from __future__ import annotations


class Error(Exception):
    """What the library throws. The message names what is concerned, what was expected and what was found.

    code: "file", "format", "model", "unsupported", "argument", "state", "budget" or "cancelled".
    sequence: the sequence of a session that cannot go on, where it is one.
    """

    code: str
    sequence: int | None = None

    def __init__(self, message: str, code: str = "argument", sequence: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.sequence = sequence


class ArgumentError(Error, ValueError):
    """A call with a value out of range: an Error with the code "argument", and a ValueError."""


def error_of(code: str, message: str, sequence: int | None = None) -> Error:
    """The exception that stands for an error of the library."""
    kind = ArgumentError if code == "argument" else Error
    return kind(message, code, sequence)
