#include "core/strings.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace mlxlm {
namespace {

// One step of the UTF-8 decoder.
struct Char {
  std::size_t length; // bytes consumed, at least 1
  enum { valid, invalid, incomplete } state;
};

// Unicode table 3-7. For an invalid sequence `length` is the maximal subpart.
Char decode(std::string_view s) {
  auto at = [&](std::size_t i) { return static_cast<unsigned char>(s[i]); };
  unsigned char lead = at(0);
  if (lead < 0x80) return {1, Char::valid};
  std::size_t need;
  unsigned char low = 0x80, high = 0xBF;
  if (lead >= 0xC2 && lead <= 0xDF) {
    need = 1;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    need = 2;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    need = 3;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {1, Char::invalid};
  }
  for (std::size_t i = 1; i <= need; ++i) {
    if (i >= s.size()) return {i, Char::incomplete};
    if (at(i) < low || at(i) > high) return {i, Char::invalid};
    low = 0x80;
    high = 0xBF;
  }
  return {need + 1, Char::valid};
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j)
    row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      std::size_t substitute = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitute});
    }
  }
  return row[b.size()];
}

} // namespace

bool valid_utf8(std::string_view text) {
  while (!text.empty()) {
    Char c = decode(text);
    if (c.state != Char::valid) return false;
    text.remove_prefix(c.length);
  }
  return true;
}

std::size_t complete_utf8(std::string_view bytes) {
  // Only the last three bytes can begin an unfinished character.
  for (std::size_t back = 1; back <= 3 && back <= bytes.size(); ++back) {
    std::size_t at = bytes.size() - back;
    auto byte = static_cast<unsigned char>(bytes[at]);
    if ((byte & 0xC0) == 0x80) continue;
    Char c = decode(bytes.substr(at));
    return c.state == Char::incomplete ? at : bytes.size();
  }
  return bytes.size();
}

std::string replace_invalid_utf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  while (!bytes.empty()) {
    Char c = decode(bytes);
    if (c.state == Char::valid)
      out.append(bytes.substr(0, c.length));
    else
      out.append("\xEF\xBF\xBD");
    bytes.remove_prefix(c.length);
  }
  return out;
}

std::string printable(std::string_view text, std::size_t limit) {
  std::string out;
  for (unsigned char c : replace_invalid_utf8(text.substr(0, limit + 4))) {
    if (c == '\n')
      out += "\\n";
    else if (c == '\t')
      out += "\\t";
    else if (c == '\r')
      out += "\\r";
    else if (c < 0x20 || c == 0x7F)
      out += fmt::format("\\x{:02x}", c);
    else
      out += static_cast<char>(c);
  }
  if (text.size() > limit) {
    out.resize(complete_utf8(std::string_view(out).substr(0, limit)));
    out += "...";
  }
  return out;
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> out;
  while (true) {
    auto at = text.find(separator);
    out.emplace_back(text.substr(0, at));
    if (at == std::string_view::npos) return out;
    text.remove_prefix(at + 1);
  }
}

std::string join(
    std::span<const std::string> parts,
    std::string_view separator) {
  std::string out;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) out += separator;
    out += parts[i];
  }
  return out;
}

bool starts_with(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

bool ends_with(std::string_view text, std::string_view suffix) {
  return text.size() >= suffix.size() &&
      text.substr(text.size() - suffix.size()) == suffix;
}

std::string lower_ascii(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

bool glob_match(std::string_view pattern, std::string_view text) {
  std::size_t p = 0, t = 0, star = std::string_view::npos, mark = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      mark = t;
    } else if (
        p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++mark;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*')
    ++p;
  return p == pattern.size();
}

std::vector<std::string> nearest(
    std::string_view name,
    std::span<const std::string> candidates,
    std::size_t count) {
  name = name.substr(0, 256);
  std::vector<std::pair<std::size_t, std::string>> ranked;
  for (const auto& candidate : candidates) {
    std::size_t distance =
        edit_distance(name, std::string_view(candidate).substr(0, 256));
    if (distance <= std::max(name.size(), candidate.size()) * 2 / 3)
      ranked.emplace_back(distance, candidate);
  }
  std::sort(ranked.begin(), ranked.end());
  if (ranked.size() > count) ranked.resize(count);
  std::vector<std::string> out;
  for (auto& [_, candidate] : ranked)
    out.push_back(std::move(candidate));
  return out;
}

std::string human_bytes(std::size_t bytes) {
  if (bytes < 1000) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes);
  const char* unit = "B";
  for (const char* next : {"kB", "MB", "GB", "TB"}) {
    if (value < 1000) break;
    value /= 1000;
    unit = next;
  }
  return value < 10 ? fmt::format("{:.2f} {}", value, unit)
                    : fmt::format("{:.1f} {}", value, unit);
}

} // namespace mlxlm
