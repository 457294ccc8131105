// The primitives of the recurrences: one job a sequence and block of state
// rows; see scan.h. The arithmetic is in scan/rows.cpp.
#include "runtime/kernels/scan.h"

#include <mlx/ops.h>

#include <algorithm>

#include "core/check.h"
#include "runtime/kernels/packed_rows.h"
#include "runtime/kernels/primitive.h"
#include "runtime/kernels/scan/rows.h"
#include "runtime/threads.h"

namespace mlxlm::kernels {

namespace {

void expect_floats(bool good, const char* op) {
  if (!good)
    fail(
        ErrorKind::internal,
        op,
        "expected float32 arrays that belong together, found others");
}

bool shaped(const mx::array& x, const mx::Shape& shape) {
  return x.shape() == shape && x.dtype() == mx::float32;
}

Arrays packed(Arrays arrays) {
  for (auto& x : arrays)
    x = packed_rows(x);
  return arrays;
}

// body(sequence, first row, last row): rows of every sequence of the batch, in
// blocks that are worth a thread. `cost`: values touched by one row.
template <typename Body>
void for_rows(int batch, int rows, std::size_t cost, const Body& body) {
  constexpr std::size_t worth_a_thread = 32768, most = 64;
  auto blocks = std::min(most, rows * cost / worth_a_thread);
  int each = (rows + int(blocks)) / int(blocks + 1);
  int count = (rows + each - 1) / each;
  auto run = [&](int i) {
    int first = i % count * each;
    body(i / count, first, std::min(rows, first + each));
  };
  if (batch * count == 1) return run(0);
  parallel_for(batch * count, run);
}

struct LinearOp {
  static constexpr const char* name = "mlxlm::linear_scan";

  void eval(const Arrays& in, Arrays& out, mx::Stream stream) const {
    allocate(out[0]);
    int batch = in[0].shape(0), length = in[0].shape(1), width = in[0].shape(2);
    LinearScan scan{
        length,
        width,
        in[0].data<float>(),
        in[1].data<float>(),
        in[2].data<float>(),
        out[0].data<float>()};
    dispatch(stream, [=] {
      std::size_t size = std::size_t(length) * width;
      for_rows(batch, width, 4 * length, [&](int i, int first, int last) {
        auto one = scan;
        one.a += i * size;
        one.b += i * size;
        one.h += i * std::size_t(width);
        one.out += i * size;
        linear_scan_columns(one, first, last);
      });
    });
  }

  Arrays reference(const Arrays& in) const {
    return {reference::linear_scan(in[0], in[1], in[2])};
  }
};

struct SelectiveOp {
  static constexpr const char* name = "mlxlm::selective_scan";

  void eval(const Arrays& in, Arrays& out, mx::Stream stream) const {
    allocate(out[0]);
    allocate(out[1]);
    int batch = in[0].shape(0);
    SelectiveScan scan{
        in[0].shape(1),
        in[0].shape(2),
        in[2].shape(1),
        in[0].data<float>(),
        in[1].data<float>(),
        in[2].data<float>(),
        in[3].data<float>(),
        in[4].data<float>(),
        in[5].data<float>(),
        in[6].data<float>(),
        out[0].data<float>(),
        out[1].data<float>()};
    dispatch(stream, [=] {
      std::size_t wide = std::size_t(scan.length) * scan.channels;
      std::size_t narrow = std::size_t(scan.length) * scan.state;
      std::size_t whole = std::size_t(scan.channels) * scan.state;
      std::size_t cost = 8 * narrow; // an exponential a value
      for_rows(batch, scan.channels, cost, [&](int i, int first, int last) {
        auto one = scan;
        one.x += i * wide;
        one.dt += i * wide;
        one.b += i * narrow;
        one.c += i * narrow;
        one.h += i * whole;
        one.y += i * wide;
        one.last += i * whole;
        selective_scan_channels(one, first, last);
      });
    });
  }

  Arrays reference(const Arrays& in) const {
    auto [y, h] = reference::selective_scan(
        in[0], in[1], in[2], in[3], in[4], in[5], in[6]);
    return {y, h};
  }
};

struct SpaceOp {
  static constexpr const char* name = "mlxlm::state_space";

  void eval(const Arrays& in, Arrays& out, mx::Stream stream) const {
    allocate(out[0]);
    allocate(out[1]);
    auto shape = in[0].shape(); // of x
    int length = shape[1], heads = shape[2], rows = shape[3];
    int groups = in[3].shape(2), dim = in[3].shape(3);
    StateSpace space{
        length,
        dim,
        0,
        0,
        in[0].data<float>(),
        in[1].data<float>(),
        in[3].data<float>(),
        in[4].data<float>(),
        std::size_t(heads) * rows,
        std::size_t(heads),
        std::size_t(groups) * dim,
        in[6].data<float>(),
        out[0].data<float>(),
        out[1].data<float>()};
    auto *a = in[2].data<float>(), *d = in[5].data<float>();
    dispatch(stream, [=, batch = shape[0]] {
      std::size_t cost = std::size_t(3) * length * dim;
      for_rows(batch * heads, rows, cost, [&](int i, int first, int last) {
        std::size_t b = i / heads, h = i % heads;
        std::size_t group = h / (heads / groups) * dim;
        auto one = space;
        one.a = a[h];
        one.d = d[h];
        one.x += b * length * space.x_step + h * rows;
        one.y += b * length * space.x_step + h * rows;
        one.dt += b * length * space.dt_step + h;
        one.b += b * length * space.group_step + group;
        one.c += b * length * space.group_step + group;
        one.state += std::size_t(i) * rows * dim;
        one.last += std::size_t(i) * rows * dim;
        state_space_rows(one, first, last);
      });
    });
  }

  Arrays reference(const Arrays& in) const {
    auto [y, h] =
        reference::state_space(in[0], in[1], in[2], in[3], in[4], in[5], in[6]);
    return {y, h};
  }
};

struct DeltaOp {
  static constexpr const char* name = "mlxlm::delta_rule";

  void eval(const Arrays& in, Arrays& out, mx::Stream stream) const {
    allocate(out[0]);
    allocate(out[1]);
    auto shape = in[2].shape(); // of v
    int length = shape[1], heads = shape[2], rows = shape[3];
    int key_heads = in[0].shape(2), dim = in[0].shape(3);
    bool by_channel = in[3].ndim() == 4;
    std::size_t gates = by_channel ? dim : 1;
    DeltaRule rule{
        length,
        dim,
        by_channel,
        in[0].data<float>(),
        in[1].data<float>(),
        in[2].data<float>(),
        in[3].data<float>(),
        in[4].data<float>(),
        std::size_t(key_heads) * dim,
        std::size_t(heads) * rows,
        heads * gates,
        std::size_t(heads),
        in[5].data<float>(),
        out[0].data<float>(),
        out[1].data<float>()};
    dispatch(stream, [=, batch = shape[0]] {
      std::size_t cost = std::size_t(4) * length * dim;
      for_rows(batch * heads, rows, cost, [&](int i, int first, int last) {
        std::size_t b = i / heads, h = i % heads;
        std::size_t key = h / (heads / key_heads) * dim;
        auto one = rule;
        one.q += b * length * rule.key_step + key;
        one.k += b * length * rule.key_step + key;
        one.v += b * length * rule.value_step + h * rows;
        one.y += b * length * rule.value_step + h * rows;
        one.g += b * length * rule.gate_step + h * gates;
        one.beta += b * length * rule.beta_step + h;
        one.state += std::size_t(i) * rows * dim;
        one.last += std::size_t(i) * rows * dim;
        delta_rule_rows(one, first, last);
      });
    });
  }

  Arrays reference(const Arrays& in) const {
    auto [y, s] =
        reference::delta_rule(in[0], in[1], in[2], in[3], in[4], in[5]);
    return {y, s};
  }
};

struct WkvOp {
  static constexpr const char* name = "mlxlm::wkv7";

  void eval(const Arrays& in, Arrays& out, mx::Stream stream) const {
    allocate(out[0]);
    allocate(out[1]);
    int batch = in[0].shape(0), length = in[0].shape(1);
    int heads = in[0].shape(2), dim = in[0].shape(3);
    Wkv7 wkv{
        length,
        dim,
        in[0].data<float>(),
        in[1].data<float>(),
        in[2].data<float>(),
        in[3].data<float>(),
        in[4].data<float>(),
        in[5].data<float>(),
        std::size_t(heads) * dim,
        in[6].data<float>(),
        out[0].data<float>(),
        out[1].data<float>()};
    dispatch(stream, [=] {
      std::size_t cost = std::size_t(6) * length * dim;
      for_rows(batch * heads, dim, cost, [&](int i, int first, int last) {
        std::size_t at = std::size_t(i / heads) * length * wkv.step +
            std::size_t(i % heads) * dim;
        std::size_t whole = std::size_t(i) * dim * dim;
        auto one = wkv;
        for (auto* p : {&one.r, &one.w, &one.k, &one.v, &one.a, &one.b})
          *p += at;
        one.y += at;
        one.state += whole;
        one.last += whole;
        wkv7_rows(one, first, last);
      });
    });
  }

  Arrays reference(const Arrays& in) const {
    auto [y, s] =
        reference::wkv7(in[0], in[1], in[2], in[3], in[4], in[5], in[6]);
    return {y, s};
  }
};

template <typename Op>
std::pair<mx::array, mx::array> with_state(
    const mx::array& y,
    const mx::array& state,
    Arrays inputs) {
  auto out = cpu_arrays(
      Op{},
      {y.shape(), state.shape()},
      {mx::float32, mx::float32},
      packed(std::move(inputs)));
  return {out[0], out[1]};
}

} // namespace

mx::array linear_scan(
    const mx::array& a,
    const mx::array& b,
    const mx::array& h) {
  expect_floats(
      a.ndim() == 3 && shaped(a, a.shape()) && shaped(b, a.shape()) &&
          shaped(h, {a.shape(0), a.shape(2)}),
      LinearOp::name);
  if (!on_cpu()) return reference::linear_scan(a, b, h);
  return cpu_array(LinearOp{}, a.shape(), mx::float32, packed({a, b, h}));
}

std::pair<mx::array, mx::array> selective_scan(
    const mx::array& x,
    const mx::array& dt,
    const mx::array& a,
    const mx::array& b,
    const mx::array& c,
    const mx::array& d,
    const mx::array& h) {
  bool good = x.ndim() == 3 && a.ndim() == 2;
  if (good) {
    int batch = x.shape(0), length = x.shape(1), channels = x.shape(2);
    int state = a.shape(1);
    good = shaped(x, x.shape()) && shaped(dt, x.shape()) &&
        shaped(a, {channels, state}) && shaped(b, {batch, length, state}) &&
        shaped(c, b.shape()) && shaped(d, {channels}) &&
        shaped(h, {batch, channels, state});
  }
  expect_floats(good, SelectiveOp::name);
  if (!on_cpu()) return reference::selective_scan(x, dt, a, b, c, d, h);
  return with_state<SelectiveOp>(x, h, {x, dt, a, b, c, d, h});
}

std::pair<mx::array, mx::array> state_space(
    const mx::array& x,
    const mx::array& dt,
    const mx::array& a,
    const mx::array& b,
    const mx::array& c,
    const mx::array& d,
    const mx::array& h) {
  bool good = x.ndim() == 4 && b.ndim() == 4 && b.shape(2) > 0 &&
      x.shape(2) % b.shape(2) == 0;
  if (good) {
    int batch = x.shape(0), length = x.shape(1), heads = x.shape(2);
    good = shaped(x, x.shape()) && shaped(dt, {batch, length, heads}) &&
        shaped(a, {heads}) && shaped(d, {heads}) &&
        shaped(b, {batch, length, b.shape(2), b.shape(3)}) &&
        shaped(c, b.shape()) &&
        shaped(h, {batch, heads, x.shape(3), b.shape(3)});
  }
  expect_floats(good, SpaceOp::name);
  if (!on_cpu()) return reference::state_space(x, dt, a, b, c, d, h);
  return with_state<SpaceOp>(x, h, {x, dt, a, b, c, d, h});
}

std::pair<mx::array, mx::array> delta_rule(
    const mx::array& q,
    const mx::array& k,
    const mx::array& v,
    const mx::array& g,
    const mx::array& beta,
    const mx::array& state) {
  bool good = q.ndim() == 4 && v.ndim() == 4 && q.shape(2) > 0 &&
      v.shape(2) % q.shape(2) == 0;
  if (good) {
    int batch = v.shape(0), length = v.shape(1), heads = v.shape(2);
    mx::Shape gates{batch, length, heads};
    auto channels = gates;
    channels.push_back(q.shape(3));
    good = shaped(v, v.shape()) &&
        shaped(q, {batch, length, q.shape(2), q.shape(3)}) &&
        shaped(k, q.shape()) && shaped(beta, gates) &&
        (shaped(g, gates) || shaped(g, channels)) &&
        shaped(state, {batch, heads, v.shape(3), q.shape(3)});
  }
  expect_floats(good, DeltaOp::name);
  if (!on_cpu()) return reference::delta_rule(q, k, v, g, beta, state);
  return with_state<DeltaOp>(v, state, {q, k, v, g, beta, state});
}

std::pair<mx::array, mx::array> wkv7(
    const mx::array& r,
    const mx::array& w,
    const mx::array& k,
    const mx::array& v,
    const mx::array& a,
    const mx::array& b,
    const mx::array& state) {
  bool good = r.ndim() == 4 && shaped(r, r.shape());
  for (auto* x : {&w, &k, &v, &a, &b})
    good = good && shaped(*x, r.shape());
  expect_floats(
      good && shaped(state, {r.shape(0), r.shape(2), r.shape(3), r.shape(3)}),
      WkvOp::name);
  if (!on_cpu()) return reference::wkv7(r, w, k, v, a, b, state);
  return with_state<WkvOp>(r, state, {r, w, k, v, a, b, state});
}

} // namespace mlxlm::kernels
