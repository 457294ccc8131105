// For tests: a tiny checkpoint of a family on disk, named as published.
#pragma once

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "checkpoint/testing.h"
#include "models/families.h"
#include "models/testing.h"
#include "weights/loader.h"

namespace mlxlm::testing {

// What a model asks for that optional tensors of these names are there for.
inline const std::vector<std::string> with_prediction = {
    "prediction.token_norm",
    "prediction.head"};

inline std::vector<models::Family> predicting_families() {
  std::vector<models::Family> out;
  for (const auto& family : models::families())
    if (family.prediction) out.push_back(family);
  return out;
}

// The name that the family's checkpoints have for one of nn/prediction.h.
inline std::string published_name(
    const models::Family& family,
    const Fields& config,
    const std::string& name) {
  if (!name.starts_with("prediction.")) return name;
  auto rules = family.prediction(config).rules;
  auto before = [&](const std::string& name, std::size_t i) {
    const auto* rule = std::get_if<rewrite::Rename>(&rules[i]);
    return rule ? substitute(name, rule->to, rule->from) : std::nullopt;
  };
  for (std::size_t i = 0; i < rules.size(); ++i) {
    auto out = before(name, i);
    if (!out) continue;
    while (i-- > 0) // spellings that come to the same
      if (auto other = before(*out, i)) out = other;
    return *out;
  }
  return name;
}

// Changes a tensor, named as in the model, before it is written.
using ChangeTensor = std::function<
    void(const std::string& name, const Shape64& shape, std::vector<float>&)>;

// The name a tensor has in the file; empty: it is not written.
using StoredName = std::function<std::string(const std::string& name)>;

inline void write_checkpoint(
    const std::filesystem::path& folder,
    const models::Family& family,
    const Fields& config,
    const StoredName& stored_name = {},
    const ChangeTensor& change = {}) {
  RandomWeights::Asked asked;
  auto loader = Loader::random(
      {.present = with_prediction, .asked = &asked}, {.outline = false});
  family.build(config, loader->root());
  auto tensors = asked.others;
  for (const auto& [path, shape] : asked.matrices)
    tensors[path + ".weight"] = shape;
  Json header = Json::object();
  std::string data;
  std::mt19937_64 random(7);
  for (auto& [name, shape] : tensors) {
    auto stored = stored_name ? stored_name(name) : name;
    if (stored.empty()) continue;
    // As MLX stores convolutions, [C, K, 1].
    if (name.ends_with("conv1d.weight")) shape.push_back(1);
    std::int64_t count = 1;
    for (auto dim : shape)
      count *= dim;
    double size = shape.size() > 1 ? 1 / std::sqrt(double(shape.back())) : 0.1;
    std::normal_distribution<float> draw(
        shape.size() > 1 ? 0.f : 1.f, static_cast<float>(size));
    std::vector<float> values(static_cast<std::size_t>(count));
    for (auto& v : values)
      v = draw(random);
    if (change) change(name, shape, values);
    auto begin = data.size();
    data += raw(values);
    header[stored] = {
        {"dtype", "F32"},
        {"shape", shape},
        {"data_offsets", {begin, data.size()}}};
  }
  std::ofstream(folder / "model.safetensors", std::ios::binary)
      << safetensors(header.dump(), data);
  auto json = config.json();
  json["model_type"] = family.model_type;
  std::ofstream(folder / "config.json") << json.dump();
}

// `left_out`: names, as in the model, that are not written.
inline void write_predicting_checkpoint(
    const std::filesystem::path& folder,
    const models::Family& family,
    const Fields& config,
    const std::function<bool(const std::string&)>& left_out = {},
    const ChangeTensor& change = {}) {
  auto stored = [&](const std::string& name) {
    if (left_out && left_out(name)) return std::string();
    auto out = published_name(family, config, name);
    // A head of its own, where the family shares the model's.
    bool shared = out == name && name.starts_with("prediction.");
    return shared ? std::string() : out;
  };
  write_checkpoint(folder, family, config, stored, change);
}

} // namespace mlxlm::testing
