// The format families of this folder, for the table in formats.cpp.
#pragma once

#include <array>
#include <cstdint>

#include "core/fields.h"
#include "weights/format.h"

namespace mlxlm::quant {

// `block`: the quantization_config of config.json.
WeightFormatPtr awq_format(const Fields& block);
WeightFormatPtr bitnet_format(const Fields& block);
WeightFormatPtr compressed_format();
WeightFormatPtr fp4_format();
WeightFormatPtr fp8_format(const Fields& block);
WeightFormatPtr gptq_format(const Fields& block);
WeightFormatPtr mlx_format(const Fields& config);
WeightFormatPtr jang_gates();
WeightFormatPtr gguf_format();
WeightFormatPtr dense_format();

// The sixteen values of e2m1 (fp4), doubled.
inline constexpr std::array<std::int8_t, 16> e2m1 =
    {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

} // namespace mlxlm::quant
