// An answer's text, piece by piece, as items: reasoning, tool calls and the
// rest. Cutting the text differently gives the same items but for where texts
// are cut.
//
//   auto format = output_format({.chat_template = source});
//   OutputParser parser(format, {.tools = tools, .prompt = rendered});
//   for (auto& item : parser.feed(piece)) ...     // for every piece of text
//   for (auto& item : parser.finish(reason)) ...  // at the end
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "core/json.h"
#include "text/output_item.h"
#include "text/reasoning.h"
#include "text/tools/tool_format.h"

namespace mlxlm {

class Tokenizer;

// How a model writes reasoning and calls. Null: it has no way of its own.
struct OutputFormat {
  const ReasoningFormat* reasoning = nullptr;
  const ToolFormat* tools = nullptr;
};

// What formats are recognized by.
struct FormatClues {
  std::string chat_template = {}; // its source; the one for tools if several
  std::string model_type = {}; // of config.json
  std::string tool_parser_type = {}; // of tokenizer_config.json, or asked for
  // Whether the vocabulary has exactly this token.
  std::function<bool(std::string_view)> has_token = {};
};
// Throws Error(request) for a tool_parser_type that is no format.
OutputFormat output_format(const FormatClues& clues);
// By a model's tokenizer and templates. A tool_parser_type of its files that is
// not known here counts as none.
OutputFormat output_format(
    const Tokenizer& tokenizer,
    std::string_view model_type = {});

struct OutputOptions {
  // The request's tools as OpenAI has them, or null: types of arguments.
  Json tools = nullptr;
  // Calls are looked for. Without: their markers are content.
  bool parse_tools = true;
  bool parse_reasoning = true;
  // Calls of names that `tools` does not have are content.
  bool listed_only = false;
  // What only looked like a call is content; else it is left out.
  bool give_back_malformed = true;
  // The rendered conversation: it may end inside a reasoning block.
  std::string prompt = {};
  // Ids of calls that have none. Empty: random, as the format has them.
  std::function<std::string()> new_id = {};
};

class OutputParser {
 public:
  explicit OutputParser(const OutputFormat& format, OutputOptions options = {});
  ~OutputParser();
  OutputParser(OutputParser&&) noexcept;
  OutputParser& operator=(OutputParser&&) noexcept;

  OutputItems feed(std::string_view text);
  // The end of the text: what was held back, open calls, and OutputEnd.
  OutputItems finish(FinishReason reason = FinishReason::stop);

  // The text so far ends inside a reasoning block.
  bool reasoning() const;

 private:
  class State;
  std::unique_ptr<State> state_;
};

// ---- all at once
struct OutputCall {
  std::string id, name, arguments;
};
struct Output {
  std::string content, reasoning;
  std::vector<OutputCall> calls; // broken ones are left out
  FinishReason reason = FinishReason::stop;
};
// Puts items together as they come.
void add(Output& output, const OutputItem& item);
Output parse_output(
    const OutputFormat& format,
    std::string_view text,
    const OutputOptions& options = {});

} // namespace mlxlm
