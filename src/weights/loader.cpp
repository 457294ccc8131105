#include "weights/loader.h"

#include <mlx/ops.h>
#include <mlx/transforms.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "checkpoint/values.h"
#include "core/check.h"
#include "core/strings.h"
#include "weights/kernels.h"
#include "weights/random.h"

namespace mlxlm {
namespace {

Shape64 wide(const mx::Shape& shape) {
  return {shape.begin(), shape.end()};
}

std::string text(const Shape64& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

mx::array array_of(
    const RowTensor& tensor,
    const mx::Shape& shape,
    mx::Dtype type) {
  const bool whole = mx::issubdtype(type, mx::integer) || type == mx::bool_;
  auto out = [&] {
    if (whole) {
      auto values = read_integers(tensor);
      return mx::array(values.data(), shape, mx::int64);
    }
    auto values = read_floats(tensor);
    return mx::array(values.data(), shape, mx::float32);
  }();
  out = mx::astype(out, type);
  out.eval();
  tensor.drop(0, tensor.rows());
  return out;
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

Loader::Loader(
    TensorMap tensors,
    std::vector<WeightFormatPtr> formats,
    LoaderOptions options)
    : tensors_(std::move(tensors)),
      formats_(std::move(formats)),
      options_(std::move(options)) {
  replace_tensors();
  for (const auto& [name, tensor] : tensors_)
    total_ += tensor.bytes();
}

void Loader::replace_tensors() {
  if (!options_.adapter) return;
  for (const auto& [name, tensor] : options_.adapter->tensors) {
    auto it = tensors_.find(name);
    if (it == tensors_.end())
      fail(
          ErrorKind::weights,
          tensor.where(),
          "expected a tensor that the model has, found another");
    it->second = tensor;
  }
}

std::shared_ptr<Loader> Loader::open(
    const TensorSource& source,
    const std::vector<Rule>& rules,
    std::vector<WeightFormatPtr> formats,
    LoaderOptions options) {
  std::vector<Rule> all;
  for (const auto& format : formats)
    for (auto& rule : format->rules())
      all.push_back(std::move(rule));
  all.insert(all.end(), rules.begin(), rules.end());
  std::shared_ptr<Loader> out(new Loader(
      rewritten(source, all), std::move(formats), std::move(options)));
  auto add = [&](std::string_view name) {
    out->modules_.emplace(name.substr(0, name.rfind('.')));
  };
  for (const auto& name : source.names())
    add(name);
  for (const auto& [name, tensor] : out->tensors_)
    add(name);
  return out;
}

std::shared_ptr<Loader> Loader::random(
    RandomWeights weights,
    LoaderOptions options) {
  std::shared_ptr<Loader> out(new Loader({}, {}, std::move(options)));
  out->random_ = std::move(weights);
  return out;
}

Scope Loader::root() {
  return {shared_from_this(), ""};
}

ParameterTable Loader::take_table() {
  return std::move(table_);
}

const RowTensor* Loader::find(std::string_view name) const {
  auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second;
}

bool Loader::has_tensor(std::string_view path) const {
  if (!random_) return find(path) != nullptr;
  for (const auto& glob : random_->present)
    if (glob_match(glob, path)) return true;
  return false;
}

std::int64_t Loader::stored_rows(std::string_view path) const {
  const auto* tensor = find(std::string(path) + ".weight");
  if (tensor == nullptr || tensor->shape().size() < 2) return 0;
  return tensor->shape()[tensor->shape().size() - 2];
}

void Loader::missing(const std::string& name) const {
  std::vector<std::string> known;
  for (const auto& [other, tensor] : tensors_)
    known.push_back(other);
  auto near = nearest(name, known);
  fail(
      ErrorKind::weights,
      name,
      "expected a tensor, found none{}{}",
      near.empty() ? "" : "; nearest: ",
      fmt::join(near, ", "));
}

RowTensor Loader::take(const std::string& name) {
  const auto* tensor = find(name);
  if (tensor == nullptr) missing(name);
  used_.insert(name);
  if (!options_.outline) read_ahead(*tensor);
  return *tensor;
}

// What comes after the tensor in its file is read while it is packed.
void Loader::read_ahead(const RowTensor& tensor) {
  constexpr std::size_t window = std::size_t{64} << 20;
  const auto place = tensor.place();
  if (place.file == nullptr) return;
  auto& until = ahead_[place.file];
  const auto begin = std::max(until, place.offset);
  const auto end = place.offset + tensor.bytes() + window;
  if (end < begin + window / 4) return;
  place.file->prefetch(begin, end - begin);
  until = end;
}

RowTensor Loader::take(const std::string& name, const Shape64& shape) {
  if (random_) {
    if (random_->asked) random_->asked->others[name] = shape;
    return random_tensor(random_->seed, name, shape);
  }
  auto tensor = take(name);
  if (tensor.shape() != shape)
    fail(
        ErrorKind::weights,
        tensor.where(),
        "expected shape {}, found {}",
        text(shape),
        text(tensor.shape()));
  return tensor;
}

void Loader::advance(std::size_t bytes) {
  done_ = std::min(done_ + bytes, total_);
  if (options_.progress) options_.progress(done_, total_);
}

Param Loader::param(
    const std::string& path,
    const mx::Shape& shape,
    mx::Dtype type) {
  if (options_.outline && random_) return Param(mx::zeros(shape, type));
  const bool fresh = !used_.contains(path);
  auto tensor = take(path, wide(shape));
  if (options_.inventory && fresh)
    options_.inventory->tensors.push_back(tensor);
  Param out(value(tensor, shape, type));
  table_.add(path, out);
  advance(tensor.bytes());
  return out;
}

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

mx::array Loader::value(
    const RowTensor& tensor,
    const mx::Shape& shape,
    mx::Dtype type) const {
  return options_.outline ? mx::zeros(shape, type)
                          : array_of(tensor, shape, type);
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

void Loader::finish(const std::vector<std::string>& ignore) const {
  auto ignored = [&](std::string_view name) {
    return std::any_of(ignore.begin(), ignore.end(), [&](const auto& glob) {
      return glob_match(glob, name);
    });
  };
  for (const auto& format : formats_)
    format->check([&](std::string_view path) {
      return modules_.contains(path) || ignored(std::string(path) + ".weight");
    });
  if (options_.adapter)
    for (const auto& [path, module] : options_.adapter->modules)
      if (!adapted_.contains(path))
        fail(
            ErrorKind::weights,
            module.up.where(),
            "expected a module that the model has, found {}",
            printable(path));
  std::vector<std::string> unused;
  for (const auto& [name, tensor] : tensors_) {
    if (!used_.contains(name) && !ignored(name))
      unused.push_back(tensor.where());
  }
  if (unused.empty()) return;
  const auto count = unused.size();
  unused.resize(std::min<std::size_t>(count, 5));
  fail(
      ErrorKind::weights,
      "",
      "{}: expected only tensors that the model has, found {} more{}",
      fmt::join(unused, ", "),
      count,
      count > unused.size() ? ", of which these are the first" : "");
}

} // namespace mlxlm
