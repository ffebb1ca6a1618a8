# SPDX-License-Identifier: MIT
"""A corpus on a cluster of two nodes, of which one dies, as does an actor: each row comes out once, and is what it is
without them. And rows without Ray: what the classes make of a batch."""

import os
import subprocess
import sys
import time

import conftest
import numpy as np
import pytest

import pith

ray = pytest.importorskip("ray", reason="needs pip install ray[data]")
pytest.importorskip("ray.data", reason="needs pip install ray[data]")
import pith.ray  # noqa: E402

OPTIONS = {"model": str(conftest.BOOKWORM), "threads": 1}


def texts(count):
    words = conftest.TEXT.split()
    return [" ".join(words[i % 40 :]) for i in range(count)]


def batch_of(rows, **columns):
    return {"id": np.arange(len(rows)), "text": np.array(rows, object), **columns}


def test_scores_are_what_single_tokens_give(model, ids):
    rows = ["", "The", *texts(3)]
    scored = pith.ray.Score(**OPTIONS)(batch_of(rows))
    assert list(scored["id"]) == list(range(5)) and list(scored["text"]) == rows
    for text, logprob, tokens in zip(rows, scored["logprob"], scored["tokens"]):
        ids = model.tokenizer.encode(text)
        assert tokens == max(0, len(ids) - 1)
        [one] = model.loglikelihoods([(ids[:1], ids[1:])]) if len(ids) > 1 else [pith.Likelihood(0, True, 0, 1)]
        assert logprob == pytest.approx(one.logprob, rel=1e-5)


def test_windows_are_scored_by_themselves(ids):
    score = pith.ray.Score(**OPTIONS, window=20, policy="none")
    [whole] = score({"text": np.array([ids[:50]])})["logprob"]
    parts = score({"text": np.array([ids[:20], ids[20:40], ids[40:50]], object)})
    assert whole == pytest.approx(parts["logprob"].sum()) and parts["tokens"].sum() == 47


def test_what_is_written_depends_on_the_row_alone():
    rows = texts(7)
    generate = pith.ray.Generate(**OPTIONS, ids="id", max_tokens=8, seed=3)
    together = generate(batch_of(rows))
    assert list(together["finish"]) == ["length"] * 7 and list(together["tokens"]) == [8] * 7
    again = generate({"id": np.array([4]), "text": np.array([rows[4]], object)})
    assert again["generated"][0] == together["generated"][4]
    other = generate({"id": np.array([5]), "text": np.array([rows[4]], object)})
    assert other["generated"][0] != together["generated"][4]


def test_columns_are_named_where_they_are_wrong():
    with pytest.raises(pith.ArgumentError, match="expected one of id, text, found body"):
        pith.ray.Score(**OPTIONS, column="body")(batch_of(["a"]))
    with pytest.raises(pith.ArgumentError, match="logprob: it is to be added"):
        pith.ray.Score(**OPTIONS)(batch_of(["a"], logprob=np.zeros(1)))
    with pytest.raises(pith.ArgumentError, match="row 1 of a batch"):
        pith.ray.Score(**OPTIONS)({"text": np.array(["a", None], object)})
    with pytest.raises(pith.ArgumentError, match="ids: expected one of id, text, found key"):
        pith.ray.Generate(**OPTIONS, ids="key")(batch_of(["a"]))
    with pytest.raises(pith.ArgumentError, match="window"):
        pith.ray.Score(**OPTIONS, window=1)


class Mortal(pith.ray.Score):
    """Takes its time, says where it is, and kills its process in the middle of the corpus, once."""

    def __init__(self, marker, **options):
        super().__init__(**options)
        self.marker = marker

    def __call__(self, batch):
        scored = super().__call__(batch)
        time.sleep(0.2)
        if 120 in batch["id"]:
            try:
                os.close(os.open(self.marker, os.O_CREAT | os.O_EXCL))
                os._exit(1)
            except FileExistsError:
                pass
        node = ray.get_runtime_context().get_node_id()
        return {**scored, "node": np.array([node] * len(batch["id"]), object)}


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.setenv("RAY_worker_niceness", "0")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.chdir(conftest.ROOT / "python/tests")  # where its workers look for this module
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    node = {"num_cpus": 2, "object_store_memory": 100 << 20}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=node)
    second = cluster.add_node(**node)
    ray.init(address=cluster.address, logging_level="warning", log_to_driver=False)
    cluster.wait_for_nodes()
    yield cluster, second
    ray.shutdown()
    cluster.shutdown()


def test_a_node_that_dies_costs_a_retry(cluster, tmp_path):
    cluster, second = cluster
    rows = texts(160)
    expected = pith.ray.Score(**OPTIONS)(batch_of(rows))

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.wait_for_min_actors_s = 120  # so that both begin together
    corpus = ray.data.from_items([{"id": i, "text": text} for i, text in enumerate(rows)], override_num_blocks=40)
    scored = corpus.map_batches(
        Mortal,
        fn_constructor_kwargs={"marker": str(tmp_path / "died"), **OPTIONS},
        batch_size=4,
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=2),
    )
    out = []
    for row in scored.iter_rows():
        out.append(row)
        if len(out) == 40:
            cluster.remove_node(second, allow_graceful=False)

    assert (tmp_path / "died").exists(), "an actor died"
    assert len({row["node"] for row in out[:40]}) == 2, "both nodes had a part in it"
    assert len({row["node"] for row in out[-40:]}) == 1, "and one of them was gone in the middle"
    assert [row["id"] for row in out] == list(range(160)), "each row once, in order"
    assert [row["text"] for row in out] == rows
    np.testing.assert_array_equal([row["logprob"] for row in out], expected["logprob"])
    np.testing.assert_array_equal([row["tokens"] for row in out], expected["tokens"])


def test_the_example_scores_a_folder(tmp_path):
    books = tmp_path / "books"
    for name, text in {"long": conftest.TEXT * 3, "short": "The old house.\n"}.items():
        (books / name).mkdir(parents=True)
        (books / name / "text").write_text(text.replace(". ", ".\n"))
    command = [sys.executable, str(conftest.ROOT / "examples/score_corpus.py"), str(conftest.BOOKWORM), str(books)]
    environment = {**os.environ, "RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        [*command, "--cpus=1", "--kv=f32", "--passage=500", f"--output={tmp_path / 'out'}"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    score = pith.ray.Score(**OPTIONS, window=1024)
    text = (books / "short/text").read_text()
    [logprob], [tokens] = (score(batch_of([text]))[name] for name in ("logprob", "tokens"))
    assert f"1 passages {tokens:9} tokens   perplexity {np.exp(-logprob / tokens):8.3f}" in done.stdout
    assert "long/text" in done.stdout
    assert list((tmp_path / "out").glob("*.parquet"))
