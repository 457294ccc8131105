// From a checkpoint to a model that runs.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "core/fields.h"
#include "nn/model.h"
#include "weights/inventory.h"
#include "weights/scope.h"

namespace mlxlm {

struct ModelOptions {
  // Type of activations. None: float32 on CPU, the checkpoint's own on a GPU.
  std::optional<mx::Dtype> dtype = {};
  bool quantize_activations = false; // 8-bit activations in the CPU kernels
  // Also what predicts further tokens (nn/prediction.h). Throws Error(weights)
  // where the checkpoint has none.
  bool prediction = false;
  std::string adapter_path = {}; // of a fine-tuning, see checkpoint/adapter.h
  // Called while weights are read: done and total bytes.
  std::function<void(std::size_t done, std::size_t total)> progress = {};
};

struct LoadedModel {
  Fields
      config; // config.json, or what a GGUF's metadata says in the same words
  std::string model_type;
  ModelPtr model;
  std::shared_ptr<ParameterTable> parameters;
  mx::Dtype compute_type;
  mx::Dtype stored_type; // of the checkpoint's own plain tensors
  std::string quantization; // "affine 4 bit, group 64", "Q4_1", "" when none
  int max_positions = 0; // longest context the model was made for; 0: unknown
  std::vector<int> eos_tokens; // generation_config.json, else config.json
  // Only guesses for another model, whose memory it sees (Model::caches).
  bool assistant = false;
};

// `path`: a folder with config.json and *.safetensors, or one .gguf file. Call
// it on the thread that will run the model. Throws Error(config | weights |
// io); an unknown model_type names the nearest known ones.
LoadedModel load_model(
    const std::string& path,
    const ModelOptions& options = {});

// What the model of a checkpoint remembers, a spec a layer, from config and
// headers alone: whether they fit together. Throws as load_model does.
std::vector<CacheSpec> remembered(const Checkpoint& checkpoint);

// Whether it carries what ModelOptions::prediction loads.
bool predicts(const Checkpoint& checkpoint);

// What a checkpoint holds as the model it is for asks for it; no weight is
// read.
struct ModelInventory {
  Checkpoint checkpoint;
  std::string model_type; // of the family
  std::string wrapper; // of the multimodal config around it; empty: none
  Fields config; // of the language model
  mx::Dtype stored_type;
  Inventory inventory;
};
// Throws what load_model throws.
ModelInventory take_inventory(const std::string& path);

// The longest context a config says the model was made for; 0: it does not.
int context_length(const Fields& config);

// The model_type names that load_model knows, sorted.
std::vector<std::string> supported_models();

} // namespace mlxlm
