#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes vectors.json: hostile texts, and the ids that Hugging Face's `tokenizers` gives them when it cuts words as
well-known models do, on one small vocabulary. Its merges were learned across the borders of words, so that every cut
shows. Needs the package tokenizers (written with 0.23).

    python3 tests/text/words/make.py                      # vectors.json
    python3 tests/text/words/make.py MODEL.gguf NAME      # NAME.json: the same texts by SentencePiece itself, from the
                                                          # pieces in a GGUF (needs gguf, sentencepiece, protobuf)
"""
import json, pathlib, random, re, sys

HERE = pathlib.Path(__file__).parent

# How the tokenizer.json of each model cuts, as published with it.
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
CASED = (
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u1f7dᾀ-ᾴ"
    "ᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎ"
    "ꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃")


def split(regex):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


def sequence(*parts):
    return {"type": "Sequence", "pretokenizers": list(parts)}


def byte_level(use_regex):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def digits(individual):
    return {"type": "Digits", "individual_digits": individual}


CJK = split("[一-龥ࠀ-一가-퟿]+")
FAMILIES = {  # name in GGUF: pre-tokenizer, normalizer, ignore_merges
    "gpt-2": (byte_level(True), None, False),
    "mpt": (byte_level(True), {"type": "NFC"}, False),
    "llama-bpe": (sequence(split(LLAMA3), byte_level(False)), None, True),
    "qwen2": (sequence(split(QWEN2), byte_level(False)), {"type": "NFC"}, False),
    "smollm": (sequence(digits(True), byte_level(True)), None, False),
    "starcoder": (sequence(digits(True), byte_level(True)), None, False),
    "falcon": (sequence({"type": "Punctuation", "behavior": "Contiguous"}, byte_level(True), digits(False),
                        split("[0-9][0-9][0-9]")), None, False),
    "deepseek-llm": (sequence(split("[\r\n]"), split(r"\s?[" + CASED + "]+"), split(r"\s?[!-/:-~！-／：-～‘-‟　-。]+"),
                              split(r"\s+$"), CJK, digits(True), byte_level(False)), None, False),
    "deepseek-coder": (sequence(split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), CJK, digits(True),
                                byte_level(False)), None, False),
    "deepseek-v3": (sequence(split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"),
                             split(r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
                                   r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"), byte_level(False)), None, False),
}

# Phi-3's is Llama 2's SentencePiece as a BPE, with special tokens that take the blanks behind them.
PHI3 = "phi-3"
PHI3_SPECIALS = ["<|user|>", "<|end|>", "<|assistant|>"]

PIECES = [
    "the", "The", "THE", "don't", "DON'T", "I'm", "we'll", "'s", "'S", "''", "’s", "ſ", "ß", "ŉ", "ǅ", "ª", "º", "µ",
    "naïve", "cafe\u0301", "e\u0301", "\u0301", "ﬁ", "Ⅷ", "②", "½", "²", "x²y", "м", "мир", "٣٤٥", "१२३", "123", "1234567",
    "3.14", "1,000", "0x1F", "，", "。", "「", "」", "一二三", "龥龦", "ࠀ", "漢字カナかな", "한국어", "퟿", "日本語123", "ไทย", "עברית",
    "العربية", "हिन्दी", "👍", "👩‍👩‍👧", "🇩🇪", "\u200d", "\u200b", "\ufeff", "\u00a0", "\u2003", "\u3000", "\u2028", "\u0085", "\u001c",
    "\t", "\n", "\r\n", "\r", "\n\n", " ", "  ", "   ", "        ", "\v", "\f", "\x00", "\x7f", "!", "?!", "...", "!!!", "--",
    "—", "–", "_", "__init__", "a_b", "$", "€", "+", "<=", "=>", "^", "`", "``", "~", "|", "\\", "/", "//", "#", "@x", "(", ")",
    "[x]", "{y}", "if(x)", "</s>", "<s>", "http://a.b/c?d=e&f", "🙂!", "ℂ", "Ω", "K", "Å", "𝐀", "𐐀", "\U0010ffff", "ͅ", "ʰ", "ː",
    "ꟿ", "̈", "İ", "ı", "㎏", "㈱", "ＡＢＣ", "１２", "ｶﾅ", "<|user|>", "<|end|>", "<|assistant|>", "▁", "▁▁",
]


def texts():
    rng = random.Random(20231)
    out = [""] + PIECES[:120]
    while len(out) < 1000:
        parts = [rng.choice(PIECES) for _ in range(rng.randint(1, 9))]
        out.append(rng.choice(["", "", "", " "]).join(parts) if rng.random() < 0.8 else
                   "".join(chr(rng.choice([rng.randrange(0x20, 0x250), rng.randrange(0x300, 0xd800),
                                           rng.randrange(0xe000, 0x11000), rng.randrange(0x1f000, 0x1fb00)]))
                           for _ in range(rng.randint(1, 8))))
    return out


def fingerprint(ids):
    """32 bits of FNV-1a over the ids as decimals, each followed by a blank."""
    h = 0x811C9DC5
    for byte in "".join(f"{i} " for i in ids).encode():
        h = ((h ^ byte) * 0x01000193) & 0xFFFFFFFF
    return f"{h:08x}"


def small_vocabulary(lines, byte_fallback):
    """Tokens in the order of their ids, and merges; learned from the texts, across words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    corpus = [line for line in lines if line] * 2
    if byte_fallback:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        trainer = trainers.BpeTrainer(vocab_size=700, limit_alphabet=120, show_progress=False)
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        trainer = trainers.BpeTrainer(vocab_size=700, show_progress=False,
                                      initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(corpus, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    vocab = sorted(model["vocab"], key=model["vocab"].get)
    if byte_fallback:  # what cannot be spelled as "left right" stays out
        vocab = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + vocab
        vocab = list(dict.fromkeys(vocab))
    return vocab, merges


def byte_fallback_json(vocab, merges):
    ids = {token: i for i, token in enumerate(vocab)}
    added = [{"id": ids[t], "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": True} for t in ("<unk>", "<s>", "</s>")]
    added += [{"id": ids.get(t, len(vocab) + i), "content": t, "single_word": False, "lstrip": False, "rstrip": True,
               "normalized": False, "special": True} for i, t in enumerate(PHI3_SPECIALS)]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
            "pre_tokenizer": None, "post_processor": None,
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
            "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                      "vocab": ids, "merges": merges}}


def byte_level_json(pre_tokenizer, normalizer, ignore_merges, vocab, merges):
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer, "post_processor": None, "decoder": byte_level(True),
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                      "ignore_merges": ignore_merges, "vocab": {t: i for i, t in enumerate(vocab)}, "merges": merges}}


def write(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=0).replace("\x7f", "\\u007f") + "\n")
    print(path, path.stat().st_size, "bytes")


def main():
    from tokenizers import Tokenizer
    lines = texts()
    vocab, merges = small_vocabulary(lines, byte_fallback=False)
    families = {}
    for name, (pre_tokenizer, normalizer, ignore_merges) in FAMILIES.items():
        root = byte_level_json(pre_tokenizer, normalizer, ignore_merges, vocab, merges)
        tokenizer = Tokenizer.from_str(json.dumps(root))
        families[name] = {"pre_tokenizer": pre_tokenizer, "normalizer": normalizer, "ignore_merges": ignore_merges,
                          "ids": "".join(fingerprint(tokenizer.encode(t).ids) for t in lines)}
    phi3 = byte_fallback_json(*small_vocabulary(lines, byte_fallback=True))
    tokenizer = Tokenizer.from_str(json.dumps(phi3))
    ids = "".join(fingerprint(tokenizer.encode(t, add_special_tokens=False).ids) for t in lines)
    write(HERE / "vectors.json", {"texts": lines, "tokens": vocab, "merges": merges, "families": families,
                                  PHI3: {"tokenizer": phi3, "ids": ids}})


def sentencepiece_of(path):
    """The SentencePiece model whose pieces a GGUF holds."""
    import gguf, sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as pb
    field = lambda key: gguf_reader.fields[key].contents()
    gguf_reader = gguf.GGUFReader(path)
    model = pb.ModelProto()
    for text, score, kind in zip(field("tokenizer.ggml.tokens"), field("tokenizer.ggml.scores"),
                                 field("tokenizer.ggml.token_type")):
        piece = model.pieces.add()
        # Where a user defined a piece, converters spell its blanks as a text does.
        piece.piece = text.replace(" ", "▁") if kind == pb.ModelProto.SentencePiece.USER_DEFINED else text
        piece.score, piece.type = score, kind
    model.trainer_spec.model_type = pb.TrainerSpec.BPE
    model.trainer_spec.byte_fallback = True
    model.trainer_spec.vocab_size = len(model.pieces)
    model.trainer_spec.unk_id = field("tokenizer.ggml.unknown_token_id")
    model.trainer_spec.bos_id = field("tokenizer.ggml.bos_token_id")
    model.trainer_spec.eos_id = field("tokenizer.ggml.eos_token_id")
    model.trainer_spec.pad_id = field("tokenizer.ggml.padding_token_id")
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = bool(field("tokenizer.ggml.add_space_prefix"))
    model.normalizer_spec.remove_extra_whitespaces = False
    model.normalizer_spec.escape_whitespaces = True
    return sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())


if __name__ == "__main__":
    if len(sys.argv) == 3:
        processor = sentencepiece_of(sys.argv[1])
        # To SentencePiece its mark is a blank, too, and so a run of both is one of its pieces of blanks; a text that holds
        # a mark beside a blank or another mark is left out.
        marked = re.compile("[ ▁]▁|▁ ")
        write(HERE / f"{sys.argv[2]}.json",
              {"ids": "".join("-" * 8 if marked.search(t) else fingerprint(processor.encode(t)) for t in texts())})
    else:
        main()
