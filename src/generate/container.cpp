// What a loaded container does: requests out of prompts and parameters, scores,
// figures.
#include "generate/container.h"

#include <mlx/memory.h>

#include <algorithm>
#include <random>

#include "core/check.h"
#include "generate/machine.h"
#include "generate/prompt_cache.h"
#include "generate/score.h"
#include "generate/stream.h"
#include "runtime/memory/results.h"

namespace mlxlm {
namespace {

std::uint64_t entropy() {
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

void check_token(const char* where, int id, int vocab) {
  if (id < 0 || id >= vocab)
    fail(
        ErrorKind::request,
        where,
        "expected token ids below {}, found {}",
        vocab,
        id);
}

} // namespace

Capabilities Container::capabilities() const {
  auto out = codec_->capabilities();
  out.mtp = state_->loaded.model->prediction() != nullptr;
  return out;
}

MemoryFigures Container::memory() {
  MemoryFigures figures;
  engine_->look([&](const Runner& runner) {
    auto pages = runner.pages();
    figures.pages_in_use = pages.in_use;
    figures.pages_kept = pages.kept;
    figures.kv = state_->memory->bytes();
    figures.active = kernels::live_arrays();
    figures.cache = mx::get_cache_memory() + kernels::results().unused();
    figures.peak = mx::get_peak_memory();
  });
  figures.workspace = state_->workspace;
  figures.weights = state_->weight_bytes;
  if (state_->draft) figures.weights += state_->draft->weight_bytes;
  figures.resident = resident_memory();
  figures.peak_resident = peak_resident_memory();
  return figures;
}

void Container::perform(const std::function<void()>& work) {
  engine_->perform(work);
}

void Container::check_prompt(const std::vector<int>& prompt) const {
  if (prompt.empty())
    fail(ErrorKind::request, "prompt", "expected tokens, found none");
  int vocab = state_->loaded.model->vocab();
  for (int id : prompt)
    check_token("prompt", id, vocab);
  if (prompt.size() >= static_cast<std::size_t>(context_))
    fail(
        ErrorKind::request,
        "prompt",
        "expected fewer tokens than the context of {}, found {}",
        context_,
        prompt.size());
}

// What is used: a draft model that there was no room for is done without.
DraftKind Container::draft_kind(const GenerateParameters& parameters) const {
  auto kind = parameters.draft.kind;
  bool model = state_->draft != nullptr;
  bool own = state_->prediction != nullptr;
  if (kind == DraftKind::automatic)
    return model ? DraftKind::model : own ? DraftKind::mtp : DraftKind::none;
  if (kind == DraftKind::mtp && !own)
    fail(
        ErrorKind::request,
        "draft",
        "expected what predicts further tokens to be loaded (mtp), found none");
  if (kind != DraftKind::model || model) return kind;
  if (state_->draft_obstacle.empty())
    fail(
        ErrorKind::request,
        "draft",
        "expected a draft model to be loaded, found none");
  return DraftKind::none;
}

// Tokens of an answer; asked < 0: as far as memory goes, and what does not even
// fit alone is refused later.
int Container::answer_room(int prompt, int asked) const {
  if (asked < 0) {
    int fits =
        state_->footprint.tokens_within(state_->sequence_bytes, context_);
    asked = std::max(1, fits - prompt);
  }
  return std::min(asked, context_ - prompt);
}

Request Container::request(
    std::vector<int> prompt,
    const GenerateParameters& parameters) const {
  check_prompt(prompt);
  validate(parameters);
  int vocab = state_->loaded.model->vocab();
  for (auto [token, bias] : parameters.sampling.logit_bias)
    check_token("logit_bias", token, vocab);

  Request request;
  request.draft = parameters.draft;
  request.draft.kind = draft_kind(parameters);
  int asked = parameters.max_tokens.value_or(-1);
  request.open_ended = asked < 0;
  request.max_tokens = answer_room(static_cast<int>(prompt.size()), asked);
  request.sampling = parameters.sampling;
  if (request.sampling.xtc_special_tokens.empty())
    request.sampling.xtc_special_tokens = xtc_special_;
  request.seed = parameters.seed ? *parameters.seed : entropy();
  request.logprobs = parameters.logprobs;
  request.share_prefix = parameters.share_prefix;
  request.cache_salt = parameters.cache_salt;
  request.constraint =
      constraints_->make(parameters, prompt, request.max_tokens);
  request.forced = parameters.draft.num_tokens.value_or(1) > 0;
  auto stops = std::make_shared<std::set<int>>();
  // What a grammar ends, ends.
  if (!parameters.ignore_eos || request.constraint) {
    *stops = *stop_tokens_;
    stops->insert(
        parameters.extra_eos_tokens.begin(), parameters.extra_eos_tokens.end());
  }
  sampling_tokens_->fill(request.sampling, *stops);
  request.stop_tokens = std::move(stops);
  request.prompt = std::move(prompt);
  return request;
}

std::vector<GenerationPtr> Container::submit(
    std::vector<Request> requests,
    const GenerateParameters& parameters) {
  std::vector<GenerationPtr> generations;
  std::vector<RequestPtr> accepted;
  for (auto& request : requests) {
    // A progress event a prompt token at worst, a token event each, the end.
    auto tokens = request.prompt.size() + request.max_tokens;
    request.channel = std::make_shared<Channel>(tokens + 2);
    generations.push_back(std::make_unique<TextStream>(
        request.channel, codec_->tokenizer(), parameters, engine_));
    if (request.max_tokens == 0) {
      GenerateInfo info{.seed = request.seed};
      info.finish_reason = FinishReason::length;
      request.channel->end(FinishedEvent{std::move(info)});
      continue;
    }
    accepted.push_back(std::make_shared<const Request>(std::move(request)));
  }
  engine_->submit(std::move(accepted));
  return generations;
}

GenerationPtr Container::generate(
    std::vector<int> prompt,
    const GenerateParameters& parameters,
    PromptCachePtr cache) {
  std::vector<Request> requests;
  requests.push_back(request(std::move(prompt), parameters));
  requests[0].cache = sequence_cache(cache);
  return std::move(submit(std::move(requests), parameters)[0]);
}

std::vector<GenerationPtr> Container::generate_several(
    std::vector<int> prompt,
    const GenerateParameters& parameters,
    int count) {
  if (count < 1)
    fail(ErrorKind::request, "count", "expected 1 or more, found {}", count);
  std::vector<Request> requests(
      std::size_t(count), request(std::move(prompt), parameters));
  for (std::size_t i = 1; i < requests.size(); ++i) {
    requests[i].sample = static_cast<std::uint32_t>(i);
    requests[i].follows = true;
  }
  return submit(std::move(requests), parameters);
}

PromptCachePtr Container::make_prompt_cache() {
  return mlxlm::make_prompt_cache(engine_);
}

Score Container::score(
    std::span<const int> ids,
    const std::function<void(int done, int total)>& progress) {
  if (ids.size() < 2)
    fail(
        ErrorKind::request,
        "score",
        "expected at least two tokens, found {}",
        ids.size());
  int vocab = state_->loaded.model->vocab();
  for (int id : ids)
    check_token("score", id, vocab);
  Score score;
  perform([&] {
    score = score_tokens(
        *state_->loaded.model, *state_->memory, ids, context_, progress);
  });
  return score;
}

} // namespace mlxlm
