// Chunks of the recurrences; see chunks.h. Tokens are lanes in most products:
// their matrices are [..., most_chunk], columns past the length zero.
#include "runtime/kernels/scan/chunks.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "runtime/kernels/simd_targets.h"

#define HWY_DISABLED_TARGETS MLXLM_NEEDLESS_TARGETS
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/kernels/scan/chunks.cpp"
#include <hwy/foreach_target.h>
// Behind foreach_target.
#include "runtime/kernels/floats-inl.h"

#ifndef MLXLM_CHUNKS_ONCE
#define MLXLM_CHUNKS_ONCE
namespace mlxlm::kernels {

// Room for the matrices of one chunk, handed out in order.
class ChunkSpace {
 public:
  explicit ChunkSpace(std::size_t floats) {
    space().resize(std::max(space().size(), floats));
    next_ = space().data();
  }
  float* take(std::size_t floats) {
    auto* at = next_;
    next_ += floats;
    return at;
  }

 private:
  static std::vector<float>& space() {
    thread_local std::vector<float> space;
    return space;
  }
  float* next_;
};

// between[s * Q + t]: what is left of s's write at t >= s; zero elsewhere.
// from_start[t]: of the state before the chunk.
inline void decays(
    const float* keep,
    int length,
    float* between,
    float* from_start) {
  constexpr int q = most_chunk;
  std::memset(between, 0, sizeof(float) * q * q);
  float all = 1;
  for (int t = 0; t < length; ++t)
    from_start[t] = all *= keep[t];
  for (int s = 0; s < length; ++s) {
    float left = 1;
    between[s * q + s] = 1;
    for (int t = s + 1; t < length; ++t)
      between[s * q + t] = left *= keep[t];
  }
}

// out[j * Q + t] = rows[t][j] * factor[t]
inline void transposed(
    const float* rows,
    std::size_t step,
    int length,
    int width,
    const float* factor,
    float* out) {
  constexpr int q = most_chunk;
  for (int j = 0; j < width; ++j) {
    for (int t = 0; t < length; ++t)
      out[j * q + t] = rows[t * step + j] * factor[t];
    std::fill(out + j * q + length, out + (j + 1) * q, 0.0f);
  }
}

} // namespace mlxlm::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace mlxlm::kernels::HWY_NAMESPACE {

struct Operand {
  const float* data;
  std::size_t step; // from row to row
};

// Rows [row, row + Rows) and `Vectors` vectors of columns of c = keep * from +
// a b.
template <int Rows, int Vectors>
HWY_INLINE void product_tile(
    int depth,
    Operand a,
    Operand b,
    float keep,
    Operand from,
    float* c,
    std::size_t c_step) {
  const std::size_t lanes = hn::Lanes(f_tag);
  [[maybe_unused]] VF s00, s01, s10, s11, s20, s21, s30, s31;
  s00 = s01 = s10 = s11 = s20 = s21 = s30 = s31 = hn::Zero(f_tag);
  for (int k = 0; k < depth; ++k) {
    const float *x = a.data + k, *y = b.data + k * b.step;
    auto y0 = load(y), y1 = Vectors > 1 ? load(y + lanes) : y0;
    auto add = [&](int row, VF& first, VF& second) {
      auto v = hn::Set(f_tag, x[row * a.step]);
      first = hn::MulAdd(v, y0, first);
      if constexpr (Vectors > 1) second = hn::MulAdd(v, y1, second);
    };
    add(0, s00, s01);
    if constexpr (Rows > 1) {
      add(1, s10, s11);
      add(2, s20, s21);
      add(3, s30, s31);
    }
  }
  auto put = [&](int row, VF first, VF second) {
    auto* to = c + row * c_step;
    if (keep != 0) {
      const auto* old = from.data + row * from.step;
      auto factor = hn::Set(f_tag, keep);
      first = hn::MulAdd(factor, load(old), first);
      if constexpr (Vectors > 1)
        second = hn::MulAdd(factor, load(old + lanes), second);
    }
    store(first, to);
    if constexpr (Vectors > 1) store(second, to + lanes);
  };
  put(0, s00, s01);
  if constexpr (Rows > 1) {
    put(1, s10, s11);
    put(2, s20, s21);
    put(3, s30, s31);
  }
}

template <int Rows>
HWY_INLINE void product_rows(
    int depth,
    int columns,
    Operand a,
    Operand b,
    float keep,
    Operand from,
    float* c,
    std::size_t c_step) {
  const int lanes = static_cast<int>(hn::Lanes(f_tag));
  int j = 0;
  auto at = [&](Operand o) { return Operand{o.data + j, o.step}; };
  for (; j + 2 * lanes <= columns; j += 2 * lanes)
    product_tile<Rows, 2>(depth, a, at(b), keep, at(from), c + j, c_step);
  for (; j + lanes <= columns; j += lanes)
    product_tile<Rows, 1>(depth, a, at(b), keep, at(from), c + j, c_step);
  for (; j < columns; ++j)
    for (int row = 0; row < Rows; ++row) {
      float sum = keep != 0 ? keep * from.data[row * from.step + j] : 0;
      for (int k = 0; k < depth; ++k)
        sum += a.data[row * a.step + k] * b.data[k * b.step + j];
      c[row * c_step + j] = sum;
    }
}

// c [rows, columns] = keep * from + a [rows, depth] b [depth, columns]; `from`
// may be c.
void product(
    int rows,
    int depth,
    int columns,
    Operand a,
    Operand b,
    float keep,
    Operand from,
    float* c,
    std::size_t c_step) {
  int i = 0;
  auto at = [&](Operand o) { return Operand{o.data + i * o.step, o.step}; };
  for (; i + 4 <= rows; i += 4)
    product_rows<4>(
        depth, columns, at(a), b, keep, at(from), c + i * c_step, c_step);
  for (; i < rows; ++i)
    product_rows<1>(
        depth, columns, at(a), b, keep, at(from), c + i * c_step, c_step);
}

// out[s * Q + t] *= x_t . y_s for s <= t
void inner_products(Operand x, Operand y, int length, int width, float* out) {
  constexpr int q = most_chunk;
  for (int s = 0; s < length; ++s)
    for (int t = s; t < length; ++t) {
      const float *a = x.data + t * x.step, *b = y.data + s * y.step;
      auto sum = hn::Zero(f_tag);
      each_vector(
          width,
          [&](std::size_t i) {
            sum = hn::MulAdd(load(a + i), load(b + i), sum);
          },
          [&](std::size_t i, std::size_t rest) {
            sum =
                hn::MulAdd(load_some(a + i, rest), load_some(b + i, rest), sum);
          });
      out[s * q + t] *= hn::GetLane(hn::SumOfLanes(f_tag, sum));
    }
}

// With M[s][t] = (c_t . b_s) decay(s, t) dt_s:
//   y = H C' + X M + d x,   H = decay H + (X dt decay) B.
void state_space_chunk_impl(const StateSpace& p, int rows) {
  constexpr int q = most_chunk;
  const int n = p.length, dim = p.dim;
  ChunkSpace space(q * (q + 1 + dim + 3 * std::size_t(rows)));
  float *between = space.take(q * q), *start = space.take(q);
  float* read = space.take(std::size_t(dim) * q); // [S][t]
  float* x = space.take(std::size_t(rows) * q); // [P][s]
  float* y = space.take(std::size_t(rows) * q); // [P][t]
  float* written = space.take(std::size_t(rows) * q);
  float keep[q] = {}, rate[q] = {};
  for (int t = 0; t < n; ++t) {
    rate[t] = p.dt[t * p.dt_step];
    keep[t] = std::exp(rate[t] * p.a);
  }
  decays(keep, n, between, start);
  float to_end[q] = {};
  for (int s = 0; s < n; ++s)
    to_end[s] = between[s * q + n - 1] * rate[s];
  transposed(p.c, p.group_step, n, dim, start, read);
  inner_products({p.c, p.group_step}, {p.b, p.group_step}, n, dim, between);
  for (int s = 0; s < n; ++s)
    for (int t = s; t < n; ++t)
      between[s * q + t] *= rate[s];
  for (int i = 0; i < rows; ++i)
    for (int t = 0; t < n; ++t) {
      x[i * q + t] = p.x[t * p.x_step + i];
      written[i * q + t] = x[i * q + t] * to_end[t];
    }
  auto stride = static_cast<std::size_t>(dim);
  product(rows, dim, q, {p.state, stride}, {read, q}, 0, {y, q}, y, q);
  product(rows, n, q, {x, q}, {between, q}, 1, {y, q}, y, q);
  product(
      rows,
      n,
      dim,
      {written, q},
      {p.b, p.group_step},
      start[n - 1],
      {p.state, stride},
      p.last,
      stride);
  for (int t = 0; t < n; ++t)
    for (int i = 0; i < rows; ++i)
      p.y[t * p.y_step + i] = y[i * q + t] + p.d * x[i * q + t];
}

// solve[s][t], column after column: T_t = beta_t (e_t - sum A[t][i] T_i).
void solve_writes(const DeltaRule& d, const float* among, float* solve) {
  constexpr int q = most_chunk;
  float columns[q][q] = {};
  for (int t = 0; t < d.length; ++t) {
    float beta = d.beta[t * d.beta_step];
    float* column = columns[t];
    for (int i = 0; i < t; ++i) {
      float factor = -beta * among[i * q + t];
      for (int s = 0; s < q; ++s)
        column[s] += factor * columns[i][s];
    }
    column[t] = beta;
  }
  for (int s = 0; s < q; ++s)
    for (int t = 0; t < q; ++t)
      solve[s * q + t] = columns[t][s];
}

// u_t = beta_t (v_t - g_t S_{t-1} k_t) for all t from the state before: with
// A[t][s] = beta_t decay(s, t) (k_t . k_s), s < t,
//   U = (V - S K') T,  T = diag(beta) and its corrections (I + A)^-1,
//   y = S Q' + U M,  M[s][t] = decay(s, t) (q_t . k_s),  S = decay S + U K''.
void delta_rule_chunk_impl(const DeltaRule& d, int rows) {
  constexpr int q = most_chunk;
  const int n = d.length, dim = d.dim;
  ChunkSpace space(
      q * (3 * q + 1 + 3 * std::size_t(dim) + 3 * std::size_t(rows)));
  float *among = space.take(q * q), *m = space.take(q * q);
  float *solve = space.take(q * q), *start = space.take(q);
  float* k = space.take(std::size_t(dim) * q); // [K][t]
  float* r = space.take(std::size_t(dim) * q);
  float* write = space.take(std::size_t(dim) * q); // [s][K]
  float* w = space.take(std::size_t(rows) * q); // [V][t]
  float* u = space.take(std::size_t(rows) * q);
  float* y = space.take(std::size_t(rows) * q);
  float gates[q] = {};
  for (int t = 0; t < n; ++t)
    gates[t] = d.g[t * d.gate_step];
  decays(gates, n, m, start);
  for (int s = 0; s < n; ++s)
    for (int j = 0; j < dim; ++j)
      write[s * dim + j] = d.k[s * d.key_step + j] * m[s * q + n - 1];
  std::memcpy(among, m, sizeof(float) * q * q);
  inner_products({d.k, d.key_step}, {d.k, d.key_step}, n, dim, among);
  inner_products({d.q, d.key_step}, {d.k, d.key_step}, n, dim, m);
  transposed(d.k, d.key_step, n, dim, start, k);
  transposed(d.q, d.key_step, n, dim, start, r);
  solve_writes(d, among, solve);
  auto stride = static_cast<std::size_t>(dim);
  Operand state{d.state, stride};
  product(rows, dim, q, state, {k, q}, 0, {w, q}, w, q);
  for (int i = 0; i < rows; ++i)
    for (int t = 0; t < n; ++t)
      w[i * q + t] = d.v[t * d.value_step + i] - w[i * q + t];
  product(rows, n, q, {w, q}, {solve, q}, 0, {u, q}, u, q);
  product(rows, dim, q, state, {r, q}, 0, {y, q}, y, q);
  product(rows, n, q, {u, q}, {m, q}, 1, {y, q}, y, q);
  product(
      rows,
      n,
      dim,
      {u, q},
      {write, stride},
      start[n - 1],
      state,
      d.last,
      stride);
  for (int t = 0; t < n; ++t)
    for (int i = 0; i < rows; ++i)
      d.y[t * d.y_step + i] = y[i * q + t];
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
} // namespace mlxlm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlxlm::kernels {

HWY_EXPORT(state_space_chunk_impl);
HWY_EXPORT(delta_rule_chunk_impl);

void state_space_chunk(const StateSpace& space, int rows) {
  HWY_DYNAMIC_DISPATCH(state_space_chunk_impl)(space, rows);
}

void delta_rule_chunk(const DeltaRule& rule, int rows) {
  HWY_DYNAMIC_DISPATCH(delta_rule_chunk_impl)(rule, rows);
}

} // namespace mlxlm::kernels
#endif
