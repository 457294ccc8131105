#include "text/tools/json_scanner.h"

#include <string_view>

namespace mlxlm::tools {
namespace {

constexpr std::size_t most_depth = 256;

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool is_hex(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

} // namespace

bool JsonScanner::push(char c) {
  if (done_) return false;
  if (in_string_) return string(c);
  if (!word_.empty()) return word(c);
  return structure(c);
}

void JsonScanner::closed() {
  expect_ = Expect::next;
  done_ = open_.empty();
}

bool JsonScanner::string(char c) {
  if (hex_ > 0) {
    --hex_;
    return is_hex(c);
  }
  if (escape_) {
    escape_ = false;
    if (c == 'u') hex_ = 4;
    return std::string_view("\"\\/bfnrtu").find(c) != std::string_view::npos;
  }
  if (c == '\\') {
    escape_ = true;
  } else if (c == '"') {
    in_string_ = false;
    if (key_string_) {
      expect_ = Expect::colon;
    } else {
      closed();
    }
  } else {
    return static_cast<unsigned char>(c) >= 0x20;
  }
  return true;
}

bool JsonScanner::number_ok() const {
  std::string_view w = word_;
  std::size_t i = w[0] == '-';
  auto digits = [&] {
    auto from = i;
    while (i < w.size() && is_digit(w[i]))
      ++i;
    return i > from;
  };
  auto first = i;
  if (!digits() || (w[first] == '0' && i > first + 1)) return false;
  if (i < w.size() && w[i] == '.' && (++i, !digits())) return false;
  if (i < w.size() && (w[i] == 'e' || w[i] == 'E')) {
    ++i;
    if (i < w.size() && (w[i] == '+' || w[i] == '-')) ++i;
    if (!digits()) return false;
  }
  return i == w.size();
}

bool JsonScanner::word_end() {
  bool good = word_ == "true" || word_ == "false" || word_ == "null" ||
      ((word_[0] == '-' || is_digit(word_[0])) && number_ok());
  word_.clear();
  return good;
}

bool JsonScanner::word(char c) {
  bool more = is_digit(c) || (c >= 'a' && c <= 'z') || c == '+' || c == '-' ||
      c == '.' || c == 'E';
  if (more) {
    word_ += c;
    return word_.size() <= 4096;
  }
  if (!word_end()) return false;
  closed();
  return !done_ && structure(c);
}

bool JsonScanner::value(char c) {
  if (c == '{' || c == '[') {
    open_ += c;
    expect_ = c == '{' ? Expect::first_key : Expect::first_value;
    return open_.size() <= most_depth;
  }
  if (c == '"') {
    in_string_ = true;
    key_string_ = false;
    return true;
  }
  word_ = c;
  return is_digit(c) || c == '-' || c == 't' || c == 'f' || c == 'n';
}

bool JsonScanner::structure(char c) {
  if (is_space(c)) return true;
  bool closes = !open_.empty() && c == (open_.back() == '{' ? '}' : ']');
  switch (expect_) {
    case Expect::first_value:
      if (!closes) return value(c);
      break;
    case Expect::value:
      return value(c);
    case Expect::first_key:
      if (closes) break;
      [[fallthrough]];
    case Expect::key:
      in_string_ = key_string_ = true;
      return c == '"';
    case Expect::colon:
      expect_ = Expect::value;
      return c == ':';
    case Expect::next:
      if (closes) break;
      expect_ = open_.back() == '{' ? Expect::key : Expect::value;
      return c == ',';
  }
  open_.pop_back();
  closed();
  return true;
}

} // namespace mlxlm::tools
