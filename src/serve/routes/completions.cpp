// POST /v1/completions
#include <fmt/format.h>

#include <set>

#include "core/strings.h"
#include "serve/infill.h"
#include "serve/logprobs.h"
#include "serve/routes/shared.h"

namespace mlxlm::serve {
namespace {

struct CompletionWishes {
  StreamWishes stream;
  bool echo = false;
  bool logprobs = false;
  int top = 0; // the most likely tokens beside each
};

class Completion final : public Answer {
 public:
  Completion(Context& context, CompletionWishes wishes)
      : Answer(
            answer_options(context, wishes.stream.stream),
            context.service.statistics()),
        wishes_(wishes),
        engine_(context.engine),
        id_(new_id("cmpl")),
        created_(unix_time()) {}

  // What the choices of one prompt begin with; one entry a choice.
  std::vector<std::string> echoes;
  std::vector<std::vector<int>> prompts;

 protected:
  std::string frames(
      Choice& choice,
      const OutputItems& items,
      const std::vector<Token>& tokens) override {
    auto text = joined_content(items);
    auto out = first_frame(choice);
    if (text.empty() && tokens.empty()) return out;
    auto& offset = offset_of(choice);
    return out +
        data_event(
               chunk(choice.index, text, logprobs_of(tokens, offset), nullptr));
  }

  std::string close(Choice& choice) override {
    auto value = chunk(choice.index, "", {}, finish_word(choice));
    value["timings"] = timings(choice.info);
    return data_event(value);
  }

  std::string done() override {
    std::string out;
    if (wishes_.stream.usage) {
      auto value = head();
      value["choices"] = Json::array();
      value["usage"] = all_usage();
      out = data_event(value);
    }
    return out + "data: [DONE]\n\n";
  }

  Json whole() override {
    auto out = head();
    out["choices"] = Json::array();
    for (const auto& choice : choices()) {
      auto text = echo(choice) + choice.output.content;
      auto offset = static_cast<std::int64_t>(echo(choice).size());
      auto logprobs = logprobs_of(choice.tokens, offset);
      if (auto prompt = echoed(choice); !prompt.is_null())
        logprobs = joined_logprobs(std::move(prompt), logprobs);
      out["choices"].push_back(
          {{"index", choice.index},
           {"text", text},
           {"logprobs", std::move(logprobs)},
           {"finish_reason", finish_word(choice)}});
    }
    out["usage"] = all_usage();
    out["timings"] = timings(choices()[0].info);
    return out;
  }

 private:
  Json head() const {
    return {
        {"id", id_},
        {"object", "text_completion"},
        {"created", created_},
        {"model", engine_->facts().model},
        {"system_fingerprint", engine_->facts().fingerprint}};
  }

  Json chunk(int index, std::string text, Json logprobs, Json finish) const {
    auto out = head();
    out["choices"] = Json::array();
    out["choices"].push_back(
        {{"index", index},
         {"text", std::move(text)},
         {"logprobs", std::move(logprobs)},
         {"finish_reason", std::move(finish)}});
    return out;
  }

  // The prompt, before anything else of the choice.
  std::string first_frame(const Choice& choice) {
    if (!wishes_.echo || !begun_.insert(choice.index).second) return {};
    return data_event(
        chunk(choice.index, echo(choice), echoed(choice), nullptr));
  }

  std::string echo(const Choice& choice) const {
    if (!wishes_.echo) return {};
    return echoes[static_cast<std::size_t>(choice.index)];
  }

  // Of the prompt, which is part of the text.
  Json echoed(const Choice& choice) const {
    if (!wishes_.echo || !wishes_.logprobs) return nullptr;
    std::int64_t offset = 0;
    static const std::vector<std::vector<TokenLogprob>> none;
    return prompt_logprobs(
        engine_->codec(),
        prompts[static_cast<std::size_t>(choice.index)],
        choice.scores ? choice.scores->lists : none,
        offset);
  }

  std::int64_t& offset_of(const Choice& choice) {
    auto index = static_cast<std::size_t>(choice.index);
    while (offsets_.size() <= index)
      offsets_.push_back(
          wishes_.echo
              ? static_cast<std::int64_t>(echoes[offsets_.size()].size())
              : 0);
    return offsets_[index];
  }

  // Each prompt once, whatever the number of answers to it.
  Json all_usage() const {
    int prompts = 0, cached = 0;
    for (const auto& choice : choices()) {
      if (choice.index % per_prompt != 0) continue;
      prompts += choice.prompt_tokens;
      cached += choice.info.cached_prompt_tokens;
    }
    return usage(prompts, cached, generated_tokens());
  }

  Json logprobs_of(const std::vector<Token>& tokens, std::int64_t& offset)
      const {
    if (!wishes_.logprobs || tokens.empty()) return nullptr;
    return completion_logprobs(engine_->codec(), tokens, offset);
  }

  const CompletionWishes wishes_;
  const EnginePtr engine_;
  const std::string id_;
  const std::int64_t created_;
  std::set<int> begun_; // choices whose prompt is out
  std::vector<std::int64_t> offsets_; // of the next token, in bytes

 public:
  int per_prompt = 1; // answers
};

struct Prompt {
  std::vector<int> ids;
  std::string text; // for echo
};

Prompt prompt_of_ids(
    const Json& list,
    const std::string& where,
    const Engine& engine) {
  Prompt out;
  auto vocab = engine.codec().vocab_size();
  for (const auto& id : list) {
    bool good = id.is_number_integer();
    if (good && id.is_number_unsigned())
      good = id.get<std::uint64_t>() < static_cast<std::uint64_t>(vocab);
    else if (good)
      good = id.get<std::int64_t>() >= 0 && id.get<std::int64_t>() < vocab;
    if (!good) wrong_value(where, fmt::format("token ids below {}", vocab), id);
    out.ids.push_back(id.get<int>());
  }
  if (out.ids.empty()) wrong_value(where, "at least one token", list);
  out.text = engine.codec().decode(out.ids);
  return out;
}

Prompt prompt_of_text(
    const Json& text,
    const std::string& where,
    const Engine& engine) {
  if (!text.is_string()) wrong_value(where, "a text or token ids", text);
  Prompt out;
  out.text = text.get<std::string>();
  out.ids = engine.codec().encode(out.text);
  if (out.ids.empty()) wrong_value(where, "a text that is not empty", text);
  return out;
}

std::vector<Prompt> read_prompts(
    const Json& prompt,
    const Engine& engine,
    const Limits& limits) {
  if (!prompt.is_array()) return {prompt_of_text(prompt, "prompt", engine)};
  if (prompt.empty()) wrong_value("prompt", "a prompt", prompt);
  if (prompt[0].is_number()) return {prompt_of_ids(prompt, "prompt", engine)};
  if (prompt.size() > static_cast<std::size_t>(limits.prompts))
    wrong_value(
        "prompt", fmt::format("at most {} prompts", limits.prompts), prompt);
  std::vector<Prompt> out;
  for (const auto& one : prompt) {
    auto where = fmt::format("prompt[{}]", out.size());
    out.push_back(
        one.is_array() ? prompt_of_ids(one, where, engine)
                       : prompt_of_text(one, where, engine));
  }
  return out;
}

CompletionWishes read_completion_wishes(Body& body, const Limits& limits) {
  CompletionWishes out;
  out.stream = read_stream(body);
  out.echo = body.boolean("echo").value_or(false);
  if (const auto* value = body.any("logprobs")) {
    if (value->is_boolean()) { // as mlx-lm has it
      out.logprobs = value->get<bool>();
    } else {
      auto count = body.integer("logprobs", 0, limits.top_logprobs);
      out.logprobs = true;
      out.top = static_cast<int>(count.value_or(0));
    }
  }
  return out;
}

} // namespace

ReplyPtr completions(Context& context) {
  Question question(context);
  auto& body = question.body;
  const auto& limits = question.limits;
  const auto& engine = *question.engine;
  auto wishes = read_completion_wishes(body, limits);
  // An echo alone is an answer.
  auto parameters = question.sampling(wishes.echo ? 0 : 1);
  parameters.logprobs = wishes.logprobs;
  parameters.sampling.top_logprobs = wishes.top;
  parameters.response_format = read_response_format(body, limits);
  int n = static_cast<int>(body.integer("n", 1, limits.choices).value_or(1));
  auto best = body.integer("best_of", 1, limits.choices);
  if (best && *best != n)
    bad_request("best_of", "best_of: expected the same as n", "unsupported");
  int priority = read_priority(body);
  accept_remarks(body);
  auto suffix = body.text("suffix");
  const auto& given = body.needed("prompt", body.any("prompt"));
  question.close();
  std::vector<Prompt> prompts;
  if (suffix && given.is_string()) {
    // What does not fit is refused below, as any prompt.
    auto text = given.get<std::string>();
    auto gap = infill_prompt(
        {.before = text, .after = *suffix},
        engine.codec(),
        engine.facts().named_tokens,
        SIZE_MAX,
        "suffix");
    prompts.push_back({std::move(gap.ids), std::move(text)});
  } else if (suffix) {
    wrong_value("prompt", "a text beside suffix", given);
  } else {
    prompts = read_prompts(given, engine, limits);
  }
  for (const auto& prompt : prompts)
    check_room(prompt.ids.size(), engine, "prompt");

  auto answer = std::make_unique<Completion>(context, wishes);
  answer->per_prompt = n;
  std::vector<Answer::Choice> choices;
  for (const auto& prompt : prompts)
    for (int i = 0; i < n; ++i) {
      answer->echoes.push_back(prompt.text);
      answer->prompts.push_back(prompt.ids);
      auto& choice = choices.emplace_back();
      choice.job = {prompt.ids, nth(parameters, i)};
      if (wishes.echo && wishes.logprobs && prompt.ids.size() > 1)
        choice.score_top = wishes.top;
    }
  return start_answer(
      question, priority, std::move(choices), std::move(answer));
}

} // namespace mlxlm::serve
