// The element types that the CPU kernels read and write.
#pragma once

#include <mlx/dtype.h>

#include <cstddef>
#include <cstdint>
#include <optional>

namespace mlxlm::kernels {

enum class FloatType : std::uint8_t { f32, f16, bf16 };

inline std::optional<FloatType> float_type(mlx::core::Dtype type) {
  if (type == mlx::core::float32) return FloatType::f32;
  if (type == mlx::core::float16) return FloatType::f16;
  if (type == mlx::core::bfloat16) return FloatType::bf16;
  return std::nullopt;
}

inline std::size_t size_of(FloatType type) {
  return type == FloatType::f32 ? 4 : 2;
}

} // namespace mlxlm::kernels
