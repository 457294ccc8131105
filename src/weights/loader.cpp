#include "weights/loader.h"

#include <mlx/ops.h>

#include <algorithm>

#include "checkpoint/values.h"
#include "core/check.h"
#include "core/strings.h"
#include "weights/random.h"

namespace mlxlm {
namespace {

Shape64 wide(const mx::Shape& shape) {
  return {shape.begin(), shape.end()};
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
        "expected shape [{}], found [{}]",
        fmt::join(shape, ", "),
        fmt::join(tensor.shape(), ", "));
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

mx::array Loader::value(
    const RowTensor& tensor,
    const mx::Shape& shape,
    mx::Dtype type) const {
  return options_.outline ? mx::zeros(shape, type)
                          : array_of(tensor, shape, type);
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
