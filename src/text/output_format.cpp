// How a model writes reasoning and calls, by what its files tell.
#include "core/check.h"
#include "core/strings.h"
#include "text/output_parser.h"
#include "text/tokenizer.h"

namespace mlxlm {

OutputFormat output_format(const FormatClues& clues) {
  OutputFormat format;
  format.reasoning =
      detect_reasoning_format(clues.chat_template, clues.has_token);
  if (clues.tool_parser_type.empty()) {
    format.tools = detect_tool_format(
        clues.chat_template, clues.has_token, clues.model_type);
    return format;
  }
  format.tools = find_tool_format(clues.tool_parser_type);
  if (!format.tools)
    fail(
        ErrorKind::request,
        "tool_parser_type",
        "expected the name of a tool-call format, found \"{}\"",
        printable(clues.tool_parser_type));
  return format;
}

OutputFormat output_format(
    const Tokenizer& tokenizer,
    std::string_view model_type) {
  const auto& info = tokenizer.info();
  FormatClues clues{
      .model_type = std::string(model_type),
      .has_token = [&](std::string_view token) {
        return tokenizer.id_of(token) >= 0;
      }};
  for (const char* name : {"tool_use", "default"})
    if (auto found = info.chat_templates.find(name);
        found != info.chat_templates.end() && clues.chat_template.empty())
      clues.chat_template = found->second;
  if (find_tool_format(info.tool_parser_type))
    clues.tool_parser_type = info.tool_parser_type;
  return output_format(clues);
}

} // namespace mlxlm
