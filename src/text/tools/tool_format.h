// The ways in which models write tool calls: one file a format in this folder,
// one row in table.cpp.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace mlxlm {

struct ParsedCall {
  std::string name;
  Json arguments = nullptr; // nearly always an object; null: none were given
  std::string id = {}; // empty: the model gave none
};

// Where a call's JSON arguments begin in a payload.
struct CallHead {
  std::string name, id;
  std::size_t arguments; // offset of the "{"
};

// The text around a call, for grammars that force calls: before the name,
// between name and arguments, after them, and what may come or not.
struct CallSyntax {
  std::string_view begin, middle, end, may_follow = {};
};

namespace tools {
class GrammarBuilder;
}

struct ToolFormat {
  std::string_view name; // as mlx-lm names its parsers, where it has one
  // Around a payload, which has one call or several. An empty `close`: to the
  // end of the answer. An empty `open`: calls are JSON without marks, where the
  // content begins with it.
  std::string_view open, close;
  // The calls of a payload (without its markers). `tools` is the request's list
  // or null. Throws Error(text) when there are none.
  std::vector<ParsedCall> (
      *parse)(std::string_view payload, const Json& tools) = nullptr;
  // The next call whose arguments are JSON text, from `from` on, as soon as a
  // beginning of the payload shows it; more text never changes the answer.
  // Null: arguments are not JSON text, calls come whole.
  std::optional<CallHead> (*head)(std::string_view payload, std::size_t from) =
      nullptr;
  // Calls may stand without marks where the content begins with JSON.
  enum class Bare { never, listed, any } bare = Bare::never;
  // How one call is written: its arguments as JSON text or, where it is set, as
  // `arguments` makes a grammar of an object of Shapes. Null: calls cannot be
  // forced.
  const CallSyntax* syntax = nullptr;
  std::string (*arguments)(tools::GrammarBuilder&, const Json& schema) =
      nullptr;
  // What may come before a call where reasoning has no marks of its own; the
  // grammar is then of the whole answer. Null: nothing.
  std::string (*lead)(tools::GrammarBuilder&) = nullptr;
  // Models whose vocabulary lacks this token write calls in an older way.
  std::string_view needs = {};
  const CallSyntax* older = nullptr;
  int id_length =
      0; // 0: "call_" and 32 hex digits; else that many of [a-zA-Z0-9]
};

std::span<const ToolFormat* const> tool_formats();
// By name or one of its aliases ("hermes", "laguna", "atem" ...); null: none.
const ToolFormat* find_tool_format(std::string_view name);
// As mlx-lm's _infer_tool_parser, then formats it does not know; null: none.
const ToolFormat* detect_tool_format(
    std::string_view chat_template,
    const std::function<bool(std::string_view)>& has_token = {},
    std::string_view model_type = {});

} // namespace mlxlm
