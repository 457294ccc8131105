#include "hub/names.h"

#include <cctype>

#include "core/strings.h"
#include "hub/digest.h"

namespace mlxlm::hub {

std::string HubId::text() const {
  auto out = id();
  if (!variant.empty()) out += ":" + variant;
  if (revision != "main") out += "@" + revision;
  return out;
}

bool plain_component(std::string_view text) {
  bool ok =
      !text.empty() && text.size() <= 96 && text[0] != '.' && text[0] != '-';
  for (char c : text)
    ok &= std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' ||
        c == '.';
  return ok && text.find("..") == std::string_view::npos;
}

bool is_commit(std::string_view text) {
  return is_git_id(text);
}

bool is_revision(std::string_view text) {
  if (text.size() > 200) return false;
  for (const auto& part : split(text, '/'))
    if (!plain_component(part) || ends_with(part, ".lock")) return false;
  return true;
}

std::optional<HubId> parse_id(std::string_view reference) {
  HubId id;
  // The variant and the revision in either order.
  auto cut = reference.find_first_of(":@");
  auto rest = reference.substr(std::min(cut, reference.size()));
  reference = reference.substr(0, cut);
  bool variant = false, revision = false;
  while (!rest.empty()) {
    auto end = rest.find_first_of(":@", 1);
    auto part = rest.substr(1, end == std::string_view::npos ? end : end - 1);
    auto& seen = rest[0] == ':' ? variant : revision;
    if (seen || part.empty()) return std::nullopt;
    seen = true;
    (rest[0] == ':' ? id.variant : id.revision) = part;
    rest = rest.substr(std::min(end, rest.size()));
  }
  auto slash = reference.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  id.org = reference.substr(0, slash);
  id.name = reference.substr(slash + 1);
  // "--" separates the parts in the cache's folder names.
  bool ok = plain_component(id.org) && plain_component(id.name) &&
      reference.find("--") == std::string_view::npos &&
      is_revision(id.revision) && (!variant || safe_path(id.variant));
  if (!ok) return std::nullopt;
  return id;
}

bool safe_path(std::string_view path) {
  if (path.empty() || path.size() > 1024 || !valid_utf8(path)) return false;
  for (char c : path)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f || c == '\\')
      return false;
  for (const auto& part : split(path, '/'))
    if (part.empty() || part == "." || part == ".." || part.size() > 255)
      return false;
  return true;
}

std::string plain_etag(std::string_view etag) {
  if (starts_with(etag, "W/")) etag.remove_prefix(2);
  while (!etag.empty() && etag.front() == '"')
    etag.remove_prefix(1);
  while (!etag.empty() && etag.back() == '"')
    etag.remove_suffix(1);
  return lower_ascii(etag);
}

} // namespace mlxlm::hub
