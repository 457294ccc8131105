// The parts of TurboQuant, each by itself: codebooks, rotations, packings.
#include <mlx/ops.h>

#include <algorithm>
#include <cmath>

#include "core/files.h"
#include "golden.h"
#include "runtime/kernels/attention/codebook.h"
#include "runtime/kernels/attention/row_coder.h"
#include "runtime/kernels/attention/turbo.h"
#include "turboquant_cases.h"

namespace mlxlm::conformance {
namespace {

namespace reference = kernels::reference;

// Mean square error of a coordinate quantized to `centroids`.
double codebook_error(const std::vector<float>& centroids, int dim) {
  double edge = dim > 0 ? std::min(1.0, 10 / std::sqrt(double(dim))) : 10;
  constexpr int points = 200000;
  double mass = 0, error = 0;
  for (int i = 0; i < points; ++i) {
    double x = edge * (2 * (i + 0.5) / points - 1);
    double p =
        std::exp(dim > 0 ? (dim - 3) / 2.0 * std::log1p(-x * x) : -x * x / 2);
    double best = 1e30;
    for (double c : centroids)
      best = std::min(best, (x - c) * (x - c));
    mass += p;
    error += p * best;
  }
  return error / mass;
}

bool same(const mx::array& a, const mx::array& b) {
  return mx::array_equal(a, b).item<bool>();
}

} // namespace

mx::array uint32_array(const GoldenTensor& t) {
  auto values = t.ints();
  mx::Shape shape(t.shape.begin(), t.shape.end());
  return mx::astype(
      mx::array(values.begin(), std::move(shape), mx::int32), mx::uint32);
}

Outcome turbo_codebook_case(const Case& c) {
  Golden golden(c.path("codebooks.safetensors"));
  auto table = read_json(c.path("codebooks.json"));
  auto tolerance = c.json.sub("tolerance");
  double worst = 0, worst_error = 0; // as parts of what is allowed
  for (auto& row : table) {
    auto name = row.at("key").get<std::string>();
    int dim = row.at("dim").is_null() ? 0 : row.at("dim").get<int>();
    auto ours = kernels::lloyd_max(dim, row.at("bits").get<int>());
    double allowed = dim > 0 ? 0.02 / std::sqrt(double(dim)) : 0.02;
    worst = std::max(worst, max_abs(ours, golden[name].floats()) / allowed);
    double expected = row.at("mse_per_coordinate").get<double>();
    double error = std::abs(codebook_error(ours, dim) / expected - 1);
    worst_error =
        std::max(worst_error, error / tolerance.req<double>("mse_relative"));
  }
  return judge(
      worst <= 1 && worst_error <= 1,
      fmt::format(
          "centroids {:.1e}, error {:.1e} of what is allowed",
          worst,
          worst_error));
}

Outcome turbo_transform_case(const Case& c) {
  Golden golden(c.path("transform.safetensors"));
  double worst = 0, back = 0;
  int signs = 0, seen = 0;
  for (auto& [name, x] : golden.tensors()) {
    int dim;
    char what = 0;
    if (std::sscanf(name.c_str(), "d%d.%c", &dim, &what) != 2 || what != 'x')
      continue;
    auto prefix = fmt::format("d{}.", dim);
    kernels::Rotation rotation(golden[prefix + "signs"].floats());
    auto rows = x.floats(), expected = golden[prefix + "y"].floats();
    for (std::size_t i = 0; i < rows.size(); i += dim) {
      std::vector<float> row(rows.begin() + i, rows.begin() + i + dim);
      rotation.apply(row.data());
      worst =
          std::max(worst, max_abs(row, std::span(expected).subspan(i, dim)));
      rotation.inverse(row.data());
      back = std::max(back, max_abs(row, std::span(rows).subspan(i, dim)));
    }
    ++seen;
    signs +=
        kernels::Rotation(dim, 42).signs() == golden[prefix + "signs"].floats();
    signs += kernels::Rotation(dim, 7).signs() ==
        golden[prefix + "signs_seed7"].floats();
  }
  return judge(
      seen > 0 && worst <= 1e-5 && back <= 1e-5 && signs == 2 * seen,
      fmt::format(
          "y {:.1e}, inverse {:.1e}, signs of {} seeds", worst, back, signs));
}

Outcome turbo_packing_case(const Case& c) {
  Golden golden(c.path("packing.safetensors"));
  int good = 0, seen = 0;
  for (auto& [name, tensor] : golden.tensors()) {
    auto end = name.find(".values");
    if (end == std::string::npos) continue;
    auto values = uint32_array(tensor);
    auto packed = uint32_array(golden[name.substr(0, end) + ".packed"]);
    bool flat = name.rfind("flat", 0) == 0;
    int bits = name[name.find(".b") + 2] - '0', n = values.shape(-1);
    auto ours = flat ? reference::pack_words(values, bits)
                     : reference::pack_bits(values, bits);
    auto back = flat ? reference::unpack_words(packed, bits, n)
                     : reference::unpack_bits(packed, bits, n);
    ++seen;
    good += same(ours, packed) && same(back, values);
  }
  return judge(
      seen > 0 && good == seen, fmt::format("{} of {} packings", good, seen));
}

} // namespace mlxlm::conformance
