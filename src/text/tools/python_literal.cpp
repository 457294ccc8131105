#include "text/tools/python_literal.h"

#include <cmath>
#include <cstdlib>
#include <string>

#include "core/strings.h"
#include "text/tools/values.h"

namespace mlxlm::tools {
namespace {

// Recursive descent over one expression. Fails by returning nothing.
class Reader {
 public:
  // `json_words`: true, false and null are values.
  Reader(std::string_view text, bool json_words)
      : text_(text), json_words_(json_words) {}

  std::optional<Json> value() {
    if (++depth_ > 64) return {};
    auto result = unnested_value();
    --depth_;
    return result;
  }

  std::optional<ParsedCall> call() {
    space();
    auto size = word_length(text_, at_, ".");
    if (size == 0 || (text_[at_] >= '0' && text_[at_] <= '9')) return {};
    ParsedCall call{std::string(text_.substr(at_, size)), Json::object()};
    at_ += size;
    if (!take("(")) return {};
    while (!take(")")) {
      space();
      size = word_length(text_, at_);
      std::string key(text_.substr(at_, size));
      at_ += size;
      if (size == 0 || !take("=")) return {};
      auto argument = value();
      if (!argument) return {};
      call.arguments[key] = std::move(*argument);
      if (!take(",") && !at(")")) return {};
    }
    return call;
  }

  bool take(std::string_view token) {
    if (!at(token)) return false;
    at_ += token.size();
    return true;
  }
  bool at(std::string_view token) {
    space();
    return starts_with(text_.substr(at_), token);
  }
  bool end() {
    space();
    return at_ == text_.size();
  }

 private:
  void space() {
    while (at_ < text_.size()) {
      char c = text_[at_];
      if (c != ' ' && c != '\t' && c != '\n' && c != '\r' && c != '\f') break;
      ++at_;
    }
  }

  std::optional<Json> unnested_value() {
    space();
    if (at_ == text_.size()) return {};
    char c = text_[at_];
    if (c == '[' || c == '(') return list(c == '[' ? "]" : ")");
    if (c == '{') return dict();
    if (c == '"' || c == '\'') return strings();
    if (c == '-' || c == '+' || c == '.' || (c >= '0' && c <= '9'))
      return number();
    auto size = word_length(text_, at_);
    if (size > 0 && at_ + size < text_.size() &&
        (text_[at_ + size] == '"' || text_[at_ + size] == '\''))
      return strings();
    auto word = text_.substr(at_, size);
    at_ += size;
    if (word == "None" || (json_words_ && word == "null")) return Json();
    if (word == "True" || (json_words_ && word == "true")) return Json(true);
    if (word == "False" || (json_words_ && word == "false")) return Json(false);
    return {};
  }

  // A tuple is a list; one thing in parentheses is itself.
  std::optional<Json> list(std::string_view close) {
    ++at_;
    Json out = Json::array();
    bool comma = false;
    while (!take(close)) {
      if (!out.empty() && !comma) return {};
      auto item = value();
      if (!item) return {};
      out.push_back(std::move(*item));
      comma = take(",");
    }
    bool single = close == ")" && out.size() == 1 && !comma;
    return single ? Json(out[0]) : out;
  }

  std::optional<Json> dict() {
    ++at_;
    Json out = Json::object(), set = Json::array();
    bool comma = true;
    while (!take("}")) {
      if (!comma) return {};
      auto key = value();
      if (!key) return {};
      if (take(":")) {
        auto item = value();
        if (!item || !set.empty()) return {};
        out[key_text(*key)] = std::move(*item);
      } else {
        if (!out.empty()) return {};
        set.push_back(std::move(*key));
      }
      comma = take(",");
    }
    return set.empty() ? out : set;
  }

  // As json.dumps spells keys that are no strings.
  static std::string key_text(const Json& key) {
    return key.is_string() ? key.get<std::string>() : key.dump();
  }

  std::optional<Json> strings() {
    std::string out;
    bool any = false;
    for (;;) {
      space();
      auto prefix = word_length(text_, at_);
      auto quote = at_ + prefix;
      if (quote >= text_.size() ||
          (text_[quote] != '"' && text_[quote] != '\''))
        break;
      auto letters = lower(text_.substr(at_, prefix));
      if (letters != "" && letters != "r" && letters != "u") return {};
      at_ = quote;
      if (!string(letters == "r", out)) return {};
      any = true;
    }
    if (!any || !valid_utf8(out)) return {};
    return Json(std::move(out));
  }

  bool string(bool raw, std::string& out) {
    auto left = text_.substr(at_);
    std::string_view quote = left.substr(0, 1);
    if (left.size() >= 3 && left[1] == left[0] && left[2] == left[0])
      quote = left.substr(0, 3);
    at_ += quote.size();
    while (at_ < text_.size()) {
      if (starts_with(text_.substr(at_), quote)) {
        at_ += quote.size();
        return true;
      }
      char c = text_[at_++];
      if (c == '\n' && quote.size() == 1) return false;
      if (c != '\\') {
        out += c;
      } else if (raw) {
        out += c;
        if (at_ < text_.size()) out += text_[at_++];
      } else if (!escape(out)) {
        return false;
      }
    }
    return false;
  }

  bool escape(std::string& out) {
    if (at_ == text_.size()) return false;
    char c = text_[at_++];
    static constexpr std::string_view from = "\\'\"abfnrtv",
                                      to = "\\'\"\a\b\f\n\r\t\v";
    if (auto known = from.find(c); known != from.npos) {
      out += to[known];
      return true;
    }
    switch (c) {
      case '\n':
        return true;
      case 'x':
        return code_point(2, 16, out);
      case 'u':
        return code_point(4, 16, out);
      case 'U':
        return code_point(8, 16, out);
      default:
        break;
    }
    if (c >= '0' && c <= '7') {
      --at_;
      int digits = 0;
      while (digits < 3 && at_ + digits < text_.size() &&
             text_[at_ + digits] >= '0' && text_[at_ + digits] <= '7')
        ++digits;
      return code_point(digits, 8, out);
    }
    out += '\\'; // an escape that is none stays
    out += c;
    return true;
  }

  bool code_point(int digits, int base, std::string& out) {
    if (at_ + digits > text_.size()) return false;
    std::string code(text_.substr(at_, digits));
    char* end = nullptr;
    auto value = std::strtoul(code.c_str(), &end, base);
    if (end != code.c_str() + digits || value > 0x10FFFF) return false;
    at_ += digits;
    append_utf8(static_cast<unsigned>(value), out);
    return true;
  }

  static void append_utf8(unsigned c, std::string& out) {
    auto byte = [&](unsigned b) { out += static_cast<char>(b); };
    if (c < 0x80) {
      byte(c);
    } else if (c < 0x800) {
      byte(0xC0 | c >> 6), byte(0x80 | (c & 63));
    } else if (c < 0x10000) {
      byte(0xE0 | c >> 12), byte(0x80 | (c >> 6 & 63)), byte(0x80 | (c & 63));
    } else {
      byte(0xF0 | c >> 18), byte(0x80 | (c >> 12 & 63));
      byte(0x80 | (c >> 6 & 63)), byte(0x80 | (c & 63));
    }
  }

  std::optional<Json> number() {
    bool negative = false;
    while (at("-") || at("+"))
      negative ^= text_[at_++] == '-';
    space();
    auto begin = at_;
    auto from = at_;
    while (at_ < text_.size()) {
      char c = text_[at_];
      bool sign = (c == '-' || c == '+') && at_ > begin &&
          (text_[at_ - 1] == 'e' || text_[at_ - 1] == 'E');
      if (!sign && c != '.' && !(is_word(c) && static_cast<signed char>(c) > 0))
        break;
      ++at_;
    }
    auto word = text_.substr(from, at_ - from);
    auto value = unsigned_number(word);
    if (!value || !negative) return value;
    if (value->is_number_integer()) return Json(-value->get<std::int64_t>());
    return Json(-value->get<double>());
  }

  static std::optional<Json> unsigned_number(std::string_view word) {
    if (word.empty() || word[0] == '_') return {};
    auto head = lower(word.substr(0, 2));
    if (head == "0x" || head == "0o" || head == "0b") {
      int base = head == "0x" ? 16 : head == "0o" ? 8 : 2;
      std::string digits(word.substr(2));
      char* end = nullptr;
      auto value = std::strtoll(digits.c_str(), &end, base);
      if (digits.empty() || *end != '\0') return {};
      return Json(value);
    }
    bool digit = (word[0] >= '0' && word[0] <= '9') || word[0] == '.';
    if (!digit) return {};
    if (auto integer = python_int(word)) {
      bool padded = word.size() > 1 && word[0] == '0' &&
          word.find_first_not_of("0_") != word.npos;
      return padded ? std::nullopt : integer;
    }
    auto real = python_number(word);
    if (real) return Json(real->get<double>());
    return {};
  }

  std::string_view text_;
  bool json_words_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

} // namespace

std::optional<Json> python_literal(std::string_view text) {
  // literal_eval takes off leading blanks only; a line below is an error.
  Reader reader(text, false);
  auto value = reader.value();
  if (!value || !reader.end()) return {};
  return value;
}

std::optional<std::vector<ParsedCall>> python_calls(std::string_view text) {
  Reader reader(text, true);
  if (!reader.take("[")) return {};
  std::vector<ParsedCall> calls;
  while (!reader.take("]")) {
    auto call = reader.call();
    if (!call) return {};
    calls.push_back(std::move(*call));
    if (!reader.take(",") && !reader.at("]")) return {};
  }
  if (calls.empty() || !reader.end()) return {};
  return calls;
}

std::optional<ParsedCall> python_call(std::string_view text) {
  Reader reader(text, true);
  auto call = reader.call();
  if (!call || !reader.end()) return {};
  return call;
}

} // namespace mlxlm::tools
