#include "generate/constraint.h"

#include <algorithm>
#include <string_view>
#include <tuple>
#include <utility>

#include "core/strings.h"

namespace mlxlm {

Constraint::Constraint(ConstraintOptions options)
    : options_(std::move(options)),
      part_(options_.inside ? Part::reasoning : Part::first) {
  if (options_.open.empty()) part_ = Part::answer;
  listen();
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
  listen();
}

// Text is needed where marks are looked for.
void Constraint::listen() {
  bool marks =
      part_ == Part::reasoning || (part_ == Part::first && options_.whole);
  if (!marks)
    detokenizer_.reset();
  else if (!detokenizer_)
    detokenizer_.emplace(options_.tokenizer);
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
  if (part_ == Part::reasoning && closing()) {
    const auto& all = options_.closing;
    return {all.begin() + static_cast<std::ptrdiff_t>(forced_), all.end()};
  }
  if (!options_.grammar) return {};
  if (!options_.whole && part_ != Part::answer) {
    bool may_reason = part_ == Part::reasoning || options_.open_token >= 0;
    if (may_reason) return {};
  }
  return options_.grammar->forced();
}

std::span<const std::uint32_t> Constraint::mask() {
  if (part_ == Part::reasoning && closing())
    return only(options_.closing[forced_]);
  if (part_ == Part::reasoning && !options_.whole) {
    if (options_.grammar && options_.unending) return *options_.unending;
    return {};
  }
  if (!options_.grammar) return {};
  auto allowed = options_.grammar->mask();
  if (part_ != Part::first || options_.open_token < 0) return allowed;
  mask_.assign(allowed.begin(), allowed.end());
  auto token = static_cast<std::size_t>(options_.open_token);
  if (token / 32 < mask_.size())
    mask_[token / 32] |= std::uint32_t{1} << (token % 32);
  return mask_;
}

// False: a character is half written.
bool Constraint::hear(int token) {
  auto text = detokenizer_->push(token);
  tail_ += text;
  return !text.empty();
}

// A grammar of the whole answer, at its beginning.
void Constraint::look_for_open(int token) {
  hear(token);
  if (starts_with(tail_, options_.open)) {
    part_ = Part::reasoning;
    tail_.erase(0, options_.open.size());
  } else if (!starts_with(options_.open, tail_)) {
    part_ = Part::answer;
  }
}

bool Constraint::closed() {
  const auto& [close, header_end] =
      std::tie(options_.close, options_.header_end);
  auto at = tail_.find(close);
  if (at == tail_.npos) return false;
  tail_.erase(0, at);
  return tail_.find(header_end, close.size()) != tail_.npos;
}

// Whether the grammar's answer has begun without an end of the reasoning; the
// grammar is behind its beginning then.
bool Constraint::answers() {
  const auto& mark = options_.answer_open;
  auto at = mark.empty() ? tail_.npos : tail_.find(mark);
  if (at == tail_.npos || !options_.grammar) return false;
  auto begun = options_.tokenizer->encode(
      std::string_view(tail_).substr(at), {.add_special = false});
  auto grammar = *options_.grammar;
  if (grammar.accept(begun) != begun.size()) return false;
  options_.grammar = std::move(grammar);
  return true;
}

void Constraint::reason(int token) {
  bool spent = options_.budget && reasoned_ >= *options_.budget;
  if (spent && forced_ < options_.closing.size() &&
      token == options_.closing[forced_])
    ++forced_;
  ++reasoned_;
  whole_ = hear(token);
  if (closed() || (!options_.whole && answers())) {
    part_ = Part::answer;
    return;
  }
  if (starts_with(tail_, options_.close)) return; // its header is to come
  auto longest = std::max(options_.close.size(), options_.answer_open.size());
  if (tail_.size() > longest) tail_.erase(0, tail_.size() - longest);
}

void Constraint::accept(int token) {
  auto part = part_;
  if (part == Part::first && !options_.whole)
    part_ = token == options_.open_token ? Part::reasoning : Part::answer;
  bool opened = part == Part::first && part_ == Part::reasoning;
  if (options_.grammar && (options_.whole || part_ == Part::answer))
    options_.grammar->accept(token);
  if (part == Part::first && options_.whole)
    look_for_open(token);
  else if (part_ == Part::reasoning && !opened)
    reason(token);
  listen();
}

} // namespace mlxlm
