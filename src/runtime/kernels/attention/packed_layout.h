// Where one layer's rows lie in a page of compressed keys and values, and how
// a row is written and read. Codes of keys lie across tokens, [head][dim]
// [block of tokens], values along the row, [head][token][block of dims];
// latent rows, which are both, along the row. Scales are [group][token].
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "runtime/kernels/attention/page_layout.h"
#include "runtime/kernels/attention/row_codec.h"
#include "runtime/kernels/attention/turbo.h"
#include "runtime/kernels/float_type.h"

namespace mlxlm::kernels {

// A stretch of a row in one set of codes: value = scale * f(code) + bias.
struct CodePart {
  RowCodec::Kind kind;
  int bits; // 0: floats
  int begin, dim; // of the row
  int group, groups;
  bool signs = false; // the sketch of the part before
  std::shared_ptr<const TurboState> turbo = {};
  // Bytes from the head's start; step: from dimension to dimension (across) or
  // from token to token (along).
  std::size_t codes = 0, step = 0, scales = 0, biases = 0;
  // Floats from the start of a prepared query: dim values, then for affine the
  // sum of each group.
  int query = 0;
};

class PackedLayout {
 public:
  // type: of plain rows and of affine scales.
  PackedLayout(
      FloatType type,
      int kv_heads,
      int k_dim,
      int v_dim,
      int tokens,
      bool latent,
      const RowCodec& keys,
      const RowCodec& values);

  FloatType type;
  int kv_heads, k_dim, v_dim;
  int tokens; // of a page
  bool latent;
  std::vector<CodePart> keys; // their products with the query add up
  CodePart values; // latent: the first of keys
  int query_floats = 0; // of a prepared query
  std::size_t head_bytes = 0;
  // Keys are differences from centers (key_center.h), the page's first of which
  // lies here: halves [k_dim]; and stretched (key_stretch.h) by steps [k_dim].
  bool centered = false;
  std::size_t center = 0, stretch = 0;

  // A token sees its own key and value as they are, not as TurboQuant rounds
  // them: it has them at hand.
  bool sees_own() const {
    auto turbo = RowCodec::Kind::turbo;
    return !latent && (keys[0].kind == turbo || values.kind == turbo);
  }

  std::size_t layer_bytes() const {
    return kv_heads * head_bytes;
  }
  int blocks() const { // of a page's tokens
    return blocks_of_tokens_;
  }
  std::int8_t* stretch_of(std::byte* layer, int head) const {
    return reinterpret_cast<std::int8_t*>(layer + head * head_bytes + stretch);
  }
  const std::int8_t* stretch_of(const std::byte* layer, int head) const {
    return stretch_of(const_cast<std::byte*>(layer), head);
  }
  FloatType scale_type(const CodePart& part) const {
    return part.kind == RowCodec::Kind::turbo ? FloatType::f16 : type;
  }

 private:
  void place(CodePart& part, bool across);

  int blocks_of_tokens_;
};

// Two rows of a page may share bytes: one thread at a time a head. Where keys
// have centers, a page is begun (begin_page) and then filled token by token.
void store_packed_row(
    const PackedLayout& layout,
    std::byte* layer,
    int head,
    int token,
    const float* k,
    const float* v);
// The codes of one row and the scale and bias of each of its groups.
struct AffineRow {
  std::uint8_t* codes;
  float *scales, *biases;
};
// Whether rows are affine codes of so many bits and groups, keys and values.
bool holds_affine(const PackedLayout& layout, int bits, int group);
void store_affine_row(
    const PackedLayout& layout,
    std::byte* layer,
    int head,
    int token,
    const AffineRow& k,
    const AffineRow& v);
void load_affine_row(
    const PackedLayout& layout,
    const std::byte* layer,
    int head,
    int token,
    const AffineRow& k,
    const AffineRow& v);
// What was stored, decoded; v is not written when the layout is latent.
void load_packed_row(
    const PackedLayout& layout,
    const std::byte* layer,
    int head,
    int token,
    float* k,
    float* v);
// A key's difference from its center as its codes say, without the sketch:
// stretched and rotated [k_dim].
void load_difference(
    const PackedLayout& layout,
    const std::byte* layer,
    int head,
    int token,
    float* y);

// q [k_dim], scaled, and shrunk where keys are stretched -> [query_floats].
void prepare_query(const PackedLayout& layout, const float* q, float* out);

// Query rows that share a key head, against consecutive packed pages; as
// AttendPages, with prepared queries [rows][query_floats].
struct AttendPacked {
  const PackedLayout* layout;
  int head;
  const std::byte* const* pages;
  int page_count;
  const std::byte* next; // the page behind, to fetch ahead; may be null
  int position;
  int rows;
  const Visible* visible;
  const float* plain_q; // [rows][k_dim], scaled: what is prepared
  float* q; // overwritten where keys are stretched
  // The stretch that all rows of q are prepared for, from one job of theirs to
  // the next; null: none.
  const std::int8_t** prepared;
  float softcap;
  float* scratch; // packed_scratch_floats()
  float* acc; // [rows][acc_step]
  std::size_t acc_step;
  float* max;
  float* sum;
};

std::size_t packed_scratch_floats(const PackedLayout& layout);
void attend_packed(const AttendPacked& job);

} // namespace mlxlm::kernels
