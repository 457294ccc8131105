// /api/…: as Ollama's clients speak, one line of JSON for each piece.
#include <fmt/format.h>

#include <chrono>
#include <ctime>

#include "core/strings.h"
#include "serve/routes/shared.h"

namespace mlxlm::serve {
namespace {

std::string iso_time(std::int64_t seconds) {
  std::time_t time = seconds;
  std::tm tm{};
  ::gmtime_r(&time, &tm);
  char out[32];
  std::strftime(out, sizeof out, "%Y-%m-%dT%H:%M:%SZ", &tm);
  return out;
}

std::int64_t nanoseconds(double seconds) {
  return static_cast<std::int64_t>(seconds * 1e9);
}

enum class Kind { chat, generate };

AnswerOptions lines(Context& context, bool stream) {
  auto out = answer_options(context, stream);
  out.media_type = "application/x-ndjson";
  return out;
}

class OllamaAnswer final : public Answer {
 public:
  OllamaAnswer(Context& context, Kind kind, std::string model, bool stream)
      : Answer(lines(context, stream), context.service.statistics()),
        kind_(kind),
        model_(std::move(model)) {}

 protected:
  std::string frames(
      Choice&,
      const OutputItems& items,
      const std::vector<Token>&) override {
    std::string out;
    for (const auto& item : items) {
      if (auto* content = std::get_if<ContentDelta>(&item))
        out += line(piece(content->text, {}));
      else if (auto* reasoning = std::get_if<ReasoningDelta>(&item))
        out += line(piece({}, reasoning->text));
      else if (auto* call = std::get_if<ToolCallDelta>(&item))
        out += whole_call(*call);
    }
    return out;
  }

  std::string close(Choice& choice) override {
    auto out = piece({}, {});
    finish(out, choice);
    return line(out);
  }
  std::string done() override {
    return {};
  }
  std::string failure(const ApiError& error) override {
    return line(error_body(error, Style::ollama));
  }
  std::string ping(int, int) override {
    return {}; // a line that says nothing would be no JSON
  }

  Json whole() override {
    const auto& choice = choices()[0];
    auto out = piece(choice.output.content, choice.output.reasoning);
    if (kind_ == Kind::chat && !choice.output.calls.empty()) {
      auto calls = Json::array();
      for (const auto& call : choice.output.calls)
        calls.push_back(call_json(call));
      out["message"]["tool_calls"] = std::move(calls);
    }
    finish(out, choice);
    return out;
  }

 private:
  static std::string line(const Json& value) {
    return json_text(value) + "\n";
  }

  Json piece(const std::string& content, const std::string& thinking) const {
    Json out = {{"model", model_}, {"created_at", iso_time(unix_time())}};
    if (kind_ == Kind::generate) {
      out["response"] = content;
      if (!thinking.empty()) out["thinking"] = thinking;
    } else {
      out["message"] = {{"role", "assistant"}, {"content", content}};
      if (!thinking.empty()) out["message"]["thinking"] = thinking;
    }
    out["done"] = false;
    return out;
  }

  static Json call_json(const OutputCall& call) {
    auto arguments = Json::parse(
        call.arguments.empty() ? "{}" : call.arguments, nullptr, false);
    if (arguments.is_discarded()) arguments = call.arguments;
    return {
        {"id", call.id},
        {"function",
         {{"name", call.name}, {"arguments", std::move(arguments)}}}};
  }

  // Here calls come in one piece.
  std::string whole_call(const ToolCallDelta& delta) {
    if (!delta.name.empty()) call_ = {delta.id, delta.name, ""};
    call_.arguments += delta.arguments;
    if (!delta.last || delta.broken || kind_ != Kind::chat) return {};
    auto out = piece({}, {});
    out["message"]["tool_calls"] = Json::array({call_json(call_)});
    return line(out);
  }

  static void finish(Json& out, const Choice& choice) {
    const auto& info = choice.info;
    out["done"] = true;
    out["done_reason"] =
        info.finish_reason == FinishReason::length ? "length" : "stop";
    out["total_duration"] =
        nanoseconds(info.queue_time + info.prompt_time + info.generate_time);
    out["load_duration"] = nanoseconds(info.queue_time);
    out["prompt_eval_count"] = info.total_prompt_tokens();
    out["prompt_eval_duration"] = nanoseconds(info.prompt_time);
    out["eval_count"] = info.generation_tokens;
    out["eval_duration"] = nanoseconds(info.generate_time);
  }

  const Kind kind_;
  const std::string model_;
  OutputCall call_; // that comes
};

// Ollama's defaults, and its names for what OpenAI calls otherwise.
GenerateParameters read_options(Context& context, Body& request) {
  const auto& limits = context.service.limits();
  GenerateParameters defaults;
  defaults.sampling.temperature = 0.8;
  defaults.sampling.top_k = 40;
  defaults.sampling.top_p = 0.9f;
  defaults.draft = context.service.options().defaults.draft;
  static const Json none = Json::object();
  const auto* given = request.object("options");
  Body body(given ? *given : none, "options");
  auto out = read_sampling(body, defaults, limits);
  if (auto n = body.integer("num_predict", -2, INT32_MAX); n && *n >= 0)
    out.max_tokens = static_cast<int>(*n);
  context.unknown(body.unknown());
  return out;
}

void read_thinking(Body& body, Json& kwargs) {
  const auto* think = body.any("think");
  if (!think) return;
  if (think->is_boolean()) {
    kwargs["enable_thinking"] = *think;
  } else if (think->is_string()) {
    kwargs["enable_thinking"] = true;
    kwargs["reasoning_effort"] = *think;
  } else {
    wrong_value("think", "true, false or a level", *think);
  }
}

std::string read_model(Question& question) {
  auto& body = question.body;
  auto model = body.text("model");
  if (!model) model = body.text("name");
  return body.needed("model", std::move(model));
}

Json nothing_said(Kind kind, const std::string& model, const char* reason) {
  Json out = {
      {"model", model},
      {"created_at", iso_time(unix_time())},
      {"done", true},
      {"done_reason", reason}};
  if (kind == Kind::chat)
    out["message"] = {{"role", "assistant"}, {"content", ""}};
  else
    out["response"] = "";
  return out;
}

// A request without a text and with keep_alive 0 unloads the model; null for
// any other. Such a request is short.
ReplyPtr unload(Context& context, Kind kind) {
  if (context.request.body.size() > 4096) return nullptr;
  auto json = parse_body(
      context.request.body,
      static_cast<std::size_t>(context.service.limits().json_depth));
  Body body(json);
  const auto* keep = body.any("keep_alive");
  auto time = keep ? parse_keep_alive(*keep) : std::nullopt;
  const auto* text = body.any(kind == Kind::chat ? "messages" : "prompt");
  if (!time || !*time || (*time)->count() > 0 ||
      (text && !text->empty() && *text != ""))
    return nullptr;
  auto model = body.needed("model", body.text("model"));
  context.service.models()->unload({model});
  return context.json(nothing_said(kind, model, "unload"));
}

ResponseFormat read_format(Body& body, const Limits& limits) {
  const auto* format = body.any("format");
  if (!format || *format == "") return {};
  if (*format == "json") return {ResponseFormat::Type::json_object, ""};
  return schema_format(*format, "format", limits);
}

// Ollama's arguments of calls are objects, OpenAI's are texts: both will do.
void refuse_images(const Json& messages) {
  if (!messages.is_array()) return;
  for (std::size_t i = 0; i < messages.size(); ++i)
    if (messages[i].is_object() && messages[i].contains("images") &&
        !messages[i]["images"].empty())
      bad_request(
          fmt::format("messages[{}].images", i),
          "This model takes text only.",
          "unsupported_content");
}

Json details(const EngineFacts& facts) {
  auto billions = static_cast<double>(facts.parameters) / 1e9;
  return {
      {"parent_model", ""},
      {"format", facts.format},
      {"family", facts.family},
      {"families", Json::array({facts.family})},
      {"parameter_size",
       billions >= 1 ? fmt::format("{:.1f}B", billions)
                     : fmt::format("{:.0f}M", billions * 1e3)},
      {"quantization_level", facts.quantization}};
}

Json entry(const ModelState& state) {
  const auto& facts = state.facts;
  return {
      {"name", full_name(state)},
      {"model", full_name(state)},
      {"modified_at", iso_time(facts.created)},
      {"size", facts.bytes},
      {"digest", ""},
      {"details", details(facts)}};
}

} // namespace

ReplyPtr ollama_chat(Context& context) {
  if (auto done = unload(context, Kind::chat)) return done;
  Question question(context);
  auto& body = question.body;
  auto model = read_model(question);
  auto parameters = read_options(context, body);
  bool stream = body.boolean("stream").value_or(true);
  const auto* messages = body.any("messages");
  if (!messages || *messages == Json::array()) // asks for it to be loaded
    return context.json(nothing_said(Kind::chat, model, "load"));
  refuse_images(*messages);
  auto conversation = read_conversation(body, question.options);
  read_thinking(body, conversation.kwargs);
  parameters.response_format = read_format(body, question.limits);
  question.close();
  return start_answer(
      question,
      0,
      choices_of(question, conversation, std::move(parameters)),
      std::make_unique<OllamaAnswer>(
          context, Kind::chat, std::move(model), stream));
}

ReplyPtr ollama_generate(Context& context) {
  if (auto done = unload(context, Kind::generate)) return done;
  Question question(context);
  auto& body = question.body;
  const auto& engine = *question.engine;
  auto model = read_model(question);
  auto parameters = read_options(context, body);
  bool stream = body.boolean("stream").value_or(true);
  bool raw = body.boolean("raw").value_or(false);
  auto text = body.text("prompt").value_or("");
  Conversation conversation;
  read_thinking(body, conversation.kwargs);
  auto system = body.text("system");
  parameters.response_format = read_format(body, question.limits);
  for (const char* name : {"images", "suffix", "template", "context"}) {
    const auto* value = body.any(name); // clients send empty ones
    if (value && *value != "" && *value != Json::array())
      body.refuse(name, "not served");
  }
  question.close();
  if (text.empty()) // asks for the model to be loaded, which it is
    return context.json(nothing_said(Kind::generate, model, "load"));
  if (system && !system->empty())
    conversation.messages.push_back({{"role", "system"}, {"content", *system}});
  conversation.messages.push_back({{"role", "user"}, {"content", text}});
  auto prompt =
      raw ? engine.codec().encode(text) : encode(conversation, engine);
  check_room(prompt.size(), engine, "prompt");
  std::vector<Answer::Choice> choices;
  choices.push_back(choice_of(
      question, conversation, std::move(prompt), std::move(parameters)));
  return start_answer(
      question,
      0,
      std::move(choices),
      std::make_unique<OllamaAnswer>(
          context, Kind::generate, std::move(model), stream));
}

ReplyPtr ollama_tags(Context& context) {
  auto models = Json::array();
  for (const auto& state : states_or_none(context))
    models.push_back(entry(state));
  return context.json({{"models", std::move(models)}});
}

ReplyPtr ollama_ps(Context& context) {
  auto models = Json::array();
  for (const auto& state : states_or_none(context)) {
    if (!state.loaded) continue;
    auto one = entry(state);
    one["expires_at"] = state.left
        ? iso_time(unix_time() + state.left->count() / 1000)
        : "9999-12-31T23:59:59Z"; // it stays
    one["size"] = state.bytes;
    one["size_vram"] = 0;
    one["context_length"] = state.facts.context_length;
    models.push_back(std::move(one));
  }
  return context.json({{"models", std::move(models)}});
}

ReplyPtr ollama_show(Context& context) {
  auto json = parse_body(
      context.request.body,
      static_cast<std::size_t>(context.service.limits().json_depth));
  Body body(json);
  auto model = body.text("model");
  if (!model) model = body.text("name");
  body.accept({"name", "verbose"});
  context.unknown(body.unknown());
  context.report_unknown();
  auto state =
      context.service.models()->state({body.needed("model", std::move(model))});
  const auto& facts = state.facts;
  auto can = Json::array({"completion"});
  if (facts.capabilities.tools) can.push_back("tools");
  if (facts.capabilities.reasoning) can.push_back("thinking");
  return context.json(
      {{"modelfile", ""},
       {"parameters", ""},
       {"template", ""},
       {"modified_at", iso_time(facts.created)},
       {"details", details(facts)},
       {"model_info",
        {{"general.architecture", facts.family},
         {"general.parameter_count", facts.parameters},
         {facts.family + ".context_length", facts.context_length}}},
       {"capabilities", std::move(can)}});
}

ReplyPtr ollama_version(Context& context) {
  return context.json({{"version", "0.0.0-mlxlm"}});
}

} // namespace mlxlm::serve
