#include "checkpoint/rewrite.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "checkpoint/testing.h"
#include "checkpoint/values.h"

namespace mlxlm {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

using Floats = std::vector<float>;

// [shape] of f32: 0, 1, 2, ...
RowTensor counting(
    const std::string& name,
    const Shape64& shape,
    float first = 0) {
  std::size_t n = 1;
  for (auto dim : shape)
    n *= static_cast<std::size_t>(dim);
  Floats values(n);
  std::iota(values.begin(), values.end(), first);
  auto bytes = std::as_bytes(std::span(values));
  return RowTensor::from_bytes(
      name, Storage::f32, shape, {bytes.begin(), bytes.end()});
}

// Tensor k counts from 1000 k.
struct Memory : testing::MemorySource {
  explicit Memory(const std::vector<std::pair<std::string, Shape64>>& tensors) {
    float first = 0;
    for (const auto& [name, shape] : tensors) {
      counting(name, shape, first);
      first += 1000;
    }
  }
};

std::vector<std::string> names(const TensorMap& map) {
  std::vector<std::string> out;
  for (const auto& [name, tensor] : map)
    out.push_back(name);
  return out;
}

TEST(RowTensor, SlicesRowsAndColumns) {
  auto t = counting("t", {2, 3, 4});
  EXPECT_EQ(read_floats(t.slice(0, 1, 2)).front(), 12);
  EXPECT_EQ(
      read_floats(t.slice(1, 0, 3, 2)),
      (Floats{0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 20, 21, 22, 23}));
  EXPECT_EQ(
      read_floats(t.slice(-1, 1, 4, 2)),
      (Floats{1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23}));
  EXPECT_EQ(
      read_floats(t.slice(1, 1, 3).slice(1, 1, 2).slice(0, 1, 2)),
      (Floats{20, 21, 22, 23}));
  EXPECT_EQ(
      read_floats(counting("v", {6}).slice(0, 1, 6, 2)), (Floats{1, 3, 5}));
  EXPECT_THAT(
      error_of([&] { t.slice(1, 0, 4); }),
      HasSubstr("t: expected a tensor that allows"));
  EXPECT_THAT(error_of([&] { t.slice(3, 0, 1); }), HasSubstr("axis 3"));
}

TEST(RowTensor, PermutesAnyAxes) {
  EXPECT_EQ(
      read_floats(counting("t", {2, 3}).permute({1, 0})),
      (Floats{0, 3, 1, 4, 2, 5}));
  const Shape64 shape{2, 3, 4, 5};
  auto t = counting("t", shape);
  std::vector<int> axes{0, 1, 2, 3};
  do {
    auto p = t.permute(axes);
    auto values = read_floats(p);
    std::size_t at = 0;
    std::array<std::int64_t, 4> i{};
    const auto& s = p.shape();
    for (i[0] = 0; i[0] < s[0]; ++i[0])
      for (i[1] = 0; i[1] < s[1]; ++i[1])
        for (i[2] = 0; i[2] < s[2]; ++i[2])
          for (i[3] = 0; i[3] < s[3]; ++i[3]) {
            std::array<std::int64_t, 4> old{};
            for (std::size_t k = 0; k < 4; ++k)
              old[static_cast<std::size_t>(axes[k])] = i[k];
            ASSERT_EQ(
                values[at++],
                static_cast<float>(
                    ((old[0] * 3 + old[1]) * 4 + old[2]) * 5 + old[3]));
          }
  } while (std::next_permutation(axes.begin(), axes.end()));
}

TEST(RowTensor, ReshapesWhatLiesTogether) {
  auto t = counting("t", {2, 3, 4});
  EXPECT_EQ(t.reshape({2, 12}).rows(), 2);
  EXPECT_EQ(read_floats(t.reshape({4, 6})), read_floats(t));
  EXPECT_EQ(read_floats(t.reshape({24})), read_floats(t));
  EXPECT_EQ(
      read_floats(t.reshape({6, 4}).slice(0, 5, 6)), (Floats{20, 21, 22, 23}));
  EXPECT_EQ(read_floats(t.slice(0, 1, 2).reshape({12})).front(), 12);
  EXPECT_THAT(
      error_of([&] {
        t.reshape({5, 5});
      }),
      HasSubstr("the shape [5, 5]"));
  EXPECT_THAT(
      error_of([&] { t.slice(1, 0, 2).reshape({16}); }),
      HasSubstr("the shape [16]"));
}

TEST(RowTensor, UnpairsRotaryRowsAndBiases) {
  // Two heads of four rows: pairs (0,1), (2,3) become halves (0,2), (1,3).
  const Floats order{0, 2, 1, 3, 4, 6, 5, 7};
  EXPECT_EQ(read_floats(counting("w", {8, 1}).unpair_rows(2)), order);
  EXPECT_EQ(read_floats(counting("b", {8}).unpair_rows(2)), order);
  EXPECT_THAT(
      error_of([] {
        counting("w", {6, 1}).unpair_rows(2);
      }),
      HasSubstr("2 heads of rotary pairs"));
  EXPECT_THAT(
      error_of([] {
        counting("w", {6, 1}).unpair_rows(0);
      }),
      HasSubstr("0 heads"));
}

TEST(Rewrite, SubstitutesRunsInOrder) {
  EXPECT_EQ(
      substitute(
          "blk.12.attn_q.weight", "blk.*.attn_q.*", "model.layers.*.q.*"),
      "model.layers.12.q.weight");
  EXPECT_EQ(substitute("a.b", "a.*", "*"), "b");
  EXPECT_EQ(substitute("a.b", "b.*", "*"), std::nullopt);
  EXPECT_EQ(substitute("a", "a", "c"), "c");
  EXPECT_EQ(substitute("ab", "a", "c"), std::nullopt);
}

TEST(Rewrite, RenamesANameByItself) {
  const std::vector<Rule> rules{
      rename("a.*", "b.*"), drop("b.*"), rename("b.*.c", "*.d")};
  EXPECT_EQ(renamed("a.x.c", rules), "x.d");
  EXPECT_EQ(renamed("e.x.c", rules), "e.x.c");
}

TEST(Rewrite, AppliesRulesInOrder) {
  Memory source(
      {{"h.0.attn.c_attn.weight", {2, 6}},
       {"h.0.ln.weight", {3}},
       {"h.0.mlp.experts.0.w1.weight", {2, 2}},
       {"h.0.mlp.experts.1.w1.weight", {2, 2}},
       {"h.0.gate_up.weight", {4, 1}},
       {"rotary.inv_freq", {4}}});
  auto map = rewritten(
      source,
      {drop("*.inv_freq"),
       rename("h.*", "model.layers.*"),
       move_axis("*.c_attn.weight", 0, 1),
       split("*.c_attn.weight", {"*.q.weight", "*.k.weight", "*.v.weight"}),
       stack("*.experts.#.w1.*", "*.switch_mlp.gate_proj.*"),
       split("*.gate_up.weight", {"*.gate.weight", "*.up.weight"}, 0, true),
       offset("*.ln.weight", -1)});
  EXPECT_EQ(
      names(map),
      (std::vector<std::string>{
          "model.layers.0.attn.k.weight",
          "model.layers.0.attn.q.weight",
          "model.layers.0.attn.v.weight",
          "model.layers.0.gate.weight",
          "model.layers.0.ln.weight",
          "model.layers.0.mlp.switch_mlp.gate_proj.weight",
          "model.layers.0.up.weight"}));
  // [2, 6] transposed: rows are columns; v has the last two.
  auto v = map.at("model.layers.0.attn.v.weight");
  EXPECT_EQ(v.shape(), (Shape64{2, 2}));
  EXPECT_EQ(read_floats(v), (Floats{4, 10, 5, 11}));
  EXPECT_EQ(
      read_floats(map.at("model.layers.0.up.weight")), (Floats{4001, 4003}));
  EXPECT_EQ(
      read_floats(map.at("model.layers.0.ln.weight")),
      (Floats{999, 1000, 1001}));
  auto experts = map.at("model.layers.0.mlp.switch_mlp.gate_proj.weight");
  EXPECT_EQ(experts.shape(), (Shape64{2, 2, 2}));
  EXPECT_EQ(
      read_floats(experts),
      (Floats{2000, 2001, 2002, 2003, 3000, 3001, 3002, 3003}));
}

TEST(Rewrite, CutsOrientsAndKeepsFirstRows) {
  testing::MemorySource m;
  m.counting("a.qkv.weight", {4, 2});
  m.counting("a.qkv.bias", {4});
  m.counting("turned", {2, 3, 4});
  m.counting("straight", {2, 4, 3});
  m.counting("square", {3, 3});
  m.counting("table", {5, 2});
  auto map = rewritten(
      m,
      {cut("*.qkv.*", {"*.q.*", "*.k.*", "*.v.*"}, {2, 1, 1}),
       orient("turned", 3),
       orient("straight", 3),
       orient("square", 3),
       first_rows("table", 3),
       first_rows("a.q.weight", 9)});
  EXPECT_EQ(read_floats(map.at("a.q.weight")), (Floats{0, 1, 2, 3}));
  EXPECT_EQ(read_floats(map.at("a.k.weight")), (Floats{4, 5}));
  EXPECT_EQ(read_floats(map.at("a.v.bias")), (Floats{3}));
  EXPECT_EQ(map.at("turned").shape(), (Shape64{2, 4, 3}));
  EXPECT_EQ(read_floats(map.at("turned"))[1], 4);
  EXPECT_EQ(map.at("straight").shape(), (Shape64{2, 4, 3}));
  EXPECT_EQ(read_floats(map.at("straight"))[1], 1);
  EXPECT_EQ(read_floats(map.at("square"))[1], 1);
  EXPECT_EQ(map.at("table").shape(), (Shape64{3, 2}));
  EXPECT_THAT(
      error_of([&] { rewritten(m, {cut("*.qkv.*", {"*.q.*"}, {3})}); }),
      HasSubstr("expected 3 rows, found [4"));
}

TEST(Rewrite, RefusesGapsClashesAndUnevenParts) {
  Memory gap({{"e.0.w", {2}}, {"e.2.w", {2}}});
  EXPECT_THAT(
      error_of([&] { rewritten(gap, {stack("e.#.w", "w")}); }),
      HasSubstr("numbered from 0 without gaps"));
  Memory uneven({{"e.0.w", {2}}, {"e.1.w", {3}}});
  EXPECT_THAT(
      error_of([&] { rewritten(uneven, {stack("e.#.w", "w")}); }),
      HasSubstr("expected [2] of F32 like e.0.w, found [3]"));
  Memory two({{"a.w", {2}}, {"b.w", {2}}});
  EXPECT_THAT(
      error_of([&] { rewritten(two, {rename("a.*", "b.*")}); }),
      HasSubstr("found two"));
  EXPECT_THAT(
      error_of([&] {
        rewritten(two, {split("a.w", {"x", "y", "z"})});
      }),
      HasSubstr("to divide into 3"));
}

TEST(Values, ReadsEveryPlainType) {
  EXPECT_EQ(half_to_float(0x3c00), 1.0f);
  EXPECT_EQ(half_to_float(0x0001), 0x1p-24f);
  EXPECT_EQ(half_to_float(0xfbff), -65504.0f);
  EXPECT_EQ(bfloat_to_float(0xc040), -3.0f);
  EXPECT_EQ(e4m3_to_float(0x7e), 448.0f);
  EXPECT_EQ(e4m3_to_float(0x81), -0x1p-9f);
  EXPECT_EQ(e5m2_to_float(0x7b), 57344.0f);
  EXPECT_EQ(e8m0_to_float(0), 0x1p-127f);
  auto t = RowTensor::from_bytes(
      "i",
      Storage::i16,
      {2},
      {std::byte{254}, std::byte{255}, std::byte{3}, std::byte{0}});
  EXPECT_EQ(read_floats(t), (Floats{-2, 3}));
  EXPECT_EQ(read_integers(t), (std::vector<std::int64_t>{-2, 3}));
  EXPECT_THAT(
      error_of([] { read_integers(counting("f", {1})); }),
      HasSubstr("f: expected integers, found F32"));
}

} // namespace
} // namespace mlxlm
