// POST /infill: what is missing between two texts, as llama-server has it.
#include <fmt/format.h>

#include <algorithm>

#include "serve/infill.h"
#include "serve/logprobs.h"
#include "serve/routes/shared.h"

namespace mlxlm::serve {
namespace {

class InfillAnswer final : public Answer {
 public:
  InfillAnswer(Context& context, bool stream, bool truncated)
      : Answer(answer_options(context, stream), context.service.statistics()),
        engine_(context.engine),
        truncated_(truncated) {}

 protected:
  std::string frames(
      Choice& choice,
      const OutputItems& items,
      const std::vector<Token>& tokens) override {
    auto text = joined_content(items);
    if (text.empty() && tokens.empty()) return {};
    auto out = piece(choice, text, false);
    add_probabilities(out, tokens);
    return data_event(out);
  }

  std::string close(Choice& choice) override {
    return data_event(end(choice, ""));
  }
  std::string done() override {
    return {};
  }

  Json whole() override {
    const auto& choice = choices()[0];
    auto out = end(choice, choice.output.content);
    add_probabilities(out, choice.tokens);
    return out;
  }

 private:
  Json piece(const Choice& choice, std::string text, bool last) const {
    return {
        {"index", choice.index},
        {"content", std::move(text)},
        {"stop", last},
        {"id_slot", 0},
        {"tokens_predicted",
         last ? choice.info.generation_tokens : choice.streamed},
        {"tokens_evaluated", choice.prompt_tokens}};
  }

  Json end(const Choice& choice, std::string text) const {
    const auto& info = choice.info;
    auto out = piece(choice, std::move(text), true);
    out["model"] = engine_->facts().model;
    out["truncated"] = truncated_;
    out["stop_type"] = !info.stop_text.empty()       ? "word"
        : info.finish_reason == FinishReason::length ? "limit"
                                                     : "eos";
    out["stopping_word"] = info.stop_text;
    out["tokens_cached"] = info.cached_prompt_tokens;
    out["timings"] = timings(info);
    return out;
  }

  void add_probabilities(Json& out, const AnswerTokens& tokens) const {
    if (!tokens.empty())
      out["completion_probabilities"] =
          native_logprobs(engine_->codec(), tokens);
  }

  const EnginePtr engine_;
  const bool truncated_;
};

std::vector<InfillFile> read_files(Body& body, const Limits& limits) {
  std::vector<InfillFile> out;
  const auto* list =
      body.list("input_extra", static_cast<std::size_t>(limits.messages));
  if (!list) return out;
  for (const auto& entry : *list) {
    Body file(entry, fmt::format("input_extra[{}]", out.size()));
    InfillFile one;
    one.name = file.text("filename", 4096).value_or("tmp");
    one.text = file.needed("text", file.text("text"));
    out.push_back(std::move(one));
  }
  return out;
}

InfillText read_gap(Body& body, const Limits& limits) {
  InfillText out;
  out.before = body.needed("input_prefix", body.text("input_prefix"));
  out.after = body.needed("input_suffix", body.text("input_suffix"));
  out.begun = body.text("prompt").value_or("");
  out.files = read_files(body, limits);
  return out;
}

} // namespace

ReplyPtr infill(Context& context) {
  Question question(context);
  auto& body = question.body;
  const auto& engine = *question.engine;
  bool stream = body.boolean("stream").value_or(false);
  auto parameters = question.sampling();
  if (auto most = body.integer("n_predict", -1, INT32_MAX); most && *most >= 0)
    parameters.max_tokens = static_cast<int>(*most);
  auto top = body.integer("n_probs", 0, question.limits.top_logprobs);
  parameters.sampling.top_logprobs = static_cast<int>(top.value_or(0));
  parameters.logprobs = parameters.sampling.top_logprobs > 0;
  auto text = read_gap(body, question.limits);
  body.accept({"id_slot", "t_max_predict_ms", "t_max_prompt_ms"});
  int priority = read_priority(body);
  accept_remarks(body);
  question.close();

  // Room for an answer stays.
  int context_length = engine.facts().context_length;
  int answer =
      std::min(parameters.max_tokens.value_or(256), context_length / 4);
  auto room = static_cast<std::size_t>(context_length - answer - 1);
  auto prompt = infill_prompt(
      text, engine.codec(), engine.facts().named_tokens, room, "model");
  std::vector<Answer::Choice> choices;
  choices.emplace_back().job = {std::move(prompt.ids), std::move(parameters)};
  return start_answer(
      question,
      priority,
      std::move(choices),
      std::make_unique<InfillAnswer>(context, stream, prompt.truncated));
}

} // namespace mlxlm::serve
