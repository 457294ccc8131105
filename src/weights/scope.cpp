#include "weights/scope.h"

#include "weights/loader.h"

namespace mlxlm {

void ParameterTable::add(std::string path, std::variant<Linear, Param> handle) {
  entries_.push_back({std::move(path), std::move(handle)});
}

std::size_t ParameterTable::bytes() const {
  std::size_t out = 0;
  for (const auto& entry : entries_) {
    if (const auto* linear = std::get_if<Linear>(&entry.handle))
      out += linear->kernel().bytes();
    else
      out += (*std::get<Param>(entry.handle)).nbytes();
  }
  return out;
}

std::size_t ParameterTable::parameters() const {
  std::size_t out = 0;
  for (const auto& entry : entries_) {
    const auto* linear = std::get_if<Linear>(&entry.handle);
    if (linear == nullptr) {
      out += (*std::get<Param>(entry.handle)).size();
      continue;
    }
    std::size_t elements = 1;
    for (auto dim : linear->kernel().shape())
      elements *= static_cast<std::size_t>(dim);
    auto bias = linear->kernel().bias();
    out += elements + (bias ? bias->size() : 0);
  }
  return out;
}

Scope::Scope(std::shared_ptr<Loader> loader, std::string path)
    : loader_(std::move(loader)), path_(std::move(path)) {}

Scope Scope::operator/(std::string_view name) const {
  return {
      loader_,
      path_.empty() ? std::string(name) : path_ + "." + std::string(name)};
}

Scope Scope::operator/(int index) const {
  return *this / std::to_string(index);
}

bool Scope::has(std::string_view name) const {
  auto full = (*this / name).path_;
  return loader_->has_tensor(full) || loader_->has_tensor(full + ".weight");
}

Param Scope::param(std::string_view name, const mx::Shape& shape) const {
  return param(name, shape, compute_type());
}

Param Scope::param(
    std::string_view name,
    const mx::Shape& shape,
    mx::Dtype type) const {
  return loader_->param((*this / name).path_, shape, type);
}

std::optional<Param> Scope::find_param(
    std::string_view name,
    const mx::Shape& shape) const {
  if (!loader_->has_tensor((*this / name).path_)) return std::nullopt;
  return param(name, shape);
}

Linear Scope::linear(
    std::string_view name,
    int in,
    int out,
    LinearOptions options) const {
  return linear_rows(name, in, out, 0, out, options);
}

Linear Scope::linear_rows(
    std::string_view name,
    int in,
    int fused_out,
    int begin,
    int end,
    LinearOptions options) const {
  return loader_->linear(
      {(*this / name).path_, in, fused_out, begin, end, options});
}

Linear Scope::embedding(std::string_view name, int vocab, int width) const {
  return linear(name, width, vocab);
}

int Scope::stored_rows(std::string_view name) const {
  return static_cast<int>(loader_->stored_rows((*this / name).path_));
}

mx::Dtype Scope::compute_type() const {
  return loader_->options().type;
}

} // namespace mlxlm
