// The formats and what they are recognized by. One row each.
#include <array>

#include "core/strings.h"
#include "text/tools/formats.h"

namespace mlxlm {
namespace {

using HasToken = std::function<bool(std::string_view)>;

struct Row {
  const ToolFormat* format;
  // Other names, as other engines have them; separated by spaces.
  std::string_view aliases = {};
  // Texts of a template, all of one list: the first row with such a list wins.
  std::array<std::string_view, 2> marks = {}, or_marks = {};
};

// The order of mlx-lm's _infer_tool_parser down to json_tools; what it does not
// know comes behind.
const std::array rows = {
    Row{&tools::minimax_m2, "minimax", {"<minimax:tool_call>"}},
    Row{&tools::gemma4, "", {"<|tool_call>", "<tool_call|>"}},
    Row{&tools::function_gemma, "gemma", {"<start_function_call>"}},
    Row{&tools::longcat, "", {"<longcat_tool_call>"}},
    Row{&tools::glm47, "glm4 glm45 glm4_moe laguna", {"<arg_key>"}},
    Row{&tools::pythonic,
        "lfm2",
        {"<|tool_list_start|>"},
        {"<|tool_call_start|>"}},
    Row{&tools::qwen3_coder,
        "qwen3_xml xml_function nemotron_xml",
        {"<tool_call>\\n<function="},
        {"<tool_call>\n<function="}},
    Row{&tools::kimi_k2, "", {"<|tool_calls_section_begin|>"}},
    Row{&tools::minicpm5, "", {"<function name=\"", "<param name=\""}},
    Row{&tools::mistral, "", {"[TOOL_CALLS]"}},
    Row{&tools::muse_spark, "atem", {"<atem:function_calls>"}},
    Row{&tools::json_tools,
        "json hermes qwen2_5 granite4",
        {"<tool_call>", "tool_call.name"}},
    Row{&tools::kimi_k3},
    Row{&tools::harmony,
        "gpt_oss openai",
        {"<|channel|>commentary", "<|call|>"},
        {"<|channel|>", "<|call|>"}},
    Row{&tools::minimax_m3, "", {"]<]minimax[>[<tool_call>"}, {"<mm:think>"}},
    Row{&tools::cohere, "cohere2_moe command", {"<|START_ACTION|>"}},
    Row{&tools::seed_oss, "", {"<seed:tool_call>"}},
    Row{&tools::deepseek_v32, "", {"<｜DSML｜function_calls>"}, {"｜DSML｜"}},
    Row{&tools::deepseek_v3,
        "deepseek_r1",
        {"<｜tool▁calls▁begin｜>", "```json"}},
    Row{&tools::deepseek_v31, "", {"<｜tool▁calls▁begin｜>"}},
    Row{&tools::phi4, "phi4_mini", {"<|tool_call|>", "<|/tool_call|>"}},
    Row{&tools::granite, "granite3", {"<|tool_call|>"}},
    Row{&tools::nemotron, "", {"<TOOLCALL>"}},
    Row{&tools::internlm, "internlm2", {"<|action_start|>"}},
    Row{&tools::hunyuan, "jamba", {"<tool_calls>"}},
    Row{&tools::llama3,
        "llama3_json llama4",
        {"<|python_tag|>"},
        {"\"parameters\": dictionary of argument name"}},
    // Other templates write Hermes without naming the call's variable so.
    Row{&tools::qwen3_5, ""},
};

bool has_all(
    std::string_view text,
    const std::array<std::string_view, 2>& marks) {
  if (marks[0].empty()) return false;
  for (auto mark : marks)
    if (text.find(mark) == text.npos) return false;
  return true;
}

const ToolFormat* by_template(std::string_view text) {
  for (const auto& row : rows)
    if (has_all(text, row.marks) || has_all(text, row.or_marks))
      return row.format;
  return nullptr;
}

const ToolFormat* by_vocabulary(const HasToken& has) {
  if (!has) return nullptr;
  if (has("<|open|>") && has("<|close|>") && has("<|sep|>") &&
      has("<|end_of_msg|>"))
    return &tools::kimi_k3;
  if (has("<|tool_call_start|>") && has("<|tool_call_end|>"))
    return &tools::pythonic;
  return nullptr;
}

// For templates without marks: names of mlx-swift-lm's list.
const ToolFormat* by_model_type(std::string_view type) {
  static constexpr std::
      array<std::pair<std::string_view, const ToolFormat*>, 11>
          beginnings = {{
              {"lfm2", &tools::pythonic},
              {"glm4", &tools::glm47},
              {"gemma4", &tools::gemma4},
              {"gpt_oss", &tools::harmony},
              {"minimax", &tools::minimax_m2},
              {"nemotron", &tools::qwen3_coder},
              {"qwen3_5", &tools::qwen3_5},
              {"mistral3", &tools::mistral},
              {"kimi_k2", &tools::kimi_k2},
              {"longcat", &tools::longcat},
              {"deepseek_v32", &tools::deepseek_v32},
          }};
  for (const auto& [beginning, format] : beginnings)
    if (starts_with(type, beginning)) return format;
  return nullptr;
}

} // namespace

std::span<const ToolFormat* const> tool_formats() {
  static const auto list = [] {
    std::array<const ToolFormat*, rows.size()> all{};
    for (std::size_t i = 0; i < rows.size(); ++i)
      all[i] = rows[i].format;
    return all;
  }();
  return list;
}

const ToolFormat* find_tool_format(std::string_view name) {
  if (name.empty()) return nullptr;
  for (const auto& row : rows) {
    if (row.format->name == name) return row.format;
    for (const auto& alias : split(row.aliases, ' '))
      if (alias == name) return row.format;
  }
  return nullptr;
}

const ToolFormat* detect_tool_format(
    std::string_view chat_template,
    const HasToken& has_token,
    std::string_view model_type) {
  const auto* found = by_template(chat_template);
  // Qwen3.5 writes the XML of Qwen3-Coder or Hermes, whatever its template has.
  if (found == &tools::qwen3_coder && starts_with(model_type, "qwen3_5"))
    return &tools::qwen3_5;
  if (!found) found = by_vocabulary(has_token);
  return found ? found : by_model_type(model_type);
}

} // namespace mlxlm
