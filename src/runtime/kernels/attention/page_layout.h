// Where one layer's rows lie in a page of keys and values: the page format of
// plain f32, f16 and bf16. Keys are stored across tokens, [head][dim][token],
// so that one vector holds a dimension of neighbouring tokens and a score needs
// no sum over lanes; values are [head][token][dim]. Latent rows serve as both:
// [token][dim].
#pragma once

#include <cstddef>

#include "runtime/kernels/float_type.h"

namespace mlxlm::kernels {

struct PageLayout {
  FloatType type;
  int kv_heads, k_dim, v_dim;
  int tokens; // of a page
  bool latent = false;
  bool energies = false; // of queries lie behind the rows (query_energy.h)

  // Readable bytes behind the last page that vector loads may touch.
  static constexpr std::size_t slack = 64;

  std::size_t key_bytes() const { // of a head
    return size_of(type) * tokens * k_dim;
  }
  std::size_t value_bytes() const {
    return latent ? 0 : size_of(type) * tokens * v_dim;
  }
  std::size_t layer_bytes() const {
    auto rows = kv_heads * (key_bytes() + value_bytes());
    return rows + (energies ? energy_bytes(kv_heads, k_dim) : 0);
  }
  static std::size_t energy_bytes(int kv_heads, int k_dim) {
    auto bytes = sizeof(float) * kv_heads * k_dim;
    return (bytes + slack - 1) / slack * slack; // layers stay aligned
  }
  std::size_t energy_offset(int head) const {
    auto rows = kv_heads * (key_bytes() + value_bytes());
    return rows + sizeof(float) * head * k_dim;
  }
  std::size_t key_offset(int head) const {
    return head * (key_bytes() + value_bytes());
  }
  std::size_t value_offset(int head) const {
    return latent ? key_offset(head) : key_offset(head) + key_bytes();
  }
};

// Keeps row `token` (within the page) of a head; k [k_dim] and v [v_dim] of
// `source` type. f16 saturates. `layer`: this layer's part of the page;
// scratch: k_dim + v_dim floats.
void store_row(
    const PageLayout& layout,
    std::byte* layer,
    int head,
    int token,
    FloatType source,
    const void* k,
    const void* v,
    float* scratch);

// A stored row, as floats; v is not written when the layout is latent.
void load_row(
    const PageLayout& layout,
    const std::byte* layer,
    int head,
    int token,
    float* k,
    float* v);

struct Visible {
  int first, last; // positions a query sees, inclusive
};

// Query rows that share a key head, against consecutive pages.
struct AttendPages {
  const PageLayout* layout;
  int head;
  const std::byte* const* pages; // this layer's part of each
  int page_count;
  // Fetch ahead, ending with this page's keys: for few rows, which read more
  // than they compute. Null: do not.
  const std::byte* next;
  int position; // of the first token of pages[0]
  int rows;
  const Visible* visible; // [rows]
  const float* q; // [rows][k_dim], times the scale
  float softcap;
  float* scores; // scratch, score_floats()
  // Result, softmax without the division: acc [rows][acc_stride()] = sum of
  // e^(score - max) * v; max is -infinity and sum 0 for rows that saw nothing.
  float* acc;
  float* max; // [rows]
  float* sum; // [rows]
};

std::size_t score_floats(const PageLayout& layout);
std::size_t acc_stride(const PageLayout& layout);
void attend_pages(const AttendPages& job);

} // namespace mlxlm::kernels
