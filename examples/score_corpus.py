# SPDX-License-Identifier: MIT
"""score_corpus.py MODEL FOLDER: the perplexity of every text below a folder, on as many machines as Ray has.

    pip install ".[ray]"
    python examples/score_corpus.py smollm2.gguf books/ --policy gate --actors 8 --cpus 4

MODEL and FOLDER are read by every machine: a path that all of them have. On a cluster that runs already, set RAY_ADDRESS.
"""

import argparse
import collections
import math
import os
import time

import ray

import pith.ray

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", help="a Hugging Face directory, or one .gguf")
parser.add_argument("folder", help="of texts, a file each")
parser.add_argument("--gates", help="a sidecar file with learned gates")
parser.add_argument("--policy", help="what is forgotten meanwhile [the model's own gates, or nothing]")
parser.add_argument("--kv", default="f16", help="how keys and values are stored [f16]")
parser.add_argument("--window", type=int, default=1024, help="tokens that are scored together [1024]")
parser.add_argument("--passage", type=int, default=16384, help="characters, about, of a text that make one row [16384]")
parser.add_argument("--limit", type=int, help="so many passages of each text")
parser.add_argument("--actors", type=int, default=1, help="how many models work at once, on all machines together [1]")
parser.add_argument("--cpus", type=int, default=1, help="threads of each [1]; one CPU of all is for reading")
parser.add_argument("-o", "--output", help="a folder for the scored passages, as Parquet")
arguments = parser.parse_args()


def passages(book):
    """A text in pieces that end with a line."""
    name = os.path.relpath(book["path"], os.path.abspath(arguments.folder))
    lines = book["bytes"].decode("utf-8", "replace").splitlines(keepends=True)
    pieces, size = [[]], 0
    for line in lines:
        if size >= arguments.passage:
            pieces.append([])
            size = 0
        pieces[-1].append(line)
        size += len(line)
    for i, piece in enumerate(pieces[: arguments.limit]):
        yield {"id": f"{name}:{i:06}", "book": name, "text": "".join(piece)}


ray.init()
if arguments.actors * arguments.cpus >= (cpus := ray.cluster_resources()["CPU"]):
    # Those who wait for texts would hold what reading them needs.
    parser.error(f"--actors times --cpus: expected fewer than the {cpus:.0f} CPUs that there are, as reading takes one")
batch = 8  # passages
ray.data.DataContext.get_current().execution_options.preserve_order = True
books = ray.data.read_binary_files(os.path.abspath(arguments.folder), include_paths=True)
# An actor takes a block at a time, however many files it came from.
scored = books.flat_map(passages).repartition(target_num_rows_per_block=batch).map_batches(
    pith.ray.Score,
    fn_constructor_kwargs={
        "model": os.path.abspath(arguments.model),
        "gates": arguments.gates and os.path.abspath(arguments.gates),
        "policy": arguments.policy,
        "kv": arguments.kv,
        "window": arguments.window,
    },
    batch_size=batch,
    num_cpus=arguments.cpus,
    compute=ray.data.ActorPoolStrategy(size=arguments.actors),
)

begin, sums = time.monotonic(), collections.defaultdict(lambda: [0, 0, 0.0])
if arguments.output:
    scored = scored.materialize()
    scored.write_parquet(arguments.output)
for row in scored.select_columns(["book", "tokens", "logprob"]).iter_rows():
    book = sums[row["book"]]
    book[0] += 1
    book[1] += row["tokens"]
    book[2] += row["logprob"]
seconds = time.monotonic() - begin
for name, (count, tokens, logprob) in sums.items():
    print(f"{name:48} {count:6} passages {tokens:9} tokens   perplexity {math.exp(-logprob / max(1, tokens)):8.3f}")
tokens = sum(book[1] for book in sums.values())
print(f"{tokens} tokens in {seconds:.1f} s, the start of the actors included: {tokens / seconds:.0f} a second")
