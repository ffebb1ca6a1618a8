# SPDX-License-Identifier: MIT
"""Decoder-only transformers on CPUs that forget what they no longer need.

    import pith
    model = pith.Model("smollm2-135m-instruct.q8_0.gguf")
    for piece in model.generate("Once upon a time", policy="h2o(rows=256,recent=64)", max_tokens=200):
        print(piece, end="")
"""

from . import policies
from ._pith import Answer, ChatTemplate, Policy, Rows
from ._pith import version as __version__
from .errors import ArgumentError, Error
from .model import Chat, Generation, Generator, Likelihood, Model, Restored, Session, Stream, Tokenizer, Trace

__all__ = [
    "Answer",
    "ArgumentError",
    "Chat",
    "ChatTemplate",
    "Error",
    "Generation",
    "Generator",
    "Likelihood",
    "Model",
    "Policy",
    "Restored",
    "Rows",
    "Session",
    "Stream",
    "Tokenizer",
    "Trace",
    "__version__",
    "policies",
]
