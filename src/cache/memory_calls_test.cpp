// Calls of a memory one by one: states, refusals, pages given back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mlx/ops.h>
#include <mlx/transforms.h>

#include "cache/memory.h"
#include "mlxlm/error.h"

namespace mlxlm {
namespace {

TEST(Memory, HalfPrecisionValuesSaturate) {
  auto memory = make_memory({FullKv{1, 8}}, {.dtype = mx::float16});
  auto s = memory->sequence();
  s->begin(2);
  Step step({{s.get(), 0, 2, 0}});
  auto x = mx::full({1, 2, 1, 8}, 1e6f, mx::float32);
  auto out = memory->layer(0).attend(step, mx::zeros_like(x), x, x, {});
  EXPECT_EQ(mx::max(out).item<float>(), 65504.f);
}

// ---- recurrent --------------------------------------------------------------

float state_of(Memory& memory, SequenceMemory& s) {
  Segment segment{&s, 0, 1, s.length()};
  auto state = memory.layer(0).state(segment, 0);
  mx::eval(state);
  return state.data<float>()[0];
}

// The state counts the tokens seen.
void run_recurrent(Memory& memory, SequenceMemory& s, int tokens) {
  Segment segment{&s, 0, tokens, s.length()};
  auto state = memory.layer(0).state(segment, 0);
  memory.layer(0).set_state(segment, 0, state + mx::array(float(tokens)));
}

TEST(RecurrentMemory, StatesFollowTransactions) {
  Recurrent spec{{{{2, 3}, mx::float32}}};
  auto memory = make_memory({spec}, {.page_tokens = 4});
  EXPECT_FALSE(memory->partial_commit());
  auto s = memory->sequence();
  auto advance = [&](int n) {
    s->begin(n);
    run_recurrent(*memory, *s, n);
    s->commit(n);
  };
  advance(3);
  s->begin(5);
  run_recurrent(*memory, *s, 5);
  s->rollback();
  EXPECT_EQ(state_of(*memory, *s), 3);
  advance(5); // 8: a boundary, remembered
  advance(2);
  auto other = s->fork();
  EXPECT_EQ(s->trim(9), 8);
  EXPECT_EQ(state_of(*memory, *s), 8);
  EXPECT_EQ(state_of(*memory, *other), 10);
  EXPECT_EQ(s->trim(7), 0);
  EXPECT_EQ(state_of(*memory, *s), 0);
  advance(5);
  s->mark();
  advance(1);
  EXPECT_EQ(s->trim(5), 5);
  EXPECT_EQ(state_of(*memory, *s), 5);
  s.reset();
  other.reset();
  EXPECT_EQ(memory->bytes(), 0u);
}

// ---- accounting and refusals ------------------------------------------------

TEST(Memory, RefusedBeginChangesNothing) {
  // A page: 4 tokens x 2 layers x 2 x 8 values of 4 bytes.
  constexpr std::size_t page = 4 * 2 * 2 * 8 * 4;
  auto memory = make_memory(
      {FullKv{1, 8}, FullKv{1, 8}},
      {.dtype = mx::float32, .page_tokens = 4, .max_bytes = 3 * page});
  EXPECT_EQ(memory->bytes_per_token(), page / 4);
  EXPECT_EQ(memory->bytes_for(5), 2 * page);
  EXPECT_EQ(memory->max_tokens(), 12);
  auto a = memory->sequence(), b = memory->sequence();
  a->begin(7);
  a->commit(7);
  EXPECT_EQ(memory->bytes(), 2 * page);
  EXPECT_EQ(memory->max_tokens(), 4);
  try {
    b->begin(5);
    FAIL() << "expected a refusal";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::resource);
    EXPECT_THAT(e.what(), ::testing::HasSubstr("1024 of 1536 bytes in use"));
  }
  EXPECT_EQ(memory->bytes(), 2 * page);
  EXPECT_EQ(b->length(), 0);
  b->begin(4);
  b->rollback();
  EXPECT_EQ(memory->bytes(), 2 * page);
  a->begin(1);
  a->commit(1);
  auto c = a->fork(); // shares both pages
  EXPECT_EQ(memory->bytes(), 2 * page);
  c->begin(1);
  c->commit(1);
  EXPECT_EQ(memory->bytes(), 3 * page);
  a.reset();
  EXPECT_EQ(memory->bytes(), 3 * page);
  c.reset();
  b.reset();
  EXPECT_EQ(memory->bytes(), 0u);
}

TEST(Memory, WindowsGivePagesBack) {
  auto memory = make_memory({SlidingKv{1, 8, 6}}, {.page_tokens = 4});
  auto s = memory->sequence();
  for (int i = 0; i < 50; ++i) {
    s->begin(7);
    s->commit(7);
  }
  EXPECT_LE(s->bytes(), memory->bytes_for(350)); // window, tail, one spare
  EXPECT_EQ(memory->bytes_for(350), memory->bytes_for(35000));
  EXPECT_EQ(s->trim(346), 346);
  EXPECT_EQ(s->trim(300), 0);
}

TEST(Memory, RefusesWrongCalls) {
  auto memory = make_memory({FullKv{2, 8}, std::monostate{}}, {});
  auto s = memory->sequence();
  s->begin(2);
  Step step({{s.get(), 0, 2, 0}});
  auto q = mx::zeros({1, 2, 4, 8}), k = mx::zeros({1, 2, 2, 8});
  auto& layer = memory->layer(0);
  EXPECT_THROW(layer.attend(step, q, q, q, {}), Error);
  EXPECT_THROW(layer.attend_latent(step, q, mx::squeeze(k, 0), {}), Error);
  EXPECT_THROW(layer.state(step.segments()[0], 0), Error);
  EXPECT_THROW(memory->layer(1).attend(step, q, k, k, {}), Error);
  EXPECT_THROW(memory->layer(2), Error);
  EXPECT_THROW(s->begin(1), Error);
  EXPECT_THROW(s->commit(3), Error);
  EXPECT_THROW(make_memory({SharedKv{0}}, {}), Error);
  EXPECT_THROW(Step({{s.get(), 1, 2, 0}}), Error);
  EXPECT_THROW(Step(std::vector<Segment>{}), Error);
}

TEST(Stateless, AgreesWithMemory) {
  std::vector<CacheSpec> specs{FullKv{2, 8}, SlidingKv{2, 8, 3}, SharedKv{1}};
  auto memory = make_memory(specs, {.dtype = mx::float32});
  auto stateless = make_stateless(specs);
  auto a = memory->sequence(), b = memory->sequence();
  a->begin(5);
  b->begin(4);
  Step with({{a.get(), 0, 5, 0}, {b.get(), 5, 4, 0}});
  Step without({{nullptr, 0, 5, 0}, {nullptr, 5, 4, 0}});
  auto q = mx::sin(mx::reshape(mx::arange(9 * 4 * 8), {1, 9, 4, 8}));
  auto k = mx::cos(mx::reshape(mx::arange(9 * 2 * 8), {1, 9, 2, 8}));
  auto v = mx::square(k);
  for (int i = 0; i < 3; ++i) {
    bool borrows = i == 2;
    auto run = [&](Memory& m, const Step& step) {
      auto& layer = m.layer(i);
      return borrows ? layer.attend(step, q, {})
                     : layer.attend(step, q, k, v, {});
    };
    auto same =
        mx::allclose(run(*memory, with), run(*stateless, without), 1e-5, 1e-6);
    EXPECT_TRUE(same.item<bool>()) << i;
  }
}

} // namespace
} // namespace mlxlm
