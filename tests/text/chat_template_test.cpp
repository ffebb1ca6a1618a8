// SPDX-License-Identifier: MIT
// Chat templates against what jinja2 makes of them, run as transformers runs it (templates/make.py).
#include "pith/chat_template.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "pith/error.hpp"
#include "support/errors.hpp"

namespace pith {
namespace {

using Json = nlohmann::ordered_json;
using testing::error_of;

const std::filesystem::path folder = std::filesystem::path(PITH_SOURCE_DIR) / "tests" / "text" / "templates";

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  std::ostringstream out;
  out << file.rdbuf();
  return out.str();
}

/// As make.py's: Friday, 4 July 2025, 09:05:06.
std::tm moment() {
  std::tm out{};
  out.tm_year = 125;
  out.tm_mon = 6;
  out.tm_mday = 4;
  out.tm_hour = 9;
  out.tm_min = 5;
  out.tm_sec = 6;
  out.tm_wday = 5;
  out.tm_yday = 184;
  return out;
}

std::string fnv1a(const std::string& text) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  std::ostringstream out;
  out << std::hex;
  out.width(16);
  out.fill('0');
  out << hash;
  return out.str();
}

ChatOptions options_of(const Json& conversation) {
  ChatOptions out;
  out.now = moment();
  if (conversation.contains("add_generation_prompt"))
    out.add_generation_prompt = conversation["add_generation_prompt"].get<bool>();
  if (conversation.contains("tools")) out.tools = conversation["tools"].dump();
  if (conversation.contains("variables")) out.variables = conversation["variables"].dump();
  return out;
}

/// What a template writes without its data: enough to see that it is all there, and in order.
void expect_well_formed(const ChatText& chat) {
  std::size_t end = 0;
  bool first = true;
  for (const auto& range : chat.data) {
    EXPECT_LT(range.begin, range.end);
    if (!first) {
      EXPECT_GT(range.begin, end);
    }
    first = false;
    end = range.end;
  }
  EXPECT_LE(end, chat.text.size());
}

TEST(ChatTemplate, WritesWhatJinjaWrites) {
  const auto vectors = Json::parse(read(folder / "vectors.json"));
  const auto conversations = Json::parse(read(folder / "conversations.json"));
  ASSERT_GE(vectors.size(), 25u);
  ASSERT_GE(conversations.size(), 20u);
  int texts = 0, refusals = 0;
  for (const auto& [name, rows] : vectors.items()) {
    const auto source = read(folder / (name + ".jinja"));
    const auto chat_template = ChatTemplate::parse(source, {{"bos_token", "<s>"}, {"eos_token", "</s>"}});
    ASSERT_EQ(rows.size(), conversations.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      SCOPED_TRACE(name + ", conversation " + std::to_string(i) + "; see make.py --show " + name + " " +
                   std::to_string(i));
      const auto messages = conversations[i]["messages"].dump();
      const auto options = options_of(conversations[i]);
      if (rows[i].is_null()) {
        EXPECT_TRUE(error_of([&] { chat_template.render_json(messages, options); }));
        ++refusals;
        continue;
      }
      try {
        const ChatText chat = chat_template.render_json(messages, options);
        expect_well_formed(chat);
        if (rows[i].is_string()) {
          EXPECT_EQ(chat.text, rows[i].get<std::string>());
        } else {
          EXPECT_TRUE(chat.text.size() == rows[i][0].get<std::size_t>() &&
                      fnv1a(chat.text) == rows[i][1].get<std::string>())
              << chat.text;
        }
        ++texts;
      } catch (const Error& error) {
        ADD_FAILURE() << error.what();
      }
    }
  }
  EXPECT_GE(texts, 500);
  EXPECT_GE(refusals, 50);
}

TEST(ChatTemplate, SpeaksTheLanguage) {
  const auto language = Json::parse(read(folder / "language.json"));
  ChatOptions options;
  options.now = moment();
  options.variables = language["variables"].dump();
  const std::vector<Message> messages = {{"user", "x"}};
  ASSERT_GE(language["cases"].size(), 200u);
  for (const auto& row : language["cases"]) {
    const auto source = row[0].get<std::string>();
    std::optional<std::string> text;
    std::string message;
    try {
      text = ChatTemplate::parse(source).render(messages, options).text;
    } catch (const Error& error) {
      message = error.what();
    }
    if (row[1].is_null()) {
      EXPECT_FALSE(text) << source << "\nwrote " << *text;
    } else {
      EXPECT_EQ(text.value_or("threw " + message), row[1].get<std::string>()) << source;
    }
  }
}

}  // namespace
}  // namespace pith
