// JANG checkpoints: mixed-precision MLX tensors whose widths are known by their
// shapes, marked by a configuration file of their own.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "checkpoint/rewrite.h"
#include "core/fields.h"

namespace mlxlm {

struct JangMark {
  std::string file; // the configuration file's name
  bool native = true; // format 2: MLX's layout; else 1: `*.jang.safetensors`
};

// What marks `folder` as JANG, or nothing.
std::optional<JangMark> find_jang(const std::string& folder);
// The weights of a format 1 folder.
std::vector<std::string> jang_files(const std::string& folder);
// To the names and shapes that models ask for. `config`: config.json.
std::vector<Rule> jang_rules(const Fields& config);

} // namespace mlxlm
