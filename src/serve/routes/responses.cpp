// /v1/responses: answers as lists of items that may be gone on from.
#include <fmt/format.h>

#include <algorithm>

#include "core/strings.h"
#include "serve/routes/response_store.h"
#include "serve/routes/shared.h"

namespace mlxlm::serve {
namespace {

ResponseStore& store() {
  static ResponseStore kept(std::size_t{64} << 20);
  return kept;
}

// ---- the request ------------------------------------------------------------

Json text_or_parts(Body& item, const char* name) {
  const auto& value = item.needed(name, item.any(name));
  if (!value.is_string() && !value.is_array())
    wrong_value(item.path(name), "a text or a list of parts", value);
  return value;
}

// One item of `input` as one of OpenAI's chat messages.
Json message_of(const Json& item, const std::string& where) {
  Body body(item, where);
  auto type = body.text("type", 64).value_or("message");
  if (type == "message")
    return {
        {"role", body.needed("role", body.text("role", 64))},
        {"content", text_or_parts(body, "content")}};
  if (type == "function_call") {
    Json call = {
        {"id", body.needed("call_id", body.text("call_id", 256))},
        {"type", "function"},
        {"function",
         {{"name", body.needed("name", body.text("name", 256))},
          {"arguments", body.needed("arguments", body.text("arguments"))}}}};
    return {
        {"role", "assistant"},
        {"content", ""},
        {"tool_calls", Json::array({std::move(call)})}};
  }
  if (type == "function_call_output")
    return {
        {"role", "tool"},
        {"tool_call_id", body.needed("call_id", body.text("call_id", 256))},
        {"content", text_or_parts(body, "output")}};
  if (type == "reasoning") return nullptr; // of an earlier turn
  bad_request(
      body.path("type"),
      fmt::format(
          "{}: expected messages and function calls, found {}",
          body.path("type"),
          printable(type)),
      "unsupported_content");
}

void read_input(const Json& input, Json& messages, const Limits& limits) {
  if (input.is_string()) {
    messages.push_back({{"role", "user"}, {"content", input}});
    return;
  }
  if (!input.is_array()) wrong_value("input", "a text or a list", input);
  if (input.size() > static_cast<std::size_t>(limits.messages))
    wrong_value(
        "input", fmt::format("at most {} items", limits.messages), input);
  for (std::size_t i = 0; i < input.size(); ++i) {
    auto message = message_of(input[i], fmt::format("input[{}]", i));
    if (message.is_null()) continue;
    // Calls made together are one message.
    if (message.contains("tool_calls") && !messages.empty() &&
        messages.back().contains("tool_calls"))
      messages.back()["tool_calls"].push_back(message["tool_calls"][0]);
    else
      messages.push_back(std::move(message));
  }
}

Json tools_of(const Json& tools) {
  auto out = Json::array();
  for (std::size_t i = 0; i < tools.size(); ++i) {
    Body tool(tools[i], fmt::format("tools[{}]", i));
    auto type = tool.needed("type", tool.text("type", 64));
    if (type != "function")
      bad_request(
          tool.path("type"),
          fmt::format(
              "{}: expected function, found {}",
              tool.path("type"),
              printable(type)),
          "unsupported");
    // Said here, where their names are the client's.
    tool.needed("name", tool.text("name", 128));
    tool.text("description");
    tool.object("parameters");
    auto function = tools[i];
    function.erase("type");
    out.push_back({{"type", "function"}, {"function", std::move(function)}});
  }
  return out;
}

ResponseFormat read_text(Body& body, const Limits& limits) {
  const auto* text = body.object("text");
  if (!text) return {};
  Body inner(*text, "text");
  inner.accept({"verbosity"});
  const auto* format = inner.object("format");
  if (!format) return {};
  Body deeper(*format, "text.format");
  return read_format_object(deeper, limits);
}

struct ResponseWishes {
  bool stream = false, keep = true;
  Json messages = Json::array(); // without the instructions
  Json echo = Json::object(); // what the response repeats of the request
};

Conversation read(Context& context, Body& body, ResponseWishes& wishes) {
  const auto& options = context.service.options();
  if (auto previous = body.text("previous_response_id", 256)) {
    auto entry = store().get(*previous, context.request.client);
    if (!entry)
      throw ApiError{
          404,
          fmt::format("There is no response {}.", printable(*previous)),
          "previous_response_id",
          "previous_response_not_found"};
    wishes.messages = entry->conversation;
    wishes.echo["previous_response_id"] = *previous;
  }
  read_input(
      body.needed("input", body.any("input")), wishes.messages, options.limits);

  auto chat = Json::object();
  chat["messages"] = Json::array();
  if (auto text = body.text("instructions")) {
    chat["messages"].push_back({{"role", "system"}, {"content", *text}});
    wishes.echo["instructions"] = *text;
  }
  for (const auto& message : wishes.messages)
    chat["messages"].push_back(message);
  const auto most = static_cast<std::size_t>(options.limits.tools);
  if (const auto* tools = body.list("tools", most)) {
    chat["tools"] = tools_of(*tools);
    wishes.echo["tools"] = *tools;
  }
  if (const auto* choice = body.any("tool_choice")) {
    chat["tool_choice"] = *choice;
    if (choice->is_object() && choice->contains("name"))
      chat["tool_choice"]["function"] = {{"name", (*choice)["name"]}};
  }
  if (const auto* reasoning = body.object("reasoning")) {
    Body inner(*reasoning, "reasoning");
    if (auto effort = inner.text("effort", 32))
      chat["reasoning_effort"] = *effort;
    inner.accept({"summary", "generate_summary"});
    context.unknown(inner.unknown());
  }
  if (const auto* parallel = body.any("parallel_tool_calls"))
    chat["parallel_tool_calls"] = *parallel;
  if (const auto* kwargs = body.object("chat_template_kwargs"))
    chat["chat_template_kwargs"] = *kwargs;
  Body as_chat(chat);
  return read_conversation(as_chat, options);
}

// ---- the answer
// ---------------------------------------------------------------
class ResponseAnswer final : public Answer {
 public:
  ResponseAnswer(Context& context, ResponseWishes wishes)
      : Answer(
            answer_options(context, wishes.stream),
            context.service.statistics()),
        wishes_(std::move(wishes)),
        client_(context.request.client),
        model_(context.engine->facts().model),
        id_(new_id("resp")),
        created_(unix_time()) {}

 protected:
  std::string open() override {
    auto out =
        event("response.created", {{"response", response("in_progress")}});
    return out +
        event("response.in_progress", {{"response", response("in_progress")}});
  }

  std::string frames(
      Choice&,
      const OutputItems& items,
      const std::vector<Token>&) override {
    std::string out;
    for (const auto& item : items) {
      if (auto* content = std::get_if<ContentDelta>(&item))
        out += text("message", content->text);
      else if (auto* reasoning = std::get_if<ReasoningDelta>(&item))
        out += text("reasoning", reasoning->text);
      else if (auto* call = std::get_if<ToolCallDelta>(&item))
        out += call_frames(*call);
    }
    return out;
  }

  std::string close(Choice& choice) override {
    auto out = end_item();
    bool cut = choice.info.finish_reason == FinishReason::length;
    auto whole = finished(choice);
    return out +
        event(cut ? "response.incomplete" : "response.completed",
              {{"response", std::move(whole)}});
  }
  std::string done() override {
    return {};
  }
  std::string failure(const ApiError& error) override {
    auto failed = response("failed");
    failed["error"] = {
        {"code", error.code.empty() ? "server_error" : error.code},
        {"message", error.message}};
    return event("response.failed", {{"response", std::move(failed)}});
  }

  Json whole() override {
    const auto& choice = choices()[0];
    if (!choice.output.reasoning.empty()) {
      text("reasoning", choice.output.reasoning);
      end_item();
    }
    if (!choice.output.content.empty() || choice.output.calls.empty())
      text("message", choice.output.content);
    end_item();
    for (const auto& call : choice.output.calls)
      call_frames({0, call.id, call.name, call.arguments, true, false});
    return finished(choice);
  }

 private:
  std::string event(const char* type, Json fields) {
    Json value = {{"type", type}, {"sequence_number", sequence_++}};
    value.update(fields);
    return named_event(type, value);
  }

  Json response(const char* status) const {
    Json out = {
        {"id", id_},
        {"object", "response"},
        {"created_at", created_},
        {"status", status},
        {"model", model_},
        {"output", output_},
        {"error", nullptr},
        {"incomplete_details", nullptr},
        {"instructions", nullptr},
        {"previous_response_id", nullptr},
        {"metadata", Json::object()},
        {"parallel_tool_calls", true},
        {"tool_choice", "auto"},
        {"tools", Json::array()},
        {"text", {{"format", {{"type", "text"}}}}},
        {"usage", nullptr},
        {"store", wishes_.keep}};
    out.update(wishes_.echo);
    return out;
  }

  Json finished(const Choice& choice) {
    const auto& info = choice.info;
    bool cut = info.finish_reason == FinishReason::length;
    auto out = response(cut ? "incomplete" : "completed");
    if (cut) out["incomplete_details"] = {{"reason", "max_output_tokens"}};
    int prompt = info.total_prompt_tokens();
    out["usage"] = {
        {"input_tokens", prompt},
        {"input_tokens_details",
         {{"cached_tokens", info.cached_prompt_tokens}}},
        {"output_tokens", info.generation_tokens},
        {"output_tokens_details", {{"reasoning_tokens", choice.reasoning}}},
        {"total_tokens", prompt + info.generation_tokens}};
    if (wishes_.keep) {
      auto conversation = wishes_.messages;
      conversation.push_back(said_);
      store().put(id_, {client_, out, std::move(conversation)});
    }
    return out;
  }

  // Items follow one another; one of another kind ends the last.
  std::string text(const char* kind, const std::string& piece) {
    bool reasoning = kind == std::string_view("reasoning");
    auto part = [&](const std::string& all) {
      Json out = {
          {"type", reasoning ? "reasoning_text" : "output_text"},
          {"text", all}};
      if (!reasoning) out["annotations"] = Json::array();
      return out;
    };
    std::string out;
    if (kind_ != kind) {
      out = end_item();
      kind_ = kind;
      item_ = {
          {"id", new_id(reasoning ? "rs" : "msg")},
          {"type", kind},
          {"status", "in_progress"},
          {"content", Json::array()}};
      if (reasoning)
        item_["summary"] = Json::array();
      else
        item_["role"] = "assistant";
      out += event(
          "response.output_item.added",
          {{"output_index", output_.size()}, {"item", item_}});
      out += event("response.content_part.added", place({{"part", part("")}}));
      text_.clear();
    }
    text_ += piece;
    return out +
        event(reasoning ? "response.reasoning_text.delta"
                        : "response.output_text.delta",
              place({{"delta", piece}, {"logprobs", Json::array()}}));
  }

  Json place(Json fields) const {
    fields["item_id"] = item_["id"];
    fields["output_index"] = output_.size();
    fields["content_index"] = 0;
    return fields;
  }

  std::string end_item() {
    if (kind_.empty()) return {};
    bool reasoning = kind_ == "reasoning";
    kind_.clear();
    Json part = {
        {"type", reasoning ? "reasoning_text" : "output_text"},
        {"text", text_}};
    if (!reasoning) part["annotations"] = Json::array();
    auto out = event(
        reasoning ? "response.reasoning_text.done"
                  : "response.output_text.done",
        place({{"text", text_}, {"logprobs", Json::array()}}));
    out += event("response.content_part.done", place({{"part", part}}));
    item_["content"].push_back(std::move(part));
    said_[reasoning ? "reasoning_content" : "content"] = text_;
    return out + put_item();
  }

  std::string put_item() {
    item_["status"] = "completed";
    auto out = event(
        "response.output_item.done",
        {{"output_index", output_.size()}, {"item", item_}});
    output_.push_back(std::move(item_));
    item_ = nullptr;
    return out;
  }

  std::string call_frames(const ToolCallDelta& call) {
    std::string out;
    auto where = [&](Json fields) {
      fields["item_id"] = item_["id"];
      fields["output_index"] = output_.size();
      return fields;
    };
    if (!call.name.empty()) {
      out += end_item();
      item_ = {
          {"id", new_id("fc")},
          {"type", "function_call"},
          {"status", "in_progress"},
          {"call_id", call.id},
          {"name", call.name},
          {"arguments", ""}};
      text_.clear();
      out += event(
          "response.output_item.added",
          {{"output_index", output_.size()}, {"item", item_}});
    }
    text_ += call.arguments;
    if (!call.arguments.empty())
      out += event(
          "response.function_call_arguments.delta",
          where({{"delta", call.arguments}}));
    if (!call.last) return out;
    item_["arguments"] = text_;
    out += event(
        "response.function_call_arguments.done",
        where({{"arguments", text_}, {"name", item_["name"]}}));
    if (!call.broken)
      said_["tool_calls"].push_back(
          {{"id", item_["call_id"]},
           {"type", "function"},
           {"function", {{"name", item_["name"]}, {"arguments", text_}}}});
    return out + put_item();
  }

  const ResponseWishes wishes_;
  const std::string client_, model_, id_;
  const std::int64_t created_;
  int sequence_ = 0;
  Json output_ = Json::array(); // items that are complete
  Json item_; // the open one
  std::string kind_, text_; // of it
  Json said_ = {{"role", "assistant"}, {"content", ""}};
};

Json found(Context& context) {
  auto entry = store().get(context.tail, context.request.client);
  if (!entry)
    throw ApiError{
        404,
        fmt::format("There is no response {}.", printable(context.tail)),
        "response_id",
        "not_found"};
  return entry->response;
}

} // namespace

ReplyPtr responses(Context& context) {
  Question question(context);
  auto& body = question.body;
  ResponseWishes wishes;
  wishes.stream = body.boolean("stream").value_or(false);
  wishes.keep = body.boolean("store").value_or(true);
  auto parameters = question.sampling();
  if (auto most = body.integer("max_output_tokens", 1, std::int64_t{1} << 40))
    parameters.max_tokens =
        static_cast<int>(std::min<std::int64_t>(*most, INT32_MAX));
  parameters.response_format = read_text(body, question.limits);
  if (const auto* metadata = body.object("metadata"))
    wishes.echo["metadata"] = *metadata;
  body.refuse("background", "not served");
  body.refuse("prompt", "prompts are not kept here");
  body.refuse("conversation", "use previous_response_id");
  body.accept(
      {"include",
       "truncation",
       "stream_options",
       "top_logprobs",
       "max_tool_calls"});
  int priority = read_priority(body);
  accept_remarks(body);
  auto conversation = read(context, body, wishes);
  question.close();

  return start_answer(
      question,
      priority,
      choices_of(question, conversation, std::move(parameters)),
      std::make_unique<ResponseAnswer>(context, std::move(wishes)));
}

ReplyPtr show_response(Context& context) {
  return context.json(found(context));
}

ReplyPtr delete_response(Context& context) {
  found(context);
  store().remove(context.tail, context.request.client);
  return context.json(
      {{"id", context.tail}, {"object", "response"}, {"deleted", true}});
}

} // namespace mlxlm::serve
