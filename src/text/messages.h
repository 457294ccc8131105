// What happens to a conversation before a chat template sees it.
#pragma once

#include "core/json.h"

namespace mlxlm {

// What every caller needs: fields that are null are left out, and reasoning
// (reasoning_content, else thinking, else reasoning) is given under both
// reasoning_content and thinking. Throws Error(request) unless `messages` is a
// list of objects.
Json template_messages(const Json& messages);

// For clients that speak the OpenAI protocol: the arguments of tool calls that
// are JSON text become values (other text stays), null content beside tool
// calls becomes "". Templates walk through arguments.
Json parsed_tool_arguments(Json messages);

// For templates that know text only: contents that are lists of text parts
// become one string. Other contents stay.
Json joined_text_parts(Json messages);

} // namespace mlxlm
