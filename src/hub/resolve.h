// Where a model reference leads: a folder, a .gguf file, a hub id
// "org/name[@revision]" in the Hugging Face cache, or a registry short name.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace mlxlm::hub {

// A name for a model that a Python package carries.
struct ShortName {
  std::string_view name; // "smollm2"
  std::string_view pattern; // below a site-packages folder, one `*` a component
};
const std::vector<ShortName>& short_names();

// Where to look; `from_environment` reads the variables that Hugging Face's own
// tools read, and MLXLM_DEPS.
struct Places {
  std::string cache; // folder of models--org--name folders
  std::vector<std::string> deps; // folders that hold venv/
  static Places from_environment();
};

// Throws Error(io) or Error(request): what was expected and where it looked.
std::string resolve(std::string_view reference, const Places& places);

struct Found {
  std::string reference, path;
  std::size_t bytes = 0;
};
// Installed short names, and every model of the cache that has a snapshot with
// a config.json or a .gguf file.
std::vector<Found> list(const Places& places);

} // namespace mlxlm::hub
