// SPDX-License-Identifier: MIT
// Hugging Face's tokenizer.json: normalizer, pre-tokenizer, model, post-processor and decoder, each by its "type".
#include <algorithm>
#include <functional>
#include <utility>

#include "pith/error.hpp"
#include "printable.hpp"
#include "text/load.hpp"
#include "text/patterns.hpp"

namespace pith::text {

namespace {

using Json = nlohmann::json;

// The word characters of Unicode's regular expressions, as the pre-tokenizer "Whitespace" means them.
constexpr std::string_view word_or_signs =
    R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200c}\x{200d}]+|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200c}\x{200d}\s]+)";

[[noreturn]] void unsupported_type(const JsonNode& node, std::string_view what) {
  node.unsupported(std::string(what) + " " + in_quotes(node.at("type").text()));
}

/// Calls `read` for the node, or for each part of a "Sequence", in order.
void for_each_part(const JsonNode& node, std::string_view parts, const std::function<void(const JsonNode&)>& read) {
  if (node.at("type").text() != "Sequence") return read(node);
  for (const JsonNode& part : node.at(parts).items()) for_each_part(part, parts, read);
}

/// {"String": …} or {"Regex": …}; bare strings, too.
Pattern read_pattern(const JsonNode& node) {
  if (node.value().is_object()) {
    if (const auto regex = node.find("Regex")) return Regex(regex->text(), node.where());
  }
  const JsonNode literal = node.value().is_object() ? node.at("String") : node;
  if (literal.text().empty()) literal.refuse("a string that is not empty");
  return literal.text();
}

Replace read_replace(const JsonNode& node) { return {read_pattern(node.at("pattern")), node.at("content").text()}; }

MarkSpaces read_marks(const JsonNode& node) {
  MarkSpaces marks;
  marks.mark = node.text_or("replacement", marks.mark);
  if (marks.mark.empty()) node.at("replacement").refuse("a character");
  if (const auto scheme = node.find("prepend_scheme")) {
    if (scheme->text() == "always") {
      marks.prefix = MarkSpaces::Prefix::always;
    } else if (scheme->text() == "first") {
      marks.prefix = MarkSpaces::Prefix::first;
    } else if (scheme->text() == "never") {
      marks.prefix = MarkSpaces::Prefix::never;
    } else {
      scheme->refuse(R"("always", "first" or "never")");
    }
  } else if (!node.flag_or("add_prefix_space", true)) {
    marks.prefix = MarkSpaces::Prefix::never;
  }
  return marks;
}

void read_normalizer(const JsonNode& node, Normalizer& out) {
  const std::string& type = node.at("type").text();
  if (type == "NFC") {
    out.add(Form::nfc);
  } else if (type == "NFD") {
    out.add(Form::nfd);
  } else if (type == "NFKC") {
    out.add(Form::nfkc);
  } else if (type == "NFKD") {
    out.add(Form::nfkd);
  } else if (type == "Lowercase") {
    out.add(Lowercase{});
  } else if (type == "StripAccents") {
    out.add(StripAccents{});
  } else if (type == "Strip") {
    out.add(StripEnds{node.flag_or("strip_left", true), node.flag_or("strip_right", true)});
  } else if (type == "Replace") {
    out.add(read_replace(node));
  } else if (type == "Prepend") {
    out.add(Prepend{node.at("prepend").text()});
  } else if (type == "ByteLevel") {
    out.add(ToByteSymbols{});
  } else {
    unsupported_type(node, "normalizer");
  }
}

Behavior read_behavior(const JsonNode& node) {
  constexpr std::pair<std::string_view, Behavior> names[] = {{"Removed", Behavior::removed},
                                                             {"Isolated", Behavior::isolated},
                                                             {"MergedWithPrevious", Behavior::merged_with_previous},
                                                             {"MergedWithNext", Behavior::merged_with_next},
                                                             {"Contiguous", Behavior::contiguous}};
  for (const auto& [name, behavior] : names)
    if (node.text() == name) return behavior;
  node.refuse("Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous");
}

void read_pre_tokenizer(const JsonNode& node, PreTokenizer& out) {
  const std::string& type = node.at("type").text();
  if (type == "ByteLevel") {
    if (node.flag_or("add_prefix_space", true)) out.add(PrefixSpace{});
    if (node.flag_or("use_regex", true)) out.add(isolate(gpt2_words, node.where()));
    out.add(ByteSymbols{});
  } else if (type == "Split") {
    out.add(Split{read_pattern(node.at("pattern")), read_behavior(node.at("behavior")),
                  node.flag_or("invert", false) ? Matches::are_words : Matches::delimit});
  } else if (type == "Metaspace") {
    const MarkSpaces marks = read_marks(node);
    out.add(marks);
    if (node.flag_or("split", true)) out.add(Split{marks.mark, Behavior::merged_with_next, Matches::delimit});
  } else if (type == "Digits") {
    out.add(Split{CharacterTest{is_number},
                  node.flag_or("individual_digits", false) ? Behavior::isolated : Behavior::contiguous,
                  Matches::delimit});
  } else if (type == "Punctuation") {
    const auto behavior = node.find("behavior");
    out.add(Split{CharacterTest{is_punctuation}, behavior ? read_behavior(*behavior) : Behavior::isolated,
                  Matches::delimit});
  } else if (type == "Whitespace") {
    out.add(Split{Regex(word_or_signs, node.where()), Behavior::removed, Matches::are_words});
  } else if (type == "WhitespaceSplit") {
    out.add(Split{CharacterTest{is_whitespace}, Behavior::removed, Matches::delimit});
  } else if (type == "BertPreTokenizer") {
    out.add(Split{CharacterTest{is_whitespace}, Behavior::removed, Matches::delimit});
    out.add(Split{CharacterTest{is_punctuation}, Behavior::isolated, Matches::delimit});
  } else if (type == "CharDelimiterSplit") {
    out.add(Split{read_pattern(node.at("delimiter")), Behavior::removed, Matches::delimit});
  } else {
    unsupported_type(node, "pre-tokenizer");
  }
}

/// A merge is "left right", or since some version ["left", "right"], which can have spaces within.
Bpe::Pair read_merge(const Json& merge, std::string_view where, std::size_t rank) {
  const auto node = [&] { return JsonNode(merge, std::string(where) + "[" + std::to_string(rank) + "]"); };
  if (merge.is_array()) {
    if (merge.size() != 2) node().refuse("two tokens");
    const auto items = node().items();
    return {items[0].text(), items[1].text()};
  }
  const std::string& both = node().text();
  const auto space = both.find(' ');
  if (space == both.npos || both.find(' ', space + 1) != both.npos) node().refuse("two tokens with a space between");
  return {both.substr(0, space), both.substr(space + 1)};
}

/// Files older than the key "type" are told apart by what else they have.
std::string model_type(const JsonNode& model) {
  if (const auto type = model.find("type")) return type->text();
  if (model.value().contains("merges")) return "BPE";
  return model.at("vocab").value().is_array() ? "Unigram" : "WordPiece";
}

void check_model_type(const JsonNode& model) {
  const std::string type = model_type(model);
  if (type != "BPE") model.unsupported("tokenizer model " + in_quotes(type));
  const auto dropout = model.find("dropout");
  if (dropout && dropout->value() != 0) dropout->unsupported("BPE dropout");
}

Bpe read_bpe(const JsonNode& model, const Vocabulary& vocabulary) {
  Bpe::Options options;
  if (const auto unknown = model.find("unk_token")) {
    options.unknown = vocabulary.find(unknown->text());
    if (!options.unknown) unknown->refuse("a token of the vocabulary");
  }
  options.fuse_unknown = model.flag_or("fuse_unk", false);
  options.byte_fallback = model.flag_or("byte_fallback", false);
  options.ignore_merges = model.flag_or("ignore_merges", false);
  options.word_part_prefix = model.text_or("continuing_subword_prefix", "");
  options.word_end_suffix = model.text_or("end_of_word_suffix", "");

  const JsonNode list = model.at("merges");
  if (!list.value().is_array()) list.refuse("an array");
  std::vector<Bpe::Pair> merges;
  merges.reserve(list.value().size());
  for (const Json& merge : list.value()) merges.push_back(read_merge(merge, list.where(), merges.size()));
  return {vocabulary, merges, std::move(options), list.where()};
}

Token read_id(const JsonNode& node, const Vocabulary& vocabulary) {
  if (!vocabulary.has(node.integer())) node.refuse("an id of the vocabulary");
  return static_cast<Token>(node.integer());
}

/// "single": special tokens around one sequence.
void read_template(const JsonNode& node, Definition& out) {
  const JsonNode single = node.at("single");
  bool behind = false;
  for (const JsonNode& part : single.items()) {
    if (part.find("Sequence")) {
      if (behind) single.refuse("one sequence");
      behind = true;
      continue;
    }
    const JsonNode token = node.at("special_tokens").at(part.at("SpecialToken").at("id").text());
    for (const JsonNode& id : token.at("ids").items())
      (behind ? out.suffix : out.prefix).push_back(read_id(id, out.vocabulary));
  }
  if (!behind) single.refuse("one sequence");
}

/// BERT's and RoBERTa's: ["[SEP]", 102] behind and ["[CLS]", 101] before.
void read_pair_of(const JsonNode& node, std::string_view key, const Vocabulary& vocabulary, std::vector<Token>& out) {
  const JsonNode pair = node.at(key);
  const auto items = pair.items();
  if (items.size() != 2) pair.refuse("a token and its id");
  out.push_back(read_id(items[1], vocabulary));
}

void read_post_processor(const JsonNode& node, Definition& out) {
  const std::string& type = node.at("type").text();
  if (type == "TemplateProcessing") {
    read_template(node, out);
  } else if (type == "BertProcessing" || type == "RobertaProcessing") {
    read_pair_of(node, "cls", out.vocabulary, out.prefix);
    read_pair_of(node, "sep", out.vocabulary, out.suffix);
  } else if (type != "ByteLevel") {  // which only changes offsets
    unsupported_type(node, "post-processor");
  }
}

void read_decoder(const JsonNode& root, Decoder& out) {
  bool fused = false;  // the tokens before this step are one text behind it
  for_each_part(root, "decoders", [&](const JsonNode& node) {
    const std::string& type = node.at("type").text();
    if (type == "ByteLevel") {
      out.add(FromByteSymbols{});
    } else if (type == "ByteFallback") {
      out.add(ByteFallback{});
    } else if (type == "Fuse") {
      fused = true;
    } else if (type == "Replace") {
      out.add(read_replace(node));
    } else if (type == "Metaspace") {
      const MarkSpaces marks = read_marks(node);
      out.add(UnmarkSpaces{marks.mark, marks.prefix});
    } else if (type == "Strip") {
      Trim trim{node.at("content").text(), node.at("start").count(), node.at("stop").count()};
      if (!fused) {
        out.add(std::move(trim));
      } else if (trim.stop == 0) {
        out.trim_text(std::move(trim));
      } else {
        node.unsupported("stripping the end of a whole text");
      }
    } else {
      unsupported_type(node, "decoder");
    }
  });
}

/// Whether the vocab.json beside the file knows of nothing beyond the model's own tokens: then the directory holds the
/// same tokenizer a second time, and what only one of both adds is not the model's.
bool contradicted_by_vocab_json(const std::filesystem::path& directory, const AddedToken& token) {
  std::error_code ignored;
  const auto vocab = directory / "vocab.json";
  if (!std::filesystem::exists(vocab, ignored) || std::filesystem::exists(directory / "added_tokens.json", ignored))
    return false;
  const Json json = read_json(vocab);
  return json.is_object() && !json.contains(token.content);
}

/// Ids that the model has no row for must not come out of a text; they can still be decoded.
void drop_foreign_tokens(const std::filesystem::path& directory, const Siblings& siblings, Definition& out) {
  if (const auto size = siblings.model_vocab_size()) {
    std::erase_if(out.added, [&](const AddedToken& token) { return token.id >= *size; });
  } else if (!siblings.tokenizer_config()) {
    const auto extra = [](const AddedToken& token) { return !token.special; };
    const auto first = std::find_if(out.added.begin(), out.added.end(), extra);
    if (first != out.added.end() && contradicted_by_vocab_json(directory, *first)) std::erase_if(out.added, extra);
  }
}

}  // namespace

void read_vocabulary(const JsonNode& node, Vocabulary& out) {
  node.require_object();
  out.expect(node.value().size());
  for (const auto& entry : node.value().items()) {
    const JsonNode id(entry.value(), node.where() + ": token " + in_quotes(entry.key()));
    out.add(entry.key(), id.integer(), node.where());
  }
}

AddedToken read_added_token(const JsonNode& node, std::string content) {
  AddedToken token;
  token.content = std::move(content);
  token.special = node.flag_or("special", false);
  token.normalized = node.flag_or("normalized", !token.special);
  token.single_word = node.flag_or("single_word", false);
  token.lstrip = node.flag_or("lstrip", false);
  token.rstrip = node.flag_or("rstrip", false);
  return token;
}

Definition read_tokenizer_json(const Json& json, const std::string& where) {
  const JsonNode root(json, where);
  const JsonNode model = root.at("model");
  check_model_type(model);

  Definition out;
  read_vocabulary(model.at("vocab"), out.vocabulary);
  out.model = read_bpe(model, out.vocabulary);
  if (const auto added = root.find("added_tokens")) {
    for (const JsonNode& node : added->items())
      add_token(out, read_added_token(node, node.at("content").text()), node.at("id").integer(), node.where());
  }
  if (const auto node = root.find("normalizer"))
    for_each_part(*node, "normalizers", [&](const JsonNode& part) { read_normalizer(part, out.normalizer); });
  if (const auto node = root.find("pre_tokenizer"))
    for_each_part(*node, "pretokenizers", [&](const JsonNode& part) { read_pre_tokenizer(part, out.pre_tokenizer); });
  if (const auto node = root.find("post_processor"))
    for_each_part(*node, "processors", [&](const JsonNode& part) { read_post_processor(part, out); });
  if (const auto node = root.find("decoder")) {
    read_decoder(*node, out.decoder);
  } else {
    out.decoder.add(JoinWithSpace{});
  }
  return out;
}

Definition load_tokenizer_json(const Json& json, const std::filesystem::path& path) {
  Definition out = read_tokenizer_json(json, path.string());
  const Siblings siblings(path.parent_path());
  siblings.read_ends(out);
  drop_foreign_tokens(path.parent_path(), siblings, out);
  return out;
}

}  // namespace pith::text
