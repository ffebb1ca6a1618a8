// SPDX-License-Identifier: MIT
// pith policies lists what --policy reads: what it prints can be said.
#include <gtest/gtest.h>

#include <string>

#include "pith/prune/spec.hpp"
#include "support/command.hpp"

namespace pith::test {
namespace {

class PoliciesTest : public CommandTest {};

TEST_F(PoliciesTest, WhatItPrintsCanBeSaid) {
  const Json all = json_of({"policies"}).at("policies");
  EXPECT_EQ(all.size(), prune::catalogue().size());
  const std::string table = done({"policies"}).out;
  for (const Json& one : all) {
    const auto name = one.at("name").get<std::string>();
    EXPECT_NE(table.find(name), std::string::npos) << name;
    if (!one.at("arguments").get<std::string>().empty()) continue;
    EXPECT_EQ(one.at("needs").at("gate").get<bool>(), prune::parse(name).needs().gate);
    std::string options;
    for (const Json& option : one.at("options")) {
      options += (options.empty() ? "" : ",") + option.at("name").get<std::string>() + "=" +
                 option.at("default").get<std::string>();
      EXPECT_FALSE(option.at("what").get<std::string>().empty()) << name;
    }
    const std::string whole = options.empty() ? name : name + "(" + options + ")";
    EXPECT_EQ(prune::parse(name).describe(), whole);
    EXPECT_NE(table.find(whole), std::string::npos) << whole;
  }
}

TEST_F(PoliciesTest, ExplainsAPolicy) {
  const std::string text = done({"policies", "snapkv"}).out;
  for (const char* part :
       {"2404.14469", "end of a prompt", "window: last tokens of the prompt", "a whole number from 1"})
    EXPECT_NE(text.find(part), std::string::npos) << text;
  const Json json = json_of({"policies", "gate,for_layers(layers=0-1,h2o(rows=300))"});
  EXPECT_EQ(json.at("policy"), prune::parse("gate,for_layers(layers=0-1,h2o(rows=300))").describe());
  EXPECT_TRUE(json.at("needs").at("gate").get<bool>());
  EXPECT_EQ(json.at("needs").at("columns"), Json::array({"mass"}));
  EXPECT_EQ(json.at("policies").size(), 3u);
  EXPECT_NE(done({"policies", "per_head"}).out.find("per_head(POLICY)"), std::string::npos);
  expect_failure(2, {"one of none, gate", "'snap'"}, {"policies", "snap"});
  expect_failure(2, {"h2o: rows", "260"}, {"policies", "h2o(rows=7)"});
}

}  // namespace
}  // namespace pith::test
