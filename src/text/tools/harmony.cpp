// GPT-OSS: <|channel|>commentary to=functions.f <|constrain|>json<|message|>
// {...}<|call|>. The payload begins behind "to=".
#include "core/strings.h"
#include "text/tools/formats.h"
#include "text/tools/grammar_builder.h"
#include "text/tools/values.h"

namespace mlxlm::tools {
namespace {

constexpr std::string_view message = "<|message|>";

std::string recipient(std::string_view header) {
  header = strip(header);
  constexpr std::string_view prefix = "functions.";
  if (starts_with(header, prefix) && header.size() > prefix.size())
    header.remove_prefix(prefix.size());
  std::size_t size = 0;
  while (size < header.size() && header[size] != '<' && header[size] != '|' &&
         skip_space(header, size) == size)
    ++size;
  return std::string(header.substr(0, size));
}

std::optional<CallHead> head(std::string_view text, std::size_t from) {
  auto mark = from == 0 ? text.find(message) : text.npos;
  if (mark == text.npos) return {};
  auto at = skip_space(text, mark + message.size());
  auto name = recipient(text.substr(0, mark));
  if (name.empty() || at >= text.size() || text[at] != '{') return {};
  return CallHead{name, "", at};
}

std::vector<ParsedCall> parse(std::string_view payload, const Json&) {
  auto mark = payload.find(message);
  auto name = recipient(payload.substr(0, mark));
  if (name.empty()) no_call("Harmony", payload);
  auto text = mark == payload.npos
      ? std::string_view()
      : strip(payload.substr(mark + message.size()));
  if (text.empty()) return {{name, Json::object()}};
  auto value = json_value(text);
  return {{name, value ? *value : Json(std::string(text))}};
}

// <|call|> is one of the tokens that end an answer.
constexpr CallSyntax syntax = {
    "<|channel|>commentary to=functions.",
    " <|constrain|>json<|message|>",
    "",
    "<|call|>"};

// A thought without marks: they would begin something else.
std::string analysis(GrammarBuilder& builder) {
  return builder.literal("<|channel|>analysis<|message|>") +
      builder.text(
          Json::object(), {"<|end|>", false, {"(.|\\n)*<\\|(.|\\n)*"}}) +
      builder.literal("<|start|>assistant");
}

} // namespace

const ToolFormat harmony = {
    .name = "harmony",
    .open = "<|channel|>commentary to=",
    .close = "<|call|>",
    .parse = parse,
    .head = head,
    .syntax = &syntax,
    .lead = analysis};

} // namespace mlxlm::tools
