# SPDX-License-Identifier: MIT
"""The model of lm-evaluation-harness; skips where that is not installed."""

from types import SimpleNamespace

import pytest
from conftest import BOOKWORM, TEXT

import pith

pytest.importorskip("lm_eval", reason="needs lm-evaluation-harness")

from pith.lm_eval import PithLM  # noqa: E402


def requests(*args):
    return [SimpleNamespace(args=one) for one in args]


def test_arguments_are_read_as_the_harness_writes_them():
    assert PithLM.create_from_arg_string(f"pretrained={BOOKWORM},policy=none")._options["policy"] == "none"
    assert PithLM.create_from_arg_string(f"pretrained={BOOKWORM}")._options["policy"] is None
    several = PithLM.create_from_arg_string(f"pretrained={BOOKWORM},policy=snapkv(share=0.5;rows=64),kv=f16")
    assert several._options["policy"] == "snapkv(share=0.5,rows=64)" and several._options["kv"] == "f16"
    with pytest.raises(pith.ArgumentError, match="one of none"):
        PithLM.create_from_arg_string(f"pretrained={BOOKWORM},policy=snap")


def test_scores_are_those_of_the_model(model):
    lm = PithLM(str(BOOKWORM), policy="none", threads=1)
    context = TEXT[: TEXT.index(" came from")]
    pairs = [(context, " came home"), (context, " left"), ("", "It rained."), (TEXT, " Then")]
    scores = lm.loglikelihood(requests(*pairs), disable_tqdm=True)
    for (context, continuation), (logprob, greedy) in zip(pairs, scores):
        before = model.tokenizer.encode(context) or [lm.prefix_token_id]
        whole = model.tokenizer.encode(context + continuation)
        after = whole[len(before) :] if context else whole
        [expected] = model.loglikelihoods([(before, after)], policy="none")
        assert logprob == pytest.approx(expected.logprob, rel=1e-5) and greedy == expected.greedy
    # A text in windows of the longest context is the sum over its tokens.
    [rolling] = lm.loglikelihood_rolling(requests((TEXT,)), disable_tqdm=True)
    ids = model.tokenizer.encode(TEXT)
    [expected] = model.loglikelihoods([([lm.prefix_token_id], ids)], policy="none")
    assert rolling == pytest.approx(expected.logprob, rel=1e-5)


def test_what_was_kept_is_told(model):
    lm = PithLM(str(BOOKWORM), policy="streaming(sinks=2,recent=8)", threads=1)
    assert lm.get_model_info() == {"policy": "streaming(sinks=2,recent=8)", "kept": None}
    lm.loglikelihood(requests((TEXT, " Then"), ("It rained", " for")), disable_tqdm=True)
    shares = [min(1, 10 / len(model.tokenizer.encode(one))) for one in (TEXT, "It rained")]
    assert lm.get_model_info()["kept"] == pytest.approx(sum(shares) / 2, abs=0.01)


def test_generates_until(model):
    lm = PithLM(str(BOOKWORM), policy="none", threads=1)
    first, second = lm.generate_until(
        requests(("The old", {"until": [" the"], "max_gen_toks": 20}), ("It was", {"until": [], "max_gen_toks": 5})),
        disable_tqdm=True,
    )
    text = model.generate("The old", max_tokens=20, temperature=0, policy="none").text()
    assert first == text.split(" the")[0]
    assert second == model.generate("It was", max_tokens=5, temperature=0, policy="none").text()
