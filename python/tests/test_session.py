# SPDX-License-Identifier: MIT
"""Sessions: tokens in, logits out as arrays, of which those of a step are views."""

import gc
import json
import threading
import time

import numpy as np
import pytest
from conftest import ROOT

import pith

GOLDEN = ROOT / "tests/golden"


@pytest.mark.parametrize("name", ["gemma3", "qwen3-moe", "smollm3"])
def test_logits_are_those_of_transformers(name):
    """What transformers computed of a small checkpoint."""
    expected = json.loads((GOLDEN / name / "expected.json").read_text())
    model = pith.Model(GOLDEN / name, threads=1)
    logits = np.fromfile(GOLDEN / name / "expected_logits.f32", np.float32).reshape(len(expected["tokens"]), -1)
    ours = model.session().feed(expected["tokens"])
    assert ours.dtype == np.float32 and ours.shape == logits.shape == (len(ours), model.config["vocab_size"])
    assert np.abs(ours - logits).max() < 1e-4 * np.abs(logits).max()


def test_drops_are_those_of_the_reference():
    expected = json.loads((GOLDEN / "llama-gated/expected.json").read_text())
    session = pith.Model(GOLDEN / "llama-gated").session(record_drops=True)
    session.feed(expected["tokens"])
    assert np.array_equal(session.drop_at()[:, 0], expected["drop_at"])


def test_feeds_in_parts_and_chunks(model, ids):
    whole = model.session(policy="none").feed(ids)
    for chunk in (7, 256):
        session = model.session(policy="none", chunk=chunk)
        parts = [session.feed(ids[:20]), session.feed(np.array(ids[20:21]), decoded=True), session.feed(ids[21:])]
        np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-4, atol=1e-4)
        assert session.length() == len(ids)
        assert session.idle


def test_views_stay_good(model, ids):
    """Steps that follow, the session's end and the model's leave the logits of a step as they were."""
    session = model.session()
    sequence = session.add(ids[:10])
    [(same, logits)] = session.step()
    assert same == sequence
    assert logits.base is not None and not logits.flags.owndata and not logits.flags.writeable
    was = logits.copy()
    for token in ids[10:40]:
        session.push(sequence, token)
        [(_, later)] = session.step()
    whole = session.feed(ids[:30])
    copy = whole.copy()
    del session
    gc.collect()
    np.testing.assert_array_equal(logits, was)
    np.testing.assert_array_equal(whole, copy)
    assert not np.array_equal(later, was)


def test_rows_of_a_step_share_memory(model, ids):
    session = model.session()
    first, second = session.add(ids[:12]), session.add(ids[5:9])
    rows = dict(session.step())
    assert set(rows) == {first, second}
    low, high = sorted(row.__array_interface__["data"][0] for row in rows.values())
    assert high - low == 4 * model.config["vocab_size"]


def test_a_ragged_batch_is_each_alone(model, ids):
    session = model.session()
    sequences = {session.add(ids[i : 30 + 3 * i], "all"): ids[i : 30 + 3 * i] for i in range(5)}
    rows = {sequence: [] for sequence in sequences}
    while outputs := session.step():
        for sequence, logits in outputs:
            rows[sequence].append(logits)
    for sequence, tokens in sequences.items():
        np.testing.assert_array_equal(np.stack(rows[sequence]), model.session().feed(tokens))


def test_forks_marks_and_rewinds(model, ids):
    session = model.session(policy="h2o(rows=32,recent=8)")
    session.feed(ids[:60])
    branch = session.fork()
    session.mark(branch)
    one = session.feed(ids[60:70], branch, decoded=True)
    session.rewind(60, branch)
    session.commit(branch)
    np.testing.assert_array_equal(session.feed(ids[60:70], branch, decoded=True), one)
    np.testing.assert_array_equal(session.feed(ids[60:70], decoded=True), one)
    assert session.length(branch) == session.length() == 70
    session.finish(branch)
    session.finish()
    assert session.stats()["bytes_used"] == 0
    assert session.trim() > 0


def test_keeps_and_forgets(model, ids):
    session = model.session(policy="streaming(sinks=0,recent=8)", record_drops=True)
    session.feed(ids[:4])
    session.keep([1, 2])
    session.feed(ids[4:40], decoded=True)
    drops = session.drop_at()
    assert (drops[:, :, [1, 2]] == -1).all() and (drops[:, :, [0, 3]] >= 0).all()
    session.forget(1, [1])
    session.feed(ids[40:41], decoded=True)
    assert session.drop_at()[1, 0, 1] == 40
    assert session.drop_at()[0, 0, 1] == -1


def test_stats(model, ids):
    session = model.session(policy="streaming(sinks=4,recent=28)", kv="q8_0")
    session.feed(ids)
    stats = session.stats(sequence=None)
    assert len(set(stats["live_rows"])) == 1 and 31 <= stats["live_rows"][0] <= 32
    assert stats["policy"] == session.policy == "streaming(sinks=4,recent=28)"
    assert 0 < stats["bytes_used"] < stats["bytes_dense"]


def test_embeddings_of_tokens_are_the_tokens(model, ids):
    rows = model.embed(ids)
    assert rows.shape == (len(ids), model.config["d_model"]) and rows.dtype == np.float32
    expected = model.session(policy="gate")
    whole = [expected.feed(ids[:40]), expected.feed(ids[40:50], decoded=True), expected.feed(ids[50:60])]
    session = model.session(policy="gate")
    parts = [session.feed(rows[:40]), session.feed(rows[40:50].astype(np.float64), decoded=True)]
    for mine, theirs in zip([*parts, session.feed(ids[50:60])], whole):
        np.testing.assert_array_equal(mine, theirs)
    assert list(session.tokens()) == [-1] * 50 + ids[50:60]
    sequence = session.add(rows[:5], "none")
    session.prompt(sequence, rows[5:7], "none")
    assert session.step() == []
    session.push(sequence, rows[7:8])
    [(_, logits)] = session.step()
    np.testing.assert_allclose(logits, model.session(policy="gate").feed(ids[:8])[-1], rtol=1e-4, atol=1e-4)
    with pytest.raises(pith.ArgumentError, match=str(model.config["d_model"])):
        session.feed(rows[:, :-1])
    with pytest.raises(pith.ArgumentError, match="token 1"):
        model.embed([0, model.config["vocab_size"]])


def test_compresses_to_anchors(model, ids):
    session = model.session(policy="none", record_drops=True)
    session.feed(ids[:40])
    session.compress(4, 36, [7, 20])
    session.feed(ids[40:42], decoded=True)
    drops = session.drop_at()
    gone = [i for i in range(4, 36) if i not in (7, 20)]
    assert (drops[:, :, gone] == 40).all() and (np.delete(drops, gone, axis=2) == -1).all()
    with pytest.raises(pith.ArgumentError):
        session.compress(0, 4, [5])


def test_compresses_to_what_is_needed_to_write_it_again(model, ids):
    session = model.session(policy="per_head(none)")
    session.feed(ids[:90])
    session.kvzip(0.4, chunk=64)
    rows = sum(session.stats()["live_rows"])
    everything = 90 * model.config["n_layers"] * model.config["n_kv_heads"]
    assert rows == pytest.approx(0.4 * everything, rel=0.05)
    assert np.isfinite(session.feed(ids[90:95])).all()
    whole, kept = model.session(policy="none"), model.session(policy="none")
    for one in (whole, kept):
        one.feed(ids[:50])
    kept.kvzip(1.0)
    np.testing.assert_array_equal(kept.feed(ids[50:55]), whole.feed(ids[50:55]))
    with pytest.raises(pith.ArgumentError, match="share"):
        whole.kvzip(2.0)


def test_tau_in_mid_sequence(model, ids):
    session = model.session(policy="gate", record_drops=True)
    session.feed(ids[:50])
    before = session.stats()["live_rows"]
    session.set_tau(float("inf"))
    session.feed(ids[50:60], decoded=True)
    assert sum(session.stats()["live_rows"]) < sum(before) / 2


def test_refuses(model, ids):
    session = model.session()
    with pytest.raises(pith.Error) as error:
        session.length()
    assert error.value.code == "state"
    with pytest.raises(pith.ArgumentError):
        session.feed([])
    with pytest.raises(pith.ArgumentError, match="99"):
        session.length(99)
    with pytest.raises(pith.ArgumentError, match="logits"):
        session.add(ids, "some")
    session.add(ids)
    with pytest.raises(pith.Error, match="pending"):
        session.feed(ids)
    assert len(session.step()) == 1
    assert session.step() == []
    with pytest.raises(pith.Error) as error:
        model.session(kv_budget=1000).feed(ids)
    assert error.value.code == "budget"


def test_other_threads_run_meanwhile_and_may_not_come_between(model, ids):
    """The interpreter's lock is released in a pass; a second thread in the same session is refused."""
    session = model.session(chunk=1)
    sequence = session.add(ids[:60], "none")
    ticks, refused = [], []
    done = threading.Event()

    def watch():
        while not done.is_set():
            ticks.append(1)
            try:
                session.stats()
            except pith.Error as error:
                refused.append(error)
            time.sleep(0.001)

    thread = threading.Thread(target=watch)
    thread.start()
    for _ in range(1000):  # as often as it takes the other thread to come by
        session.step()
        session.finish(sequence)
        sequence = session.add(ids[:60], "none")
        if len(ticks) > 10 and refused:
            break
    done.set()
    thread.join()
    assert len(ticks) > 10
    assert refused and all(error.code == "state" for error in refused)


def test_sessions_in_many_threads(model, ids):
    expected = model.session(policy="gate").feed(ids[:60])
    results = [None] * 4

    def work(i):
        results[i] = model.session(policy="gate").feed(ids[:60])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(results))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in results:
        np.testing.assert_array_equal(one, expected)
