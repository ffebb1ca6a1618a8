# SPDX-License-Identifier: MIT
"""Models, and what can be done with one: generate, chat, score, trace, and feed tokens oneself."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _pith
from ._pith import Answer
from .chat import Chat
from .errors import ArgumentError
from .generation import Generation, Generator, Stream
from .options import SESSION_KEYS, check_known, ids_of, policy_of, request_of, split
from .scoring import Likelihood, score
from .session import Session
from .tokenizer import Tokenizer
from .trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    from typing_extensions import Unpack

    from .options import GenerateOptions, Ids, Path, SessionOptions
    from .tokenizer import Message


class Model:
    """A model, its tokenizer, and threads that all that is done with it share.

    path:      a Hugging Face directory, or one .gguf file
    gates:     a sidecar file with learned gates, laid over the model's own
    tokenizer: where to find one, if not with the model
    threads:   0: one for each core
    """

    def __init__(
        self,
        path: Path,
        *,
        gates: Path | None = None,
        tokenizer: Path | None = None,
        threads: int = 0,
    ) -> None:
        self.path = os.fspath(path)
        self._tokenizer_path = os.fspath(tokenizer) if tokenizer is not None else self.path
        self._model = _pith.Model(self.path, os.fspath(gates) if gates is not None else None)
        self._threads = _pith.Threads(threads)

    def __repr__(self) -> str:
        config = self.config
        return f"<pith.Model {self.path}: {config['architecture']}, {config['parameters']:,} parameters>"

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Throws Error (file) where the model comes without one."""
        return Tokenizer(self._tokenizer_path)

    @cached_property
    def config(self) -> dict[str, Any]:
        """architecture, vocab_size, d_model, n_layers, n_heads, n_kv_heads, head_dim, context, gate_dim, parameters,
        bytes."""
        return self._model.config

    @property
    def ends(self) -> list[int]:
        """Tokens that end a text, as the model's own files say; those of the tokenizer end one, too."""
        return self._model.ends

    def _options(self, options: dict[str, Any]) -> _pith.SessionOptions:
        check_known(options, SESSION_KEYS)
        return _pith.SessionOptions(
            **{**options, "policy": policy_of(options.get("policy"))}, threads=self._threads
        )

    def embed(self, tokens: Ids) -> npt.NDArray[np.float32]:
        """What the model's table has for token ids: float32 [tokens, d_model], for a session to be fed in their place."""
        return self._model.embed(ids_of(tokens))

    def generator(
        self, *, at_once: int = 16, prefix_bytes: int = 0, **options: Unpack[SessionOptions]
    ) -> Generator:
        """For generations that come and go side by side."""
        return Generator(self, at_once=at_once, prefix_bytes=prefix_bytes, **options)

    def generate(
        self,
        prompt: str | Ids,
        *,
        load: Path | None = None,
        save: Path | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Stream:
        """Goes on from a text, or from token ids: pieces of text as they come. The work is done as they are asked for.

            for piece in model.generate("Once upon a time", policy="gate", max_tokens=200): print(piece, end="")

        load: a file in which a generation was saved: the prompt follows it, and nothing of it is read again
        save: a file that is written once the text has ended: what was read and written, with all that is held of it
        """
        session, request = split(dict(options))
        return self.generator(at_once=1, **session).submit(prompt, load=load, save=save, **request)

    def generate_all(
        self,
        prompts: Iterable[str | Ids],
        *,
        at_once: int = 16,
        prefix_bytes: int = 0,
        on_done: Callable[[int, Generation], Any] | None = None,
        seeds: Sequence[int] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> list[Generation]:
        """Goes on from each of many prompts, in one ragged batch: what comes of each, in their order. Each gets the
        tokens that it would get alone, bit for bit.

        at_once:      how many run side by side; the others wait their turn
        prefix_bytes: as Model.generator() has it
        on_done:      is given each one's number and result as it ends
        seeds:        one for each, in place of the same for all
        """
        prompts = list(prompts)
        if seeds is not None and len(seeds) != len(prompts):
            raise ArgumentError(f"seeds: expected {len(prompts)}, found {len(seeds)}")
        session, request = split(dict(options))
        if not prompts:
            return []
        generator = self.generator(at_once=at_once, prefix_bytes=prefix_bytes, **session)
        streams = [
            generator.submit(prompt, **(request if seeds is None else {**request, "seed": int(seeds[i])}))
            for i, prompt in enumerate(prompts)
        ]
        places = {stream._request: i for i, stream in enumerate(streams)}
        more = True
        while more:
            ended, more = generator._pass()
            for request in ended:
                stream = streams[places[request]]
                if stream._error is not None:
                    raise stream._error
                if on_done is not None:
                    on_done(places[request], stream.result)
        return [stream.result for stream in streams]

    def conversation(
        self,
        system: str | None = None,
        *,
        template: _pith.ChatTemplate | None = None,
        tools: Sequence[Any] | None = None,
        variables: dict[str, Any] | None = None,
        **options: Unpack[SessionOptions],
    ) -> Chat:
        """A conversation in the model's own chat form, or that of another template."""
        chat = Chat(
            self._model,
            self.tokenizer,
            self._options(dict(options)),
            template,
            json.dumps(list(tools)) if tools is not None else "",
            json.dumps(variables) if variables else "",
        )
        if system is not None:
            chat.set_system(system)
        return chat

    def chat(
        self,
        messages: Sequence[Message],
        *,
        on_text: Callable[[str], Any] | None = None,
        template: _pith.ChatTemplate | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Answer:
        """The model's answer to a conversation: a system prompt, where there is one, then messages of "user" and
        "assistant" in turn, the user's last. The answer has text, tokens, finish and stats. For other forms (tools, parts
        of a message), generate() from tokenizer.chat()."""
        for one in messages:
            if set(one) != {"role", "content"} or not isinstance(one["content"], str):
                raise ArgumentError(f"messages: expected role and content, a text each, found {one!r}")
        if not messages or messages[-1]["role"] != "user":
            raise ArgumentError("messages: expected the user's at the end")
        session, request = split(dict(options))
        conversation = self.conversation(template=template, **session)
        before = [(one["role"], one["content"]) for one in messages[:-1]]
        if len(before) == 1 and before[0][0] == "system":
            conversation.set_system(before[0][1])
        elif before:
            conversation.restore(before)
        return conversation.ask(messages[-1]["content"], on_text=on_text, **request)

    def session(self, **options: Unpack[SessionOptions]) -> Session:
        """For those who feed tokens themselves."""
        return Session(self, **options)

    def trace(self, text: str | Ids, **options: Unpack[GenerateOptions]) -> Trace:
        """What is forgotten of a text, and of max_tokens (here 0 unless told otherwise) that the model adds to it. In a
        notebook, the report of `pith trace --html`."""
        session, request = split(dict(options))
        max_tokens = request.get("max_tokens", 0)
        # What is chosen last is not fed, and so not in the trace: one more than wanted.
        request["max_tokens"] = max_tokens + 1 if max_tokens else max_tokens
        ids = self.tokenizer.encode(text, "as_trained") if isinstance(text, str) else text
        recorded = _pith.record(
            self._model, self.tokenizer, self._options(session), ids_of(ids), request_of(request), self.path
        )
        return Trace(recorded)

    def loglikelihoods(
        self,
        pairs: Iterable[tuple[str | Ids, str | Ids]],
        *,
        at_once: int = 16,
        **options: Unpack[SessionOptions],
    ) -> list[Likelihood]:
        """How likely each continuation is behind its context, in the order of the pairs. Contexts are prompts, at whose
        end policies act, and continuations decoded tokens; a context that several pairs share next to each other is read
        once. A text is encoded by itself; of a context the tokenizer's own first tokens (a BOS) are part."""
        groups: list[tuple[Any, list[tuple[int, npt.NDArray[np.int32]]]]] = []
        count = 0
        for i, (context, continuation) in enumerate(pairs):
            before = self._encoded(context, "add_only")
            after = self._encoded(continuation, "plain")
            if len(before) == 0 or len(after) == 0:
                raise ArgumentError(f"pair {i}: expected a context and a continuation of at least one token each")
            if not groups or not np.array_equal(groups[-1][0], before):
                groups.append((before, []))
            groups[-1][1].append((i, after))
            count += 1
        results: list[Likelihood | None] = [None] * count
        session = self.session(**options)
        for first in range(0, len(groups), at_once):
            score(session, groups[first : first + at_once], results)
        return results  # type: ignore[return-value]

    def _encoded(self, text: str | Ids, specials: str) -> npt.NDArray[np.int32]:
        return ids_of(self.tokenizer.encode(text, specials) if isinstance(text, str) else text)
