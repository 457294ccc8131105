// What a request wants its answer to be: OpenAI's response_format and
// tool_choice, and what other servers call the same.
#pragma once

#include "serve/conversation.h"
#include "serve/sampling.h"

namespace mlxlm::serve {

// response_format, and as fields of their own json_schema, regex, choice,
// grammar (llguidance's dialect of Lark), vLLM's guided_… and
// structured_outputs.
ResponseFormat read_response_format(Body& body, const Limits& limits);
// {"type": "json_schema", ...} and the like, wherever it stands.
ResponseFormat read_format_object(Body& format, const Limits& limits);
// A schema as it is.
ResponseFormat schema_format(
    const Json& schema,
    const std::string& where,
    const Limits& limits);

// Puts a forced call (tool_choice) into the parameters. Throws ApiError where
// the request wants a format as well.
void force_call(
    const Conversation& conversation,
    const Engine& engine,
    GenerateParameters& parameters);

} // namespace mlxlm::serve
