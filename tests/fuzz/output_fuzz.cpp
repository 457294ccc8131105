// Answers through every tool-call and reasoning format: however they are cut,
// the same content, reasoning and calls come out, and items keep their order.
// The first two bytes pick the formats, the third how the text is cut.
#include <string>

#include "fuzz.h"
#include "text/output_parser.h"

using namespace mlxlm;

namespace {

const Json& some_tools() {
  static const Json list = Json::parse(R"([{"type": "function", "function": {
    "name": "f", "parameters": {"properties": {"a": {"type": "string"},
    "b": {"type": "integer"}, "c": {"anyOf": [{"type": "null"},
    {"type": "object"}]}, "d": {"type": "array"}}}}}])");
  return list;
}

struct Result {
  Output output;
  int open = -1, begun = 0;
  bool ended = false;

  void take(const OutputItems& items) {
    for (const auto& item : items) {
      fuzz::hold(!ended);
      ended = std::holds_alternative<OutputEnd>(item);
      if (auto* call = std::get_if<ToolCallDelta>(&item)) {
        if (!call->name.empty()) {
          fuzz::hold(open < 0 && call->index == begun++ && !call->id.empty());
          open = call->index;
        }
        fuzz::hold(call->index == open);
        if (call->last) open = -1;
      } else {
        fuzz::hold(open < 0);
      }
      add(output, item);
    }
  }
};

Result run(const OutputFormat& format, std::string_view text, std::size_t cut) {
  OutputParser parser(
      format, {.tools = some_tools(), .new_id = [] { return "id"; }});
  Result result;
  for (std::size_t at = 0; at < text.size(); at += cut)
    result.take(parser.feed(text.substr(at, cut)));
  result.take(parser.finish());
  fuzz::hold(result.ended && result.open < 0);
  return result;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, size_t size) {
  if (size < 3) return 0;
  auto formats = tool_formats();
  auto thoughts = reasoning_formats();
  OutputFormat format{
      &thoughts[data[1] % thoughts.size()], formats[data[0] % formats.size()]};
  auto text = fuzz::text(data + 3, size - 3);
  auto whole = run(format, text, text.size() + 1).output;
  auto cut = run(format, text, 1 + data[2] % 16).output;
  fuzz::hold(whole.content == cut.content);
  fuzz::hold(whole.reasoning == cut.reasoning);
  fuzz::hold(whole.calls.size() == cut.calls.size());
  for (std::size_t i = 0; i < whole.calls.size(); ++i) {
    fuzz::hold(whole.calls[i].name == cut.calls[i].name);
    fuzz::hold(whole.calls[i].arguments == cut.calls[i].arguments);
  }
  return 0;
}
