// SPDX-License-Identifier: MIT
// SentencePiece's own tokenizer.model: a ModelProto of its sentencepiece_model.proto, whose field numbers these are.
#include <set>

#include "files/input_file.hpp"
#include "pith/error.hpp"
#include "printable.hpp"
#include "text/load.hpp"
#include "text/protobuf.hpp"
#include "text/sentencepiece_vocabulary.hpp"

namespace pith::text {

namespace {

enum class Algorithm : std::int64_t { unigram = 1, bpe, word, character };

struct Model {
  std::vector<Piece> pieces;
  std::int64_t algorithm = 1;
  std::int64_t unknown = 0, bos = 1, eos = 2;
  std::string normalizer;  // its name
  bool has_charsmap = false;
  bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;
};

Piece read_piece(std::string_view bytes, const std::string& where) {
  Piece piece;
  ProtobufReader reader(bytes, where);
  while (const auto field = reader.next()) {
    if (field->number == 1) piece.text = reader.bytes(*field);
    if (field->number == 2) piece.score = reader.number(*field);
    if (field->number == 3) piece.kind = piece_kind(reader.integer(*field), where);
  }
  return piece;
}

void read_trainer(std::string_view bytes, const std::string& where, Model& out) {
  ProtobufReader reader(bytes, where + ": trainer_spec");
  while (const auto field = reader.next()) {
    if (field->number == 3) out.algorithm = reader.integer(*field);
    if (field->number == 40) out.unknown = reader.integer(*field);
    if (field->number == 41) out.bos = reader.integer(*field);
    if (field->number == 42) out.eos = reader.integer(*field);
  }
}

void read_normalizer(std::string_view bytes, const std::string& where, Model& out) {
  ProtobufReader reader(bytes, where + ": normalizer_spec");
  while (const auto field = reader.next()) {
    if (field->number == 1) out.normalizer = reader.bytes(*field);
    if (field->number == 2) out.has_charsmap = !reader.bytes(*field).empty();
    if (field->number == 3) out.add_dummy_prefix = reader.integer(*field) != 0;
    if (field->number == 4) out.remove_extra_whitespaces = reader.integer(*field) != 0;
    if (field->number == 5) out.escape_whitespaces = reader.integer(*field) != 0;
  }
}

Model read_model(std::string_view bytes, const std::string& where) {
  Model out;
  ProtobufReader reader(bytes, where);
  while (const auto field = reader.next()) {
    if (field->number == 1)
      out.pieces.push_back(read_piece(reader.bytes(*field), where + ": piece " + std::to_string(out.pieces.size())));
    if (field->number == 2) read_trainer(reader.bytes(*field), where, out);
    if (field->number == 3) read_normalizer(reader.bytes(*field), where, out);
  }
  if (out.pieces.empty()) fail(ErrorCode::format, where, "a SentencePiece model", "no pieces");
  return out;
}

void check_supported(const Model& model, const std::string& where) {
  const auto refuse = [&](const std::string& what) {
    fail(ErrorCode::unsupported, where + ": " + what + " is not supported");
  };
  switch (static_cast<Algorithm>(model.algorithm)) {
    case Algorithm::bpe:
      break;
    case Algorithm::unigram:
      refuse("SentencePiece model type \"Unigram\"");
      break;
    case Algorithm::word:
      refuse("SentencePiece model type \"Word\"");
      break;
    case Algorithm::character:
      refuse("SentencePiece model type \"Char\"");
      break;
    default:
      fail(ErrorCode::format, where, "a SentencePiece model type from 1 to 4", std::to_string(model.algorithm));
  }
  if (model.has_charsmap) refuse("SentencePiece normalizer " + in_quotes(model.normalizer));
  if (!model.escape_whitespaces) refuse("escape_whitespaces = false");
}

}  // namespace

Definition load_sentencepiece(const std::filesystem::path& path) {
  const std::string where = path.string();
  const auto file = InputFile::open(path);
  const Model model = read_model(file->text(), where);
  check_supported(model, where);

  Definition out;
  add_pieces(model.pieces, where, out);
  const auto token = [&](std::int64_t id) {
    return out.vocabulary.has(id) ? std::optional(static_cast<Token>(id)) : std::nullopt;
  };
  out.model = spm_model(model.pieces, out.vocabulary, token(model.unknown), where);
  if (model.remove_extra_whitespaces) squeeze_spaces(out, where);
  use_space_marks(out, model.add_dummy_prefix ? SpacePrefix::yes : SpacePrefix::no);

  const Siblings siblings(path.parent_path());
  siblings.read_ends(out);
  out.bos = token(model.bos);
  const auto eos = token(model.eos);
  if (eos) out.ends.insert(*eos);
  // Models that use such a file were trained with a BOS and without an EOS, unless their configuration says otherwise.
  const auto config = siblings.tokenizer_config();
  if (out.bos && (!config || config->flag_or("add_bos_token", true))) out.prefix.push_back(*out.bos);
  if (eos && config && config->flag_or("add_eos_token", false)) out.suffix.push_back(*eos);
  return out;
}

}  // namespace pith::text
