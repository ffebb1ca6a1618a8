# SPDX-License-Identifier: MIT
"""What transformers computes in float64 of the weights in a GGUF of Gemma 3: gemma3.json.

    python tests/models/gemma3.py gemma-3-270m.q4_k_m.gguf
"""
import sys
from pathlib import Path

import gguf
import transformers

import expected

TEXTS = [
    "The old house stood at the end of the lane, and nobody in the village could remember who had built it. Its "
    "windows were dark, its garden was overgrown with roses, and every evening, when the bells of the church began to ring, a "
    "single light appeared in the tower. The children said that a sailor lived there; the baker said that it was only "
    "the wind and the moon. One morning in October a letter arrived, addressed to",
    "def quicksort(numbers):\n    if len(numbers) < 2:\n        return numbers\n    pivot = numbers[0]\n",
    "The capital of France is",
    "Water boils at a temperature of",
]


def pieces_of(reader):
    field = reader.fields["tokenizer.ggml.tokens"]
    return [bytes(field.parts[i]).decode("utf-8") for i in field.data]


def tokens_of(text, ids):
    """Greedy by the longest piece: any tokens of the vocabulary will do."""
    text, out = text.replace(" ", "\u2581"), [2]
    while text:
        size = next(n for n in range(min(len(text), 24), 0, -1) if text[:n] in ids)
        out.append(ids[text[:size]])
        text = text[size:]
    return out


def config_of(reader):
    def value(key):
        field = reader.fields.get("gemma3." + key)
        return None if field is None else field.contents()

    return transformers.Gemma3TextConfig(
        vocab_size=len(pieces_of(reader)), hidden_size=value("embedding_length"),
        intermediate_size=value("feed_forward_length"), num_hidden_layers=value("block_count"),
        num_attention_heads=value("attention.head_count"), num_key_value_heads=value("attention.head_count_kv"),
        head_dim=value("attention.key_length"), max_position_embeddings=value("context_length"),
        rms_norm_eps=value("attention.layer_norm_rms_epsilon"), sliding_window=value("attention.sliding_window"),
        query_pre_attn_scalar=value("attention.key_length"),
        rope_parameters={"full_attention": {"rope_type": "default", "rope_theta": value("rope.freq_base")},
                         "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}})


def main(source):
    reader = gguf.GGUFReader(source)
    config = config_of(reader)
    weights = expected.weights_of(reader, gguf.MODEL_ARCH.GEMMA3, transformers.Gemma3ForCausalLM, config,
                                  lambda name, values: values - 1 if name.endswith("norm.weight") else values)
    pieces = pieces_of(reader)
    ids = {piece: i for i, piece in reversed(list(enumerate(pieces)))}
    texts = [tokens_of(text, ids) for text in TEXTS]
    for greedy in expected.write(Path(__file__).with_name("gemma3.json"),
                                 lambda: expected.model_of(transformers.Gemma3ForCausalLM, config, weights), texts):
        print("".join(pieces[t] for t in greedy).replace("\u2581", " "), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
