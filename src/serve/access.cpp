#include "serve/access.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <set>

#include "core/check.h"
#include "core/strings.h"

namespace mlxlm::serve {
namespace {

constexpr std::size_t longest_key = 512;
using Padded = std::array<unsigned char, longest_key + 1>;

Padded padded(std::string_view text) {
  Padded out{};
  for (std::size_t i = 0; i < longest_key; ++i)
    out[i] = i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
  return out;
}

// No branch depends on the bytes.
bool equal(const Padded& a, const Padded& b) {
  volatile unsigned char difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    difference = static_cast<unsigned char>(difference | (a[i] ^ b[i]));
  return difference == 0;
}

std::string_view trimmed(std::string_view text) {
  auto first = text.find_first_not_of(" \t\r");
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

std::string_view secret_of(const HttpRequest& request) {
  const auto* bearer = request.header("authorization");
  const auto* plain = request.header("x-api-key");
  if (request.count("authorization") + request.count("x-api-key") != 1)
    return {};
  if (plain) return *plain;
  auto space = bearer->find(' ');
  if (space == std::string::npos ||
      lower_ascii(bearer->substr(0, space)) != "bearer")
    return {};
  return trimmed(std::string_view(*bearer).substr(space));
}

// A whole number of exactly `digits` digits, or of any with 0; nothing else.
std::optional<int> number(std::string_view text, std::size_t digits) {
  if (text.empty() || text.size() > 9 || (digits && text.size() != digits))
    return {};
  int out = 0;
  for (char c : text) {
    if (c < '0' || c > '9') return {};
    out = out * 10 + (c - '0');
  }
  return out;
}

// Of a date, or of a date and time of UTC.
std::optional<std::int64_t> unix_time_of(std::string_view text) {
  using namespace std::chrono;
  bool timed = text.size() == 20;
  if ((!timed && text.size() != 10) || text[4] != '-' || text[7] != '-')
    return {};
  auto at = [&](std::size_t from, std::size_t size) {
    return number(text.substr(from, size), size);
  };
  auto y = at(0, 4), m = at(5, 2), d = at(8, 2);
  if (!y || !m || !d) return {};
  year_month_day date(
      year(*y),
      month(static_cast<unsigned>(*m)),
      day(static_cast<unsigned>(*d)));
  if (!date.ok()) return {};
  auto out = std::int64_t{sys_days(date).time_since_epoch().count()} * 86400;
  if (!timed) return out;
  auto h = at(11, 2), min = at(14, 2), s = at(17, 2);
  bool marks =
      text[10] == 'T' && text[13] == ':' && text[16] == ':' && text[19] == 'Z';
  if (!marks || !h || !min || !s || *h > 23 || *min > 59 || *s > 60) return {};
  return out + *h * 3600 + *min * 60 + *s;
}

// What stands behind a secret.
void read_terms(std::string_view terms, Key& key) {
  for (const auto& term : split(terms, ' ')) {
    auto word = trimmed(term);
    if (word.empty()) continue;
    auto equals = std::min(word.find('='), word.size());
    auto name = word.substr(0, equals);
    auto value = word.substr(std::min(equals + 1, word.size()));
    auto answers = name == "answers" ? number(value, 0) : std::nullopt;
    auto until = name == "until" ? unix_time_of(value) : std::nullopt;
    if (answers && *answers > 0)
      key.answers = *answers;
    else if (until)
      key.until = until;
    else if (word == "admin")
      key.admin = true;
    else if (word == "private" && key.salt.empty())
      key.salt = "key " + key.secret;
    else if (name == "salt" && !value.empty() && key.salt.empty())
      key.salt = fmt::format("salt {}", value);
    else // it may be a part of a secret: not shown
      fail(
          ErrorKind::request,
          "API key",
          "expected answers=N, until=DATE, admin, private or salt=WORD behind the key of \"{}\"",
          printable(key.name));
  }
}

} // namespace

std::vector<Key> parse_keys(std::string_view text) {
  std::vector<Key> keys;
  for (const auto& line : split(text, '\n')) {
    if (starts_with(trimmed(line), "#")) continue;
    for (const auto& entry : split(line, ',')) {
      auto word = trimmed(entry);
      if (word.empty()) continue;
      auto colon = word.find(':');
      Key key;
      if (colon != word.npos) key.name = word.substr(0, colon);
      key.named = !key.name.empty();
      if (!key.named) key.name = fmt::format("key{}", keys.size() + 1);
      auto rest = trimmed(colon == word.npos ? word : word.substr(colon + 1));
      auto blank = std::min(rest.find_first_of(" \t"), rest.size());
      key.secret = rest.substr(0, blank);
      read_terms(rest.substr(blank), key);
      if (key.secret.empty() || key.secret.size() > longest_key)
        fail(
            ErrorKind::request,
            "API key",
            "expected 1 to {} bytes, found {}",
            longest_key,
            key.secret.size());
      keys.push_back(std::move(key));
    }
  }
  return keys;
}

void name_keys(
    std::vector<Key>& keys,
    const std::vector<Key>& before,
    int& last) {
  std::set<std::string> given;
  for (const auto& key : keys)
    if (key.named) given.insert(key.name);
  for (auto& key : keys) {
    if (key.named) continue;
    auto same = std::find_if(before.begin(), before.end(), [&](const Key& old) {
      return !old.named && old.secret == key.secret;
    });
    if (same != before.end() && given.count(same->name) == 0)
      key.name = same->name;
    else
      do
        key.name = fmt::format("key{}", ++last);
      while (given.count(key.name) > 0);
  }
}

const Key* find_key(const std::vector<Key>& keys, const HttpRequest& request) {
  auto secret = secret_of(request);
  bool possible = !secret.empty() && secret.size() <= longest_key;
  auto given = padded(secret);
  const Key* found = nullptr;
  for (const auto& key : keys)
    if (equal(given, padded(key.secret))) found = &key;
  return possible ? found : nullptr;
}

std::string host_name(std::string_view header) {
  auto text = trimmed(header);
  std::size_t end;
  if (starts_with(text, "[")) {
    end = text.find(']');
    if (end == text.npos) return {};
    ++end;
  } else {
    end = std::min(text.find(':'), text.size());
  }
  auto rest = text.substr(end);
  if (!rest.empty()) {
    if (rest[0] != ':' || rest.size() > 6) return {};
    for (char c : rest.substr(1))
      if (c < '0' || c > '9') return {};
  }
  auto name = lower_ascii(text.substr(0, end));
  for (char c : name)
    if (static_cast<unsigned char>(c) <= ' ' || c == '/' || c == '@') return {};
  if (ends_with(name, ".")) name.pop_back();
  return name;
}

bool is_loopback_name(std::string_view host) {
  if (host == "localhost" || host == "[::1]" || host == "::1") return true;
  if (!starts_with(host, "127.")) return false;
  return host.find_first_not_of("0123456789.") == host.npos;
}

bool is_open_bind(const std::string& host) {
  return !is_loopback_name(lower_ascii(host)) && !starts_with(host, "unix:") &&
      !ends_with(host, ".sock");
}

} // namespace mlxlm::serve
