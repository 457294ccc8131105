// Converting a checkpoint into an MLX folder: the one that mlx-lm's convert
// writes, tensor by tensor in bounded memory.
//
//   ConvertOptions options;
//   options.output = "name-4bit";
//   options.quantize = true;
//   convert("org/name", options);
//
// A conversion that was interrupted goes on where it stopped when it is asked
// for again; nothing appears under the folder's name before it is whole.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mlxlm {

// How weights are packed. Zero: the mode's own (affine 4 bits in groups of 64,
// mxfp4 4 in 32, mxfp8 8 in 32, nvfp4 4 in 16).
struct Quantization {
  int bits = 0; // affine: 2, 3, 4, 5, 6, 8
  int group_size = 0; // affine: 32, 64, 128
  std::string mode = "affine"; // affine, mxfp4, mxfp8, nvfp4
};

struct ConvertProgress {
  std::string_view tensor; // just written
  std::size_t done = 0, total = 0; // bytes of the result
};

struct ConvertOptions {
  std::string output = "mlx_model"; // a folder that does not exist
  bool quantize = false;
  Quantization quantization;
  // mixed_2_6, mixed_3_4, mixed_3_6, mixed_4_6: more bits where they matter.
  std::string recipe = {};
  // Modules of their own: a name or a pattern with `*` as config.json has it,
  // and how to pack them; nothing: not at all. The first that matches counts.
  std::vector<std::pair<std::string, std::optional<Quantization>>> layers = {};
  // Undo the quantization the checkpoint has.
  bool dequantize = false;
  // float16, bfloat16 or float32 for everything not packed. Empty: what
  // config.json says, else as stored.
  std::string dtype = {};
  std::size_t shard_bytes = std::size_t{5} << 30;
  std::function<void(const ConvertProgress&)> progress = {};
};

struct Conversion {
  std::string path;
  std::size_t tensors = 0, files = 0;
  std::size_t bytes = 0; // of all tensors
  std::size_t parameters = 0;
  double bits_per_weight = 0;
  std::size_t resumed_bytes = 0; // found from an interrupted run
};

// `reference`: as for load(), any layout that loads. Throws Error(request) for
// options that contradict each other or an output that exists, and whatever
// opening the checkpoint throws.
Conversion convert(
    std::string_view reference,
    const ConvertOptions& options = {});

} // namespace mlxlm
