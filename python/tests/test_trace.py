# SPDX-License-Identifier: MIT
"""Traces: what was forgotten, as arrays, and the pages that the command writes."""

import html
import json
import os
import pathlib
import subprocess

import numpy as np
import pytest
from conftest import BOOKWORM, ROOT, TEXT

import pith

TOOL = pathlib.Path(os.environ.get("PITH_TOOL", ROOT / "build/release/bin/pith"))


@pytest.fixture(scope="module")
def trace(model):
    return model.trace(TEXT, policy="gate")


def test_arrays(model, ids, trace):
    n = len(ids)
    assert trace.tokens == ids and trace.prompt_tokens == n
    assert "".join(trace.pieces).strip() == TEXT.strip()
    drop_at = trace.drop_at
    assert drop_at.shape == (model.config["n_layers"], 1, n)
    positions = np.arange(n)
    assert ((drop_at == -1) | (drop_at > positions)).all()
    # Of all pairs of a query and a token at or before it, those that are seen.
    seen = np.minimum(np.where(drop_at == -1, n, drop_at), n) - positions
    assert trace.kept == pytest.approx(seen.sum(axis=2).mean() / (n * (n + 1) / 2))
    assert np.isnan(trace.gate_score[drop_at == -1]).all() and (trace.gate_score[drop_at >= 0] <= 0).all()
    session = model.session(policy="gate")
    logits = session.feed(ids).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert np.isnan(trace.logprob[0])
    np.testing.assert_allclose(trace.logprob[1:], logprobs[np.arange(n - 1), ids[1:]], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(trace.entropy[1:], -(np.exp(logprobs) * logprobs).sum(axis=1)[:-1], rtol=1e-4)


def test_a_notebook_shows_the_report(trace):
    shown = trace._repr_html_()
    assert shown.startswith("<iframe srcdoc=")
    page = html.unescape(shown.split('srcdoc="', 1)[1].split('"', 1)[0])
    assert page == trace.html()
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "%" in repr(trace)


def test_files(trace, tmp_path):
    for name in ("a.html", "a.svg", "a.json"):
        trace.save(tmp_path / name)
    assert (tmp_path / "a.html").read_text() == trace.html()
    assert (tmp_path / "a.svg").read_text().startswith("<svg")
    assert json.loads((tmp_path / "a.json").read_text())["format"] == "pith-trace/1"
    assert trace.svg(layer=1) != trace.svg()
    with pytest.raises(pith.ArgumentError):
        trace.save(tmp_path / "a.png")
    with pytest.raises(pith.ArgumentError):
        trace.svg(layer=99)


@pytest.mark.skipif(not TOOL.exists(), reason="needs the pith command")
@pytest.mark.parametrize("policy", ["gate", "h2o(rows=24,recent=8)"])
def test_is_what_the_command_writes(tmp_path, policy):
    arguments = ["--policy", policy, "-n", "10", "--temp", "0", "--json", "--html", tmp_path / "a.html"]
    command = subprocess.run(
        [TOOL, "trace", "-m", BOOKWORM, "-p", TEXT, *arguments], capture_output=True, text=True, check=True
    )
    ours = pith.Model(BOOKWORM).trace(TEXT, policy=policy, max_tokens=10, temperature=0)
    assert json.loads(ours.json()) == json.loads(command.stdout)
    assert ours.html() == (tmp_path / "a.html").read_text()
