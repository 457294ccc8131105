#include "generate/constraint.h"

#include <algorithm>
#include <utility>

namespace mlxlm {

Constraint::Constraint(ConstraintOptions options)
    : options_(std::move(options)),
      part_(options_.inside ? Part::reasoning : Part::first) {
  if (options_.open.empty()) part_ = Part::answer;
  if (part_ == Part::reasoning) detokenizer_.emplace(options_.tokenizer);
}

// Text of tokens before the copy is of no interest to it: only the beginning of
// a mark might be, and that is in tail_.
Constraint::Constraint(const Constraint& other)
    : options_(other.options_),
      part_(other.part_),
      tail_(other.tail_),
      whole_(other.whole_),
      reasoned_(other.reasoned_),
      forced_(other.forced_) {
  if (part_ == Part::reasoning) detokenizer_.emplace(options_.tokenizer);
}

std::span<const std::uint32_t> Constraint::only(int token) {
  mask_.assign(static_cast<std::size_t>(token) / 32 + 1, 0);
  mask_.back() = std::uint32_t{1} << (token % 32);
  return mask_;
}

// Whether the reasoning has to end: not inside a character.
bool Constraint::closing() const {
  return options_.budget && reasoned_ >= *options_.budget &&
      (whole_ || forced_ > 0) && forced_ < options_.closing.size();
}

std::vector<int> Constraint::forced() {
  if (part_ == Part::reasoning) {
    const auto& all = options_.closing;
    if (!closing()) return {};
    return {all.begin() + static_cast<std::ptrdiff_t>(forced_), all.end()};
  }
  bool may_reason = part_ == Part::first && options_.open_token >= 0;
  if (!options_.grammar || may_reason) return {};
  return options_.grammar->forced();
}

std::span<const std::uint32_t> Constraint::mask() {
  if (part_ == Part::reasoning) {
    if (!closing()) return {};
    return only(options_.closing[forced_]);
  }
  if (!options_.grammar) return {};
  auto allowed = options_.grammar->mask();
  if (part_ == Part::answer || options_.open_token < 0) return allowed;
  mask_.assign(allowed.begin(), allowed.end());
  auto token = static_cast<std::size_t>(options_.open_token);
  if (token / 32 < mask_.size())
    mask_[token / 32] |= std::uint32_t{1} << (token % 32);
  return mask_;
}

void Constraint::reason(int token) {
  bool spent = options_.budget && reasoned_ >= *options_.budget;
  if (spent && forced_ < options_.closing.size() &&
      token == options_.closing[forced_])
    ++forced_;
  ++reasoned_;
  auto text = detokenizer_->push(token);
  whole_ = !text.empty();
  tail_ += text;
  if (tail_.find(options_.close) != tail_.npos) {
    part_ = Part::answer;
    detokenizer_.reset();
  } else if (tail_.size() > options_.close.size()) {
    tail_.erase(0, tail_.size() - options_.close.size());
  }
}

void Constraint::accept(int token) {
  if (part_ == Part::first) {
    part_ = token == options_.open_token ? Part::reasoning : Part::answer;
    if (part_ == Part::reasoning) {
      detokenizer_.emplace(options_.tokenizer);
      return;
    }
  }
  if (part_ == Part::reasoning) {
    reason(token);
  } else if (options_.grammar) {
    options_.grammar->accept(token);
  }
}

} // namespace mlxlm
