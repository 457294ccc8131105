// Who may ask: keys, names of the host, origins of web pages.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "serve/http.h"

namespace mlxlm::serve {

struct Key {
  std::string name; // for logs and queues, and whose is what is kept
  bool named = false; // by who gave it; else "key" and a number
  std::string secret;
  int answers = 0; // that it may have under way or waiting; 0: no limit
  std::optional<std::int64_t> until = {}; // it is none from then on, Unix time
  bool admin = false; // sees what is others'
  // Prompts that begin alike are read once only among keys of the same.
  std::string salt = {};
};

// "SECRET" or "NAME:SECRET", one a line or separated by commas, perhaps with
// " answers=N", " until=2030-12-31" or " until=2030-12-31T23:59:59Z", " admin",
// " private" (a salt of its own) and " salt=WORD" behind it; lines that begin
// with # are comments. Throws Error(request) for a key that is too long and for
// what is none of these.
std::vector<Key> parse_keys(std::string_view text);

// Keys without a name keep the one they had `before`, or get a number beyond
// `last`: what is one's is never another's because a list has changed.
void name_keys(
    std::vector<Key>& keys,
    const std::vector<Key>& before,
    int& last);

// The key that the request carries (Authorization: Bearer, X-Api-Key), or null.
// Takes the same time whatever is wrong.
const Key* find_key(const std::vector<Key>& keys, const HttpRequest& request);

// The name in a Host header, in lower case: "localhost" of "localhost:8080".
// Empty when it is none.
std::string host_name(std::string_view header);
bool is_loopback_name(std::string_view host);
// Binding to it reaches further than this machine.
bool is_open_bind(const std::string& host);

} // namespace mlxlm::serve
