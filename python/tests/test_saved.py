# SPDX-License-Identifier: MIT
"""Sequences, generations and chats that are saved, and go on elsewhere as if nothing had been."""

import numpy as np
import pytest
from conftest import BOOKWORM, ROOT, TEXT
from test_chat import TEMPLATE

import pith

POLICIES = ["none", "gate", "streaming(sinks=2,recent=30)", "h2o(rows=32,recent=8)", "snapkv(rows=40,window=8)"]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kv", ["f32", "k=q8_0,v=q4_0"])
def test_logits_that_follow_are_the_same_bits(model, ids, tmp_path, policy, kv):
    options = dict(policy=policy, kv=kv, record_drops=True)
    session = model.session(**options)
    session.feed(ids[:60])
    session.feed(ids[60:64], decoded=True)
    saved = session.save()
    assert isinstance(saved, bytes)
    assert session.save(tmp_path / "story.pith", note="half of it") is None
    of_bytes, of_file = model.session(**options), pith.Model(BOOKWORM, threads=1).session(**options)
    other = of_file.add(ids[:9])  # a sequence that is there does not come between
    assert len(of_file.step()) == 1
    assert of_bytes.restore(saved) == (0, "")
    sequence, note = of_file.restore(str(tmp_path / "story.pith"))
    assert note == "half of it" and sequence != other
    expected = [session.feed([token], decoded=True) for token in ids[64:80]]
    expected.append(session.feed(ids[80:]))
    for one in (of_bytes, of_file):
        assert list(one.tokens()) == ids[:64]
        for token, logits in zip(ids[64:80], expected):
            np.testing.assert_array_equal(one.feed([token], decoded=True), logits)
        np.testing.assert_array_equal(one.feed(ids[80:]), expected[-1])
        np.testing.assert_array_equal(one.drop_at(), session.drop_at())


def test_damage_is_found_and_costs_nothing(model, ids, tmp_path):
    session = model.session(policy="gate")
    session.feed(ids[:40])
    saved = session.save()
    other = model.session(policy="gate")
    other.feed(ids[:10])
    before = other.stats()
    middle = len(saved) // 2
    damaged = [saved[:end] for end in (0, 7, 20, middle, len(saved) - 1)]
    damaged += [saved + b"\0", b"GGUF" + saved[4:]]
    for place in (9, 30, middle, len(saved) - 3):
        damaged.append(saved[:place] + bytes([saved[place] ^ 4]) + saved[place + 1 :])
    for one in damaged:
        with pytest.raises(pith.Error) as error:
            other.restore(one)
        assert error.value.code == "format", len(one)
    (tmp_path / "short").write_bytes(saved[:middle])
    with pytest.raises(pith.Error, match="short") as error:
        other.restore(tmp_path / "short")
    assert error.value.code == "format"
    with pytest.raises(pith.Error, match="nowhere") as error:
        other.restore(tmp_path / "nowhere")
    assert error.value.code == "file"
    assert other.stats() == before and list(other.tokens()) == ids[:10]
    assert list(other.tokens(other.restore(bytearray(saved)).sequence)) == ids[:40]


def test_what_does_not_fit_is_named(model, ids, tmp_path):
    session = model.session(policy="h2o(rows=32,recent=8)")
    session.feed(ids[:40])
    saved = session.save()
    with pytest.raises(pith.Error, match=r"streaming\(.*h2o\(rows=32|h2o\(rows=32.*streaming\(") as error:
        model.session(policy="streaming(recent=30)").restore(saved)
    assert error.value.code == "unsupported"
    with pytest.raises(pith.Error, match="q8_0.*f32|f32.*q8_0") as error:
        model.session(policy="h2o(rows=32,recent=8)", kv="q8_0").restore(saved)
    assert error.value.code == "unsupported"
    with pytest.raises(pith.Error, match="llama.*qwen3|qwen3.*llama") as error:
        pith.Model(ROOT / "tests/golden/qwen3-moe").session(policy="h2o(rows=32,recent=8)").restore(saved)
    assert error.value.code == "model"
    with pytest.raises(pith.Error) as error:
        session.save(tmp_path / "no/such/folder")
    assert error.value.code == "file"
    with pytest.raises(pith.Error) as error:
        model.session().save()
    assert error.value.code == "state"
    with pytest.raises(pith.ArgumentError, match="note"):
        session.save(note="for nobody")
    session.mark()
    with pytest.raises(pith.Error) as error:
        session.save()
    assert error.value.code == "state"


def greedy(session, logits, count):
    tokens = []
    for _ in range(count):
        tokens.append(int(logits[-1].argmax()))
        logits = session.feed(tokens[-1:], decoded=True)
    return tokens


def test_generations_go_on(model, tmp_path):
    first, second = TEXT[:120], " And so he said that"
    options = dict(policy="h2o(rows=48,recent=8)", max_tokens=12, temperature=0, ends=[])
    path = tmp_path / "story.pith"
    begun = model.generate(first, save=path, **options)
    begun.text()
    went_on = model.generate(second, load=path, **options)
    assert went_on.text() and went_on.result.finish == "length"
    session = model.session(policy="h2o(rows=48,recent=8)")
    assert greedy(session, session.feed(model.tokenizer.encode(first)), 12) == begun.result.tokens
    assert greedy(session, session.feed(model.tokenizer.encode(second, "plain")), 12) == went_on.result.tokens
    with pytest.raises(pith.Error, match="h2o.*gate|gate.*h2o"):
        model.generate(second, load=path, policy="gate")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(pith.Error, match="story.pith"):
        model.generate(second, load=path, **options)


def test_what_ends_early_is_saved_as_far_as_it_came(model, tmp_path):
    path = tmp_path / "story.pith"
    options = dict(max_tokens=50, temperature=0, ends=[], policy="gate")
    stream = model.generate(TEXT[:80], save=path, **options)
    for _ in range(5):
        next(stream)
    assert not path.exists()
    stream.close()
    assert stream.result.finish == "cancelled" and list(stream) == []
    again = model.generate(" So", load=path, save=path, **options)
    assert again.text() and path.exists()


def test_chats_go_on(model, tmp_path):
    template = pith.ChatTemplate(TEMPLATE)
    options = dict(max_tokens=10, temperature=0)
    chat = model.conversation("Be brief.", template=template, policy="gate")
    with pytest.raises(pith.Error) as error:
        chat.save(tmp_path / "chat.pith")
    assert error.value.code == "state"
    chat.ask("Who lived in the old house?", **options)
    chat.save(tmp_path / "chat.pith")
    other = model.conversation(template=template, policy="gate")
    other.restore(tmp_path / "chat.pith")
    assert other.messages == chat.messages
    expected, answer = (one.ask("And who lives there now?", **options) for one in (chat, other))
    assert answer.tokens == expected.tokens and answer.prompt_tokens == expected.prompt_tokens
    read_again = model.conversation(template=template, policy="gate")
    read_again.restore(chat.messages)
    assert read_again.messages == chat.messages
    (tmp_path / "chat.pith").write_bytes(b"pithsess" + bytes(80))
    with pytest.raises(pith.Error, match="chat.pith"):
        other.restore(tmp_path / "chat.pith")
    assert len(other.messages) == 5
