// Names from outside: hub ids, revisions, paths in a repository. Whatever
// passes here is safe as part of a file's path.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace mlxlm::hub {

struct HubId {
  std::string org, name; // "org/name"
  std::string revision = "main"; // branch, tag or commit; may hold slashes
  std::string variant; // of a GGUF repository: "Q4_K_M" or a file name

  std::string id() const {
    return org + "/" + name;
  }
  std::string text() const; // as one would type it
};

// "org/name[:variant][@revision]", or nothing when the text is no such thing.
std::optional<HubId> parse_id(std::string_view reference);

// One component: letters, digits, "-", "_", "."; no "..", no leading "." or
// "-", at most 96 long.
bool plain_component(std::string_view text);
bool is_commit(std::string_view text); // 40 lower-case hex digits
bool is_revision(std::string_view text); // plain components between slashes

// Whether a path from a listing may be used below a folder: relative, plain
// UTF-8, no "." or ".." or empty component, nothing a terminal would act on.
bool safe_path(std::string_view path);

// An ETag without quotes and weakness mark, as huggingface_hub writes it.
std::string plain_etag(std::string_view etag);

} // namespace mlxlm::hub
