// What of a model is on this machine.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "hub/layout.h"
#include "hub/select.h"

namespace mlxlm::hub {

enum class Presence {
  none, // nothing that could be run
  partial, // some of what is wanted
  complete,
};

// By the commit's listing where it was kept, else by what the files say of each
// other.
Presence presence(
    const Repository& repository,
    std::string_view commit,
    const Want& want);

// By the files alone.
Presence presence_by_files(
    const Repository& repository,
    std::string_view commit,
    const Want& want);

// What to open in a snapshot: itself, or one of its GGUF files. Throws
// Error(io) when neither is there.
std::string model_of_snapshot(
    const std::filesystem::path& folder,
    std::string_view variant);

// The files below a folder with their sizes; broken links are left out.
Listing files_below(const std::filesystem::path& folder);

} // namespace mlxlm::hub
