// What a hub says a repository holds. Everything here comes from outside and is
// checked before it is believed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mlxlm::hub {

struct RemoteFile {
  std::string path; // safe_path
  std::uint64_t size = 0;
  std::string git_id; // of the file, or of its pointer when it is large
  std::string sha256; // of a large file; else empty
  std::string xet_hash; // passed on to Python's tools; may be empty

  // What its bytes must hash to, and its name in blobs/.
  const std::string& blob() const {
    return sha256.empty() ? git_id : sha256;
  }
};

// By path, no path twice, no path below another file's.
using Listing = std::vector<RemoteFile>;

// The commit of a model-info answer. All parsers throw Error(io).
std::string parse_model_info(std::string_view json);

// Adds one page of the `tree` answer.
void add_tree_page(std::string_view json, Listing& listing);
// Sorts and checks the whole.
void finish(Listing& listing);

// trees/COMMIT.json, the listing as huggingface_hub keeps it.
std::string to_tree_file(const Listing& listing);
Listing parse_tree_file(std::string_view json);

// The address of the next page in a Link header, or nothing.
std::string next_page(std::string_view link);

} // namespace mlxlm::hub
