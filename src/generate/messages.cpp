// Messages of a conversation as JSON and back.
#include "core/check.h"
#include "core/fields.h"
#include "mlxlm/chat.h"

namespace mlxlm {
namespace {

Json to_json(const ToolCall& call) {
  Json function{{"name", call.name}};
  // Templates walk through the arguments, so they are an object, not a text.
  function["arguments"] = call.arguments.empty()
      ? Json::object()
      : parse_json(call.arguments, "tool call arguments", ErrorKind::request);
  Json result{{"type", "function"}};
  if (!call.id.empty()) result["id"] = call.id;
  result["function"] = std::move(function);
  return result;
}

ToolCall tool_call(const Json& json, const std::string& where) {
  Fields call(json, where);
  auto function = call.sub("function");
  ToolCall result{
      .id = call.opt("id", ""),
      .name = function.req<std::string>("name"),
      .arguments = {}};
  if (function.has("arguments")) {
    auto arguments = function.req<Json>("arguments");
    result.arguments =
        arguments.is_string() ? arguments.get<std::string>() : arguments.dump();
  }
  return result;
}

} // namespace

std::string to_json(const std::vector<Message>& messages) {
  auto list = Json::array();
  for (const auto& message : messages) {
    Json item{{"role", message.role}, {"content", message.content}};
    for (const auto& call : message.tool_calls)
      item["tool_calls"].push_back(to_json(call));
    if (!message.tool_call_id.empty())
      item["tool_call_id"] = message.tool_call_id;
    if (!message.name.empty()) item["name"] = message.name;
    list.push_back(std::move(item));
  }
  return list.dump();
}

std::vector<Message> messages_from_json(std::string_view text) {
  auto list = parse_json(text, "messages", ErrorKind::request);
  if (!list.is_array())
    fail(
        ErrorKind::request,
        "messages",
        "expected a list, found {}",
        describe(list));
  std::vector<Message> messages;
  for (std::size_t i = 0; i < list.size(); ++i) {
    auto where = fmt::format("messages[{}]", i);
    Fields item(list[i], where);
    Message message{
        .role = item.req<std::string>("role"),
        .content = item.opt("content", ""),
        .tool_call_id = item.opt("tool_call_id", ""),
        .name = item.opt("name", "")};
    if (item.has("tool_calls"))
      for (const auto& call : item.req<Json>("tool_calls"))
        message.tool_calls.push_back(tool_call(call, where + ".tool_calls"));
    messages.push_back(std::move(message));
  }
  return messages;
}

} // namespace mlxlm
