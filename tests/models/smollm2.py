# SPDX-License-Identifier: MIT
"""What transformers computes in float64 of the weights in a GGUF of SmolLM2-135M-Instruct: smollm2.json.

    python tests/models/smollm2.py smollm2-135m-instruct.q4_1.gguf
"""
import sys
from pathlib import Path

import gguf
import transformers

import expected

TEXTS = [
    "The capital of France is",
    "Once upon a time, in a village by the sea, there lived an old",
    "def fibonacci(n):\n    ",
    "Water boils at a temperature of",
    "The three laws of motion were first written down by Isaac Newton. The first of them says that",
    "<|im_start|>user\nName three colours of the rainbow.<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>system\nYou answer in one sentence.<|im_end|>\n<|im_start|>user\nWhy is the sky blue?<|im_end|>\n"
    "<|im_start|>assistant\n",
    "A list of groceries:\n1. bread\n2. milk\n3.",
    "He opened the letter slowly, read it twice, folded it again, and said nothing for a long while. When at last he spoke, it "
    "was only to ask",
    "In 1969 the first people walked on the Moon. Their names were",
]


def halves(weight, heads):
    """ggml turns neighbours of a head where Hugging Face turns its halves."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def config_of(reader):
    def value(key):
        return reader.fields["llama." + key].contents()

    return transformers.LlamaConfig(
        vocab_size=len(reader.fields["tokenizer.ggml.tokens"].data), hidden_size=value("embedding_length"),
        intermediate_size=value("feed_forward_length"), num_hidden_layers=value("block_count"),
        num_attention_heads=value("attention.head_count"), num_key_value_heads=value("attention.head_count_kv"),
        max_position_embeddings=value("context_length"), rms_norm_eps=value("attention.layer_norm_rms_epsilon"),
        rope_theta=value("rope.freq_base"), tie_word_embeddings=True)


def main(source):
    reader = gguf.GGUFReader(source)
    config = config_of(reader)

    def as_hugging_face(name, values):
        if "q_proj" in name:
            return halves(values, config.num_attention_heads)
        return halves(values, config.num_key_value_heads) if "k_proj" in name else values

    weights = expected.weights_of(reader, gguf.MODEL_ARCH.LLAMA, transformers.LlamaForCausalLM, config, as_hugging_face)
    tokenizer = transformers.AutoTokenizer.from_pretrained(Path(source).parent, gguf_file=Path(source).name)
    texts = [tokenizer(text)["input_ids"] for text in TEXTS]
    for greedy in expected.write(Path(__file__).with_name("smollm2.json"),
                                 lambda: expected.model_of(transformers.LlamaForCausalLM, config, weights), texts):
        print(tokenizer.decode(greedy), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
