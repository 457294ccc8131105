// How a model writes reasoning and calls, by its files.
#include "text/output_parser.h"
#include "text/tokenizer.h"

namespace mlxlm {

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
