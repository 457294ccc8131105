// The models of the cache: listing, removing, verifying, fetching.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "hub/resolve.h"
#include "mlxlm/hub.h"

namespace mlxlm::hub {

// Installed short names, and every revision of the cache that holds a model.
std::vector<LocalModel> local_models(const Places& places);

std::size_t remove_model(std::string_view reference, const Places& places);

std::vector<FileCheck> verify_model(
    std::string_view reference,
    const Places& places,
    const DownloadControl& control);

// Null `downloader`: the hub of the environment.
std::string fetch(
    std::string_view reference,
    const Places& places,
    const FetchOptions& options);

// Where a short name's file lies, or nothing.
std::string carried(const ShortName& name, const Places& places);

} // namespace mlxlm::hub
