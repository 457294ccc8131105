#include "serve/conversation.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <span>

#include "core/strings.h"
#include "text/messages.h"

namespace mlxlm::serve {
namespace {

constexpr const char* roles[] =
    {"system", "developer", "user", "assistant", "tool", "function"};

std::string at(std::size_t i) {
  return fmt::format("messages[{}]", i);
}

void check_content(Body& message, const std::string& role) {
  const auto* content = message.any("content");
  auto where = message.path("content");
  if (!content) {
    if (role == "assistant") return;
    bad_request(
        where,
        fmt::format("{}: expected a text, found none", where),
        "missing_required_parameter");
  }
  if (content->is_string()) return;
  if (!content->is_array())
    wrong_value(where, "a text or a list of parts", *content);
  for (std::size_t i = 0; i < content->size(); ++i) {
    Body part((*content)[i], fmt::format("{}[{}]", where, i));
    auto type = part.text("type", 64).value_or("text");
    if (type == "text" || type == "refusal" || type == "input_text" ||
        type == "output_text") {
      part.needed("text", part.text(type == "refusal" ? "refusal" : "text"));
    } else {
      bad_request(
          part.path("type"),
          fmt::format(
              "{}: this model takes text, found {}",
              part.path("type"),
              printable(type)),
          "unsupported_content");
    }
  }
}

void check_calls(Body& message) {
  const auto* calls = message.list("tool_calls", 1024);
  if (!calls) return;
  for (std::size_t i = 0; i < calls->size(); ++i) {
    Body call(
        (*calls)[i], fmt::format("{}[{}]", message.path("tool_calls"), i));
    const auto& function = call.needed("function", call.object("function"));
    Body inner(function, call.path("function"));
    inner.needed("name", inner.text("name", 256));
  }
}

// "text" parts only, as chat templates know them.
void plain_parts(Json& content) {
  if (!content.is_array()) return;
  for (auto& part : content) {
    auto type = part.value("type", "text");
    const char* key = type == "refusal" ? "refusal" : "text";
    part = {{"type", "text"}, {"text", part[key]}};
  }
}

bool known_role(const std::string& role) {
  return std::any_of(std::begin(roles), std::end(roles), [&](const char* r) {
    return role == r;
  });
}

void check_choice(const Json& choice, Conversation& conversation) {
  if (choice.is_string()) {
    const auto& word = choice.get_ref<const std::string&>();
    if (word == "none") conversation.tools = nullptr;
    if (word == "none" || word == "auto") return;
    if (word == "required") {
      if (conversation.tools.is_null())
        bad_request("tool_choice", "tool_choice: expected tools, found none");
      conversation.forced = "";
      return;
    }
    wrong_value("tool_choice", "none, auto, required or a function", choice);
  }
  Body body(choice, "tool_choice");
  const auto& function = body.needed("function", body.object("function"));
  Body inner(function, "tool_choice.function");
  auto name = inner.needed("name", inner.text("name", 256));
  bool listed = false;
  if (conversation.tools.is_array())
    for (const auto& tool : conversation.tools)
      listed = listed || tool["function"]["name"] == name;
  if (!listed)
    bad_request(
        "tool_choice",
        fmt::format(
            "tool_choice: expected one of the tools, found \"{}\"",
            printable(name)));
  conversation.forced = name;
}

} // namespace

Json read_messages(const Json& messages, const Limits& limits) {
  if (!messages.is_array()) wrong_value("messages", "a list", messages);
  if (messages.empty() ||
      messages.size() > static_cast<std::size_t>(limits.messages))
    wrong_value(
        "messages", fmt::format("1 to {} messages", limits.messages), messages);
  auto out = messages;
  for (std::size_t i = 0; i < out.size(); ++i) {
    Body message(messages[i], at(i));
    auto role = message.needed("role", message.text("role", 64));
    if (!known_role(role))
      wrong_value(
          message.path("role"),
          "one of system, developer, user, assistant, tool",
          Json(role));
    check_content(message, role);
    check_calls(message);
    message.text("name", 1024);
    message.text("tool_call_id", 1024);
    if (role == "developer") out[i]["role"] = "system";
    if (role == "function") out[i]["role"] = "tool";
    auto& content = out[i]["content"];
    if (content.is_null()) content = "";
    plain_parts(content);
  }
  return joined_text_parts(parsed_tool_arguments(std::move(out)));
}

Json read_tools(const Json& tools, const Limits& limits) {
  if (!tools.is_array()) wrong_value("tools", "a list", tools);
  if (tools.size() > static_cast<std::size_t>(limits.tools))
    wrong_value("tools", fmt::format("at most {} tools", limits.tools), tools);
  std::set<std::string> names;
  for (std::size_t i = 0; i < tools.size(); ++i) {
    Body tool(tools[i], fmt::format("tools[{}]", i));
    tool.choice("type", {"function"});
    const auto& function = tool.needed("function", tool.object("function"));
    Body inner(function, tool.path("function"));
    auto name = inner.needed("name", inner.text("name", 128));
    for (char c : name)
      if (!std::isalnum(static_cast<unsigned char>(c)) && c != '_' &&
          c != '-' && c != '.' && c != ':' && c != '/')
        wrong_value(inner.path("name"), "letters, digits, _ and -", Json(name));
    if (name.empty()) wrong_value(inner.path("name"), "a name", Json(name));
    if (!names.insert(name).second)
      bad_request(
          inner.path("name"),
          fmt::format(
              "{}: expected each tool once, found {} twice",
              inner.path("name"),
              name));
    inner.text("description");
    if (const auto* schema = inner.object("parameters"))
      if (schema->dump().size() > static_cast<std::size_t>(limits.schema_bytes))
        bad_request(
            inner.path("parameters"),
            fmt::format(
                "{}: expected at most {} bytes of schema",
                inner.path("parameters"),
                limits.schema_bytes));
  }
  return tools.empty() ? Json() : tools;
}

Conversation read_conversation(Body& body, const ServiceOptions& options) {
  Conversation out;
  const auto& limits = options.limits;
  out.messages =
      read_messages(body.needed("messages", body.any("messages")), limits);
  if (const auto* tools = body.any("tools"))
    out.tools = read_tools(*tools, limits);
  if (const auto* choice = body.any("tool_choice")) check_choice(*choice, out);
  out.several = body.boolean("parallel_tool_calls").value_or(false);
  if (!options.template_kwargs.empty())
    out.kwargs = parse_json(
        options.template_kwargs, "--chat-template-args", ErrorKind::request);
  if (auto effort = body.text("reasoning_effort", 32)) {
    out.kwargs["reasoning_effort"] = *effort;
    if (*effort == "none") out.kwargs["enable_thinking"] = false;
  }
  if (const auto* kwargs = body.object("chat_template_kwargs"))
    for (const auto& [name, value] : kwargs->items()) {
      for (const char* taken :
           {"messages", "tools", "documents", "add_generation_prompt"})
        if (name == taken)
          bad_request(
              "chat_template_kwargs",
              fmt::format(
                  "chat_template_kwargs: {} is a variable of its own", taken));
      out.kwargs[name] = value;
    }
  return out;
}

namespace {

TemplateInput template_input(const Conversation& conversation) {
  return {
      .messages = conversation.messages.dump(),
      .tools = conversation.tools.is_null() ? "" : conversation.tools.dump(),
      .kwargs = conversation.kwargs.dump(),
      .add_generation_prompt = true};
}

void need_template(const Engine& engine) {
  if (!engine.codec().has_chat_template())
    bad_request(
        "messages",
        "This model has no chat template; use /v1/completions.",
        "no_chat_template");
}

} // namespace

std::string render(const Conversation& conversation, const Engine& engine) {
  need_template(engine);
  return engine.codec().render(template_input(conversation));
}

std::vector<int> encode(
    const Conversation& conversation,
    const Engine& engine) {
  need_template(engine);
  auto ids = engine.codec().apply_chat_template(template_input(conversation));
  check_room(ids.size(), engine, "messages");
  return ids;
}

OutputParser parser_for(
    const Conversation& conversation,
    const std::vector<int>& prompt,
    const Engine& engine) {
  OutputOptions options;
  options.tools = conversation.tools;
  options.parse_tools = !conversation.tools.is_null();
  options.listed_only = true;
  // Whether it ends inside a reasoning block stands at its end.
  auto tail = std::min<std::size_t>(prompt.size(), 512);
  options.prompt =
      engine.codec().decode(std::span(prompt).subspan(prompt.size() - tail));
  return OutputParser(engine.facts().output, std::move(options));
}

void check_room(std::size_t tokens, const Engine& engine, const char* param) {
  if (tokens == 0)
    bad_request(param, fmt::format("{}: expected a prompt, found none", param));
  auto context = static_cast<std::size_t>(engine.facts().context_length);
  if (tokens < context) return;
  bad_request(
      param,
      fmt::format(
          "{}: expected fewer tokens than the context of {}, found {}",
          param,
          context,
          tokens),
      "context_length_exceeded");
}

} // namespace mlxlm::serve
