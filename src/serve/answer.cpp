#include "serve/answer.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/check.h"

namespace mlxlm::serve {

namespace {

// Pieces that came together go out together, unless each is accounted for.
void append(OutputItems& items, OutputItem item, bool joined) {
  auto* more = std::get_if<ContentDelta>(&item);
  auto* last =
      items.empty() ? nullptr : std::get_if<ContentDelta>(&items.back());
  if (joined && more && last)
    last->text += more->text;
  else
    items.push_back(std::move(item));
}

} // namespace

Answer::Answer(AnswerOptions options, Statistics& statistics)
    : options_(std::move(options)), statistics_(statistics) {}

Answer::~Answer() {
  for (auto& choice : choices_) {
    if (!choice.ended) statistics_.abandoned(choice.activity);
    if (choice.scores) choice.scores->cancelled = true;
  }
}

void Answer::add(Choice choice, EnginePtr engine, std::function<void()> wake) {
  engine_ = std::move(engine);
  wake_ = std::move(wake);
  started(choice);
  choices_.push_back(std::move(choice));
}

PromptScoresPtr Engine::score(std::vector<int>, int, std::function<void()>) {
  fail(
      ErrorKind::request,
      "echo",
      "expected a model that scores prompts, found {}",
      facts().model);
}

// What is asked of the prompt is known.
bool Answer::scored(Choice& choice) {
  if (choice.score_top < 0) return true;
  if (!choice.scores)
    choice.scores = engine_->score(choice.job.prompt, choice.score_top, wake_);
  if (!choice.scores->over) return false;
  if (choice.scores->error) std::rethrow_exception(choice.scores->error);
  return true;
}

bool Answer::started(Choice& choice) {
  if (!choice.generation && choice.place->ready() && scored(choice))
    choice.generation = engine_->start(std::move(choice.job), wake_);
  return choice.generation != nullptr;
}

void Answer::stop(std::string_view why) {
  stopped_ = why;
}

std::string Answer::note() const {
  return fmt::format(
      "prompt={} cached={} generated={}",
      prompt_tokens(),
      cached_tokens(),
      generated_tokens());
}

int Answer::prompt_tokens() const {
  // The same prompt for all answers to it counts once.
  return choices_.empty() ? 0 : choices_[0].prompt_tokens;
}

int Answer::cached_tokens() const {
  return choices_.empty() ? 0 : choices_[0].info.cached_prompt_tokens;
}

int Answer::generated_tokens() const {
  int n = 0;
  for (const auto& choice : choices_)
    n += choice.ended ? choice.info.generation_tokens : choice.streamed;
  return n;
}

int Answer::reasoning_tokens() const {
  int n = 0;
  for (const auto& choice : choices_)
    n += choice.reasoning;
  return n;
}

std::string Answer::failure(const ApiError& error) {
  return fmt::format(
      "data: {}\n\ndata: [DONE]\n\n", error_body(error, options_.style).dump());
}

std::string Answer::ping(int processed, int total) {
  return fmt::format(": keepalive {}/{}\n\n", processed, total);
}

void Answer::poll(Outgoing& out) {
  if (ended_) return;
  try {
    if (!stopped_.empty()) throw ApiError{503, stopped_, {}, "stopped", 1};
    std::string body;
    advance(body);
    if (options_.deadline_seconds > 0 && !ended_ &&
        Clock::now() >
            started_ + std::chrono::seconds(options_.deadline_seconds))
      throw ApiError{
          504, "The request took longer than request_seconds.", {}, "timeout"};
    send(out, std::move(body));
  } catch (const ApiError& error) {
    fail(out, error);
  } catch (const Error& error) {
    fail(out, from_error(error));
  } catch (const std::exception& error) {
    fail(out, {500, "The server failed; its log says why."});
  }
}

void Answer::advance(std::string& body) {
  for (auto& choice : choices_) {
    if (choice.ended || !started(choice)) continue;
    take(choice, body);
    if (choice.generation->ended()) finish(choice, body);
  }
  ended_ = std::all_of(choices_.begin(), choices_.end(), [](const Choice& c) {
    return c.ended;
  });
}

void Answer::take(Choice& choice, std::string& body) {
  OutputItems items;
  std::vector<Token> tokens;
  int count = 0;
  while (auto event = choice.generation->poll()) {
    if (auto* progress = std::get_if<PrefillProgress>(&*event)) {
      choice.done = progress->processed;
      progressed_ = progress->processed < progress->total;
      statistics_.progress(
          choice.activity, progress->processed, progress->total);
      continue;
    }
    auto& chunk = std::get<TextChunk>(*event);
    count += static_cast<int>(chunk.tokens.size());
    for (std::size_t i = 0; i < chunk.logprobs.size(); ++i)
      tokens.push_back(
          {chunk.tokens[i],
           chunk.logprobs[i],
           i < chunk.top_logprobs.size() ? std::move(chunk.top_logprobs[i])
                                         : std::vector<TokenLogprob>()});
    if (choice.parser.reasoning())
      choice.reasoning += static_cast<int>(chunk.tokens.size());
    for (auto& item : choice.parser.feed(chunk.text))
      append(items, std::move(item), tokens.empty());
  }
  if (count == 0 && items.empty()) return;
  choice.streamed += count;
  choice.done = choice.prompt_tokens;
  statistics_.token(choice.activity, count);
  if (options_.stream) {
    if (!std::exchange(opened_, true)) body += open();
    body += frames(choice, items, tokens);
    return;
  }
  for (const auto& item : items)
    mlxlm::add(choice.output, item);
  choice.tokens.insert(choice.tokens.end(), tokens.begin(), tokens.end());
}

void Answer::finish(Choice& choice, std::string& body) {
  choice.info = choice.generation->info();
  choice.ended = true;
  choice.place.reset();
  statistics_.end(choice.activity, choice.info);
  const auto& info = choice.info;
  if (info.finish_reason == FinishReason::error) {
    auto error = from_error(Error(info.error_kind, info.error));
    if (info.error_kind == ErrorKind::resource)
      error.code = "insufficient_memory";
    if (options_.log && error.status >= 500) options_.log(info.error);
    throw error;
  }
  if (info.finish_reason == FinishReason::cancelled)
    throw ApiError{503, "The answer was cancelled.", {}, "cancelled", 1};
  auto items = choice.parser.finish(info.finish_reason);
  for (const auto& item : items) {
    if (auto* end = std::get_if<OutputEnd>(&item)) choice.calls = end->calls;
    if (!options_.stream) mlxlm::add(choice.output, item);
  }
  if (options_.stream) {
    if (!std::exchange(opened_, true)) body += open();
    body += frames(choice, items, {});
    body += close(choice);
  }
}

// What is said while there is nothing to say.
std::string Answer::signs_of_life() {
  auto silent = Clock::now() - last_;
  auto longest = std::chrono::seconds(options_.ping_seconds);
  bool due =
      silent >= longest || (progressed_ && silent >= std::chrono::seconds(1));
  if (!options_.stream || !due) return {};
  progressed_ = false;
  int processed = 0, total = 0;
  for (const auto& choice : choices_) {
    processed += choice.done;
    total += choice.prompt_tokens;
  }
  return ping(processed, total);
}

void Answer::send(Outgoing& out, std::string body) {
  if (!options_.stream) {
    if (!ended_) return;
    out.head = Head{200, options_.headers};
    out.head->headers.emplace_back("content-type", "application/json");
    out.body = whole().dump(-1, ' ', false, Json::error_handler_t::replace);
    out.body += '\n';
    out.last = true;
    return;
  }
  if (ended_)
    body += done();
  else if (body.empty())
    body = signs_of_life();
  if (body.empty()) return;
  last_ = Clock::now();
  if (!begun_) {
    begun_ = true;
    out.head = stream_head(options_.media_type, options_.headers);
  }
  out.body = std::move(body);
  out.last = ended_;
}

void Answer::fail(Outgoing& out, const ApiError& error) {
  ended_ = true;
  for (auto& choice : choices_) {
    if (!choice.ended) statistics_.abandoned(choice.activity);
    choice.ended = true;
    choice.generation.reset();
    choice.place.reset();
  }
  out.last = true;
  if (begun_) {
    out.body = failure(error);
    return;
  }
  auto response = error_response(error, options_.style);
  out.head = Head{response.status, std::move(response.headers)};
  for (const auto& header : options_.headers)
    out.head->headers.push_back(header);
  out.body = std::move(response.body);
}

Json timings(const GenerateInfo& info) {
  auto per = [](double a, double b) { return b > 0 ? a / b : 0.0; };
  double prompt_ms = info.prompt_time * 1e3;
  double predicted_ms = info.generate_time * 1e3;
  Json out = {
      {"cache_n", info.cached_prompt_tokens},
      {"prompt_n", info.prompt_tokens},
      {"prompt_ms", prompt_ms},
      {"prompt_per_token_ms", per(prompt_ms, info.prompt_tokens)},
      {"prompt_per_second", info.prompt_tps()},
      {"predicted_n", info.generation_tokens},
      {"predicted_ms", predicted_ms},
      {"predicted_per_token_ms", per(predicted_ms, info.generation_tokens)},
      {"predicted_per_second", info.generation_tps()}};
  if (info.draft.guessed > 0) {
    out["draft_n"] = info.draft.guessed;
    out["draft_n_accepted"] = info.draft.taken;
  }
  return out;
}

} // namespace mlxlm::serve
