# SPDX-License-Identifier: MIT
"""Policies: functions made of the library's own list, and methods written in Python beside their twins."""

import inspect

import numpy as np
import pytest

import pith
from pith import _pith, policies

METHODS = {one.name: one for one in _pith.catalogue()}


def test_there_is_a_function_for_all_that_the_library_lists():
    assert {"gate", "h2o", "snapkv", "per_head", "chain"} <= METHODS.keys()
    for name, method in METHODS.items():
        function = getattr(policies, name)
        assert name in policies.__all__
        if name == "chain":
            continue
        parameters = inspect.signature(function).parameters
        assert {option.name for option in method.options} <= parameters.keys()
        assert method.what.lower() in function.__doc__.lower()


@pytest.mark.parametrize("name", [name for name, one in METHODS.items() if not one.arguments])
def test_defaults_are_the_librarys(name):
    assert str(getattr(policies, name)()) == str(pith.Policy(name))
    parameters = inspect.signature(getattr(policies, name)).parameters
    defaults = {option: parameters[option].default for option in parameters}
    assert str(getattr(policies, name)(**defaults)) == str(pith.Policy(name))


def test_options():
    assert str(policies.snapkv(rows=512)).startswith("snapkv(rows=512,window=32,")
    assert str(policies.gate(tau=-0.5)) == "gate(tau=-0.5)"
    assert str(policies.gate(tau=1e-05)) == str(pith.Policy("gate(tau=0.00001)"))
    assert str(policies.h2o(share=0.25)) == str(pith.Policy("h2o(share=0.25)"))
    with pytest.raises(TypeError, match="row"):
        policies.h2o(row=5)
    with pytest.raises(ValueError, match="rows"):
        policies.h2o(rows=7)
    with pytest.raises(pith.ArgumentError, match="one of none, gate"):
        pith.Policy("snap")


def test_combinators():
    chained = policies.chain("gate", policies.h2o(rows=1024))
    assert str(chained) == str(pith.Policy("chain(gate,h2o(rows=1024))")) == str(pith.Policy("gate,h2o(rows=1024)"))
    assert str(policies.on_prefill(chained)) == f"on_prefill({chained})"
    assert str(policies.per_head("gate")) == "per_head(gate(tau=0))"
    for layers in ("2-3", range(2, 4)):
        assert str(policies.for_layers("gate", layers=layers)) == "for_layers(layers=2-3,gate(tau=0))"
    assert str(policies.for_layers("gate", layers=2)) == "for_layers(layers=2,gate(tau=0))"
    assert str(policies.for_heads("gate", heads=[0, 2])) == "for_heads(heads=0+2,gate(tau=0))"
    assert str(policies.for_heads("gate", heads={1: [0, 2], 3: [1]})) == "for_heads(heads=1.0+1.2+3.1,gate(tau=0))"
    with pytest.raises(TypeError, match="layers"):
        policies.for_layers("gate")
    with pytest.raises(pith.Error) as error:
        policies.protect("gate", file="nowhere.json")
    assert error.value.code == "file"


def drops(model, ids, policy, **options):
    session = model.session(policy=policy, record_drops=True, **options)
    session.feed(ids[:70])
    session.feed(ids[70:100], decoded=True)
    return session.drop_at()


def key_norm(rows):
    """The shortest keys are worth most (arXiv 2406.11430)."""
    return -np.sqrt((rows.keys.astype(np.float32) ** 2).sum(axis=(1, 2)))


def attention(rows):
    """Attention received so far (H2O, arXiv 2306.14048)."""
    return rows.column("mass")


@pytest.mark.parametrize("chunk", [1, 16])
@pytest.mark.parametrize(
    "scorer, columns, method", [(key_norm, (), "knorm"), (attention, ["mass"], "h2o")], ids=["knorm", "h2o"]
)
def test_a_method_in_python_is_the_twin_of_the_librarys(model, ids, scorer, columns, method, chunk):
    mine = policies.scored(scorer, rows=30, columns=columns, sinks=2, recent=8)
    theirs = getattr(policies, method)(rows=30, sinks=2, recent=8)
    expected = drops(model, ids, theirs, chunk=chunk)
    assert (expected >= 0).mean() > 0.3
    assert np.array_equal(drops(model, ids, mine, chunk=chunk), expected)


def test_what_a_scorer_sees(model, ids):
    seen = []

    def look(rows):
        seen.append((rows.layer, rows.head, len(rows), rows.born, rows.keys, rows.values, rows.column("mine"), rows.next))
        rows.set_column("mine", rows.born.astype(np.float32))
        return rows.born

    mine = policies.scored(look, rows=20, columns=["mine"], sinks=0, recent=4, on_prefill=False)
    result = drops(model, ids, mine, chunk=32)
    config = model.config
    assert {one[0] for one in seen} == set(range(config["n_layers"]))
    assert {one[1] for one in seen} == set(range(config["n_kv_heads"]))
    for _, _, count, born, keys, values, column, after in seen:
        assert born.shape == (count,) and born.dtype == np.int32 and len(set(born.tolist())) == count
        assert keys.shape == values.shape == (count, 1, config["head_dim"]) and keys.dtype == np.float32
        assert born.max() == after - 1
        assert set(column[column != 0].tolist()) <= set(born.tolist()), "what was written moves with its row"
    # The latest are worth most: what is left are the last 20, and one that no query has missed yet.
    assert ((result == -1).sum(axis=2) == 21).all() and (result[:, :, -20:] == -1).all()


def test_heads_together_and_prompts_alone(model, ids):
    together = policies.scored(key_norm, rows=30, recent=8, per_head=False)
    assert drops(model, ids, together).shape[1] == 1
    once = drops(model, ids, policies.scored(key_norm, rows=30, recent=8, on_prefill=True))
    assert set(np.unique(once).tolist()) == {-1, 70}
    chained = policies.chain("gate", policies.scored(key_norm, rows=30, recent=8))
    assert ((drops(model, ids, chained) == -1).sum(axis=2) <= 31).all()


def test_what_a_scorer_raises_comes_out(model, ids):
    calls = []

    def fails(rows):
        calls.append(rows)
        if len(calls) > 3:
            raise KeyError("lost")
        return np.zeros(len(rows))

    session = model.session(policy=policies.scored(fails, rows=40), chunk=64)
    with pytest.raises(KeyError, match="lost"):
        session.feed(ids)
    with pytest.raises(pith.Error, match="gone"):
        calls[0].born
    stream = model.generate("It was", policy=policies.scored(fails, rows=40), max_tokens=60)
    with pytest.raises(KeyError, match="lost"):
        stream.text()
    for wrong in (lambda rows: np.zeros(3), lambda rows: np.full(len(rows), np.nan), lambda rows: rows.column("mass")):
        with pytest.raises(pith.ArgumentError):
            model.session(policy=policies.scored(wrong, rows=40)).feed(ids)
    with pytest.raises(pith.ArgumentError, match="scored"):
        policies.per_head(policies.scored(key_norm))
