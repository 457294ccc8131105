#include "generate/constraint_maker.h"

#include <algorithm>

#include "core/check.h"
#include "core/strings.h"
#include "text/tools/grammar.h"
#include "text/tools/values.h"

namespace mlxlm {
namespace {

constexpr std::size_t kept_grammars = 16;
// Of all tokens an answer behind reasoning is kept a quarter, but so many.
constexpr int least_kept = 16, most_kept = 1024;

GrammarSource source_of(const ResponseFormat& format) {
  switch (format.type) {
    case ResponseFormat::Type::json_schema:
      return {GrammarKind::json_schema, format.source};
    case ResponseFormat::Type::regex:
      return {GrammarKind::regex, format.source};
    case ResponseFormat::Type::choice:
      return {GrammarKind::choice, format.source};
    case ResponseFormat::Type::grammar:
      return {GrammarKind::lark, format.source};
    case ResponseFormat::Type::json_object:
    case ResponseFormat::Type::text:
      break;
  }
  return {GrammarKind::json_schema, R"({"type": "object"})"};
}

} // namespace

ConstraintMaker::ConstraintMaker(
    TokenizerPtr tokenizer,
    int vocab,
    std::shared_ptr<const std::set<int>> stop_tokens)
    : tokenizer_(std::move(tokenizer)),
      vocab_(vocab),
      stop_tokens_(std::move(stop_tokens)),
      format_(output_format(*tokenizer_)),
      reasoning_(format_.reasoning) {}

// Callers hold the mutex: a grammar is copied from.
Grammar ConstraintMaker::grammar(const GrammarSource& source) {
  if (!vocabulary_) {
    std::set<int> stop;
    for (int id : *stop_tokens_)
      if (id >= 0 && id < vocab_) stop.insert(id);
    if (stop.empty())
      fail(
          ErrorKind::request,
          "response_format",
          "expected a model with a token that ends answers, found none");
    vocabulary_ =
        std::make_shared<GrammarVocabulary>(*tokenizer_, vocab_, stop);
  }
  auto known = std::find_if(compiled_.begin(), compiled_.end(), [&](auto& one) {
    return one.first == source;
  });
  if (known == compiled_.end()) {
    compiled_.emplace_front(source, Grammar(vocabulary_, source));
    if (compiled_.size() > kept_grammars) compiled_.pop_back();
  } else {
    compiled_.splice(compiled_.begin(), compiled_, known);
  }
  return compiled_.front().second;
}

void ConstraintMaker::add_reasoning(
    std::string_view prompt,
    ConstraintOptions& options) const {
  options.open = reasoning_->open;
  options.close = reasoning_->close;
  if (options.whole) {
    options.closing = tokenizer_->encode(options.close, {.add_special = false});
    return;
  }
  auto closing = fmt::format("\n{}", options.close);
  if (reasoning_->channels) {
    // Everything before the answer's own channel is free.
    options.inside = true;
    options.close = "<|channel|>final";
    options.header_end = "<|message|>";
    closing = fmt::format(
        "<|end|><|start|>assistant{}{}", options.close, options.header_end);
  } else {
    options.open_token = tokenizer_->id_of(reasoning_->open);
    options.inside = ends_in_reasoning(*reasoning_, prompt);
    bool closed = ends_with(tools::strip(prompt), options.close);
    // Where the model cannot begin to reason, the answer comes at once.
    if (!options.inside && (closed || options.open_token < 0))
      options.open.clear();
  }
  options.closing = tokenizer_->encode(closing, {.add_special = false});
  if (format_.tools) options.answer_open = format_.tools->open;
}

// An answer behind reasoning comes: the model does not stop before it, and does
// not use up all of its tokens.
void ConstraintMaker::keep_answer(
    const GenerateParameters& parameters,
    int most,
    ConstraintOptions& options) const {
  std::vector<std::uint32_t> bits((static_cast<std::size_t>(vocab_) + 31) / 32);
  std::fill(bits.begin(), bits.end(), ~std::uint32_t{0});
  auto ends = [&](int id) {
    if (id >= 0 && id < vocab_)
      bits[static_cast<std::size_t>(id) / 32] &= ~(std::uint32_t{1} << id % 32);
  };
  for (int id : *stop_tokens_)
    ends(id);
  for (int id : parameters.extra_eos_tokens)
    ends(id);
  options.unending =
      std::make_shared<const std::vector<std::uint32_t>>(std::move(bits));
  int left = most - static_cast<int>(options.closing.size());
  int budget = std::max(
      0, left - std::clamp(left / 4, std::min(left, least_kept), most_kept));
  options.budget = std::min(options.budget.value_or(budget), budget);
}

std::shared_ptr<const Constraint> ConstraintMaker::make(
    const GenerateParameters& parameters,
    std::span<const int> prompt,
    int most) {
  const auto& format = parameters.response_format;
  bool free = format.type == ResponseFormat::Type::text;
  bool budget = parameters.reasoning_budget && reasoning_;
  if (free && !budget) return nullptr;
  ConstraintOptions options{.tokenizer = tokenizer_};
  if (!free) {
    std::lock_guard lock(mutex_);
    options.grammar = grammar(source_of(format));
  }
  options.whole = starts_with(format.source, whole_answer);
  options.budget = parameters.reasoning_budget;
  if (reasoning_) {
    add_reasoning(tokenizer_->decode(prompt), options);
    if (options.grammar) keep_answer(parameters, most, options);
  }
  return std::make_shared<const Constraint>(std::move(options));
}

} // namespace mlxlm
