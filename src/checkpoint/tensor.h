// Tensors as files hold them: typed, shaped, mapped bytes. No MLX here, so that
// sanitizers and fuzzers see everything that reads foreign bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/files.h"

namespace mlxlm {

// Element or block types of safetensors and GGUF.
enum class Storage : std::uint8_t {
  f64,
  f32,
  f16,
  bf16,
  f8_e4m3,
  f8_e5m2,
  f8_e8m0,
  f4,
  i64,
  i32,
  i16,
  i8,
  u64,
  u32,
  u16,
  u8,
  boolean,
  // GGUF blocks
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl,
  iq4_xs,
  tq1_0,
  tq2_0,
  mxfp4,
};

struct StorageInfo {
  std::string_view name; // as its format spells it: "BF16", "Q4_K"
  int block; // elements in a block (1 for plain types)
  int bytes; // bytes of a block
};
const StorageInfo& info(Storage storage);

// One tensor of an open file. `shape` is row-major, outermost first (GGUF's
// dimensions are reversed on reading); the last dimension is a whole number of
// blocks and `bytes` has been proved to hold exactly the shape.
struct TensorView {
  std::string name;
  Storage storage = Storage::f32;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;
  std::shared_ptr<const MappedFile> file;
  std::size_t offset = 0; // of `bytes` in the file

  std::int64_t elements() const;
  // "model.safetensors: model.norm.weight", for errors.
  std::string where() const;
};

// The tensors of a checkpoint by name, whatever it consists of.
class TensorSource {
 public:
  TensorSource() = default;
  TensorSource(const TensorSource&) = delete;
  TensorSource& operator=(const TensorSource&) = delete;
  virtual ~TensorSource() = default;
  virtual const TensorView* find(std::string_view name) const = 0;
  virtual std::vector<std::string> names() const = 0;
};

} // namespace mlxlm
