// Rows of pages of plain floats, written and read; see page_layout.h.
#include <cstring>
#include <type_traits>
#include <vector>

#include "runtime/kernels/attention/page_layout.h"
#include "runtime/kernels/ops/rows.h"
#include "runtime/kernels/simd_targets.h"

#define HWY_DISABLED_TARGETS (MLXLM_NEEDLESS_TARGETS | MLXLM_SCALABLE_TARGETS)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/kernels/attention/page_rows.cpp"
#include <hwy/foreach_target.h>
// Behind foreach_target.
#include "runtime/kernels/floats-inl.h"
#include "runtime/kernels/typed-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mlxlm::kernels::HWY_NAMESPACE {

template <typename T>
HWY_INLINE VF saturated(VF v) {
  if (!std::is_same_v<T, hwy::float16_t>) return v;
  auto most = hn::Set(f_tag, 65504.0f);
  return hn::Max(hn::Neg(most), hn::Min(most, v)); // NaN stays
}

template <typename T, typename S>
HWY_INLINE void convert(const S* x, int n, T* out) {
  each_vector(
      n,
      [&](std::size_t i) { store(saturated<T>(load(x + i)), out + i); },
      [&](std::size_t i, std::size_t rest) {
        store_some(saturated<T>(load_some(x + i, rest)), out + i, rest);
      });
}

template <typename T, typename S>
HWY_INLINE void store_typed(
    const PageLayout& layout,
    std::byte* layer,
    int head,
    int token,
    const S* k,
    const S* v,
    T* scratch) {
  auto* keys = reinterpret_cast<T*>(layer + layout.key_offset(head));
  if (layout.latent) {
    convert(k, layout.k_dim, keys + std::size_t(token) * layout.k_dim);
    return;
  }
  convert(k, layout.k_dim, scratch);
  for (int d = 0; d < layout.k_dim; ++d) {
    std::memcpy(
        keys + std::size_t(d) * layout.tokens + token, scratch + d, sizeof(T));
  }
  auto* values = reinterpret_cast<T*>(layer + layout.value_offset(head));
  convert(v, layout.v_dim, values + std::size_t(token) * layout.v_dim);
}

void store_impl(
    const PageLayout& layout,
    std::byte* layer,
    int head,
    int token,
    FloatType source,
    const void* k,
    const void* v,
    float* scratch) {
  typed(layout.type, [&](auto to) {
    typed(source, [&](auto from) {
      using T = decltype(to);
      using S = decltype(from);
      store_typed<T, S>(
          layout,
          layer,
          head,
          token,
          static_cast<const S*>(k),
          static_cast<const S*>(v),
          reinterpret_cast<T*>(scratch));
    });
  });
}

} // namespace mlxlm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlxlm::kernels {

HWY_EXPORT(store_impl);

void store_row(
    const PageLayout& layout,
    std::byte* layer,
    int head,
    int token,
    FloatType source,
    const void* k,
    const void* v,
    float* scratch) {
  HWY_DYNAMIC_DISPATCH(store_impl)
  (layout, layer, head, token, source, k, v, scratch);
}

void load_row(
    const PageLayout& layout,
    const std::byte* layer,
    int head,
    int token,
    float* k,
    float* v) {
  auto size = size_of(layout.type);
  auto* keys = layer + layout.key_offset(head);
  if (layout.latent) {
    auto* row = keys + std::size_t(token) * layout.k_dim * size;
    return to_floats(layout.type, row, layout.k_dim, 0, k);
  }
  std::vector<std::byte> row(layout.k_dim * size);
  for (int d = 0; d < layout.k_dim; ++d) {
    auto index = std::size_t(d) * layout.tokens + token;
    std::memcpy(row.data() + d * size, keys + index * size, size);
  }
  to_floats(layout.type, row.data(), layout.k_dim, 0, k);
  auto* values = layer + layout.value_offset(head);
  values += std::size_t(token) * layout.v_dim * size;
  to_floats(layout.type, values, layout.v_dim, 0, v);
}

} // namespace mlxlm::kernels
#endif
