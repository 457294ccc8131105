// Grammars of tool calls in a model's own syntax, for a tool_choice that
// requires calls.
#pragma once

#include <string>
#include <string_view>

#include "text/grammar.h"
#include "text/tools/tool_format.h"

namespace mlxlm {

// A grammar that begins with this line is of all that the model says, its
// reasoning included.
constexpr std::string_view whole_answer = "// the whole answer\n";

// An answer that is one call of one of `tools` (as OpenAI has them), or of the
// one that is named. `several`: one or more calls. Throws Error(request) when
// there is no such tool, or when the format is none that can be forced.
GrammarSource tool_call_grammar(
    const ToolFormat& format,
    const Json& tools,
    const Tokenizer& tokenizer,
    std::string_view name = {},
    bool several = false);

} // namespace mlxlm
