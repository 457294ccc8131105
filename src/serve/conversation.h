// The part of a chat request that becomes the prompt, the same for every API:
// messages, tools, variables of the template.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "serve/body.h"
#include "serve/service.h"

namespace mlxlm::serve {

struct Conversation {
  Json messages = Json::array(); // as chat templates take them
  Json tools; // a list, or null
  Json kwargs = Json::object();
  // A call is enforced: of the tool with this name, or of any.
  std::optional<std::string> forced = {};
  bool several = false; // calls may be enforced
};

// OpenAI's `messages`: roles, contents and calls are checked, texts in parts
// become one, "developer" is "system".
Json read_messages(const Json& messages, const Limits& limits);
// OpenAI's `tools`.
Json read_tools(const Json& tools, const Limits& limits);
// OpenAI's fields: messages, tools, tool_choice, chat_template_kwargs,
// reasoning_effort; with the server's own variables.
Conversation read_conversation(Body& body, const ServiceOptions& options);

std::string render(const Conversation& conversation, const Engine& engine);
// The ids of the prompt. Throws ApiError when the model has no chat template or
// no room for it.
std::vector<int> encode(const Conversation& conversation, const Engine& engine);
// Takes an answer to it apart, calls only where there are tools.
OutputParser parser_for(
    const Conversation& conversation,
    const std::vector<int>& prompt,
    const Engine& engine);
// Throws ApiError 400 context_length_exceeded.
void check_room(std::size_t tokens, const Engine& engine, const char* param);

} // namespace mlxlm::serve
