// Prompt-cache files as mlx-lm and mlx-swift-lm write them: one safetensors
// file, tensors "<layer>.<index>", what each layer is in its metadata. Two
// layouts of the metadata are in use:
//   A (mlx-swift-lm, mlx-lm before 0.32): "0.<layer>[.<i>]" what the layer's
//     class wants to know, "1.<name>" of the user, "2.<layer>" class names
//   B (mlx-lm since): "0.<name>" of the user, "1.<layer>" class names; numbers
//     are tensors of no dimension beside the layer's arrays
#pragma once

#include <mlx/array.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "cache/memory.h"
#include "mlxlm/model.h"

namespace mlxlm {

// What one layer's cache held.
struct CacheFileLayer {
  enum class Kind { plain, rotating, quantized, states };
  Kind kind = Kind::plain;
  int offset = 0; // tokens it had read
  int keep = 0, max_size = 0; // rotating
  int bits = 0, group = 0; // quantized
  // Rows in the order of their positions; positions as they may have gaps. Of a
  // file that was read only their number and kind: files are as large as
  // memory, so `read` reads some at a time.
  CacheRows rows;
  std::vector<int> positions;
  std::function<CacheRows(int first, int count)> read = {};
  // Rows [first, first + count) of them.
  CacheRows some(int first, int count) const;
  // Widths of what "<layer>.0" and ".1" were: a latent layer's row is both.
  int k_dim = 0, v_dim = 0, heads = 0;
  std::vector<mx::array> states; // float32
};

struct CacheFile {
  std::map<std::string, std::string> metadata; // of the user
  std::vector<CacheFileLayer> layers;
  // Ids read, in our own files; else none.
  std::vector<int> ids() const;
  void set_ids(const std::vector<int>& ids);
  int tokens() const; // read by all layers
};

// Throws Error(io) and Error(weights) naming what is wrong.
CacheFile read_cache_file(const std::string& path);

using CacheLayout = PromptCacheLayout; // swift: A, python: B
void write_cache_file(
    const std::string& path,
    const CacheFile& file,
    CacheLayout layout,
    bool halves); // plain rows as f16, else f32

// ---- between files and sequences --------------------------------------------
// How memory must be made for what the file holds to stay as it is.
void adopt(const CacheFile& file, MemoryOptions& options);
// Fills an empty sequence. Throws Error(request) where the file is another
// model's.
void restore(
    const CacheFile& file,
    const std::vector<CacheSpec>& specs,
    const MemoryOptions& options,
    Memory& memory,
    SequenceMemory& sequence);
// What a sequence remembers; pages are read as codes where they are affine.
CacheFile snapshot(
    const std::vector<CacheSpec>& specs,
    const MemoryOptions& options,
    Memory& memory,
    SequenceMemory& sequence);

} // namespace mlxlm
