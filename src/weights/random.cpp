#include "weights/random.h"

#include <cmath>
#include <cstring>

#include "core/check.h"
#include "core/strings.h"

namespace mlxlm {
namespace {

// splitmix64
std::uint64_t next(std::uint64_t& state) {
  state += 0x9e3779b97f4a7c15u;
  auto z = state;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

class DenseRows final : public TensorRows {
 public:
  using TensorRows::TensorRows;
  void row(int index, kernels::Row out) const override {
    auto bytes = stored(0, index);
    std::memcpy(out.codes.data(), bytes.data(), bytes.size());
  }
};

} // namespace

RowTensor random_tensor(
    std::uint64_t seed,
    const std::string& name,
    const Shape64& shape) {
  std::uint64_t state = seed;
  for (unsigned char c : name)
    state = (state ^ c) * 0x100000001b3u;
  const double inputs = shape.empty() ? 1 : static_cast<double>(shape.back());
  const bool matrix = shape.size() > 1;
  const bool norm = !matrix && ends_with(name, "weight");
  const float spread =
      matrix ? static_cast<float>(std::sqrt(3.0 / inputs)) : 0.1f;
  std::size_t count = 1;
  for (auto dim : shape)
    count *= static_cast<std::size_t>(dim);
  std::vector<std::byte> bytes(count * sizeof(float));
  for (std::size_t i = 0; i < count; ++i) {
    const float unit =
        static_cast<float>(next(state) >> 40) * 0x1p-23f - 1; // [-1, 1)
    const float value = unit * spread + (norm ? 1.0f : 0.0f);
    std::memcpy(bytes.data() + i * sizeof(float), &value, sizeof(float));
  }
  return RowTensor::from_bytes(name, Storage::f32, shape, std::move(bytes));
}

EncodedMatrix dense_matrix(RowTensor tensor) {
  using kernels::Codes;
  const auto& shape = tensor.shape();
  const auto storage = tensor.storage();
  const bool plain = storage == Storage::f32 || storage == Storage::f16 ||
      storage == Storage::bf16;
  if (!plain || shape.size() < 2 || shape.size() > 3 || tensor.offset() != 0)
    fail(
        ErrorKind::weights,
        tensor.where(),
        "expected a matrix of F32, F16 or BF16, found [{}] of {}",
        fmt::join(shape, ", "),
        info(storage).name);
  EncodedMatrix out;
  out.spec.codes = storage == Storage::f32 ? Codes::f32
      : storage == Storage::f16            ? Codes::f16
                                           : Codes::bf16;
  out.spec.bits = storage == Storage::f32 ? 32 : 16;
  out.set_shape(tensor);
  out.cols = static_cast<int>(shape.back());
  out.label = info(storage).name;
  out.source =
      std::make_shared<DenseRows>(std::vector<RowTensor>{std::move(tensor)});
  return out;
}

} // namespace mlxlm
