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

/// What a template that is no good ends in; a template that renders is a failure.
std::string message_of(const std::string& source, ErrorCode code) {
  try {
    const auto chat = ChatTemplate::parse(source).render({{"user", "x"}});
    ADD_FAILURE() << source << "\nwrote " << chat.text.substr(0, 200);
  } catch (const Error& error) {
    EXPECT_EQ(name(error.code()), name(code)) << source << "\n" << error.what();
    return error.what();
  }
  return {};
}

TEST(ChatTemplate, FaultsHaveLineAndColumn) {
  EXPECT_EQ(message_of("a\n  {{ 1 + }}", ErrorCode::format),
            "chat template:2:10: expected an expression, found \"}}\"");
  EXPECT_EQ(message_of("ä {{ messages.x.y }}", ErrorCode::format),
            "chat template:1:16: a value of type list has no attribute \"x\"");
  EXPECT_EQ(message_of("{% if true %}\n\n{{ nope | upper + 1 }}", ErrorCode::format),
            "chat template:1:4: this block has no end; expected \"endif\"");
  EXPECT_EQ(
      message_of("{% for m in messages %}{{ raise_exception('Not ' + m.role) }}{% endfor %}", ErrorCode::argument),
      "chat template:1:42: the template refuses this conversation: Not user");
}

TEST(ChatTemplate, WhatItDoesNotDoIsSaid) {
  for (const char* source :
       {"{{ messages | map('string') }}", "{{ namespace() }}", "{{ range }}", "{% include 'x' %}",
        "{% block a %}{% endblock %}", "{{ 1.real }}", "{{ 'x' | urlize }}", "{{ 'x'.encode() }}", "{{ 10 ** 30 }}",
        "{{ 99999999999999999999 }}", "{% for x in messages recursive %}{% endfor %}", "{{ lipsum() }}",
        "{{ ('a' | safe) + 'b' }}", "{{ 'ΑΣ' | lower }}", "{{ '%5d' % 3 }}", "{{ '{:>5}'.format(3) }}",
        "{{ strftime_now('%Z') }}", "{{ 'é' | wordcount }}",
        "{% for i in [1, 2] %}{% macro f() %}{{ i }}{% endmacro %}{% set ns = namespace(f=f) %}{% endfor %}{% set ns = "
        "namespace() %}{% for i in [1] %}{% macro f() %}{% endmacro %}{% set ns.f = f %}{% endfor %}{{ ns.f() }}"})
    EXPECT_NE(message_of(source, ErrorCode::unsupported).find("not supported"), std::string::npos) << source;
}

TEST(ChatTemplate, EndsWhateverATemplateTries) {
  const auto repeated = [](const std::string& text, std::size_t n) {
    std::string out;
    for (std::size_t i = 0; i < n; ++i) out += text;
    return out;
  };
  const std::vector<std::string> hostile = {
      "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
      "{% for i in range(10 ** 9) %}x{% endfor %}",
      "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
      "{% macro f(x) %}{% call f(x) %}{{ caller() }}{% endcall %}{% endmacro %}{{ f(1) }}",
      "{{ 'x' * 10 ** 12 }}",
      "{{ [0] * 10 ** 12 }}",
      "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
      "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = ns.s.replace('x', 'xx') %}{% endfor %}",
      "{% set ns = namespace(s='x') %}{% for i in range(100000) %}{{ 'y' * 10000 }}{% endfor %}",
      "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
      "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = {'a': ns.l} %}{% endfor %}{{ ns.l | "
      "tojson }}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(90) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
      "{% set ns = namespace(l=[1], m=[1]) %}{% for i in range(90) %}{% set ns.l = [ns.l, ns.l] %}{% set ns.m = [ns.m, "
      "ns.m] %}{% endfor %}{{ ns.l == ns.m }}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(100000) %}{% set ns.l = ns.l | map('string') %}{% endfor %}",
      "{% set ns = namespace(l=1) %}{% for i in range(100000) %}{% set ns.l = [1] | map('default', ns.l) %}{% endfor "
      "%}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(100000) %}{% set ns.l = [ns.l].count %}{% endfor %}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(1000) %}{% for j in [ns.l] %}{% set ns.l = loop %}{% endfor "
      "%}{% "
      "endfor %}",
      "{% set x = range(100000) | list %}{{ x | unique | list }}",
      "{% set s = 'a' * 4000000 %}{% for i in range(100000) %}{{ s.rfind('a' * 1000000 ~ 'b') }}{% endfor %}",
      "{{ 1 | tojson(indent=10 ** 12) }}",
      "{{ 'a' | indent(10 ** 12) }}",
      "{{ " + repeated("(", 5000) + "1" + repeated(")", 5000) + " }}",
      "{{ " + repeated("[", 5000) + repeated("]", 5000) + " }}",
      "{{ " + repeated("not ", 5000) + "1 }}",
      "{{ " + repeated("-", 5000) + "1 }}",
      "{{ 1" + repeated(" + 1", 5000) + " }}",
      "{{ x" + repeated(".x", 5000) + " }}",
      "{{ 1" + repeated(" | abs", 5000) + " }}",
      "{{ 1" + repeated(" if 1 else 1", 5000) + " }}",
      repeated("{% if 1 %}", 5000) + repeated("{% endif %}", 5000),
      "{% set " + repeated("(", 5000) + "a" + repeated(")", 5000) + " = 1 %}",
  };
  for (const std::string& source : hostile) message_of(source, ErrorCode::unsupported);

  // Many, side by side, are no fault.
  EXPECT_EQ(ChatTemplate::parse(repeated("{{ 1 }}", 5000)).render({{"user", "x"}}).text, repeated("1", 5000));
  EXPECT_EQ(ChatTemplate::parse("{{ 'a'" + repeated(" ~ 'b'", 900) + " }}").render({{"user", "x"}}).text,
            "a" + repeated("b", 900));
}

TEST(ChatTemplate, WhatHoldsItselfIsFreed) {
  // Under a leak checker: namespaces may hold themselves, and nothing else can.
  EXPECT_EQ(ChatTemplate::parse("{% set ns = namespace() %}{% set ns.self = ns %}{% set ns.list = [ns] %}"
                                "{% macro f() %}{{ ns.self.self is defined }}{% endmacro %}{% set ns.f = f %}"
                                "{% for i in [ns, f] %}{% set ns.loop = loop %}{% set q = loop %}{% endfor %}{{ f() }}")
                .render({{"user", "x"}})
                .text,
            "True");
}

std::string data_of(const ChatText& chat) {
  std::string out;
  for (const auto& range : chat.data) out += '[' + chat.text.substr(range.begin, range.end - range.begin) + ']';
  return out;
}

TEST(ChatTemplate, TellsDataFromItsOwnWords) {
  const auto data = [](const std::string& source, const ChatOptions& options = {}) {
    return data_of(ChatTemplate::parse(source, {{"bos_token", "<s>"}}).render({{"user", "Über <s> uns"}}, options));
  };
  const std::string content = "{% set c = messages[0].content %}";
  EXPECT_EQ(data(content + "{{ bos_token ~ c ~ '!' }}"), "[Über <s> uns]");
  EXPECT_EQ(data(content + "{{ ('<a>' + c)[1:6] }}"), "[Übe]");
  EXPECT_EQ(data(content + "{{ c[::-1] ~ c[0] }}"), "[snu >s< rebÜÜ]");
  EXPECT_EQ(data(content + "{{ c.split(' ') | join('-') }}"), "[Über][<s>][uns]");
  EXPECT_EQ(data(content + "{{ c | replace('<s>', '</s>') }}"), "[Über ][ uns]");
  EXPECT_EQ(data(content + "{{ '<s>x' | replace('x', c) }}"), "[Über <s> uns]");
  EXPECT_EQ(data(content + "{{ ('  ' ~ c ~ '  ') | trim }}"), "[Über <s> uns]");
  EXPECT_EQ(data(content + "{{ c | upper }}{{ c | tojson }}"), "[ÜBER <S> UNS\"Über <s> uns\"]");
  EXPECT_EQ(data(content + "{{ [c, 'own'] }}"), "['Über <s> uns']");
  EXPECT_EQ(data(content + "{{ {'a': c} | tojson }}"), "[\"Über <s> uns\"]");
  EXPECT_EQ(data(content + "{% set x %}<{{ c }}>{% endset %}{{ x | indent }}"), "[Über <s> uns]");
  EXPECT_EQ(data(content + "{{ '%s|%s' % (c, 'x') }}{{ '{}'.format(c) }}"), "[Über <s> uns][Über <s> uns]");
  EXPECT_EQ(data(content + "{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f(c) }}"), "[Über <s> uns]");
  EXPECT_EQ(data("{{ messages[0] }}"), "['Über <s> uns']");
  EXPECT_EQ(data("{{ '<|' ~ messages[0].role ~ '|>' }}"), "");
  EXPECT_EQ(data("{{ x }}{{ tools }}", {.tools = R"([{"a<s>": 1}])", .variables = R"({"x": "<s>"})"}), "[<s>]['a<s>']");
  EXPECT_EQ(data_of(ChatTemplate::parse("{{ messages[0].role }}").render({{"<s>", ""}})), "[<s>]");
}

TEST(ChatTemplate, RefusesWhatIsNoConversation) {
  const auto chat_template = ChatTemplate::parse("{{ messages }}");
  for (const char* messages : {"", "{}", "[]", "[1]", "[{]", "[{}", "\"x\"", "[{\"a\": \"\xff\"}]", "[{\"a\": 1e999}]"})
    EXPECT_EQ(error_of([&] { chat_template.render_json(messages); }), ErrorCode::argument) << messages;
  EXPECT_EQ(error_of([&] { chat_template.render_json(R"([{"a": 99999999999999999999}])"); }), ErrorCode::unsupported);
  EXPECT_EQ(error_of([&] { chat_template.render({}); }), ErrorCode::argument);
  EXPECT_EQ(error_of([&] { chat_template.render({{"user", "x", "[]"}}); }), ErrorCode::argument);
  EXPECT_EQ(error_of([&] { chat_template.render({{"user", "x"}}, {.tools = "{}"}); }), ErrorCode::argument);
  EXPECT_EQ(error_of([&] { chat_template.render({{"user", "x"}}, {.variables = "[]"}); }), ErrorCode::argument);
  EXPECT_EQ(error_of([&] { chat_template.render({{"user", "x"}}, {.name = "other"}); }), ErrorCode::argument);
}

TEST(ChatTemplate, MessagesAreTheSameEitherWay) {
  const auto chat_template = ChatTemplate::parse("{{ messages | tojson }}");
  EXPECT_EQ(chat_template
                .render({{"user", "hi"}, {"assistant", "", R"({"content": null, "tool_calls": [1], "thinking": "t"})"}})
                .text,
            chat_template
                .render_json(R"([{"role": "user", "content": "hi"},
                {"role": "assistant", "content": null, "tool_calls": [1], "thinking": "t"}])")
                .text);
  EXPECT_EQ(chat_template.render({{"user", "a\xff"}}).text, R"([{"role": "user", "content": "a�"}])");
}

}  // namespace
}  // namespace pith
