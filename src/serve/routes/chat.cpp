// POST /v1/chat/completions
#include <fmt/format.h>

#include "core/strings.h"
#include "serve/logprobs.h"
#include "serve/routes/shared.h"

namespace mlxlm::serve {
namespace {

struct ChatWishes {
  StreamWishes stream;
  bool logprobs = false;
  int top = 0; // of them beside each token's
};

class ChatAnswer final : public Answer {
 public:
  ChatAnswer(Context& context, ChatWishes wishes)
      : Answer(
            answer_options(context, wishes.stream.stream),
            context.service.statistics()),
        wishes_(wishes),
        field_(context.service.options().reasoning_field),
        engine_(context.engine),
        id_(new_id("chatcmpl")),
        created_(unix_time()) {}

 protected:
  std::string open() override {
    std::string out;
    for (const auto& choice : choices())
      out += frame(
          choice.index, {{"role", "assistant"}, {"content", ""}}, nullptr, {});
    return out;
  }

  std::string frames(
      Choice& choice,
      const OutputItems& items,
      const std::vector<Token>& tokens) override {
    std::string out;
    auto logprobs = logprobs_of(tokens);
    for (const auto& item : items) {
      auto delta = delta_of(item);
      if (delta.is_null()) continue;
      out += frame(choice.index, delta, nullptr, logprobs);
      logprobs = {};
    }
    // Tokens whose text is still held back.
    if (!logprobs.is_null())
      out += frame(choice.index, {{"content", ""}}, nullptr, logprobs);
    return out;
  }

  std::string close(Choice& choice) override {
    auto value = chunk(choice.index, Json::object(), finish_word(choice), {});
    if (!wishes_.stream.usage || choices().size() == 1)
      value["timings"] = timings(choice.info);
    return data_event(value);
  }

  std::string done() override {
    std::string out;
    if (wishes_.stream.usage) {
      auto value = head();
      value["choices"] = Json::array();
      value["usage"] = usage(
          prompt_tokens(),
          cached_tokens(),
          generated_tokens(),
          reasoning_tokens());
      out = data_event(value);
    }
    return out + "data: [DONE]\n\n";
  }

  Json whole() override {
    auto out = head();
    out["object"] = "chat.completion";
    out["choices"] = Json::array();
    for (const auto& choice : choices())
      out["choices"].push_back(
          {{"index", choice.index},
           {"message", message_of(choice)},
           {"logprobs", logprobs_of(choice.tokens)},
           {"finish_reason", finish_word(choice)}});
    out["usage"] = usage(
        prompt_tokens(),
        cached_tokens(),
        generated_tokens(),
        reasoning_tokens());
    out["timings"] = timings(choices()[0].info);
    return out;
  }

 private:
  Json head() const {
    return {
        {"id", id_},
        {"object", "chat.completion.chunk"},
        {"created", created_},
        {"model", engine_->facts().model},
        {"system_fingerprint", engine_->facts().fingerprint}};
  }

  Json chunk(int index, Json delta, Json finish, Json logprobs) const {
    auto out = head();
    out["choices"] = Json::array();
    out["choices"].push_back(
        {{"index", index},
         {"delta", std::move(delta)},
         {"logprobs", std::move(logprobs)},
         {"finish_reason", std::move(finish)}});
    if (wishes_.stream.usage) out["usage"] = nullptr;
    return out;
  }

  std::string frame(int index, Json delta, Json finish, Json logprobs) const {
    return data_event(
        chunk(index, std::move(delta), std::move(finish), std::move(logprobs)));
  }

  Json delta_of(const OutputItem& item) const {
    if (auto* content = std::get_if<ContentDelta>(&item))
      return {{"content", content->text}};
    if (auto* reasoning = std::get_if<ReasoningDelta>(&item))
      return reasoning_fields(reasoning->text);
    if (auto* call = std::get_if<ToolCallDelta>(&item)) {
      Json function = {{"arguments", call->arguments}};
      Json out = {{"index", call->index}};
      if (!call->name.empty()) {
        out["id"] = call->id;
        out["type"] = "function";
        function = {{"name", call->name}, {"arguments", call->arguments}};
      } else if (call->arguments.empty()) {
        return nullptr;
      }
      out["function"] = std::move(function);
      return {{"tool_calls", Json::array({std::move(out)})}};
    }
    return nullptr;
  }

  Json reasoning_fields(const std::string& text) const {
    auto out = Json::object();
    if (field_ != ReasoningField::plain) out["reasoning_content"] = text;
    if (field_ != ReasoningField::content) out["reasoning"] = text;
    return out;
  }

  Json message_of(const Choice& choice) const {
    const auto& output = choice.output;
    Json out = {{"role", "assistant"}, {"content", output.content}};
    if (!output.reasoning.empty()) out["reasoning_content"] = output.reasoning;
    if (output.calls.empty()) return out;
    if (output.content.empty()) out["content"] = nullptr;
    auto calls = Json::array();
    for (const auto& call : output.calls)
      calls.push_back(
          {{"id", call.id},
           {"type", "function"},
           {"function", {{"name", call.name}, {"arguments", call.arguments}}}});
    out["tool_calls"] = std::move(calls);
    return out;
  }

  Json logprobs_of(const std::vector<Token>& tokens) const {
    if (!wishes_.logprobs || tokens.empty()) return nullptr;
    return chat_logprobs(engine_->codec(), tokens);
  }

  const ChatWishes wishes_;
  const ReasoningField field_;
  const EnginePtr engine_;
  const std::string id_;
  const std::int64_t created_;
};

ChatWishes read_chat_wishes(Body& body, const Limits& limits) {
  ChatWishes out;
  out.stream = read_stream(body);
  out.logprobs = body.boolean("logprobs").value_or(false);
  auto top = body.integer("top_logprobs", 0, limits.top_logprobs);
  out.top = static_cast<int>(top.value_or(0));
  if (out.top > 0 && !out.logprobs)
    bad_request(
        "top_logprobs", "top_logprobs: expected only with logprobs true");
  return out;
}

} // namespace

ReplyPtr chat_completions(Context& context) {
  Question question(context);
  auto& body = question.body;
  const auto& limits = question.limits;
  auto wishes = read_chat_wishes(body, limits);
  auto parameters = question.sampling();
  parameters.logprobs = wishes.logprobs;
  parameters.sampling.top_logprobs = wishes.top;
  int n = static_cast<int>(body.integer("n", 1, limits.choices).value_or(1));
  parameters.response_format = read_response_format(body, limits);
  for (const char* name :
       {"audio", "functions", "function_call", "web_search_options"})
    body.refuse(name, "not served");
  if (const auto* modalities = body.list("modalities", 8))
    if (*modalities != Json::array({"text"}))
      wrong_value("modalities", "[\"text\"]", *modalities);
  int priority = read_priority(body);
  accept_remarks(body);
  auto conversation = read_conversation(body, question.options);
  question.close();

  return start_answer(
      question,
      priority,
      choices_of(question, conversation, std::move(parameters), n),
      std::make_unique<ChatAnswer>(context, wishes));
}

} // namespace mlxlm::serve
