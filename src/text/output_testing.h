// For tests: an answer's text fed to the parser whole, byte by byte and in
// random pieces, and what it says as one text.
#pragma once

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "text/output_parser.h"

namespace mlxlm::testing {

inline Json weather_tools() {
  return Json::parse(R"([{"type": "function", "function": {
    "name": "weather", "parameters": {"type": "object", "properties": {
      "city": {"type": "string"}, "days": {"type": "integer"}}}}}])");
}

struct Pieces {
  std::string name;
  std::vector<std::string_view> texts;
};

// Whole, character by character, and cut at random places.
inline std::vector<Pieces> cuts(std::string_view text) {
  std::vector<Pieces> all = {{"whole", {text}}, {"bytes", {}}};
  for (std::size_t i = 0; i < text.size(); ++i)
    all[1].texts.push_back(text.substr(i, 1));
  std::mt19937 random(7);
  for (int round = 0; round < 20; ++round) {
    Pieces pieces{"random " + std::to_string(round), {}};
    for (std::size_t at = 0; at < text.size();) {
      std::size_t size = 1 + random() % 9;
      pieces.texts.push_back(text.substr(at, size));
      at += size;
    }
    all.push_back(pieces);
  }
  return all;
}

// Content, reasoning and calls as one text that a test can state.
inline std::string shown(const Output& output) {
  std::string out = output.content;
  if (!output.reasoning.empty()) out = "(" + output.reasoning + ")" + out;
  for (const auto& call : output.calls)
    out += " @" + call.name + Json::parse(call.arguments).dump();
  return out;
}

// The order of items is a promise: see ToolCallDelta.
inline void check_order(const OutputItems& items) {
  int open = -1, next = 0;
  for (const auto& item : items) {
    auto* call = std::get_if<ToolCallDelta>(&item);
    if (!call) {
      EXPECT_EQ(open, -1);
      continue;
    }
    if (!call->name.empty()) {
      EXPECT_EQ(open, -1);
      EXPECT_EQ(call->index, next++);
      EXPECT_FALSE(call->id.empty());
      open = call->index;
    }
    EXPECT_EQ(call->index, open);
    if (call->last) open = -1;
  }
  EXPECT_EQ(open, -1);
  ASSERT_FALSE(items.empty());
  EXPECT_TRUE(std::holds_alternative<OutputEnd>(items.back()));
}

inline void expect_output(
    const OutputFormat& format,
    std::string_view text,
    const std::string& wanted,
    OutputOptions options = {}) {
  for (const auto& cut : cuts(text)) {
    OutputParser parser(format, options);
    OutputItems items;
    auto take = [&](OutputItems more) {
      items.insert(items.end(), more.begin(), more.end());
    };
    for (auto piece : cut.texts)
      take(parser.feed(piece));
    take(parser.finish());
    Output output;
    for (const auto& item : items)
      add(output, item);
    EXPECT_EQ(shown(output), wanted) << cut.name << " of " << text;
    check_order(items);
  }
}

inline OutputFormat with_tools(std::string_view name) {
  OutputFormat format;
  format.tools = find_tool_format(name);
  EXPECT_NE(format.tools, nullptr) << name;
  return format;
}

inline OutputFormat thinking(
    std::string_view name,
    std::string_view tools = "") {
  OutputFormat format;
  format.reasoning = find_reasoning_format(name);
  EXPECT_NE(format.reasoning, nullptr) << name;
  if (!tools.empty()) format.tools = find_tool_format(tools);
  return format;
}

} // namespace mlxlm::testing
