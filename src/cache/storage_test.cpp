// Schemes of storage and what they take.
#include "cache/storage.h"

#include <gtest/gtest.h>
#include <mlx/ops.h>
#include <mlx/random.h>
#include <mlx/transforms.h>

#include "mlxlm/error.h"

namespace mlxlm {
namespace {

using kernels::RowCodec;
constexpr auto affine = RowCodec::Kind::affine, turbo = RowCodec::Kind::turbo;

TEST(KvStorage, SchemesByName) {
  auto s = kv_storage("turbo4v3");
  EXPECT_EQ(s.keys, (RowCodec{turbo, 4}));
  EXPECT_EQ(s.values, (RowCodec{turbo, 3}));
  EXPECT_EQ(s.plain_tokens, 0);
  EXPECT_EQ(s.edge_layers, 0);
  EXPECT_EQ(kv_storage("turboQuant(3,2)").values.bits, 2);
  EXPECT_TRUE(kv_storage("turbo4v3q").keys.sketch);
  EXPECT_EQ(kv_storage("turbo8v3").keys, (RowCodec{affine, 8}));
  EXPECT_EQ(kv_storage("turbo0v4").keys, RowCodec{});
  EXPECT_EQ(kv_storage("affine5", 32).values, (RowCodec{affine, 5, 32}));
  EXPECT_EQ(kv_storage("balanced").edge_layers, 2);
  auto careful = kv_storage("turbo4v3+");
  EXPECT_EQ(careful.values, (RowCodec{turbo, 3}));
  EXPECT_EQ(careful.plain_tokens, 4);
  EXPECT_EQ(careful.edge_layers, 2);
}

TEST(KvStorage, RefusesWhatItDoesNotKnow) {
  for (auto* scheme :
       {"",
        "turbo",
        "turbo5",
        "turbo4v",
        "turbo4v9",
        "turbo4v3x",
        "turbo4++",
        "affine4+",
        "affine7",
        "affine1",
        "affine",
        "turbo8v3q",
        "fp8"}) {
    EXPECT_THROW(kv_storage(scheme), Error) << scheme;
  }
  EXPECT_THROW(kv_storage("affine4", 48), Error);
}

// What pages of `tokens` take, really allocated.
double bytes_a_token(const KvStorage& storage, int head_dim, int tokens) {
  auto memory = make_memory({FullKv{2, head_dim}}, {.storage = storage});
  auto s = memory->sequence();
  s->begin(tokens);
  s->commit(tokens);
  return double(memory->bytes()) / tokens;
}

TEST(KvStorage, LiveBytes) {
  int n = 32768;
  double plain = bytes_a_token({}, 128, n);
  EXPECT_EQ(plain, 2 * 2 * 128 * 2);
  EXPECT_GE(plain / bytes_a_token(kv_storage("turbo3"), 128, n), 4.8);
  EXPECT_GE(plain / bytes_a_token(kv_storage("turbo4"), 128, n), 3.7);
  EXPECT_GE(plain / bytes_a_token(kv_storage("turbo2"), 128, n), 6.9);
  EXPECT_GE(plain / bytes_a_token(kv_storage("affine8"), 128, n), 1.8);
  EXPECT_GE(plain / bytes_a_token(kv_storage("affine4"), 128, n), 3.5);
}

} // namespace
} // namespace mlxlm
