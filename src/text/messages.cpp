#include "text/messages.h"

#include <algorithm>

#include "core/check.h"

namespace mlxlm {
namespace {

bool is_text_part(const Json& part) {
  return part.is_object() && part.contains("text") &&
      part["text"].is_string() && part.value("type", Json("text")) == "text";
}

void parse_arguments(Json& call) {
  if (!call.is_object() || !call.contains("function") ||
      !call["function"].is_object()) {
    return;
  }
  auto& function = call["function"];
  auto found = function.find("arguments");
  if (found == function.end() || !found->is_string()) {
    return;
  }
  try {
    JsonLimits limits;
    limits.duplicate_keys = true;
    auto parsed = parse_json(
        found->get<std::string>(), "arguments", ErrorKind::request, limits);
    if (parsed.is_object()) {
      *found = std::move(parsed);
    }
  } catch (const Error&) {
    // Not JSON: the template shows the text.
  }
}

} // namespace

Json template_messages(const Json& messages) {
  if (!messages.is_array()) {
    fail(
        ErrorKind::request,
        "messages",
        "expected a list, found {}",
        describe(messages));
  }
  auto result = Json::array();
  for (const auto& message : messages) {
    if (!message.is_object()) {
      fail(
          ErrorKind::request,
          fmt::format("messages[{}]", result.size()),
          "expected an object, found {}",
          describe(message));
    }
    auto kept = Json::object();
    for (const auto& [name, value] : message.items()) {
      if (!value.is_null()) {
        kept[name] = value;
      }
    }
    for (const char* name : {"reasoning_content", "thinking", "reasoning"}) {
      if (kept.contains(name)) {
        Json reasoning = kept[name];
        kept["reasoning_content"] = reasoning;
        if (!kept.contains("thinking")) {
          kept["thinking"] = reasoning;
        }
        break;
      }
    }
    result.push_back(std::move(kept));
  }
  return result;
}

Json parsed_tool_arguments(Json messages) {
  for (auto& message : messages) {
    if (!message.is_object() || !message.contains("tool_calls") ||
        !message["tool_calls"].is_array()) {
      continue;
    }
    for (auto& call : message["tool_calls"]) {
      parse_arguments(call);
    }
    if (!message["tool_calls"].empty() &&
        message.value("content", Json()).is_null()) {
      message["content"] = "";
    }
  }
  return messages;
}

Json joined_text_parts(Json messages) {
  for (auto& message : messages) {
    if (!message.is_object() || !message.contains("content")) {
      continue;
    }
    auto& content = message["content"];
    if (!content.is_array() ||
        !std::all_of(content.begin(), content.end(), is_text_part)) {
      continue;
    }
    std::string text;
    for (const auto& part : content) {
      text += part["text"].get_ref<const std::string&>();
    }
    content = std::move(text);
  }
  return messages;
}

} // namespace mlxlm
