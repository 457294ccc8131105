// What a model is, from file headers and config alone.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "cache/footprint.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf.h"
#include "generate/codec.h"
#include "generate/machine.h"
#include "hub/resolve.h"
#include "mlxlm/model.h"
#include "models/load.h"

namespace mlxlm {
namespace {

// The storage that holds most bytes of matrices; "none" for plain types.
std::string main_format(const std::vector<TensorSummary>& tensors) {
  std::map<std::string, std::size_t> bytes;
  for (const auto& t : tensors)
    if (t.shape.size() >= 2) bytes[t.format] += t.bytes;
  auto most = std::max_element(
      bytes.begin(), bytes.end(), [](const auto& a, const auto& b) {
        return a.second < b.second;
      });
  if (most == bytes.end()) return "none";
  for (const char* plain : {"F64", "F32", "F16", "BF16"})
    if (most->first == plain) return "none";
  return most->first;
}

std::string quantization(
    const Fields& config,
    const std::vector<TensorSummary>& tensors) {
  for (const char* key : {"quantization", "quantization_config"}) {
    if (!config.is_object(key)) continue;
    auto q = config.sub(key);
    if (!q.has("bits")) return q.opt("quant_method", "unknown");
    return fmt::format(
        "{} {} bit, group {}",
        q.opt("mode", "affine"),
        q.req<int>("bits"),
        q.opt("group_size", 64));
  }
  return main_format(tensors);
}

// What cannot be loaded can still be looked at.
void add_memory(const Checkpoint& checkpoint, ModelSummary& out) {
  out.available_memory = available_memory();
  try {
    Footprint need(remembered(checkpoint), {});
    out.kv_bytes_per_token = need.bytes_per_token();
    out.kv_bytes_of_context = need.bytes_for(out.context_length);
    auto free = out.available_memory;
    free -= std::min(free, out.weight_bytes);
    out.context_that_fits =
        need.tokens_within(sequence_budget(free), out.context_length);
  } catch (const Error& error) {
    out.obstacle = error.what();
  }
}

void add_tensors(const TensorSource& source, ModelSummary& out) {
  for (const auto& name : source.names()) {
    const auto* view = source.find(name);
    const auto& storage = info(view->storage);
    out.tensors.push_back(
        {name, view->shape, std::string(storage.name), view->bytes.size()});
    out.weight_bytes += view->bytes.size();
    // Packed integers hold several weights; scales and biases are not weights.
    bool packed = view->storage == Storage::u32;
    bool side = name.ends_with(".scales") || name.ends_with(".biases");
    if (!packed && !side)
      out.parameters += static_cast<std::size_t>(view->elements());
  }
}

// Weights in packed u32 words: 32 / bits each.
void add_packed(const Fields& config, ModelSummary& out) {
  auto q = config.sub(
      config.is_object("quantization") ? "quantization"
                                       : "quantization_config");
  int bits = q.opt("bits", 4);
  for (const auto& t : out.tensors) {
    if (t.format != info(Storage::u32).name || bits <= 0) continue;
    out.parameters += t.bytes * 8 / static_cast<std::size_t>(bits);
  }
}

bool carries_prediction(const Checkpoint& checkpoint) {
  try {
    return predicts(checkpoint);
  } catch (const Error&) {
    return false; // an unknown text tower
  }
}

} // namespace

std::string resolve(std::string_view reference) {
  return hub::resolve(reference, hub::Places::from_environment());
}

ModelSummary inspect(std::string_view reference) {
  ModelSummary out;
  out.path = fetch(reference);
  auto checkpoint = open_checkpoint(out.path);
  const auto& config = checkpoint.config;
  auto text =
      config.is_object("text_config") ? config.sub("text_config") : config;
  out.container = checkpoint.gguf ? "GGUF" : "safetensors";
  out.model_type = config.req<std::string>("model_type");
  out.config = config.json().dump(2);
  add_tensors(*checkpoint.tensors, out);
  add_packed(config, out);
  out.quantization = quantization(config, out.tensors);
  out.layers = text.opt("num_hidden_layers", 0);
  out.vocab = text.opt("vocab_size", 0);
  out.context_length = context_length(text);
  add_memory(checkpoint, out);
  out.capabilities.text = true;
  try {
    out.capabilities = Codec(out.path).capabilities();
  } catch (const Error&) {
    // Weights without a tokenizer can still be looked at.
  }
  out.capabilities.mtp = carries_prediction(checkpoint);
  return out;
}

} // namespace mlxlm
