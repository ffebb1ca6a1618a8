# SPDX-License-Identifier: MIT
"""Generations that come and go side by side, and what their prompts share."""

import gc

import pytest
from conftest import TEXT

import pith

OPTIONS = dict(max_tokens=12, temperature=0.8, ends=[])


def alone(model, prompt, seed):
    stream = model.generate(prompt, seed=seed, policy="gate", **OPTIONS)
    stream.text()
    return stream.result.tokens


def test_streams_side_by_side_are_each_alone(model):
    prompts = ["The old house", "It rained for nine days.", "Nothing could be seen but"]
    generator = model.generator(policy="gate", at_once=2)
    streams = [generator.submit(prompt, seed=i, **OPTIONS) for i, prompt in enumerate(prompts)]
    assert generator.pending == 3
    assert next(streams[1])  # whichever is asked, those that have room go on
    assert streams[0].result.tokens
    texts = [stream.text() for stream in streams]
    assert all(texts) and generator.pending == 0
    for i, prompt in enumerate(prompts):
        assert streams[i].result.tokens == alone(model, prompt, i)
    late = generator.submit(prompts[0], seed=0, **OPTIONS)
    assert late.text() == texts[0]
    assert generator.step() is False


def test_streams_that_are_left_give_back_what_they_hold(model):
    generator = model.generator(policy="none")
    kept = generator.submit(TEXT, max_tokens=4, ends=[])
    left = generator.submit(TEXT, max_tokens=400, ends=[])
    closed = generator.submit(TEXT, max_tokens=400, ends=[])
    next(kept)
    assert generator.stats["bytes_used"] > 0
    del left
    closed.close()
    gc.collect()
    kept.text()
    assert generator.step() is False
    assert generator.pending == 0 and generator.stats["bytes_used"] == 0


def test_what_prompts_begin_with_is_read_once(model, ids):
    prompts = [ids[:96] + model.tokenizer.encode(one, "plain") for one in (" The", " It", " Ruth Lamb")]
    options = dict(policy="gate", chunk=16, max_tokens=6, temperature=0)
    generator = model.generator(prefix_bytes=1 << 20, policy="gate", chunk=16)
    streams = [generator.submit(one, max_tokens=6, temperature=0) for one in prompts]
    texts = [stream.text() for stream in streams]
    assert texts == [model.generate(one, **options).text() for one in prompts]
    stats = generator.prefixes
    assert stats["prompts"] == 3 and stats["hits"] == 2 and stats["tokens_reused"] == 2 * 96
    assert stats["kept"] > 0 and 0 < stats["bytes"] <= 1 << 20

    # A policy that looks at a prompt's end shares what is a prompt of its own.
    how = dict(policy="snapkv(rows=40,window=8)", max_tokens=6, temperature=0, prefix=96)
    generator = model.generator(prefix_bytes=1 << 20, policy=how["policy"])
    streams = [generator.submit(one, max_tokens=6, temperature=0, prefix=96) for one in prompts]
    assert [stream.text() for stream in streams] == [model.generate(one, **how).text() for one in prompts]
    assert generator.prefixes["hits"] == 2
    together = model.generate_all(prompts, prefix_bytes=1 << 20, **how)
    assert [one.text for one in together] == [stream.result.text for stream in streams]


def test_one_that_fails_leaves_the_others(model):
    generator = model.generator(policy="none")
    good = generator.submit("The old house", max_tokens=5)
    with pytest.raises(TypeError, match="rows"):
        generator.submit("It", rows=5)
    with pytest.raises(pith.ArgumentError):
        generator.submit("It", temperature=-1)
    with pytest.raises(pith.Error, match="nowhere"):
        generator.submit("It", load="nowhere")
    assert generator.pending == 1 and good.text()
