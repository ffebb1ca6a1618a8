# SPDX-License-Identifier: MIT
"""How likely continuations are: one by one, side by side, and under a policy that acts at the context's end."""

import numpy as np
import pytest

import pith


def one_by_one(model, context, continuation, **options):
    session = model.session(**options)
    rows = [session.feed(context)[-1]]
    rows += [session.feed([token], decoded=True)[-1] for token in continuation[:-1]]
    logits = np.stack(rows).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return logprobs[np.arange(len(continuation)), continuation].sum(), bool((logits.argmax(axis=1) == continuation).all())


@pytest.mark.parametrize("policy", ["none", "gate", "snapkv(share=0.25,rows=16,window=8,sinks=2)"])
def test_is_what_tokens_fed_one_by_one_give(model, ids, policy):
    pairs = [(ids[:50], ids[50:54]), (ids[:50], ids[7:8]), (ids[:50], ids[50:51]), (ids[3:40], ids[40:49])] * 2
    pairs += [(ids[: 10 + i], ids[10 + i : 13 + i]) for i in range(9)]
    results = model.loglikelihoods(pairs, policy=policy, at_once=4)
    assert len(results) == len(pairs)
    for (context, continuation), result in zip(pairs, results):
        logprob, greedy = one_by_one(model, context, continuation, policy=policy)
        assert result.logprob == pytest.approx(logprob, rel=1e-5, abs=1e-4)
        assert result.greedy == greedy
        assert result.tokens == len(continuation)


def test_what_is_kept_of_contexts(model, ids):
    pairs = [(ids[:20], ids[20:23]), (ids[:90], ids[90:91])]
    assert [one.kept for one in model.loglikelihoods(pairs, policy="none")] == [1, 1]
    short, long = model.loglikelihoods(pairs, policy="snapkv(rows=30,window=8)")
    assert short.kept == 1 and long.kept == pytest.approx(30 / 90)


def test_takes_texts(model):
    [likely, unlikely] = model.loglikelihoods([("The old", " house"), ("The old", " xq")])
    assert likely.logprob > unlikely.logprob
    with pytest.raises(pith.ArgumentError, match="pair 0"):
        model.loglikelihoods([("The", "")])
