#include "generate/sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/check.h"
#include "generate/sampling/fast_exp.h"
#include "generate/sampling/philox.h"
#include "generate/sampling/stages.h"

namespace mlxlm {
namespace {

constexpr std::size_t sum_block = 256;

// out = exp((x - shift) * scale - max); returns the sum.
float exp_block(
    const float* x,
    float* __restrict out,
    std::size_t count,
    float shift,
    float scale,
    float max) {
  for (std::size_t i = 0; i < count; ++i)
    out[i] = exp_nonpositive((x[i] - shift) * scale - max);
  return sum_lanes(out, count);
}

std::size_t history_window(const SamplingParameters& p) {
  int size = 0;
  if (p.dry_multiplier != 0)
    size = p.dry_penalty_last_n < 0 ? std::numeric_limits<int>::max()
                                    : p.dry_penalty_last_n;
  if (p.repetition_penalty) size = std::max(size, p.repetition_context_size);
  if (p.presence_penalty) size = std::max(size, p.presence_context_size);
  if (p.frequency_penalty) size = std::max(size, p.frequency_context_size);
  return static_cast<std::size_t>(size);
}

} // namespace

Sampler::Sampler(
    SamplingParameters parameters,
    std::uint64_t seed,
    std::span<const int> prompt,
    bool logprobs,
    std::uint32_t sample)
    : seed_(seed),
      sample_(sample),
      first_(static_cast<std::uint32_t>(prompt.size())),
      position_(first_),
      logprobs_(logprobs || parameters.top_logprobs > 0),
      window_(history_window(parameters)),
      mu_(2 * parameters.mirostat_tau) {
  auto& breakers = parameters.dry_breaker_tokens;
  std::sort(breakers.begin(), breakers.end()); // as the stage expects them
  parameters_ =
      std::make_shared<const SamplingParameters>(std::move(parameters));
  order_stages();
  auto tail = prompt.last(std::min(prompt.size(), window_));
  history_.assign(tail.begin(), tail.end());
}

void Sampler::order_stages() {
  const auto& p = *parameters_;
  const auto& chain = p.chain;
  auto add = [&](const auto& stage, auto& list) {
    if (stage.active(p)) list.push_back(&stage);
  };
  for (const auto& stage : processors())
    if (stage.always || chain.empty()) add(stage, processors_);
  for (const auto& name : chain)
    for (const auto& stage : processors()) {
      bool penalty = stage.name.ends_with("_penalty");
      bool named = stage.name == name || (penalty && name == "penalties");
      if (named && !stage.always) add(stage, processors_);
    }
  bool instead = p.mirostat > 0 &&
      std::find(chain.begin(), chain.end(), "mirostat") == chain.end();
  if (chain.empty() || instead) {
    for (const auto& stage : filters())
      if (!instead || stage.name == "mirostat") add(stage, filters_);
    filters_.push_back(nullptr);
    return;
  }
  for (const auto& name : chain) {
    for (const auto& stage : filters())
      if (stage.name == name) add(stage, filters_);
    if (name == "temperature") filters_.push_back(nullptr);
  }
}

StageContext Sampler::context() const {
  return {
      .history = history_,
      .seed = seed_,
      .sample = sample_,
      .position = position_,
      .drawn = static_cast<int>(position_ - first_),
      .temper = pending_,
      .vocab = distribution_.row_size(),
      .mu = mu_};
}

void Sampler::run_processors(
    std::span<const float> row,
    const StageContext& about) {
  row_.assign(row.begin(), row.end());
  for (const auto* processor : processors_)
    processor->apply(row_, *parameters_, about);
  if (constraint_) allow();
}

std::span<const float> Sampler::process(std::span<const float> row) {
  if (processors_.empty() && !constraint_) return row;
  auto about = context();
  run_processors(row, about);
  // A text that is complete ends, however few its tokens are.
  if (constraint_ && about.drawn < parameters_->min_tokens &&
      argmax(row_) < 0) {
    about.drawn = parameters_->min_tokens;
    run_processors(row, about);
  }
  return row_;
}

// Tokens without a bit cannot be drawn, nor those beyond the mask; none at all
// once the constraint has failed.
void Sampler::allow() {
  constexpr float never = -std::numeric_limits<float>::infinity();
  std::span<const std::uint32_t> mask;
  try {
    if (failure_.empty()) mask = constraint_->mask();
  } catch (const Error& error) {
    failure_ = error.what();
  }
  if (!failure_.empty()) {
    std::fill(row_.begin(), row_.end(), never);
    return;
  }
  if (mask.empty()) return;
  for (std::size_t word = 0; word * 32 < row_.size(); ++word) {
    auto bits = word < mask.size() ? mask[word] : 0;
    if (bits == ~std::uint32_t{0}) continue;
    auto begin = word * 32, end = std::min(begin + 32, row_.size());
    for (auto token = begin; token < end; ++token)
      if (!(bits >> (token - begin) & 1)) row_[token] = never;
  }
}

std::vector<int> Sampler::forced() {
  if (!constraint_ || !failure_.empty()) return {};
  try {
    return constraint_->forced();
  } catch (const Error&) {
    return {}; // mask() says so as well
  }
}

void Sampler::follow(int token) {
  try {
    constraint_->accept(token);
  } catch (const Error& error) {
    failure_ = error.what();
  }
}

Sampled Sampler::next(std::span<const float> row) {
  auto logits = process(row);
  int token = -1;
  if (parameters_->greedy()) {
    token = argmax(logits);
    if (logprobs_) distribution_.reset(logits);
  } else {
    distribution_.reset(logits);
    if (distribution_.finite()) token = draw();
  }
  return finish(token, logits);
}

namespace {

// The `count` largest of a row, the largest first, ties to the lowest token;
// fewer where no more can be drawn.
std::vector<TokenLogprob> most_likely(
    std::span<const float> logits,
    int count,
    double normalizer) {
  auto before = [](const TokenLogprob& a, const TokenLogprob& b) {
    return a.logprob != b.logprob ? a.logprob > b.logprob : a.token < b.token;
  };
  std::vector<TokenLogprob> heap; // the least of them first
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (!std::isfinite(logits[i])) continue;
    bool full = heap.size() >= static_cast<std::size_t>(count);
    if (full && !(logits[i] > heap.front().logprob)) continue;
    if (full) {
      std::pop_heap(heap.begin(), heap.end(), before);
      heap.pop_back();
    }
    heap.push_back({static_cast<int>(i), logits[i]});
    std::push_heap(heap.begin(), heap.end(), before);
  }
  std::sort_heap(heap.begin(), heap.end(), before);
  for (auto& entry : heap)
    entry.logprob = static_cast<float>(entry.logprob - normalizer);
  return heap;
}

} // namespace

// The token joins the history. The distribution was made of `logits`.
Sampled Sampler::finish(int token, std::span<const float> logits) {
  Sampled result{token};
  if (token < 0) return result;
  if (logprobs_) {
    double normalizer = distribution_.log_normalizer();
    result.logprob = static_cast<float>(logits[token] - normalizer);
    if (parameters_->top_logprobs > 0)
      result.top = most_likely(logits, parameters_->top_logprobs, normalizer);
  }
  remember(token);
  return result;
}

void Sampler::narrow() {
  bool tempers = std::count(filters_.begin(), filters_.end(), nullptr) > 0;
  pending_ = tempers ? 1 / parameters_->temperature : 1;
  for (std::size_t i = 0; i < filters_.size(); ++i) {
    if (filters_[i]) {
      filters_[i]->apply(distribution_, *parameters_, context());
    } else if (i + 1 < filters_.size()) { // the last is done by weigh()
      distribution_.temper(static_cast<float>(pending_));
      pending_ = 1;
    }
  }
}

void Sampler::learn(double probability) {
  if (parameters_->mirostat == 0 || !(probability > 0)) return;
  double surprise = -std::log2(probability);
  mu_ -= parameters_->mirostat_eta * (surprise - parameters_->mirostat_tau);
}

// Fills weights_ with exp(logprob / temperature - largest) and block_sums_ with
// their sums over blocks of `block` entries; returns the total. mlx-lm rounds
// the log-probabilities to f32 before the temperature; at small temperatures
// that rounding shows, so it is repeated there.
double Sampler::weigh() {
  auto x = distribution_.logits();
  weights_.resize(x.size());
  block_sums_.clear();
  auto scale = static_cast<float>(pending_);
  float normalizer = scale > 10
      ? static_cast<float>(distribution_.exact_log_normalizer())
      : distribution_.max();
  float max = (distribution_.max() - normalizer) * scale;
  double total = 0;
  for (std::size_t begin = 0; begin < x.size(); begin += sum_block) {
    auto count = std::min(sum_block, x.size() - begin);
    block_sums_.push_back(exp_block(
        x.data() + begin,
        weights_.data() + begin,
        count,
        normalizer,
        scale,
        max));
    total += block_sums_.back();
  }
  return total;
}

int Sampler::draw() {
  narrow();
  double total = weigh();
  double left = total * uniform(seed_, sample_, position_, RandomStream::token);
  std::size_t at = 0;
  while (at + 1 < block_sums_.size() && left >= block_sums_[at])
    left -= block_sums_[at++];
  std::size_t last = 0;
  for (std::size_t i = at * sum_block; i < weights_.size(); ++i) {
    if (weights_[i] == 0) continue;
    last = i; // rounding may leave a little beyond the end
    left -= weights_[i];
    if (left < 0) break;
  }
  learn(weights_[last] / total);
  return distribution_.token(last);
}

void Sampler::remember(int token) {
  ++position_;
  if (constraint_) follow(token);
  if (window_ == 0) return;
  // Trimmed now and then, so that a step costs nothing.
  if (history_.size() >= 2 * window_ + 64)
    history_.erase(
        history_.begin(),
        history_.end() - static_cast<std::ptrdiff_t>(window_));
  history_.push_back(token);
}

std::vector<float> Sampler::processed(std::span<const float> row) {
  auto result = process(row);
  return {result.begin(), result.end()};
}

Probabilities Sampler::probabilities(std::span<const float> row) {
  auto logits = process(row);
  distribution_.reset(logits);
  if (!distribution_.finite()) return {};
  if (parameters_->greedy()) return {{argmax(logits), 1.0}};
  narrow();
  double total = weigh();
  Probabilities result;
  for (std::size_t i = 0; i < weights_.size(); ++i)
    if (weights_[i] > 0)
      result.push_back({distribution_.token(i), weights_[i] / total});
  return result;
}

namespace {

double probability_of(int token, const Probabilities& p) {
  auto at = std::lower_bound(
      p.begin(), p.end(), token, [](const TokenProbability& entry, int t) {
        return entry.token < t;
      });
  return at != p.end() && at->token == token ? at->probability : 0;
}

// The token at which the sum of probabilities passes `part` of their total.
int token_at(const Probabilities& p, double part) {
  double left = 0;
  for (const auto& entry : p)
    left += entry.probability;
  left *= part;
  for (const auto& entry : p) {
    left -= entry.probability;
    if (left < 0) return entry.token;
  }
  return p.back().token; // rounding may leave a little beyond the end
}

// What p has more of than q.
Probabilities residual(const Probabilities& p, const Probabilities& q) {
  Probabilities result;
  auto other = q.begin();
  for (const auto& [token, probability] : p) {
    while (other != q.end() && other->token < token)
      ++other;
    bool both = other != q.end() && other->token == token;
    double more = probability - (both ? other->probability : 0);
    if (more > 0) result.push_back({token, more});
  }
  return result;
}

} // namespace

Guess Sampler::guess(std::span<const float> row) {
  Guess result;
  result.from = probabilities(row);
  if (result.from.empty()) return result;
  result.token = token_at(
      result.from, uniform(seed_, sample_, position_, RandomStream::guess));
  learn(probability_of(result.token, result.from));
  remember(result.token);
  return result;
}

Sampled Sampler::accept(std::span<const float> row, const Guess& guess) {
  auto p = probabilities(row);
  std::span<const float> logits =
      processors_.empty() && !constraint_ ? row : std::span<const float>(row_);
  if (p.empty()) return {};
  double draw = uniform(seed_, sample_, position_, RandomStream::accept);
  double mine = probability_of(guess.token, p);
  if (draw * probability_of(guess.token, guess.from) < mine) {
    learn(mine);
    return finish(guess.token, logits);
  }
  auto rest = residual(p, guess.from);
  // Nothing is left only where rounding made p and q differ.
  int token = token_at(
      rest.empty() ? p : rest,
      uniform(seed_, sample_, position_, RandomStream::residual));
  learn(probability_of(token, p));
  return finish(token, logits);
}

} // namespace mlxlm
