// Where a model reference leads: a folder, a .gguf file, a hub id
// "org/name[:variant][@revision]" in the Hugging Face cache, or a registry
// short name.
#pragma once

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

std::string cache_from_environment();

// What is on this machine. Throws Error(io) or Error(request): what was
// expected and where it looked.
std::string resolve(std::string_view reference, const Places& places);

// Whether the reference is a hub id, and no file, folder or short name.
bool is_hub_id(std::string_view reference);

} // namespace mlxlm::hub
