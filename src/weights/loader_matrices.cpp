// The loader's matrices: from a module's tensors through its format to the
// kernel that multiplies, with what the adapter adds.
#include <algorithm>

#include "core/check.h"
#include "core/strings.h"
#include "weights/kernels.h"
#include "weights/loader.h"
#include "weights/random.h"

namespace mlxlm {
namespace {

std::string text(const Shape64& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

} // namespace

// What a format sees of a module.
class Loader::Module : public ModuleTensors {
 public:
  Module(Loader& loader, const MatrixRequest& request)
      : loader_(loader), request_(request) {}
  const std::string& path() const override {
    return request_.path;
  }
  std::string origin() const override {
    constexpr std::string_view suffix = ".weight";
    const auto* weight = peek("weight");
    if (weight == nullptr) return request_.path;
    auto name = weight->origin();
    if (ends_with(name, suffix)) name.resize(name.size() - suffix.size());
    return name;
  }
  bool has(std::string_view name) const override {
    return peek(name) != nullptr;
  }
  RowTensor take(std::string_view name) const override {
    auto tensor = loader_.take(full(name));
    taken_.emplace(name, tensor);
    return tensor;
  }
  const RowTensor* peek(std::string_view name) const override {
    return loader_.find(full(name));
  }
  int in() const override {
    return request_.in;
  }
  const std::map<std::string, RowTensor, std::less<>>& taken() const {
    return taken_;
  }

 private:
  std::string full(std::string_view name) const {
    return request_.path + "." + std::string(name);
  }
  Loader& loader_;
  const MatrixRequest& request_;
  mutable std::map<std::string, RowTensor, std::less<>> taken_;
};

// Of an outline without a checkpoint: what is asked for.
Linear Loader::invented(const MatrixRequest& r) {
  EncodedMatrix matrix;
  matrix.stacked = r.options.experts > 0;
  matrix.experts = std::max(1, r.options.experts);
  matrix.rows = r.end - r.begin;
  matrix.cols = r.in;
  return Linear(outline_linear(matrix));
}

EncodedMatrix Loader::encoded(
    const MatrixRequest& r,
    Inventory::Matrix* listing) {
  const int experts = std::max(1, r.options.experts);
  if (random_) {
    Shape64 shape{r.out, r.in};
    if (r.options.experts > 0) shape.insert(shape.begin(), r.options.experts);
    if (random_->asked) random_->asked->matrices[r.path] = shape;
    return dense_matrix(
        random_tensor(random_->seed, r.path + ".weight", shape));
  }
  Module module(*this, r);
  const auto* weight = module.peek("weight");
  const WeightFormat* format = nullptr;
  for (const auto& candidate : formats_)
    if (candidate->recognises(module)) {
      format = candidate.get();
      break;
    }
  if (format == nullptr && weight == nullptr) missing(r.path + ".weight");
  if (format == nullptr)
    fail(
        ErrorKind::weights,
        weight->where(),
        "expected a weight format that is supported, found {} of {}",
        text(weight->shape()),
        info(weight->storage()).name);
  auto out = format->open(module);
  if (listing != nullptr) {
    listing->format = format->name();
    listing->stored = module.taken();
  }
  if (out.experts != experts || out.rows != r.out || out.cols != r.in ||
      out.stacked != (r.options.experts > 0)) {
    auto shape = [](bool stacked, int e, int rows, int cols) {
      return stacked ? text({e, rows, cols}) : text({rows, cols});
    };
    fail(
        ErrorKind::weights,
        out.where,
        "expected shape {}, found {}",
        shape(r.options.experts > 0, experts, r.out, r.in),
        shape(out.stacked, out.experts, out.rows, out.cols));
  }
  return out;
}

std::optional<mx::array> Loader::bias(const MatrixRequest& r) {
  const auto name = r.path + ".bias";
  if (r.options.bias == Bias::none ||
      (r.options.bias == Bias::optional && !has_tensor(name)))
    return std::nullopt;
  Shape64 shape{r.out};
  mx::Shape part{r.end - r.begin};
  if (r.options.experts > 0) {
    shape.insert(shape.begin(), r.options.experts);
    part.insert(part.begin(), r.options.experts);
  }
  auto tensor = take(name, shape).slice(-1, r.begin, r.end);
  advance(tensor.bytes());
  return value(tensor, part, options_.type);
}

// The matrix as a whole, once however many parts of its rows are asked for.
Linear Loader::list(const MatrixRequest& r) {
  Inventory::Matrix entry{
      .path = r.path, .format = {}, .matrix = {}, .stored = {}};
  entry.matrix = encoded(r, &entry);
  Linear out(outline_linear(row_range(entry.matrix, r.begin, r.end)));
  if (listed_.insert(r.path).second)
    options_.inventory->matrices.push_back(std::move(entry));
  const auto bias = r.path + ".bias";
  if (r.options.bias != Bias::none && find(bias) && !used_.contains(bias))
    options_.inventory->tensors.push_back(*find(bias));
  this->bias(r);
  return out;
}

LinearKernelPtr Loader::kernel_of(
    const EncodedMatrix& matrix,
    std::optional<mx::array> bias) const {
  if (options_.outline) return outline_linear(matrix);
  const bool framed = matrix.framed();
  auto inner = framed ? std::nullopt : bias;
  auto kernel = options_.packed
      ? packed_linear(matrix, std::move(inner), options_.activations)
      : mlx_linear(matrix, std::move(inner), options_.type);
  return framed ? framed_linear(std::move(kernel), matrix, std::move(bias))
                : kernel;
}

// With what the adapter says of the module, for the rows wanted.
LinearKernelPtr Loader::adapted(
    const MatrixRequest& r,
    LinearKernelPtr kernel) {
  if (!options_.adapter) return kernel;
  auto it = options_.adapter->modules.find(r.path);
  if (it == options_.adapter->modules.end()) return kernel;
  adapted_.insert(r.path);
  const auto& m = it->second;
  auto expect = [&](const RowTensor& tensor, std::int64_t rows, int cols) {
    Shape64 shape{rows, cols};
    if (r.options.experts > 0) shape.insert(shape.begin(), r.options.experts);
    if (tensor.shape() != shape)
      fail(
          ErrorKind::weights,
          tensor.where(),
          "expected factors of a matrix [{}, {}] that make {}, found {}",
          r.out,
          r.in,
          text(shape),
          text(tensor.shape()));
  };
  const auto rank = m.up.shape().back();
  expect(m.down, rank, r.in);
  expect(m.up, r.out, static_cast<int>(rank));
  if (options_.outline) return kernel;
  auto part = [&](const RowTensor& tensor) {
    return kernel_of(dense_matrix(tensor), std::nullopt);
  };
  LowRankLinear parts{
      part(m.down),
      part(m.up.slice(-2, r.begin, r.end)),
      m.scale,
      std::nullopt};
  if (m.magnitude)
    parts.magnitude = value(
        m.magnitude->slice(0, r.begin, r.end), {r.end - r.begin}, mx::float32);
  return adapted_linear(std::move(kernel), std::move(parts));
}

Linear Loader::linear(const MatrixRequest& r) {
  if (options_.inventory) return list(r);
  if (options_.outline && random_) return invented(r);
  auto matrix = row_range(encoded(r), r.begin, r.end);
  Linear out(adapted(r, kernel_of(matrix, bias(r))));
  const bool whole = r.begin == 0 && r.end == r.out;
  table_.add(
      whole ? r.path : fmt::format("{}[{}:{}]", r.path, r.begin, r.end), out);
  advance(matrix.stored_bytes);
  return out;
}

} // namespace mlxlm
