// What an answer is made of once its text has been taken apart: content,
// reasoning, tool calls and an end. Whoever speaks a protocol (a server, the
// command line) makes its own frames of these.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "mlxlm/generate.h"

namespace mlxlm {

struct ContentDelta {
  std::string text;
};

struct ReasoningDelta {
  std::string text;
};

// Calls come one after another; the deltas of one are not interleaved with
// those of another. The first has name and id, the last (it may be the first)
// has `last`. All `arguments` together are the text of a JSON value, nearly
// always an object.
struct ToolCallDelta {
  int index = 0; // 0, 1, ... in the order the calls began
  std::string id, name; // empty but in the first
  std::string arguments = {}; // the next piece
  bool last = false;
  // With `last`: what was begun turned out to be no call. Forget it; its text
  // follows as content.
  bool broken = false;
};

// Always the last item, once.
struct OutputEnd {
  FinishReason reason = FinishReason::stop;
  int calls = 0; // whole ones; protocols say "tool_calls" when there are any
};

using OutputItem =
    std::variant<ContentDelta, ReasoningDelta, ToolCallDelta, OutputEnd>;
using OutputItems = std::vector<OutputItem>;

} // namespace mlxlm
