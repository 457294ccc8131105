// What stands behind a Scope: the tensors after rewriting, the formats that can
// read them, the options, and the table of what was built. Strict both ways: a
// missing tensor throws where it is asked for, a left-over one in `finish`.
//
//   auto loader = Loader::open(checkpoint.tensors, rules,
//   quant::formats(config), options); auto model = family.build(config,
//   loader->root()); loader->finish(family.ignore); model->table =
//   loader->take_table();
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/adapter.h"
#include "checkpoint/rewrite.h"
#include "weights/format.h"
#include "weights/inventory.h"
#include "weights/scope.h"

namespace mlxlm {

struct LoaderOptions {
  // Of activations, norms, biases: what Scope::compute_type() says.
  mx::Dtype type = mx::float32;
  // true: matrices are repacked for our CPU kernels. false (GPUs): MLX arrays,
  // in MLX's own quantized form where an exact one exists, else in f16.
  bool packed = true;
  kernels::Activations activations = kernels::Activations::exact;
  // Headers alone: shapes are checked, no value is read, the model cannot run.
  bool outline = false;
  // Bytes of stored weights read so far, and all of them.
  std::function<void(std::size_t done, std::size_t total)> progress;
  // What a fine-tuning adds to the modules, or puts in the place of tensors.
  std::shared_ptr<const Adapter> adapter = nullptr;
  // Filled with what the model asks for; with `outline`.
  std::shared_ptr<Inventory> inventory = nullptr;
};

// Seeded values by name for models without a checkpoint (tests, benchmarks):
// every tensor that is asked for exists with the shape asked for.
struct RandomWeights {
  std::uint64_t seed = 0;
  // Globs of what optional questions (has, find_param, Bias::optional) find.
  std::vector<std::string> present;
  // Notes the names and shapes of what was asked for, as stored.
  struct Asked {
    std::map<std::string, Shape64> matrices, others;
  };
  Asked* asked = nullptr;
};

class Loader : public std::enable_shared_from_this<Loader> {
 public:
  // `rules`: the checkpoint's own (GGUF), then the family's.
  static std::shared_ptr<Loader> open(
      const TensorSource& source,
      const std::vector<Rule>& rules,
      std::vector<WeightFormatPtr> formats,
      LoaderOptions options);
  static std::shared_ptr<Loader> random(
      RandomWeights weights,
      LoaderOptions options);

  Scope root();
  const LoaderOptions& options() const {
    return options_;
  }
  // Throws Error(weights) naming tensors nobody asked for, unless a glob of
  // `ignore` covers them.
  void finish(const std::vector<std::string>& ignore = {}) const;
  ParameterTable take_table();

  // What Scope calls; `path` is the full name.
  bool has_tensor(std::string_view path) const;
  std::int64_t stored_rows(std::string_view path) const;
  Param param(const std::string& path, const mx::Shape& shape, mx::Dtype type);
  struct MatrixRequest {
    std::string path; // of the module
    int in = 0;
    int out = 0; // rows of the stored matrix (of one expert)
    int begin = 0, end = 0; // the rows wanted
    LinearOptions options;
  };
  Linear linear(const MatrixRequest& request);

 private:
  Loader(
      TensorMap tensors,
      std::vector<WeightFormatPtr> formats,
      LoaderOptions options);
  class Module;
  const RowTensor* find(std::string_view name) const;
  // The tensor `name`, of this shape, marked as used.
  RowTensor take(const std::string& name, const Shape64& shape);
  RowTensor take(const std::string& name);
  [[noreturn]] void missing(const std::string& name) const;
  EncodedMatrix encoded(
      const MatrixRequest& request,
      Inventory::Matrix* listing = nullptr);
  Linear list(const MatrixRequest& request);
  Linear invented(const MatrixRequest& request);
  std::optional<mx::array> bias(const MatrixRequest& request);
  void replace_tensors();
  LinearKernelPtr kernel_of(
      const EncodedMatrix& matrix,
      std::optional<mx::array> bias) const;
  LinearKernelPtr adapted(const MatrixRequest& request, LinearKernelPtr kernel);
  mx::array value(
      const RowTensor& tensor,
      const mx::Shape& shape,
      mx::Dtype type) const;
  void advance(std::size_t bytes);
  void read_ahead(const RowTensor& tensor);

  TensorMap tensors_;
  std::vector<WeightFormatPtr> formats_;
  LoaderOptions options_;
  std::optional<RandomWeights> random_;
  std::set<std::string, std::less<>> used_;
  // Modules that have tensors, by their names in the file and in the model.
  std::set<std::string, std::less<>> modules_;
  std::set<std::string> listed_; // modules in the inventory
  std::set<std::string> adapted_; // modules that the adapter changed
  ParameterTable table_;
  std::size_t done_ = 0;
  std::size_t total_ = 0;
  // How far into each file the system was asked to read.
  std::map<const MappedFile*, std::size_t> ahead_;
};

} // namespace mlxlm
