// A path in the checkpoint. Blocks are constructed from it: a name is written
// once, the tensor is found, checked, given to the right format and entered in
// the model's table.
//
//   Linear q = s.linear("q_proj", hidden, heads * head_dim, {.bias =
//   Bias::required});
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "weights/linear.h"

namespace mlxlm {

// Which axis tensor parallelism divides. `units` (heads) are never cut.
enum class Split { none, out, in };
enum class Bias { none, required, optional };
struct LinearOptions {
  Bias bias = Bias::none;
  Split split = Split::none;
  int units = 0;
  int experts = 0; // > 0: stacked [experts, out, in]
};

// path -> handle, in construction order. The only registry of a model's
// weights.
class ParameterTable {
 public:
  struct Entry {
    std::string path; // of the module for a Linear, of the tensor for a Param
    std::variant<Linear, Param> handle;
  };
  void add(std::string path, std::variant<Linear, Param> handle);
  const std::vector<Entry>& entries() const {
    return entries_;
  }
  std::size_t bytes() const;
  std::size_t parameters() const;

 private:
  std::vector<Entry> entries_;
};

class Loader; // what stands behind a Scope: checkpoint, formats, table
              // (weights/loader.h)

class Scope {
 public:
  Scope(std::shared_ptr<Loader> loader, std::string path);
  Scope operator/(std::string_view name) const;
  Scope operator/(int index) const;
  const std::string& path() const {
    return path_;
  }

  // Whether a tensor `path.name` or `path.name.weight` exists.
  bool has(std::string_view name) const;
  // The tensor `path.name` of exactly this shape, as an array of the compute
  // type (or of `type`). Throws Error(weights) naming the nearest tensors.
  Param param(std::string_view name, const mx::Shape& shape) const;
  Param param(std::string_view name, const mx::Shape& shape, mx::Dtype type)
      const;
  // The same, or nothing when there is no such tensor.
  std::optional<Param> find_param(std::string_view name, const mx::Shape& shape)
      const;
  // `path.name.weight` [out, in] in whatever format the checkpoint holds it.
  Linear linear(
      std::string_view name,
      int in,
      int out,
      LinearOptions options = {}) const;
  // Rows [begin, end) of a fused matrix of `fused_out` rows as a Linear of its
  // own (fused qkv, gate_up); its bias likewise.
  Linear linear_rows(
      std::string_view name,
      int in,
      int fused_out,
      int begin,
      int end,
      LinearOptions options = {}) const;
  // An embedding table [vocab, width]: `.kernel().rows(ids, type)`, or called
  // as a head.
  Linear embedding(std::string_view name, int vocab, int width) const;
  // Rows of the stored matrix `path.name.weight`; 0 when absent.
  int stored_rows(std::string_view name) const;

  mx::Dtype compute_type() const;

 private:
  std::shared_ptr<Loader> loader_;
  std::string path_;
};

} // namespace mlxlm
