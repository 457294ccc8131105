// POST /v1/messages and /v1/messages/count_tokens, as Anthropic's clients
// speak.
#include <fmt/format.h>

#include "core/strings.h"
#include "serve/routes/shared.h"

namespace mlxlm::serve {
namespace {

// ---- the request as one of OpenAI's
// -------------------------------------------
std::string text_of(const Json& content, const std::string& where) {
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) wrong_value(where, "a text or blocks", content);
  std::string out;
  for (std::size_t i = 0; i < content.size(); ++i) {
    Body block(content[i], fmt::format("{}[{}]", where, i));
    auto type = block.needed("type", block.text("type", 64));
    if (type != "text")
      bad_request(
          block.path("type"),
          fmt::format(
              "{}: this model takes text, found {}",
              block.path("type"),
              printable(type)),
          "unsupported_content");
    out += block.needed("text", block.text("text"));
  }
  return out;
}

struct Turn {
  Json message = {{"role", ""}, {"content", ""}};
  Json results = Json::array(); // tools' answers, before it
  bool any = false; // has a block of its own
};

void read_block(Turn& turn, const Json& json, const std::string& where) {
  Body block(json, where);
  auto type = block.needed("type", block.text("type", 64));
  auto append = [&](const char* field, const std::string& text) {
    auto& value = turn.message[field];
    value = value.is_string() ? value.get<std::string>() + text : text;
    turn.any = true;
  };
  if (type == "text") {
    append("content", block.needed("text", block.text("text")));
  } else if (type == "thinking") {
    append(
        "reasoning_content", block.needed("thinking", block.text("thinking")));
  } else if (type == "redacted_thinking") {
    turn.any = true; // nobody can read it
  } else if (type == "tool_use") {
    const auto& input = block.needed("input", block.object("input"));
    turn.message["tool_calls"].push_back(
        {{"id", block.needed("id", block.text("id", 256))},
         {"type", "function"},
         {"function",
          {{"name", block.needed("name", block.text("name", 256))},
           {"arguments", input.dump()}}}});
    turn.any = true;
  } else if (type == "tool_result") {
    const auto* content = block.any("content");
    turn.results.push_back(
        {{"role", "tool"},
         {"tool_call_id",
          block.needed("tool_use_id", block.text("tool_use_id", 256))},
         {"content", content ? text_of(*content, block.path("content")) : ""}});
  } else {
    bad_request(
        block.path("type"),
        fmt::format(
            "{}: this model takes text and tools, found {}",
            block.path("type"),
            printable(type)),
        "unsupported_content");
  }
}

void read_turn(const Json& json, std::size_t i, Json& out) {
  Body message(json, fmt::format("messages[{}]", i));
  Turn turn;
  turn.message["role"] = message.needed(
      "role", message.choice("role", {"user", "assistant", "system"}));
  const auto& content = message.needed("content", message.any("content"));
  if (content.is_string()) {
    turn.message["content"] = content;
    turn.any = true;
  } else {
    if (!content.is_array())
      wrong_value(message.path("content"), "a text or blocks", content);
    for (std::size_t j = 0; j < content.size(); ++j)
      read_block(
          turn, content[j], fmt::format("{}[{}]", message.path("content"), j));
  }
  for (auto& result : turn.results)
    out.push_back(std::move(result));
  if (turn.any || turn.results.empty()) out.push_back(std::move(turn.message));
}

Json read_tools_of(const Json& tools) {
  auto out = Json::array();
  for (std::size_t i = 0; i < tools.size(); ++i) {
    Body tool(tools[i], fmt::format("tools[{}]", i));
    auto type = tool.text("type", 64).value_or("custom");
    if (type != "custom")
      bad_request(
          tool.path("type"),
          fmt::format(
              "{}: expected tools of the client, found {}",
              tool.path("type"),
              printable(type)),
          "unsupported");
    Json function = {{"name", tool.needed("name", tool.text("name", 128))}};
    if (auto text = tool.text("description")) function["description"] = *text;
    function["parameters"] =
        tool.needed("input_schema", tool.object("input_schema"));
    out.push_back({{"type", "function"}, {"function", std::move(function)}});
  }
  return out;
}

void read_thinking(
    Body& body,
    Conversation& conversation,
    GenerateParameters& parameters) {
  const auto* thinking = body.object("thinking");
  if (!thinking) return;
  Body inner(*thinking, "thinking");
  auto type = inner.needed(
      "type", inner.choice("type", {"enabled", "disabled", "adaptive"}));
  conversation.kwargs["enable_thinking"] = type != "disabled";
  if (auto budget = inner.integer("budget_tokens", 0, INT32_MAX))
    parameters.reasoning_budget = static_cast<int>(*budget);
}

void read_choice(Body& body, Conversation& conversation) {
  const auto* choice = body.object("tool_choice");
  if (!choice) return;
  Body inner(*choice, "tool_choice");
  auto type = inner.needed(
      "type", inner.choice("type", {"auto", "none", "any", "tool"}));
  if (type == "none") conversation.tools = nullptr;
  if (auto alone = inner.boolean("disable_parallel_tool_use"))
    conversation.several = !*alone;
  if (type != "any" && type != "tool") return;
  if (conversation.tools.is_null())
    bad_request("tool_choice", "tool_choice: expected tools, found none");
  conversation.forced =
      type == "any" ? "" : inner.needed("name", inner.text("name", 128));
}

Conversation read(
    Body& body,
    const ServiceOptions& options,
    GenerateParameters& parameters) {
  Conversation out;
  auto messages = Json::array();
  if (const auto* system = body.any("system"))
    messages.push_back(
        {{"role", "system"}, {"content", text_of(*system, "system")}});
  const auto limit = static_cast<std::size_t>(options.limits.messages);
  const auto& turns = body.needed("messages", body.list("messages", limit));
  if (turns.empty()) wrong_value("messages", "at least one message", turns);
  for (std::size_t i = 0; i < turns.size(); ++i)
    read_turn(turns[i], i, messages);
  out.messages = read_messages(messages, options.limits);
  const auto most = static_cast<std::size_t>(options.limits.tools);
  if (const auto* tools = body.list("tools", most))
    out.tools = read_tools(read_tools_of(*tools), options.limits);
  if (!options.template_kwargs.empty())
    out.kwargs = parse_json(
        options.template_kwargs, "--chat-template-args", ErrorKind::request);
  read_thinking(body, out, parameters);
  read_choice(body, out);
  body.accept({"cache_control", "metadata", "service_tier"});
  return out;
}

// ---- the answer
// --------------------------------------------------------------
std::string event(const char* name, Json data) {
  Json out = {{"type", name}};
  out.update(data);
  return named_event(name, out);
}

class MessageAnswer final : public Answer {
 public:
  MessageAnswer(Context& context, bool stream)
      : Answer(answer_options(context, stream), context.service.statistics()),
        model_(context.engine->facts().model),
        id_(new_id("msg")) {}

 protected:
  std::string open() override {
    auto message = head();
    message["content"] = Json::array();
    message["stop_reason"] = nullptr;
    message["stop_sequence"] = nullptr;
    message["usage"] = {
        {"input_tokens", prompt_tokens()}, {"output_tokens", 0}};
    return event("message_start", {{"message", std::move(message)}});
  }

  std::string frames(
      Choice&,
      const OutputItems& items,
      const std::vector<Token>&) override {
    std::string out;
    for (const auto& item : items) {
      if (auto* content = std::get_if<ContentDelta>(&item)) {
        out += block("text", {{"type", "text"}, {"text", ""}});
        out += delta({{"type", "text_delta"}, {"text", content->text}});
      } else if (auto* reasoning = std::get_if<ReasoningDelta>(&item)) {
        out += block(
            "thinking",
            {{"type", "thinking"}, {"thinking", ""}, {"signature", ""}});
        out +=
            delta({{"type", "thinking_delta"}, {"thinking", reasoning->text}});
      } else if (auto* call = std::get_if<ToolCallDelta>(&item)) {
        out += call_frames(*call);
      }
    }
    return out;
  }

  std::string close(Choice& choice) override {
    auto out = end_block();
    out += event(
        "message_delta",
        {{"delta",
          {{"stop_reason", stop_reason(choice)},
           {"stop_sequence", stop_sequence(choice)}}},
         {"usage", usage_of(choice)}});
    return out + event("message_stop", Json::object());
  }

  std::string done() override {
    return {};
  }
  std::string failure(const ApiError& error) override {
    return named_event("error", error_body(error, Style::anthropic));
  }
  std::string ping(int, int) override {
    return event("ping", Json::object());
  }

  Json whole() override {
    const auto& choice = choices()[0];
    const auto& output = choice.output;
    auto content = Json::array();
    if (!output.reasoning.empty())
      content.push_back(
          {{"type", "thinking"},
           {"thinking", output.reasoning},
           {"signature", ""}});
    if (!output.content.empty())
      content.push_back({{"type", "text"}, {"text", output.content}});
    for (const auto& call : output.calls)
      content.push_back(
          {{"type", "tool_use"},
           {"id", call.id},
           {"name", call.name},
           {"input", arguments_of(call.arguments)}});
    auto out = head();
    out["content"] = std::move(content);
    out["stop_reason"] = stop_reason(choice);
    out["stop_sequence"] = stop_sequence(choice);
    out["usage"] = usage_of(choice);
    return out;
  }

 private:
  Json head() const {
    return {
        {"id", id_},
        {"type", "message"},
        {"role", "assistant"},
        {"model", model_}};
  }

  static Json arguments_of(const std::string& text) {
    auto parsed = Json::parse(text.empty() ? "{}" : text, nullptr, false);
    return parsed.is_object() ? parsed : Json({{"arguments", text}});
  }

  // Blocks follow one another; one of another kind ends the last.
  std::string block(std::string_view kind, Json start) {
    if (kind_ == kind) return {};
    auto out = end_block();
    kind_ = kind;
    return out +
        event("content_block_start",
              {{"index", index_}, {"content_block", std::move(start)}});
  }
  std::string end_block() {
    if (kind_.empty()) return {};
    kind_.clear();
    return event("content_block_stop", {{"index", index_++}});
  }
  std::string delta(Json value) const {
    return event(
        "content_block_delta",
        {{"index", index_}, {"delta", std::move(value)}});
  }

  std::string call_frames(const ToolCallDelta& call) {
    std::string out;
    if (!call.name.empty())
      out += block(
          fmt::format("call {}", call.index),
          {{"type", "tool_use"},
           {"id", call.id},
           {"name", call.name},
           {"input", Json::object()}});
    if (!call.arguments.empty())
      out += delta(
          {{"type", "input_json_delta"}, {"partial_json", call.arguments}});
    if (call.last) out += end_block();
    return out;
  }

  static Json usage_of(const Choice& choice) {
    const auto& info = choice.info;
    return {
        {"input_tokens", info.prompt_tokens},
        {"cache_read_input_tokens", info.cached_prompt_tokens},
        {"cache_creation_input_tokens", 0},
        {"output_tokens", info.generation_tokens}};
  }
  static std::string stop_reason(const Choice& choice) {
    if (choice.calls > 0) return "tool_use";
    if (choice.info.finish_reason == FinishReason::length) return "max_tokens";
    return choice.info.stop_text.empty() ? "end_turn" : "stop_sequence";
  }
  static Json stop_sequence(const Choice& choice) {
    const auto& text = choice.info.stop_text;
    return text.empty() ? Json() : Json(text);
  }

  const std::string model_, id_;
  int index_ = 0; // of the open block, or the next
  std::string kind_; // of the open block
};

} // namespace

ReplyPtr messages(Context& context) {
  Question question(context);
  auto& body = question.body;
  auto parameters = question.sampling();
  auto conversation = read(body, question.options, parameters);
  body.needed("max_tokens", body.any("max_tokens"));
  parameters.stop = read_stop(body, "stop_sequences", question.limits);
  bool stream = body.boolean("stream").value_or(false);

  if (const auto* config = body.object("output_config")) {
    Body inner(*config, "output_config");
    inner.accept({"effort"});
    if (const auto* format = inner.object("format")) {
      Body deeper(*format, "output_config.format");
      parameters.response_format = read_format_object(deeper, question.limits);
    }
  }
  question.close();
  return start_answer(
      question,
      0,
      choices_of(question, conversation, std::move(parameters)),
      std::make_unique<MessageAnswer>(context, stream));
}

ReplyPtr count_tokens(Context& context) {
  Question question(context);
  GenerateParameters none;
  auto conversation = read(question.body, question.options, none);
  question.close();
  auto prompt = encode(conversation, *question.engine);
  return context.json({{"input_tokens", prompt.size()}});
}

} // namespace mlxlm::serve
