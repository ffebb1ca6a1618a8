#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the Python package `gguf` makes of blocks, and what llama.cpp's quantisation loses, as gguf_blocks_test.cpp reads it.

    pip install gguf numpy
    python3 gguf_blocks.py [LIBRARY] > gguf_blocks.txt

LIBRARY is llama.cpp's libggml-base.so, which llama-cpp-python installs as llama_cpp/lib/libggml-base.so; without it the
lines of errors are missing. Both sides make the same blocks from a seed, so that a line need only say

    decode FORMAT SEED CRC     the CRC-32 of what `blocks` blocks of bytes decode to
    encode FORMAT SEED CRC     the CRC-32 of the blocks that numbers are encoded to
    error FORMAT SEED NUMBER   the relative root mean square error of encoding numbers
"""
import ctypes
import os
import sys
import zlib

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize, quantize

formats = "Q8_0 Q5_1 Q5_0 Q4_1 Q4_0 Q6_K Q5_K Q4_K Q3_K Q2_K IQ4_NL IQ4_XS MXFP4".split()
written_alike = "Q5_1 Q5_0 Q4_1 Q4_0".split()  # by rules that leave no choice
seeds, blocks, blocks_of_error = 10, 16, 256
extremes = np.array([0x00, 0xFF, 0x80, 0x7F, 0x01], np.uint8)


def splitmix64(seed, count):
    """`count` numbers of 64 bits."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def any_bytes(seed, count):
    """Any, where the seed is even; else extreme ones."""
    random = splitmix64(seed, (count + 7) // 8).astype("<u8").view(np.uint8)[:count]
    return random if seed % 2 == 0 else extremes[random % 5]


def numbers(seed, count):
    """Sums of four numbers of 16 bits, so that those around zero are the most; exact in floats."""
    random = splitmix64(seed, count).astype("<u8").view("<i2").reshape(count, 4)
    return random.astype(np.int32).sum(axis=1).astype(np.float32) * np.float32(2.0**-20)


def crc(array):
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


def error_of(library, type_, seed, values):
    x = numbers(seed, blocks_of_error * values)
    encoded = np.zeros(x.size // values * GGML_QUANT_SIZES[type_][1], np.uint8)
    library.ggml_quantize_chunk(int(type_), x.ctypes, encoded.ctypes, ctypes.c_int64(0), ctypes.c_int64(blocks_of_error),
                                ctypes.c_int64(values), None)
    off = dequantize(encoded, type_).astype(np.float64) - x
    return np.sqrt(np.square(off).sum() / np.square(x.astype(np.float64)).sum())


def main():
    library = ctypes.CDLL(sys.argv[1], os.RTLD_LAZY) if len(sys.argv) > 1 else None
    for name in formats:
        type_ = GGMLQuantizationType[name]
        values, size = GGML_QUANT_SIZES[type_]
        for seed in range(seeds):
            with np.errstate(all="ignore"):
                decoded = dequantize(any_bytes(seed, blocks * size), type_).astype("<f4")
            decoded[np.isnan(decoded)] = np.float32(np.nan)
            print("decode", name.lower(), seed, crc(decoded))
        if name in written_alike:
            for seed in range(seeds):
                print("encode", name.lower(), seed, crc(quantize(numbers(seed, blocks * values), type_)))
        if library is not None:
            print("error", name.lower(), 0, error_of(library, type_, 0, values))


if __name__ == "__main__":
    main()
