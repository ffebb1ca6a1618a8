# SPDX-License-Identifier: MIT
"""Generation: pieces of text as they come, alone and side by side."""

import gc

import numpy as np
import pytest

import pith

PROMPT = "The old house stood at the end of the lane, and"


def test_pieces_are_the_text(model):
    stream = model.generate(PROMPT, max_tokens=30, temperature=0)
    pieces = list(stream)
    assert len(pieces) > 5
    assert all(isinstance(one, str) and one for one in pieces)
    assert "".join(pieces) == stream.result.text == model.generate(PROMPT, max_tokens=30, temperature=0).text()
    assert stream.result.finish == "length"
    assert len(stream.result.tokens) == 30
    assert model.tokenizer.decode(model.tokenizer.encode(PROMPT) + stream.result.tokens) == PROMPT + stream.result.text
    assert next(stream, None) is None


def test_is_what_a_session_and_argmax_give(model):
    tokens = model.generate(PROMPT, max_tokens=20, temperature=0).result
    stream = model.generate(PROMPT, max_tokens=20, temperature=0)
    stream.text()
    tokens = stream.result.tokens
    session = model.session()
    logits = session.feed(model.tokenizer.encode(PROMPT))[-1]
    for token in tokens:
        assert token == int(logits.argmax())
        logits = session.feed([token], decoded=True)[-1]


def test_the_seed_decides(model):
    def text(seed):
        return model.generate(PROMPT, max_tokens=25, temperature=0.9, top_p=0.95, seed=seed).text()

    assert text(1) == text(1)
    assert len({text(seed) for seed in range(4)}) > 1


def test_a_list_gets_what_each_would_get_alone(model):
    prompts = [PROMPT, "It rained.", model.tokenizer.encode("She said that the number of"), "He"] * 3
    options = dict(max_tokens=15, temperature=0.8, policy="gate,h2o(rows=24,recent=8)", kv="f16", logprobs=2)
    seeds = list(range(len(prompts)))
    done = []
    together = model.generate_all(
        prompts, seeds=seeds, at_once=5, on_done=lambda i, result: done.append((i, result)), **options
    )
    assert sorted(i for i, _ in done) == seeds
    assert all(result is together[i] for i, result in done)
    for prompt, seed, result in zip(prompts, seeds, together):
        stream = model.generate(prompt, seed=seed, **options)
        stream.text()
        assert stream.result.tokens == result.tokens
        assert stream.result.text == result.text
        assert stream.result.logprobs == result.logprobs
        assert stream.result.top == result.top
    assert model.generate_all([]) == []


def test_stops_and_ends(model):
    whole = model.generate(PROMPT, max_tokens=40, temperature=0).text()
    stop = whole[10:14]
    stream = model.generate(PROMPT, max_tokens=40, temperature=0, stop=stop)
    assert stream.text() == whole[: whole.index(stop)]
    assert stream.result.finish == "stop"
    assert model.generate(PROMPT, max_tokens=40, temperature=0, stop=["@@@", stop]).text() == stream.result.text
    first = model.tokenizer.encode(whole, "plain")[0]
    ended = model.generate(PROMPT, max_tokens=40, temperature=0, ends=[first])
    ended.text()
    assert ended.result.finish in ("end", "length")
    assert first not in ended.result.tokens[:-1]


def test_log_probabilities_are_the_softmax(model):
    stream = model.generate(PROMPT, max_tokens=5, temperature=0, logprobs=3)
    stream.text()
    logits = model.session().feed(model.tokenizer.encode(PROMPT))[-1].astype(np.float64)
    logprobs = logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
    best = np.argsort(-logprobs)[:3]
    assert [token for token, _ in stream.result.top[0]] == best.tolist()
    np.testing.assert_allclose([one for _, one in stream.result.top[0]], logprobs[best], rtol=1e-5)
    np.testing.assert_allclose(stream.result.logprobs[0], logprobs[best[0]], rtol=1e-5)


def test_what_is_forgotten_is_told(model):
    stream = model.generate(
        PROMPT * 4, max_tokens=30, temperature=0, policy="h2o(rows=24,recent=8)", record_drops=True
    )
    stream.text()
    result = stream.result
    layers = model.config["n_layers"]
    assert result.drop_at.shape[0] == layers
    assert result.drop_at.dtype == np.int32
    # What left after the last pass has not been missed by any query yet.
    assert 0 < (result.drop_at >= 0).sum() <= result.stats["dropped_rows"]
    assert len(result.stats["live_rows"]) == layers
    assert result.stats["bytes_used"] < result.stats["bytes_dense"]
    assert "h2o(rows=24" in result.stats["policy"]


def test_guessing_ahead_changes_nothing(model):
    prompt = PROMPT * 5
    plain = model.generate(prompt, max_tokens=40, temperature=0).text()
    guessed = model.generate(prompt, max_tokens=40, temperature=0, draft=4)
    assert guessed.text() == plain
    assert guessed.result.drafts[0] > 0


def test_bias_and_bans(model):
    banned = model.generate(PROMPT, max_tokens=1, temperature=0)
    banned.text()
    token = banned.result.tokens[0]
    other = model.generate(PROMPT, max_tokens=1, temperature=0, banned=[token])
    other.text()
    assert other.result.tokens != [token]
    forced = model.generate(PROMPT, max_tokens=1, temperature=0, logit_bias={7: 1000.0})
    forced.text()
    assert forced.result.tokens == [7]


def test_closing_frees(model):
    stream = model.generate(PROMPT, max_tokens=100)
    next(stream)
    stream.close()
    assert list(stream) == []
    assert stream.result.text
    stream = model.generate(PROMPT, max_tokens=100)
    next(stream)
    del stream
    gc.collect()


def test_the_context_ends_a_text(model):
    stream = model.generate(PROMPT, context=24, ends=[])
    stream.text()
    assert stream.result.finish == "context"


def test_refuses_what_it_cannot_do(model):
    for options in (dict(temperature=-1), dict(top_p=0), dict(draft=9), dict(max_tokens=5, stop=""), dict(kv="f8")):
        with pytest.raises(pith.ArgumentError):
            model.generate(PROMPT, **options)
    with pytest.raises(TypeError, match="temprature"):
        model.generate(PROMPT, temprature=1)
    with pytest.raises(TypeError):
        model.generate([0.5])
    with pytest.raises(pith.ArgumentError, match="32-bit"):
        model.generate([2**40])
    with pytest.raises(pith.ArgumentError, match="2047, found 1000000"):
        model.generate([10**6])
    with pytest.raises(ValueError, match="seeds"):
        model.generate_all(["a", "b"], seeds=[1])
    assert model.generate(PROMPT, max_tokens=3).text() is not None
