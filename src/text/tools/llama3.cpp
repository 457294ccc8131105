// Llama 3: JSON with "name" and "parameters" where the content begins, or
// behind <|python_tag|>; several are separated by ";". Behind the tag also
// module.call(key=value).
#include "core/strings.h"
#include "text/tools/formats.h"
#include "text/tools/python_literal.h"
#include "text/tools/values.h"

namespace mlxlm::tools {
namespace {

std::vector<ParsedCall> parse(std::string_view payload, const Json&) {
  auto text = strip(payload);
  if (!starts_with(text, "{") && !starts_with(text, "[")) {
    auto call = python_call(text);
    if (!call) no_call("Llama 3", payload);
    if (ends_with(call->name, ".call"))
      call->name.resize(call->name.size() - 5);
    return {*call};
  }
  std::vector<ParsedCall> calls;
  std::size_t at = 0;
  while (at < text.size()) {
    auto decoded = json_prefix(text, at);
    if (!decoded) break;
    auto one = json_calls(text.substr(at, decoded->end - at), "Llama 3");
    for (auto& call : one) {
      // Any object may have a name: it is a call with its arguments only.
      if (call.arguments.is_null()) no_call("Llama 3", payload);
      calls.push_back(std::move(call));
    }
    at = skip_space(text, decoded->end);
    if (at < text.size() && (text[at] == ';' || text[at] == ','))
      at = skip_space(text, at + 1);
  }
  if (at < text.size()) {
    // Lists of Python calls are Llama 4's.
    auto python = python_calls(text);
    if (!python) no_call("Llama 3", payload);
    return *python;
  }
  return calls;
}

constexpr CallSyntax syntax = {"{\"name\": \"", "\", \"parameters\": ", "}"};

} // namespace

const ToolFormat llama3 = {
    .name = "llama3",
    .open = "<|python_tag|>",
    .close = "",
    .parse = parse,
    .bare = ToolFormat::Bare::any,
    .syntax = &syntax};

} // namespace mlxlm::tools
