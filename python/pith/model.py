# SPDX-License-Identifier: MIT
"""Models, and what can be done with one: generate, chat, score, trace, and feed tokens oneself."""

from __future__ import annotations

import html
import json
import os
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, overload

import numpy as np

from . import _pith
from ._pith import Answer, Policy
from .errors import ArgumentError, Error

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    from typing_extensions import Unpack

    Ids = Sequence[int] | npt.NDArray[np.integer[Any]]
    Fed = Ids | npt.NDArray[np.floating[Any]]  # or embeddings [tokens, d_model] in place of token ids
    Path = str | os.PathLike[str]
    Message = dict[str, Any]


class SessionOptions(TypedDict, total=False):
    """How a sequence is remembered."""

    policy: str | Policy | None  # default: the learned gate if the model has one, else nothing is forgotten
    kv: str  # how keys and values are stored: "f32" (default, exact), "f16", "bf16", "q8_0", "q4_0", "k=…,v=…"
    gate_keys: str | None  # "f32" or "f16"
    chunk: int  # tokens of one sequence per forward pass (256)
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


_session_keys = frozenset(SessionOptions.__annotations__)
_request_keys = frozenset(RequestOptions.__annotations__)


def _ids(tokens: Ids) -> npt.NDArray[np.int32]:
    """Token ids, or positions, as the library takes them."""
    given = np.asarray(tokens)
    if given.ndim != 1 or (given.size > 0 and given.dtype.kind not in "iu"):
        raise TypeError(f"token ids: expected a list of whole numbers, found {given.dtype} {list(given.shape)}")
    ids = np.ascontiguousarray(given, dtype=np.int32)
    if given.size > 0 and not np.array_equal(ids, given):
        raise ArgumentError("token ids: expected 32-bit numbers, found larger ones")
    return ids


def _fed(tokens: Fed) -> npt.NDArray[np.int32] | npt.NDArray[np.float32]:
    """Token ids, or embeddings, as the library takes them."""
    given = np.asarray(tokens)
    return np.ascontiguousarray(given, dtype=np.float32) if given.ndim == 2 and given.dtype.kind == "f" else _ids(given)


def _policy(policy: str | Policy | None) -> Policy | None:
    return Policy(policy) if isinstance(policy, str) else policy


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


@dataclass
class Generation:
    """What came of a prompt."""

    text: str = ""
    tokens: list[int] = field(default_factory=list)  # chosen, with the one that ended the text
    finish: str | None = None  # "end", "stop", "length", "context", "cancelled"; None: not yet
    logprobs: list[float] = field(default_factory=list)  # of each token, where asked for
    top: list[list[tuple[int, float]]] = field(default_factory=list)  # the likeliest, where asked for
    stats: dict[str, Any] | None = None  # of its sequence, at its end
    drop_at: npt.NDArray[np.int32] | None = None  # with record_drops: [layer, lane, position], -1: not dropped
    drafts: tuple[int, int] = (0, 0)  # guesses that were fed, and how many of them were right

    def _add(self, piece: _pith.Piece) -> None:
        self.text += piece.text
        if piece.token is not None:
            self.tokens.append(piece.token)
        if piece.logprob is not None:
            self.logprobs.append(piece.logprob)
            self.top.append(piece.top)
        if piece.finish is not None:
            self.finish = piece.finish
            self.stats = piece.stats
            self.drop_at = piece.drop_at if piece.stats is not None and piece.drop_at.size > 0 else None
            self.drafts = piece.drafts


class Stream(Iterator[str]):
    """Pieces of a text as they become certain: whole characters. `result` is what there is so far. Ends with the text,
    with close(), and when nobody holds it any more."""

    def __init__(self, generator: Generator, request: int, save: str | None) -> None:
        self._generator: Generator | None = generator
        self._request = request
        self._save = save
        self._texts: list[str] = []
        self._error: Exception | None = None
        self.result = Generation()

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> str:
        while not self._texts:
            if self._error is not None:
                self._generator = None
                error, self._error = self._error, None
                raise error
            if self._generator is None:
                raise StopIteration
            if self.result.finish is not None:
                self._end()
            else:
                self._generator.step()
        return self._texts.pop(0)

    def __del__(self) -> None:
        if getattr(self, "_generator", None) is not None:
            self._generator._inner.cancel(self._request)

    def close(self) -> None:
        """Ends the generation where it is, saves it where that is wanted, and frees what it holds."""
        if self._generator is None:
            return
        self._generator._inner.cancel(self._request)
        while self._save is not None and self.result.finish is None:
            self._generator.step()
        self._texts.clear()
        self._end()

    def text(self) -> str:
        """The whole text: what is left is generated first."""
        for _ in self:
            pass
        return self.result.text

    def _take(self, piece: _pith.Piece) -> None:
        self.result._add(piece)
        if piece.text:
            self._texts.append(piece.text)
        try:
            piece.raise_error()
        except Exception as error:
            self._error = error

    def _end(self) -> None:
        generator, self._generator = self._generator, None
        if self._save is not None and self._error is None:
            generator._inner.save(generator._conversations[self._request], self._save)
        if self.result.finish is not None:
            generator._leave(self._request)


class Generator:
    """Generations that come and go side by side, in one ragged batch over one session: each gets the tokens that it
    would get alone, bit for bit. Whichever stream is asked for its next piece, all of them go on.

    at_once:      how many run side by side; the others wait their turn
    prefix_bytes: of what prompts begin with, at most so many bytes of rows are kept for those that begin alike, and need
                  not read it again; 0: nothing
    Others are Model.session()'s.
    """

    def __init__(
        self, model: Model, *, at_once: int = 16, prefix_bytes: int = 0, **options: Unpack[SessionOptions]
    ) -> None:
        self._model = model
        try:
            tokenizer = model.tokenizer
        except Error:  # then prompts are token ids, and there is no text
            tokenizer = None
        self._inner = _pith.Generator(model._model, tokenizer, model._options(dict(options)), at_once, prefix_bytes)
        self._streams: weakref.WeakValueDictionary[int, Stream] = weakref.WeakValueDictionary()
        self._conversations: dict[int, int] = {}  # of requests that load or save
        self._turn = threading.Lock()

    def submit(
        self,
        prompt: str | Ids,
        *,
        load: Path | None = None,
        save: Path | None = None,
        **options: Unpack[RequestOptions],
    ) -> Stream:
        """Goes on from a text, or from token ids: pieces of text as they come. The work is done as they are asked for.

        load: a file in which a generation was saved: the prompt follows it, and nothing of it is read again
        save: a file that is written once the text has ended: what was read and written, with all that is held of it
        """
        if isinstance(prompt, str) and load is not None:
            prompt = self._model.tokenizer.encode(prompt, "plain")  # in the middle of a text
        elif isinstance(prompt, str):
            self._model.tokenizer  # what is wrong with it is said now
        how = _request(dict(options))
        conversation = None
        if load is not None:
            conversation = self._inner.restore(load)
        elif save is not None:
            conversation = self._inner.open()
        try:
            request = self._inner.submit(prompt if isinstance(prompt, str) else _ids(prompt), how, conversation)
        except BaseException:
            if conversation is not None:
                self._inner.close(conversation)
            raise
        if conversation is not None:
            self._conversations[request] = conversation
        stream = Stream(self, request, os.fspath(save) if save is not None else None)
        self._streams[request] = stream
        return stream

    def step(self) -> bool:
        """One forward pass for all that run; False when nothing is left to do."""
        return self._pass()[1]

    def _pass(self) -> tuple[list[int], bool]:
        """Which requests ended, and whether there is more to do."""
        ended = []
        with self._turn:
            pieces, more = self._inner.step()
            for piece in pieces:
                stream = self._streams.get(piece.request)
                if stream is not None and stream._generator is not None:
                    stream._take(piece)
                elif piece.finish is not None:
                    self._leave(piece.request)
                if piece.finish is not None:
                    ended.append(piece.request)
        return ended, more

    def _leave(self, request: int) -> None:
        """What a request that has ended went on from is let go."""
        if (conversation := self._conversations.pop(request, None)) is not None:
            self._inner.close(conversation)

    @property
    def pending(self) -> int:
        """Generations that have not ended."""
        return self._inner.pending

    @property
    def stats(self) -> dict[str, Any]:
        """What is held of all of them together, as the latest step left it."""
        return self._inner.stats

    @property
    def prefixes(self) -> dict[str, int]:
        """How often prompts went on from what others began with: prompts, hits, tokens_reused; why the others did not:
        not_kept, policy_looks_ahead, read_whole; dropped, as there was no room; kept now, and their bytes."""
        with self._turn:
            return self._inner.prefixes


@dataclass(frozen=True)
class Likelihood:
    """Of a continuation, given its context."""

    logprob: float  # in nats, of all of it
    greedy: bool  # it is what the model would write, always choosing the likeliest token
    tokens: int
    kept: float  # of the context's rows, over layers and lanes, the share that is left where the continuation begins


class Session(_pith.Session):
    """Sequences in the making: tokens in, logits out. For one thread at a time; another call meanwhile is an Error
    (state). `sequence` None means that of feed().

    Logits are views of the memory that the pass wrote, read-only, and good as long as they are held. feed() of more
    tokens than a chunk copies them together. drop_at and stats are copies.
    """

    def __init__(self, model: Model, **options: Unpack[SessionOptions]) -> None:
        super().__init__(model._model, model._options(dict(options)))
        self._model = model

    def feed(self, tokens: Fed, sequence: int | None = None, decoded: bool = False) -> npt.NDArray[np.float32]:
        """Feeds one sequence, and gives the logits after each of the tokens: float32 [tokens, vocab]. The first call
        begins the session's own sequence; later ones go on behind it, as another prompt, at whose end policies act, or
        with `decoded` as tokens that were chosen, one after another. In place of token ids, here and in add(), prompt()
        and push(), there may be embeddings: an array of floats [tokens, d_model]; Model.embed() has those of tokens."""
        return super().feed(_fed(tokens), sequence, decoded)

    def add(self, tokens: Fed, logits: str = "last") -> int:
        """Starts a sequence with its prompt. logits: "last", "all" or "none", to come out of step()."""
        return super().add(_fed(tokens), logits)

    def prompt(self, sequence: int, tokens: Fed, logits: str = "last") -> None:
        """One more prompt behind all that the sequence was given."""
        super().prompt(sequence, _fed(tokens), logits)

    def push(self, sequence: int, tokens: Fed | int, logits: str = "last") -> None:
        """Decoded tokens: as if pushed one after another."""
        super().push(sequence, _fed([tokens] if isinstance(tokens, (int, np.integer)) else tokens), logits)

    def step(self) -> list[tuple[int, npt.NDArray[np.float32]]]:
        """Feeds what is pending, all sequences together, until some have logits: pairs of a sequence and its logits
        [vocab]. Empty when nothing is left to come. Ctrl-C is heard between passes, and the next step goes on."""
        return super().step()

    def keep(self, positions: Ids, sequence: int | None = None) -> None:
        """These tokens stay from now on, whatever the policy does."""
        super().keep(_ids(positions), sequence)

    def forget(self, layer: int, positions: Ids, sequence: int | None = None) -> None:
        """These tokens leave one layer now."""
        super().forget(layer, _ids(positions), sequence)

    @overload
    def save(self, path: None = None, *, sequence: int | None = None) -> bytes: ...
    @overload
    def save(self, path: Path, *, note: str = "", sequence: int | None = None) -> None: ...
    def save(self, path: Path | None = None, *, note: str = "", sequence: int | None = None) -> bytes | None:
        """A sequence with all that is held of it, as bytes, or to a file, which is replaced as a whole. restore() in
        another session of the same model, policy and cache formats, in another process, too, makes it again, and what
        it is fed then has, bit for bit, the logits and drops that it would have had here. A file has room for a note."""
        if path is not None:
            super().save_file(path, note, sequence)
            return None
        if note:
            raise ArgumentError("save: expected a path, as bytes have no room for a note, found none")
        return super().save(sequence)

    def restore(self, saved: bytes | bytearray | memoryview | Path) -> Restored:
        """A new sequence that was saved, from its bytes or its file, and its note. A session in which nothing was fed
        goes on with it: it is that of feed(). Where anything is wrong with what was saved, or it is another model's, or
        another policy's, Error says so, and the session is as it was."""
        of_file = isinstance(saved, (str, os.PathLike))
        return Restored(*super().restore(os.fspath(saved) if of_file else bytes(saved)))

    def compress(self, begin: int, end: int, pins: Ids, sequence: int | None = None) -> None:
        """Of the tokens [begin, end) only the pins stay, in all layers, from the token on that follows them; where some
        of them are yet to come, once the last is read."""
        super().compress(begin, end, _ids(pins), sequence)

    def kvzip(
        self,
        share: float = 0.3,
        *,
        sinks: int = 4,
        chunk: int = 2048,
        overlap: int = 8,
        sequence: int | None = None,
    ) -> None:
        """Of all that the sequence was fed this share of its rows stays: those that the model looks at most while it
        writes the whole again (KVzip, Kim et al., arXiv 2505.23416), and the first tokens. For a text that will be
        asked about many times; of a policy per head ("per_head(none)") each kv-head keeps what it looks at itself.

        chunk:   tokens that are written again at a time
        overlap: so many tokens before each later part say where it begins
        """
        tokenizer = self._model.tokenizer
        try:
            turn = tokenizer.render([{"role": "user", "content": "0"}]).rpartition("0")[2]
        except Error:  # no template, or one that has other demands
            turn = "\n"
        whole, part, answer = (
            tokenizer.encode(text, "parse_only")
            for text in (
                "\n\nRepeat the previous context exactly.",
                "\n\nRepeat the part of the previous context exactly, starting with",
                turn,
            )
        )
        super().replay(share, sinks, chunk, overlap, whole, part, answer, sequence)


class Restored(NamedTuple):
    """What Session.restore() made."""

    sequence: int
    note: str  # that was saved beside it


class Chat(_pith.Chat):
    """A conversation: only what is new is fed, the system prompt is pinned, the policy decides what stays of the rest."""

    def ask(
        self, message: str, *, on_text: Callable[[str], Any] | None = None, **options: Unpack[RequestOptions]
    ) -> Answer:
        """The answer to the user's next message; on_text is given its pieces as they come."""
        return super().say(message, _request(dict(options)), on_text)

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


def _known(options: dict[str, Any], known: frozenset[str]) -> None:
    if unknown := options.keys() - known:
        raise TypeError(f"unknown option {min(unknown)!r}; there are {', '.join(sorted(known))}")


def _request(options: dict[str, Any]) -> _pith.Request:
    _known(options, _request_keys)
    stop = options.get("stop")
    if isinstance(stop, str):
        options["stop"] = [stop]
    elif stop is not None:
        options["stop"] = list(stop)
    for name in ("ends", "banned", "allowed"):
        if options.get(name) is not None:
            options[name] = [int(token) for token in options[name]]
    return _pith.Request(**options)


def _split(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of a session, and of a request."""
    _known(options, _session_keys | _request_keys)
    session = {name: value for name, value in options.items() if name in _session_keys}
    return session, {name: value for name, value in options.items() if name in _request_keys}


class Model:
    """A model, its tokenizer, and threads that all that is done with it share.

    path:      a Hugging Face directory, or one .gguf file
    gates:     a sidecar file with learned gates, laid over the model's own
    tokenizer: where to find one, if not with the model
    threads:   0: one for each core
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        gates: str | os.PathLike[str] | None = None,
        tokenizer: str | os.PathLike[str] | None = None,
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
        _known(options, _session_keys)
        return _pith.SessionOptions(
            **{**options, "policy": _policy(options.get("policy"))}, threads=self._threads
        )

    def embed(self, tokens: Ids) -> npt.NDArray[np.float32]:
        """What the model's table has for token ids: float32 [tokens, d_model], for a session to be fed in their place."""
        return self._model.embed(_ids(tokens))

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
        session, request = _split(dict(options))
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
        session, request = _split(dict(options))
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
        session, request = _split(dict(options))
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
        session, request = _split(dict(options))
        max_tokens = request.get("max_tokens", 0)
        # What is chosen last is not fed, and so not in the trace: one more than wanted.
        request["max_tokens"] = max_tokens + 1 if max_tokens else max_tokens
        ids = self.tokenizer.encode(text, "as_trained") if isinstance(text, str) else text
        recorded = _pith.record(
            self._model, self.tokenizer, self._options(session), _ids(ids), _request(request), self.path
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
            _score(session, groups[first : first + at_once], results)
        return results  # type: ignore[return-value]

    def _encoded(self, text: str | Ids, specials: str) -> npt.NDArray[np.int32]:
        return _ids(self.tokenizer.encode(text, specials) if isinstance(text, str) else text)


def _logprobs(logits: npt.NDArray[np.float32], token: int) -> tuple[float, bool]:
    """log p of a token, and whether it is the likeliest."""
    best = int(logits.argmax())
    shifted = logits.astype(np.float64) - float(logits[best])
    return float(shifted[token] - np.log(np.exp(shifted).sum())), token == best


def _score(session: Session, groups: Sequence[Any], results: list[Likelihood | None]) -> None:
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

    def save(self, path: str | os.PathLike[str]) -> None:
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
