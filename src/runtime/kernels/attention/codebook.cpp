// Lloyd's iteration over a fine grid; see codebook.h.
#include "runtime/kernels/attention/codebook.h"

#include <algorithm>
#include <cmath>

#include "core/check.h"

namespace mlxlm::kernels {

namespace {

// Sums of density and of density times place up to each grid point, so that a
// centroid is two differences.
struct Grid {
  double edge, step;
  std::vector<double> mass, moment; // [points + 1]

  explicit Grid(int dim) {
    constexpr int points = 40000;
    constexpr double deviations = 9; // nothing that counts lies beyond
    edge = deviations;
    if (dim > 0) edge = std::min(1.0, deviations / std::sqrt(double(dim)));
    step = 2 * edge / points;
    mass.resize(points + 1);
    moment.resize(points + 1);
    for (int i = 0; i < points; ++i) {
      double x = -edge + (i + 0.5) * step;
      double log = dim > 0 ? (dim - 3) / 2.0 * std::log1p(-x * x) : -x * x / 2;
      double p = std::exp(log);
      mass[i + 1] = mass[i] + p;
      moment[i + 1] = moment[i] + p * x;
    }
  }

  // Of `sums` up to x.
  double at(const std::vector<double>& sums, double x) const {
    double place = (x + edge) / step;
    double last = double(sums.size() - 1);
    place = std::clamp(place, 0.0, last);
    auto i = std::min(std::size_t(place), sums.size() - 2);
    return sums[i] + (place - double(i)) * (sums[i + 1] - sums[i]);
  }

  double centroid(double from, double to) const {
    double m = at(mass, to) - at(mass, from);
    if (m <= 0) return (from + to) / 2;
    return (at(moment, to) - at(moment, from)) / m;
  }
};

} // namespace

std::vector<float> lloyd_max(int dim, int bits) {
  MLXLM_CHECK(
      bits >= 1 && bits <= 4 && dim >= 0, "a codebook of one to four bits");
  Grid grid(dim == 1 ? 2 : dim);
  int count = 1 << bits;
  double spread = dim > 0 ? 1 / std::sqrt(double(dim)) : 1;
  spread = std::min(3 * spread, grid.edge);
  std::vector<double> c(count);
  for (int i = 0; i < count; ++i)
    c[i] = spread * (2 * (i + 0.5) / count - 1);
  constexpr int most_rounds = 3000;
  double moved = 1;
  for (int round = 0; round < most_rounds && moved > 1e-9 * spread; ++round) {
    moved = 0;
    auto old = c;
    for (int i = 0; i < count; ++i) {
      double from = i > 0 ? (old[i - 1] + old[i]) / 2 : -grid.edge;
      double to = i + 1 < count ? (old[i] + old[i + 1]) / 2 : grid.edge;
      c[i] = grid.centroid(from, to);
      moved = std::max(moved, std::abs(c[i] - old[i]));
    }
  }
  std::vector<float> out(count);
  for (int i = 0; i < count; ++i)
    out[i] = float((c[i] - c[count - 1 - i]) / 2);
  return out;
}

std::vector<float> midpoints(const std::vector<float>& centroids) {
  std::vector<float> out;
  for (std::size_t i = 0; i + 1 < centroids.size(); ++i)
    out.push_back((centroids[i] + centroids[i + 1]) / 2);
  return out;
}

} // namespace mlxlm::kernels
