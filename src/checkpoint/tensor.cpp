#include "checkpoint/tensor.h"

#include <array>

#include "core/check.h"
#include "core/strings.h"

namespace mlxlm {
namespace {

constexpr std::array<StorageInfo, 32> table = {{
    {"F64", 1, 8},      {"F32", 1, 4},        {"F16", 1, 2},
    {"BF16", 1, 2},     {"F8_E4M3", 1, 1},    {"F8_E5M2", 1, 1},
    {"F8_E8M0", 1, 1},  {"F4", 2, 1},         {"I64", 1, 8},
    {"I32", 1, 4},      {"I16", 1, 2},        {"I8", 1, 1},
    {"U64", 1, 8},      {"U32", 1, 4},        {"U16", 1, 2},
    {"U8", 1, 1},       {"BOOL", 1, 1},       {"Q4_0", 32, 18},
    {"Q4_1", 32, 20},   {"Q5_0", 32, 22},     {"Q5_1", 32, 24},
    {"Q8_0", 32, 34},   {"Q2_K", 256, 84},    {"Q3_K", 256, 110},
    {"Q4_K", 256, 144}, {"Q5_K", 256, 176},   {"Q6_K", 256, 210},
    {"IQ4_NL", 32, 18}, {"IQ4_XS", 256, 136}, {"TQ1_0", 256, 54},
    {"TQ2_0", 256, 66}, {"MXFP4", 32, 17},
}};
static_assert(table.size() == static_cast<std::size_t>(Storage::mxfp4) + 1);

} // namespace

const StorageInfo& info(Storage storage) {
  return table.at(static_cast<std::size_t>(storage));
}

std::int64_t TensorView::elements() const {
  std::int64_t n = 1;
  for (auto dim : shape)
    n *= dim;
  return n;
}

std::string TensorView::where() const {
  std::string quoted = printable(name);
  return file ? file_name(file->path()) + ": " + quoted : quoted;
}

} // namespace mlxlm
