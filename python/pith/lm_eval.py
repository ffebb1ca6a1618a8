# SPDX-License-Identifier: MIT
"""The model "pith" of EleutherAI's lm-evaluation-harness, for pip install "pith[lm-eval]".

    python -m pith.lm_eval --model pith --model_args pretrained=MODEL,policy=snapkv(share=0.25) --tasks piqa

is the command lm_eval with this model in it; programs `import pith.lm_eval` and then name it as any other. Contexts are
prompts, at whose end policies act; continuations are decoded tokens. A policy of several options has commas: since
lm_eval splits its arguments at commas, write semicolons in their place, or give --model_args as JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lm_eval import utils
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from tqdm import tqdm

from .errors import ArgumentError
from .model import Model

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance


@register_model("pith")
class PithLM(TemplateLM):
    """pretrained: a Hugging Face directory or a .gguf file. policy, kv, chunk, context: as Model.session() has them.
    batch_size: how many requests run side by side. max_length: default: the model's context."""

    def __init__(
        self,
        pretrained: str,
        *,
        gates: str | None = None,
        policy: str | None = "",
        kv: str = "f32",
        chunk: int = 256,
        threads: int = 0,
        max_length: int | None = None,
        max_gen_toks: int = 256,
        add_bos_token: bool | None = None,
        batch_size: int | str | None = 16,
        max_batch_size: int | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__()
        if device not in (None, "cpu"):
            raise ArgumentError(f"device: expected cpu, found {device}")
        self.model = Model(pretrained, gates=gates, threads=int(threads))
        self.max_length = int(max_length) if max_length is not None else self.model.config["context"]
        self.max_gen_toks = int(max_gen_toks)
        self.at_once = 16 if batch_size in (None, "auto", 1, "1") else int(batch_size)  # 1 is the command's default
        self._add_bos_token = add_bos_token
        self._options: dict[str, Any] = {
            # lm_eval makes None of "none"; without one, the model's own gate acts, where it has one.
            "policy": "none" if policy is None else policy.replace(";", ",") or None,
            "kv": kv,
            "chunk": int(chunk),
            "context": self.max_length + 1,
        }
        self._policy = self.model.session(**self._options).policy  # what cannot be is said now, before data are loaded
        self.kept: list[float] = []  # of each context, in the order of requests

    def get_model_info(self) -> dict[str, Any]:
        """Goes into the results' "config": the policy in full, and what was left of contexts where answers began, as a
        mean over all that were asked for."""
        return {"policy": self._policy, "kept": sum(self.kept) / len(self.kept) if self.kept else None}

    @property
    def eot_token_id(self) -> int:
        ends = [token for token in self.model.ends if self.model.tokenizer.is_special(token)] or self.model.ends
        if not ends:
            raise ArgumentError(f"{self.model.path}: expected a token that ends a text, found none")
        return ends[0]

    @property
    def prefix_token_id(self) -> int:
        bos = self.model.tokenizer.bos
        return bos if bos is not None else self.eot_token_id

    @property
    def tokenizer_name(self) -> str:
        return self.model.path

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        add = add_special_tokens if add_special_tokens is not None else self._add_bos_token
        ids = self.model.tokenizer.encode(string, "parse_only" if add is False else "as_trained")
        bos = self.model.tokenizer.bos
        if bos is not None and ids[:2] == [bos, bos]:  # the string has it already
            return ids[1:]
        return ids

    def tok_decode(self, tokens: list[int]) -> str:
        return self.model.tokenizer.decode(tokens)

    def _loglikelihood_tokens(
        self,
        requests: list[tuple[tuple[str, str] | None, list[int], list[int]]],
        disable_tqdm: bool = False,
        **_: Any,
    ) -> list[tuple[float, bool]]:
        results = []
        bar = tqdm(total=len(requests), disable=disable_tqdm, desc="Running loglikelihood requests")
        step = 4 * self.at_once
        for first in range(0, len(requests), step):
            part = requests[first : first + step]
            # The last token of a continuation is predicted, not fed.
            pairs = [(before[-(self.max_length + 1 - len(after)) :], after) for _, before, after in part]
            for (args, _, _), one in zip(part, self.model.loglikelihoods(pairs, at_once=self.at_once, **self._options)):
                results.append((one.logprob, one.greedy))
                self.kept.append(one.kept)
                if args is not None:
                    self.cache_hook.add_partial("loglikelihood", args, results[-1])
                bar.update()
        bar.close()
        return results

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        results = []
        for request in tqdm(requests, disable=disable_tqdm, desc="Running loglikelihood_rolling requests"):
            (text,) = request.args
            windows = utils.get_rolling_token_windows(
                token_list=self.tok_encode(text),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            parts = [(None, *utils.make_disjoint_window(one)) for one in windows]
            results.append(sum(logprob for logprob, _ in self._loglikelihood_tokens(parts, disable_tqdm=True)))
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), results[-1])
        return results

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        results: list[str | None] = [None] * len(requests)
        groups: dict[str, list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(repr(request.args[1]), []).append(i)
        bar = tqdm(total=len(requests), disable=disable_tqdm, desc="Running generate_until requests")
        for places in groups.values():
            options = dict(requests[places[0]].args[1])
            stop = options.pop("until", [])
            most = int(options.pop("max_gen_toks", self.max_gen_toks))
            sampled = options.pop("do_sample", False)
            how = {
                "max_tokens": most,
                "stop": [stop] if isinstance(stop, str) else list(stop),
                "temperature": float(options.pop("temperature", 1.0)) if sampled else 0.0,
                "top_p": float(options.pop("top_p", 1.0)),
                "top_k": int(options.pop("top_k", 0)),
            }
            options.pop("temperature", None)
            if options:
                raise ArgumentError(f"generation: expected until, max_gen_toks, do_sample, …, found {sorted(options)}")
            prompts = [self.tok_encode(requests[i].args[0])[-(self.max_length - most) :] for i in places]
            done = self.model.generate_all(
                prompts,
                at_once=self.at_once,
                on_done=lambda *_: bar.update(),
                **how,
                **self._options,
            )
            for i, one in zip(places, done):
                results[i] = one.text
                self.cache_hook.add_partial("generate_until", requests[i].args, one.text)
        bar.close()
        return results  # type: ignore[return-value]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return self.model.tokenizer.render(chat_history, add_generation_prompt=add_generation_prompt)


def main() -> None:
    """The command lm_eval, which knows this model once this module is imported."""
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()


if __name__ == "__main__":
    main()
