# SPDX-License-Identifier: MIT
"""Models, and what can be done with one: generate, chat, score, trace, and feed tokens oneself."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from . import _pith
from ._pith import Answer, Policy
from .errors import ArgumentError, Error

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    from typing_extensions import Unpack

    Ids = Sequence[int] | npt.NDArray[np.integer[Any]]
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

    def __init__(self, generator: _pith.Generator, request: int) -> None:
        self._generator: _pith.Generator | None = generator
        self._request = request
        self._texts: list[str] = []
        self.result = Generation()

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> str:
        while not self._texts:
            if self._generator is None:
                raise StopIteration
            pieces, more = self._generator.step()
            for piece in pieces:
                self.result._add(piece)
                if piece.text:
                    self._texts.append(piece.text)
                piece.raise_error()
            if not more:
                self._generator = None
        return self._texts.pop(0)

    def close(self) -> None:
        """Ends the generation where it is, and frees what it holds."""
        self._generator = None

    def text(self) -> str:
        """The whole text: what is left is generated first."""
        for _ in self:
            pass
        return self.result.text


@dataclass(frozen=True)
class Likelihood:
    """Of a continuation, given its context."""

    logprob: float  # in nats, of all of it
    greedy: bool  # it is what the model would write, always choosing the likeliest token
    tokens: int


class Session(_pith.Session):
    """Sequences in the making: tokens in, logits out. For one thread at a time; another call meanwhile is an Error
    (state). `sequence` None means that of feed().

    Logits are views of the memory that the pass wrote, read-only, and good as long as they are held. feed() of more
    tokens than a chunk copies them together. drop_at and stats are copies.
    """

    def feed(
        self, tokens: Ids, sequence: int | None = None, decoded: bool = False
    ) -> npt.NDArray[np.float32]:
        """Feeds one sequence, and gives the logits after each of the tokens: float32 [tokens, vocab]. The first call
        begins the session's own sequence; later ones go on behind it, as another prompt, at whose end policies act, or
        with `decoded` as tokens that were chosen, one after another."""
        return super().feed(_ids(tokens), sequence, decoded)

    def add(self, tokens: Ids, logits: str = "last") -> int:
        """Starts a sequence with its prompt. logits: "last", "all" or "none", to come out of step()."""
        return super().add(_ids(tokens), logits)

    def prompt(self, sequence: int, tokens: Ids, logits: str = "last") -> None:
        """One more prompt behind all that the sequence was given."""
        super().prompt(sequence, _ids(tokens), logits)

    def push(self, sequence: int, tokens: Ids | int, logits: str = "last") -> None:
        """Decoded tokens: as if pushed one after another."""
        super().push(sequence, _ids([tokens] if isinstance(tokens, (int, np.integer)) else tokens), logits)

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


class Chat(_pith.Chat):
    """A conversation: only what is new is fed, the system prompt is pinned, the policy decides what stays of the rest."""

    def ask(
        self, message: str, *, on_text: Callable[[str], Any] | None = None, **options: Unpack[RequestOptions]
    ) -> Answer:
        """The answer to the user's next message; on_text is given its pieces as they come."""
        return super().say(message, _request(dict(options)), on_text)


def _request(options: dict[str, Any]) -> _pith.Request:
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
    if unknown := options.keys() - _session_keys - _request_keys:
        known = ", ".join(sorted(_session_keys | _request_keys))
        raise TypeError(f"unknown option {sorted(unknown)[0]!r}; there are {known}")
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
        if unknown := options.keys() - _session_keys:
            raise TypeError(f"unknown option {sorted(unknown)[0]!r}; there are {', '.join(sorted(_session_keys))}")
        return _pith.SessionOptions(
            **{**options, "policy": _policy(options.get("policy"))}, threads=self._threads
        )

    def _prompt(self, prompt: str | Ids) -> Any:
        return prompt if isinstance(prompt, str) else _ids(prompt)

    def _generator(self, session: dict[str, Any], texts: bool, at_once: int) -> _pith.Generator:
        tokenizer = None
        try:
            tokenizer = self.tokenizer
        except Error:
            if texts:
                raise
        return _pith.Generator(self._model, tokenizer, self._options(session), at_once)

    def generate(self, prompt: str | Ids, **options: Unpack[GenerateOptions]) -> Stream:
        """Goes on from a text, or from token ids: pieces of text as they come. The work is done as they are asked for.

            for piece in model.generate("Once upon a time", policy="gate", max_tokens=200): print(piece, end="")
        """
        session, request = _split(dict(options))
        generator = self._generator(session, isinstance(prompt, str), 1)
        return Stream(generator, generator.submit(self._prompt(prompt), _request(request)))

    def generate_all(
        self,
        prompts: Iterable[str | Ids],
        *,
        at_once: int = 16,
        on_done: Callable[[int, Generation], Any] | None = None,
        seeds: Sequence[int] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> list[Generation]:
        """Goes on from each of many prompts, in one ragged batch: what comes of each, in their order. Each gets the
        tokens that it would get alone, bit for bit.

        at_once: how many run side by side; the others wait their turn
        on_done: is given each one's number and result as it ends
        seeds:   one for each, in place of the same for all
        """
        prompts = list(prompts)
        if seeds is not None and len(seeds) != len(prompts):
            raise ArgumentError(f"seeds: expected {len(prompts)}, found {len(seeds)}")
        session, request = _split(dict(options))
        if not prompts:
            return []
        generator = self._generator(session, any(isinstance(one, str) for one in prompts), at_once)
        results = [Generation() for _ in prompts]
        places = {}
        for i, prompt in enumerate(prompts):
            how = request if seeds is None else {**request, "seed": int(seeds[i])}
            places[generator.submit(self._prompt(prompt), _request(dict(how)))] = i
        more = True
        while more:
            pieces, more = generator.step()
            for piece in pieces:
                place = places[piece.request]
                results[place]._add(piece)
                piece.raise_error()
                if piece.finish is not None and on_done is not None:
                    on_done(place, results[place])
        return results

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
        return Session(self._model, self._options(dict(options)))

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
    waiting: dict[int, tuple[int, npt.NDArray[np.int32], list[tuple[float, bool]]]] = {}
    finished = {}
    while rows := session.step():
        for sequence, logits in rows:
            finished[sequence] = logits
    for sequence, continuations in places.items():
        for i, tokens in continuations:
            first = _logprobs(finished[sequence], int(tokens[0]))
            if len(tokens) == 1:
                results[i] = Likelihood(first[0], first[1], 1)
                continue
            branch = session.fork(sequence)
            session.push(branch, tokens[:-1], "all")
            waiting[branch] = (i, tokens, [first])
        session.finish(sequence)
    while rows := session.step():
        for branch, logits in rows:
            i, tokens, parts = waiting[branch]
            parts.append(_logprobs(logits, int(tokens[len(parts)])))
            if len(parts) == len(tokens):
                results[i] = Likelihood(
                    sum(part[0] for part in parts), all(part[1] for part in parts), len(tokens)
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
