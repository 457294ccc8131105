#include "serve/routes/shared.h"

#include <fmt/format.h>

#include "core/strings.h"

namespace mlxlm::serve {
namespace {

EnginePtr engine_for(Context& context, const Json& json, Body& body) {
  context.request.wants_stream = json.value("stream", Json()) == Json(true);
  ModelWish wish;
  auto model = body.text("model");
  if (style_of(context.request.path) == Style::ollama && !model)
    model = body.text("name");
  if (model && model->empty()) wrong_value("model", "a name", Json(*model));
  wish.model = model.value_or("");
  wish.adapter = body.text("adapters", 4096).value_or("");
  if (const auto* value = body.any("keep_alive")) {
    wish.keep_alive = parse_keep_alive(*value);
    if (!wish.keep_alive)
      wrong_value("keep_alive", "seconds or a time as \"5m\"", *value);
  }
  context.use(wish);
  return context.engine;
}

// mlx-lm's: the one that is loaded, or none.
void read_draft_model(
    Body& body,
    const Engine& engine,
    GenerateParameters& parameters) {
  auto name = body.text("draft_model", 4096);
  if (!name) return;
  const auto& draft = engine.facts().draft;
  if (draft.empty() || (*name != draft && *name != "default_model"))
    throw ApiError{
        404,
        draft.empty()
            ? "There is no draft model (--draft-model)."
            : fmt::format(
                  "The draft model \"{}\" is not served; this is \"{}\".",
                  printable(*name),
                  draft),
        "draft_model",
        "model_not_found"};
  parameters.draft.kind = DraftKind::model;
}

} // namespace

Question::Question(Context& asked)
    : context(asked),
      options(asked.service.options()),
      limits(options.limits),
      json(parse_body(
          asked.request.body,
          static_cast<std::size_t>(limits.json_depth))),
      body(json),
      engine(engine_for(asked, json, body)),
      cache_salt(asked.request.salt) {
  if (auto salt = body.text("cache_salt", 512)) {
    if (salt->empty()) wrong_value("cache_salt", "1 to 512 bytes", Json(*salt));
    cache_salt += "\n" + *salt; // a key's has no ends of lines
  }
  share_prefix = body.boolean("cache_prompt").value_or(true);
}

GenerateParameters Question::sampling(int least_tokens) {
  auto out = read_sampling(body, options.defaults, limits, least_tokens);
  const auto* limit = body.any("max_tokens");
  const auto* later = body.any("max_completion_tokens");
  if (limit && later && *limit != *later)
    context.headers.emplace_back("x-ignored-fields", "max_tokens");
  read_draft_model(body, *engine, out);
  return out;
}

void Question::close() {
  context.unknown(body.unknown());
  context.report_unknown();
}

Answer::Choice choice_of(
    const Question& question,
    const Conversation& conversation,
    std::vector<int> prompt,
    GenerateParameters parameters) {
  Answer::Choice out;
  out.parser = parser_for(conversation, prompt, *question.engine);
  out.job = {std::move(prompt), std::move(parameters)};
  return out;
}

std::vector<Answer::Choice> choices_of(
    const Question& question,
    const Conversation& conversation,
    GenerateParameters parameters,
    int n) {
  force_call(conversation, *question.engine, parameters);
  auto prompt = encode(conversation, *question.engine);
  std::vector<Answer::Choice> out;
  for (int i = 0; i < n; ++i)
    out.push_back(
        choice_of(question, conversation, prompt, nth(parameters, i)));
  return out;
}

ReplyPtr start_answer(
    Question& question,
    int priority,
    std::vector<Answer::Choice> choices,
    std::unique_ptr<Answer> answer) {
  auto& context = question.context;
  auto& service = context.service;
  auto places =
      service.admit(context, static_cast<int>(choices.size()), priority);
  for (std::size_t i = 0; i < choices.size(); ++i) {
    choices[i].index = static_cast<int>(i);
    auto job = std::move(choices[i].job);
    job.parameters.cache_salt = question.cache_salt;
    job.parameters.share_prefix = question.share_prefix;
    service.start(
        context,
        *answer,
        std::move(choices[i]),
        std::move(places[i]),
        std::move(job));
  }
  return answer;
}

std::vector<ModelState> states_or_none(Context& context) {
  try {
    return context.service.models()->states();
  } catch (const ApiError&) {
    return {};
  }
}

std::string full_name(const ModelState& state) {
  const auto& name = state.facts.model;
  return state.adapter.empty() ? name : name + "+" + state.adapter;
}

AnswerOptions answer_options(Context& context, bool stream) {
  const auto& limits = context.service.limits();
  AnswerOptions out;
  out.stream = stream;
  out.style = style_of(context.request.path);
  out.ping_seconds = static_cast<int>(limits.ping_seconds);
  out.deadline_seconds = static_cast<int>(limits.request_seconds);
  if (const auto& log = context.service.options().log)
    out.log = [log, id = context.request.id](const std::string& what) {
      log(fmt::format("request {}: {}", id, what));
    };
  return out;
}

std::string joined_content(const OutputItems& items) {
  std::string text;
  for (const auto& item : items)
    if (auto* content = std::get_if<ContentDelta>(&item)) text += content->text;
  return text;
}

std::string new_id(std::string_view prefix) {
  return fmt::format("{}-{}", prefix, random_id());
}

std::string json_text(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string data_event(const Json& value) {
  return "data: " + json_text(value) + "\n\n";
}

std::string named_event(std::string_view name, const Json& value) {
  return fmt::format("event: {}\ndata: {}\n\n", name, json_text(value));
}

Json finish_word(const Answer::Choice& choice) {
  if (!choice.ended) return nullptr;
  if (choice.calls > 0) return "tool_calls";
  return choice.info.finish_reason == FinishReason::length ? "length" : "stop";
}

Json usage(int prompt, int cached, int generated, int reasoning) {
  return {
      {"prompt_tokens", prompt},
      {"completion_tokens", generated},
      {"total_tokens", prompt + generated},
      {"prompt_tokens_details", {{"cached_tokens", cached}}},
      {"completion_tokens_details", {{"reasoning_tokens", reasoning}}}};
}

GenerateParameters nth(GenerateParameters parameters, int n) {
  if (parameters.seed) *parameters.seed += static_cast<std::uint64_t>(n);
  return parameters;
}

int read_priority(Body& body) {
  return static_cast<int>(body.integer("priority", -1000, 1000).value_or(0));
}

StreamWishes read_stream(Body& body) {
  StreamWishes out;
  out.stream = body.boolean("stream").value_or(false);
  if (const auto* options = body.object("stream_options")) {
    if (!out.stream)
      bad_request(
          "stream_options", "stream_options: expected only with stream true");
    Body inner(*options, "stream_options");
    out.usage = inner.boolean("include_usage").value_or(false);
    inner.boolean("include_obfuscation");
  }
  return out;
}

void accept_remarks(Body& body) {
  body.accept(
      {"user",
       "metadata",
       "store",
       "service_tier",
       "verbosity",
       "safety_identifier",
       "prompt_cache_key",
       "prompt_cache_options",
       "prompt_cache_retention",
       "prediction",
       "moderation",
       "return_progress",
       "timings_per_token"});
  body.refuse("role_mapping", "expected the model's own chat template");
}

} // namespace mlxlm::serve
