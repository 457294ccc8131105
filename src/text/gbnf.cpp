#include "text/gbnf.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "core/check.h"
#include "core/json.h"
#include "core/strings.h"

namespace mlxlm {
namespace {

constexpr const char* of_gbnf = "grammar";

bool is_name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
      (c >= '0' && c <= '9') || c == '-';
}

// A name as rules of Lark have them: small letters, digits, "_"; another for
// each name.
std::string lark_name(std::string_view name) {
  if (name == "root") return "start";
  std::string out = "g_";
  for (char c : name) {
    bool large = c >= 'A' && c <= 'Z';
    if (large) out += '_';
    if (c == '-')
      out += "__";
    else
      out += large ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return out;
}

void append_utf8(std::uint32_t c, std::string& out) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | c >> 6);
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | c >> 12);
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | c >> 18);
    out += static_cast<char>(0x80 | (c >> 12 & 0x3F));
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

class GbnfReader {
 public:
  explicit GbnfReader(std::string_view text) : text_(text) {}

  std::string lark() {
    std::string out;
    space();
    while (at_ < text_.size())
      out += rule();
    if (!defined_.count("root")) wrong("a rule \"root\"");
    for (const auto& [name, place] : used_)
      if (!defined_.count(name)) {
        at_ = place;
        wrong("a rule that there is");
      }
    return out;
  }

 private:
  [[noreturn]] void wrong(std::string_view expected) const {
    auto rest = text_.substr(at_, 20);
    fail(
        ErrorKind::request,
        of_gbnf,
        "line {}: expected {}, found {}",
        line(),
        expected,
        rest.empty() ? std::string("the end")
                     : fmt::format("\"{}\"", printable(rest)));
  }
  long line() const {
    auto end = text_.begin() + static_cast<std::ptrdiff_t>(at_);
    return 1 + std::count(text_.begin(), end, '\n');
  }
  char peek() const {
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool take(std::string_view token) {
    if (!starts_with(text_.substr(at_), token)) return false;
    at_ += token.size();
    return true;
  }

  // White space and remarks.
  void space() {
    while (at_ < text_.size()) {
      if (text_[at_] == '#') {
        at_ = std::min(text_.find('\n', at_), text_.size());
      } else if (std::string_view(" \t\r\n").find(text_[at_]) == text_.npos) {
        return;
      } else {
        ++at_;
      }
    }
  }

  std::string name() {
    auto begin = at_;
    while (at_ < text_.size() && is_name_char(text_[at_]))
      ++at_;
    if (at_ == begin) wrong("a name");
    return std::string(text_.substr(begin, at_ - begin));
  }

  std::string rule() {
    auto begin = at_;
    auto made = name();
    space();
    if (!take("::=")) wrong("::=");
    if (!defined_.insert(made).second) {
      at_ = begin;
      wrong("each rule once");
    }
    return fmt::format("{}:{}\n", lark_name(made), alternatives(0));
  }

  // The next rule begins here.
  bool at_rule() {
    auto begin = at_;
    bool named = is_name_char(peek());
    if (named) name();
    space();
    bool found = named && starts_with(text_.substr(at_), "::=");
    at_ = begin;
    return found;
  }

  std::string alternatives(int depth) {
    if (depth > 64) wrong("at most 64 brackets in one another");
    std::string out, sequence;
    for (;;) {
      space();
      bool end = at_ == text_.size() || peek() == ')' || at_rule();
      if (end || peek() == '|') {
        out += sequence.empty() ? " \"\"" : sequence;
        sequence.clear();
        if (end) return out;
        out += " |";
        ++at_;
        continue;
      }
      sequence += ' ';
      sequence += item(depth);
      sequence += repetition();
    }
  }

  std::string item(int depth) {
    char c = peek();
    if (c == '"') return text();
    if (c == '[') return char_class();
    if (take(".")) return "/(.|\\n)/";
    if (take("(")) {
      auto inner = alternatives(depth + 1);
      if (!take(")")) wrong(")");
      return fmt::format("({} )", inner);
    }
    if (!is_name_char(c)) wrong("a text, [, ( or a name");
    auto place = at_;
    auto used = name();
    used_.emplace(used, place);
    return lark_name(used);
  }

  std::string repetition() {
    space();
    for (const char* sign : {"*", "+", "?"})
      if (take(sign)) return sign;
    if (!take("{")) return "";
    auto least = count();
    if (!least) wrong("a number");
    auto most = least;
    if (take(",")) most = count();
    if (!take("}")) wrong("}");
    return fmt::format(
        "{{{},{}}}", *least, most ? std::to_string(*most) : std::string());
  }

  std::optional<int> count() {
    std::optional<int> out;
    for (; peek() >= '0' && peek() <= '9'; ++at_) {
      out = out.value_or(0) * 10 + (peek() - '0');
      if (*out > 100000) wrong("a smaller number");
    }
    return out;
  }

  // A character, perhaps written with a backslash.
  std::uint32_t character() {
    if (at_ == text_.size() || peek() == '\n') wrong("the end of a text");
    if (take("\\")) return escape();
    auto byte = static_cast<unsigned char>(text_[at_]);
    std::size_t size = byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
    if (!valid_utf8(text_.substr(at_, size))) wrong("UTF-8");
    std::uint32_t out = size == 1 ? byte : byte & (0x7Fu >> size);
    for (std::size_t i = 1; i < size; ++i)
      out = out << 6 | (static_cast<unsigned char>(text_[at_ + i]) & 0x3Fu);
    at_ += size;
    return out;
  }

  std::uint32_t escape() {
    constexpr std::pair<char, char> plain[] = {
        {'n', '\n'},
        {'r', '\r'},
        {'t', '\t'},
        {'"', '"'},
        {'\\', '\\'},
        {'[', '['},
        {']', ']'},
        {'-', '-'},
        {'^', '^'}};
    if (at_ == text_.size()) wrong("an escape");
    char c = text_[at_++];
    for (auto [sign, meaning] : plain)
      if (c == sign) return static_cast<std::uint32_t>(meaning);
    std::size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    std::uint32_t out = 0;
    for (std::size_t i = 0; i < digits; ++i, ++at_) {
      auto place = std::string_view("0123456789abcdef")
                       .find(lower_ascii(text_.substr(at_, 1)));
      if (at_ == text_.size() || place == std::string_view::npos)
        wrong("a hexadecimal digit");
      out = out << 4 | static_cast<std::uint32_t>(place);
    }
    bool half = out >= 0xD800 && out < 0xE000;
    if (digits == 0 || out > 0x10FFFF || half) wrong("a known escape");
    return out;
  }

  std::string text() {
    std::string out;
    ++at_;
    while (!take("\""))
      append_utf8(character(), out);
    return Json(out).dump();
  }

  std::string char_class() {
    ++at_;
    std::string out = take("^") ? "[^" : "[";
    auto add = [&](std::uint32_t c) { out += fmt::format("\\x{{{:X}}}", c); };
    while (!take("]")) {
      auto first = character();
      add(first);
      if (peek() != '-' || starts_with(text_.substr(at_), "-]")) continue;
      ++at_;
      auto last = character();
      if (last < first) wrong("a range in order");
      out += "-";
      add(last);
    }
    if (out == "[" || out == "[^") wrong("a character in []");
    return fmt::format("/{}]/", out);
  }

  std::string_view text_;
  std::size_t at_ = 0;
  std::set<std::string> defined_;
  std::map<std::string, std::size_t> used_; // and where first
};

} // namespace

bool is_gbnf(std::string_view text) {
  // As the first rule begins: a name, then "::=".
  std::size_t at = 0;
  while (at < text.size() && !is_name_char(text[at])) {
    if (text[at] == '#')
      at = std::min(text.find('\n', at), text.size());
    else if (std::string_view(" \t\r\n").find(text[at++]) == text.npos)
      return false;
  }
  while (at < text.size() && is_name_char(text[at]))
    ++at;
  at = std::min(text.find_first_not_of(" \t\r\n", at), text.size());
  return starts_with(text.substr(at), "::=");
}

std::string lark_of_gbnf(std::string_view text) {
  return GbnfReader(text).lark();
}

} // namespace mlxlm
