// The ways in which models set reasoning apart from their answer.
#pragma once

#include <functional>
#include <span>
#include <string_view>

namespace mlxlm {

struct ReasoningFormat {
  std::string_view name; // "think", "harmony" ...
  std::string_view open, close;
  // Further marks in the content that are no text.
  std::span<const std::string_view> structural = {};
  // Messages with headers: open, a header, "<|message|>", text, close.
  bool channels = false;
};

std::span<const ReasoningFormat> reasoning_formats();
const ReasoningFormat* find_reasoning_format(std::string_view name);
// By marks that are tokens of the vocabulary, else by the template's text.
const ReasoningFormat* detect_reasoning_format(
    std::string_view chat_template,
    const std::function<bool(std::string_view)>& has_token = {});

// A prompt that ends inside a reasoning block: its last opening mark has no
// closing one after it.
bool ends_in_reasoning(const ReasoningFormat& format, std::string_view prompt);

} // namespace mlxlm
