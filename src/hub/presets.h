// Models known by their hub id: a prompt that shows what each is good at, and
// tokens beyond its own that end an answer. The ids are those of
// mlx-swift-lm's LLMRegistry.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mlxlm::hub {

struct Preset {
  std::string_view id;
  std::string_view prompt;
  std::vector<std::string_view> extra_eos_tokens = {};
};
std::span<const Preset> presets();

// The preset of a hub id (a revision behind `@` is ignored), or of a folder of
// the hub cache; null when there is none.
const Preset* preset_of(std::string_view reference);

} // namespace mlxlm::hub
