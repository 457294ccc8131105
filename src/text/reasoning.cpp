#include "text/reasoning.h"

#include <array>

namespace mlxlm {
namespace {

constexpr std::array<std::string_view, 3> kimi_k3_marks = {
    "<|open|>response<|sep|>",
    "<|close|>response<|sep|>",
    "<|close|>message<|sep|>"};
constexpr std::array<std::string_view, 4> muse_marks = {
    "to=user<|message|>",
    "to=commentary<|message|>",
    "<|eom|>",
    "<|eot|>"};
constexpr std::array<std::string_view, 3> harmony_marks = {
    "<|end|>",
    "<|return|>",
    "<|call|>"};
constexpr std::array<std::string_view, 2> cohere_marks = {
    "<|START_RESPONSE|>",
    "<|END_RESPONSE|>"};

// More telling marks first: templates may mention those of other rows.
constexpr std::array<ReasoningFormat, 16> rows = {{
    {"harmony",
     "<|channel|>analysis<|message|>",
     "<|end|>",
     harmony_marks,
     true},
    {"muse_spark", "to=self<|message|>", "<|eom|>", muse_marks},
    {"kimi_k3", "<|open|>think<|sep|>", "<|close|>think<|sep|>", kimi_k3_marks},
    {"gemma4", "<|channel>thought", "<channel|>"},
    {"longcat", "<longcat_think>", "</longcat_think>"},
    {"think_marks", "<|think:start|>", "<|think:end|>"},
    {"minimax_m3", "<mm:think>", "</mm:think>"},
    {"seed_oss", "<seed:think>", "</seed:think>"},
    {"cohere", "<|START_THINKING|>", "<|END_THINKING|>", cohere_marks},
    {"kimi_vl", "◁think▷", "◁/think▷"},
    {"mistral", "[THINK]", "[/THINK]"},
    {"apertus", "<|inner_prefix|>", "<|inner_suffix|>"},
    {"think", "<think>", "</think>"},
    {"thinking", "<thinking>", "</thinking>"},
    {"thought", "<thought>", "</thought>"},
    {"reasoning", "<reasoning>", "</reasoning>"},
}};

bool has(std::string_view text, std::string_view part) {
  return text.find(part) != text.npos;
}

// What in a template or vocabulary shows the format. Formats of several tokens
// are known by one of these.
bool shown_by(const ReasoningFormat& row, const auto& contains) {
  if (row.channels) return contains("<|channel|>") && contains("<|message|>");
  if (row.name == "gemma4")
    return contains("<|channel>") && contains("<channel|>");
  if (row.name == "kimi_k3")
    return contains("<|open|>") && contains("<|close|>") && contains("<|sep|>");
  if (row.name == "muse_spark") return contains("to=self");
  return contains(row.open) && contains(row.close);
}

} // namespace

std::span<const ReasoningFormat> reasoning_formats() {
  return rows;
}

const ReasoningFormat* find_reasoning_format(std::string_view name) {
  for (const auto& row : rows)
    if (row.name == name) return &row;
  return nullptr;
}

const ReasoningFormat* detect_reasoning_format(
    std::string_view chat_template,
    const std::function<bool(std::string_view)>& has_token) {
  for (const auto& row : rows)
    if (has_token && shown_by(row, has_token)) return &row;
  auto in_template = [&](std::string_view mark) {
    return has(chat_template, mark);
  };
  for (const auto& row : rows)
    if (shown_by(row, in_template)) return &row;
  return nullptr;
}

bool ends_in_reasoning(const ReasoningFormat& format, std::string_view prompt) {
  auto open = prompt.rfind(format.open), close = prompt.rfind(format.close);
  return open != prompt.npos && (close == prompt.npos || close < open);
}

} // namespace mlxlm
