// Which files of a repository running its model takes.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hub/listing.h"

namespace mlxlm::hub {

struct Want {
  std::string variant; // GGUF
  std::vector<std::string> patterns; // globs of paths; empty: the usual files
  bool weights = true;
};

// Config, tokenizer, templates: what mlx-lm fetches beside the weights.
bool is_side_file(std::string_view path);

// Side files. Empty for a GGUF selection, which has everything in itself.
Listing side_files(const Listing& listing, const Want& want);

// The weights: those the index names when all are there; else model*, weight*,
// any *.safetensors at the top, the first kind that exists; else GGUF files,
// one or all parts of a split one. `index` is the content of
// model.safetensors.index.json, if there is one. Throws Error(request) for a
// variant that is not there or a repository without weights.
Listing weight_files(
    const Listing& listing,
    const Want& want,
    const std::optional<std::string>& index);

// The GGUF file of `names` to run, or its first part; empty: none fits.
std::string choose_gguf(
    const std::vector<std::string>& names,
    std::string_view variant);

// Whether a name is that of one part of a split GGUF.
bool is_gguf_part(std::string_view path);

// Whether what is to be run is a GGUF file.
bool wants_gguf(const Listing& listing, const Want& want);

inline constexpr std::string_view index_name = "model.safetensors.index.json";

} // namespace mlxlm::hub
