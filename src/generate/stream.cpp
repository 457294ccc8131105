#include "generate/stream.h"

#include "core/check.h"

namespace mlxlm {

TextStream::TextStream(
    std::shared_ptr<Channel> channel,
    TokenizerPtr tokenizer,
    const GenerateParameters& parameters,
    std::shared_ptr<void> keep)
    : keep_(std::move(keep)),
      channel_(std::move(channel)),
      detokenizer_(std::move(tokenizer)),
      stops_(parameters.stop),
      logprobs_(parameters.logprobs || parameters.sampling.top_logprobs > 0) {}

TextStream::~TextStream() {
  channel_->cancelled = true;
  channel_->notify({});
  channel_->events.close();
}

void TextStream::cancel() {
  channel_->cancelled = true;
}

void TextStream::notify(std::function<void()> wake) {
  channel_->notify(std::move(wake));
}

std::optional<GenerateEvent> TextStream::next() {
  while (!ended_) {
    auto event = channel_->events.pop();
    if (!event) {
      ended_ = true;
      break;
    }
    if (auto result = read(std::move(*event))) return result;
  }
  return std::nullopt;
}

std::optional<GenerateEvent> TextStream::poll() {
  while (!ended_) {
    auto event = channel_->events.try_pop();
    if (!event) break;
    if (auto result = read(std::move(*event))) return result;
  }
  return std::nullopt;
}

// Nothing for what the reader does not see.
std::optional<GenerateEvent> TextStream::read(EngineEvent event) {
  if (auto* progress = std::get_if<PrefillProgress>(&event)) return *progress;
  if (auto* finished = std::get_if<FinishedEvent>(&event))
    return finish(std::move(*finished));
  if (stops_.stopped()) return std::nullopt; // drawn before the engine knew
  return chunk(std::get<TokenEvent>(event));
}

TextChunk TextStream::chunk(const TokenEvent& event) {
  ++tokens_;
  TextChunk result;
  result.text = stops_.feed(detokenizer_.push(event.token));
  result.tokens = {event.token};
  if (logprobs_) result.logprobs = {event.logprob};
  if (!event.top.empty()) result.top_logprobs = {event.top};
  if (stops_.stopped()) cancel();
  return result;
}

std::optional<GenerateEvent> TextStream::finish(FinishedEvent event) {
  ended_ = true;
  info_ = std::move(event.info);
  TextChunk rest;
  if (!stops_.stopped()) {
    rest.text = stops_.feed(detokenizer_.finish());
    rest.text += stops_.finish();
  }
  if (stops_.stopped()) {
    info_.finish_reason = FinishReason::stop;
    info_.stop_text = stops_.matched();
    info_.generation_tokens = tokens_;
  }
  if (rest.text.empty()) return std::nullopt;
  return rest;
}

std::string Generation::text() {
  std::string result;
  while (auto event = next())
    if (auto* chunk = std::get_if<TextChunk>(&*event)) result += chunk->text;
  if (info().finish_reason == FinishReason::error)
    fail(info().error_kind, "generation", "{}", info().error);
  return result;
}

} // namespace mlxlm
