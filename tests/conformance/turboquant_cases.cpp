// Family `turboquant`: single rows with a given state, distortion with our own,
// attention over packed pages. Codebooks, rotations and packings are in
// turboquant_parts.cpp.
#include <mlx/ops.h>
#include <mlx/random.h>
#include <mlx/transforms.h>

#include <cmath>

#include "cache/memory.h"
#include "conformance.h"
#include "core/files.h"
#include "golden.h"
#include "runtime/kernels/attention/row_coder.h"
#include "runtime/kernels/attention/turbo.h"
#include "turboquant_cases.h"

namespace mlxlm::conformance {
namespace {

using kernels::Rotation;
using kernels::RowCodec;
using kernels::TurboRow;
using kernels::TurboState;
namespace reference = kernels::reference;

// ---- rows with a given state ------------------------------------------------

struct Coded { // rows of keys or values
  std::vector<std::uint8_t> codes, signs;
  std::vector<float> norms, residuals, decoded;
};

TurboRow row_of(Coded& coded, std::size_t row, int dim) {
  auto at = row * dim;
  return {
      &coded.codes[at],
      coded.norms[row],
      &coded.signs[at],
      coded.residuals[row]};
}

void resize(Coded& coded, std::size_t rows, int dim) {
  coded.codes.resize(rows * dim);
  coded.signs.resize(rows * dim);
  coded.decoded.resize(rows * dim);
  coded.norms.resize(rows);
  coded.residuals.resize(rows);
}

// Rows behind the sinks of x [B, H, T, D].
std::vector<float> behind(const GoldenTensor& x, int sinks) {
  auto all = x.floats();
  auto tokens = x.shape[2], dim = x.shape[3];
  std::vector<float> out;
  for (std::int64_t h = 0; h < x.shape[0] * x.shape[1]; ++h) {
    auto begin = all.begin() + (h * tokens + sinks) * dim;
    out.insert(out.end(), begin, begin + (tokens - sinks) * dim);
  }
  return out;
}

float through_half(float x) {
  return mx::astype(mx::array(x, mx::float16), mx::float32).item<float>();
}

Coded encode(const TurboState& state, const std::vector<float>& x) {
  int dim = state.dim();
  Coded out;
  resize(out, x.size() / dim, dim);
  std::vector<float> scratch(2 * dim);
  for (std::size_t r = 0; r < out.norms.size(); ++r) {
    auto row = row_of(out, r, dim);
    turbo_encode(state, x.data() + r * dim, row, scratch.data());
    out.norms[r] = row.norm = through_half(row.norm);
    out.residuals[r] = row.residual = through_half(row.residual);
    turbo_decode(state, row, &out.decoded[r * dim], scratch.data());
  }
  return out;
}

double differing(
    const std::vector<std::uint8_t>& a,
    const std::vector<int>& b,
    int by) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::abs(int(a[i]) - b[i]) > by) return 1;
    count += a[i] != b[i];
  }
  return double(count) / double(a.size());
}

double relative(const std::vector<float>& a, const std::vector<float>& b) {
  double worst = a.size() == b.size() ? 0 : 1;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    worst = std::max(worst, std::abs(double(a[i]) / b[i] - 1));
  return worst;
}

double relative_l2(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0, all = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    error += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
    all += double(b[i]) * b[i];
  }
  return a.size() == b.size() ? std::sqrt(error / all) : 1;
}

struct Farthest {
  double codes = 0, signs = 0, norms = 0, decoded = 0, end_to_end = 0;
};

// The golden's own codes, decoded by us, against its decoded rows.
double decoded_apart(
    const TurboState& state,
    Coded stored,
    const std::vector<float>& expected) {
  int dim = state.dim();
  std::vector<float> scratch(2 * dim), x(dim);
  double worst = 0;
  for (std::size_t r = 0; r < stored.norms.size(); ++r) {
    auto row = row_of(stored, r, dim);
    turbo_decode(state, row, x.data(), scratch.data());
    auto want = std::span(expected).subspan(r * dim, dim);
    worst = std::max(worst, max_abs(x, want) / row.norm);
  }
  return worst;
}

void check_side(
    const Golden& golden,
    const std::string& side,
    const TurboState& state,
    int sinks,
    Farthest& worst) {
  auto rows = behind(golden[side + "s"], sinks);
  auto ours = encode(state, rows);
  auto codes = golden[side + "_indices"].ints();
  auto norms = golden[side + "_norms"].floats();
  auto decoded = behind(golden["decoded_" + side + "s"], sinks);
  Coded stored;
  resize(stored, norms.size(), state.dim());
  std::copy(codes.begin(), codes.end(), stored.codes.begin());
  stored.norms = norms;
  worst.codes = std::max(worst.codes, differing(ours.codes, codes, 1));
  worst.norms = std::max(worst.norms, relative(ours.norms, norms));
  if (!state.projection.empty()) {
    auto signs = reference::unpack_words(
        uint32_array(golden[side + "_qjl_packed"]), 1, int(codes.size()));
    signs = mx::contiguous(signs);
    signs.eval();
    std::vector<int> expected(
        signs.data<std::uint32_t>(),
        signs.data<std::uint32_t>() + signs.size());
    std::copy(expected.begin(), expected.end(), stored.signs.begin());
    stored.residuals = golden[side + "_residual_norms"].floats();
    worst.signs = std::max(worst.signs, differing(ours.signs, expected, 1));
    worst.norms =
        std::max(worst.norms, relative(ours.residuals, stored.residuals));
  }
  worst.decoded =
      std::max(worst.decoded, decoded_apart(state, stored, decoded));
  worst.end_to_end =
      std::max(worst.end_to_end, relative_l2(ours.decoded, decoded));
}

Outcome encode_case(const Case& c) {
  Golden golden(c.path("golden.safetensors"));
  int sinks = c.json.req<int>("sink_tokens");
  Rotation rotation(golden["signs"].floats());
  TurboState keys(
      rotation, golden["key_codebook"].floats(), golden["S"].floats());
  TurboState values(rotation, golden["value_codebook"].floats());
  Farthest worst;
  check_side(golden, "key", keys, sinks, worst);
  check_side(golden, "value", values, sinks, worst);
  return judge(
      worst.codes <= 0.002 && worst.signs <= 0.005 && worst.norms <= 0.002 &&
          worst.decoded <= 5e-3 && worst.end_to_end <= 0.02,
      fmt::format(
          "codes {:.2g}, signs {:.2g} differ, norms {:.1e}, decoded {:.1e}, "
          "end to end {:.1e}",
          worst.codes,
          worst.signs,
          worst.norms,
          worst.decoded,
          worst.end_to_end));
}

// ---- distortion -------------------------------------------------------------

struct Distortion {
  double mse = 0, inner = 0, slope = 0;
};

double dot(const float* a, const float* b, int n) {
  double sum = 0;
  for (int i = 0; i < n; ++i)
    sum += double(a[i]) * b[i];
  return sum;
}

Distortion distortion(
    const TurboState& state,
    const std::vector<float>& x,
    const std::vector<float>& q) {
  int d = state.dim();
  auto coded = encode(state, x);
  Distortion out;
  auto n = x.size() / d, m = q.size() / d;
  double cross = 0, square = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const float *a = &x[i * d], *b = &coded.decoded[i * d];
    double norm = std::sqrt(dot(a, a, d));
    for (int j = 0; j < d; ++j)
      out.mse += std::pow((double(a[j]) - b[j]) / norm, 2) / double(n);
    for (std::size_t k = 0; k < m; ++k) {
      auto* y = &q[k * d];
      double length = std::sqrt(dot(y, y, d));
      double truth = dot(y, a, d), found = dot(y, b, d);
      double error = (truth - found) / norm / length;
      out.inner += d * error * error / double(n * m);
      cross += truth * found;
      square += truth * truth;
    }
  }
  out.slope = cross / square - 1;
  return out;
}

Outcome distortion_case(const Case& c) {
  Golden golden(c.path("vectors.safetensors"));
  auto x = golden["x"].floats(), q = golden["q"].floats();
  int dim = int(golden["x"].shape[1]);
  double worst = 0; // as a part of what is allowed
  for (auto& row : read_json(c.path("expected.json"))) {
    int bits = row.at("bits").get<int>();
    for (bool sketch : {false, true}) {
      TurboState state(
          dim,
          bits,
          sketch ? reference::key_seed : reference::value_seed,
          sketch);
      auto found = distortion(state, x, q);
      auto& bounds = row.at(sketch ? "key_codec" : "mse_codec");
      auto bound = [&](const char* name) {
        return bounds.at(name).get<double>();
      };
      worst = std::max(worst, found.mse / bound("bound_mse"));
      worst = std::max(worst, found.inner / bound("bound_ip_mse_times_d"));
      if (!sketch) continue;
      worst =
          std::max(worst, std::abs(found.slope) / bound("ip_slope_abs_bound"));
    }
  }
  return judge(
      worst > 0 && worst <= 1, fmt::format("{:.3f} of the bounds", worst));
}

// ---- attention --------------------------------------------------------------

// [1, H, T, D] -> [1, T, H, D].
mx::array by_token(const GoldenTensor& t) {
  auto values = t.floats();
  mx::Shape shape(t.shape.begin(), t.shape.end());
  mx::array x(values.data(), std::move(shape), mx::float32);
  return mx::transpose(x, {0, 2, 1, 3});
}

mx::array tokens(const mx::array& x, int first, int last) {
  return mx::slice(x, {0, first, 0, 0}, {1, last, x.shape(2), x.shape(3)});
}

// All queries as heads of the last token, which sees every key.
std::vector<float> packed_attention(
    const Golden& golden,
    const RowCodec& keys,
    const RowCodec& values) {
  auto k = by_token(golden["k"]), v = by_token(golden["v"]);
  auto& queries = golden["q"];
  int n = k.shape(1), heads = k.shape(2), dim = k.shape(3);
  int many = int(queries.shape[2]);
  auto flat = queries.floats();
  mx::array q(flat.data(), {1, 1, heads * many, dim}, mx::float32);
  constexpr int sinks = 4;
  auto memory = make_memory(
      {FullKv{heads, dim}},
      {.page_tokens = sinks,
       .storage = {.keys = keys, .values = values, .plain_tokens = sinks}});
  auto sequence = memory->sequence();
  auto pass = [&](int first, int last, const mx::array& q) {
    sequence->begin(last - first);
    Step step({{sequence.get(), 0, last - first, first}});
    auto out = mx::contiguous(memory->layer(0).attend(
        step,
        q,
        tokens(k, first, last),
        tokens(v, first, last),
        {.scale = 1 / std::sqrt(float(dim))}));
    out.eval();
    sequence->commit(last - first);
    return out;
  };
  pass(0, n - 1, mx::zeros({1, n - 1, heads, dim}));
  auto out = pass(n - 1, n, q);
  return {out.data<float>(), out.data<float>() + out.size()};
}

Outcome attention_case(const Case& c) {
  Golden golden(c.path("golden.safetensors"));
  auto expected = golden["out"].floats();
  constexpr auto turbo = RowCodec::Kind::turbo;
  double worst = 0;
  std::string figure;
  for (auto& row : read_json(c.path("expected.json"))) {
    int key_bits = row.at("key_bits").get<int>();
    RowCodec values{turbo, row.at("value_bits").get<int>()};
    double bound = row.at("relative_l2_bound").get<double>();
    for (bool sketch : {false, true}) {
      RowCodec keys{turbo, key_bits, 64, sketch};
      double error =
          relative_l2(packed_attention(golden, keys, values), expected);
      worst = std::max(worst, error / bound);
      figure += fmt::format(
          "{}/{}{} {:.3f} of {:.3f}, ",
          key_bits,
          values.bits,
          sketch ? " sketch" : "",
          error,
          bound);
    }
  }
  figure.resize(figure.empty() ? 0 : figure.size() - 2);
  return judge(worst > 0 && worst <= 1, figure);
}

} // namespace

Outcome turboquant_case(const Case& c) {
  if (is_file(c.path("codebooks.safetensors"))) return turbo_codebook_case(c);
  if (is_file(c.path("transform.safetensors"))) return turbo_transform_case(c);
  if (is_file(c.path("packing.safetensors"))) return turbo_packing_case(c);
  if (is_file(c.path("vectors.safetensors"))) return distortion_case(c);
  return c.json.has("key_bits") ? encode_case(c) : attention_case(c);
}

} // namespace mlxlm::conformance
