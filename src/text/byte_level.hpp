// SPDX-License-Identifier: MIT
// The alphabet of byte-level BPE: a printable character for every byte, so that any text can be written in it
// (GPT-2, Radford et al. 2019). The bytes that Latin-1 shows stand for themselves, the others take U+0100 and on.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace pith::text {

/// Every byte becomes its character.
std::string to_byte_symbols(std::string_view bytes);

/// The way back; nothing where a character stands for no byte.
std::optional<std::string> from_byte_symbols(std::string_view symbols);

/// The token that spells a byte in SentencePiece-style vocabularies: "<0x0A>".
std::string byte_token(unsigned char byte);

/// The byte that such a token spells.
std::optional<char> byte_of_token(std::string_view token);

}  // namespace pith::text
