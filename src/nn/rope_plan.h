// What a Rope turns by: read from a config once, asked in each pass.
#pragma once

#include <mlx/array.h>

#include <vector>

#include "nn/rope.h"

namespace mlxlm {

struct RopeSource;

// Frequencies of ordinary lengths, and how they change with the length.
struct RopePlan {
  enum class Growth { none, dynamic, longrope };

  int dims = 0;
  bool traditional = false;
  float magnitude = 1;
  Growth growth = Growth::none;
  std::vector<float> base; // lengths up to `limit`
  std::vector<float> long_base; // longrope beyond `limit`
  float long_magnitude = 1;
  int limit = 0;
  double theta = 0, factor = 1; // of `dynamic`
  mx::array base_array = mx::array(0.0f);
  mx::array long_array = mx::array(0.0f);

  // As the config says.
  RopePlan(const Fields& f, int head_dim, const RopeOptions& options);
  // Nothing but a base.
  RopePlan(int dims, double theta, bool traditional);
  std::vector<float> at(int length) const;
  mx::array array_at(int length) const;
  float magnitude_at(int length) const {
    bool far = growth == Growth::longrope && length_class(length) != 0;
    return far ? long_magnitude : magnitude;
  }
  // Lengths of one class share their frequencies.
  int length_class(int length) const {
    if (growth == Growth::none || length <= limit) return 0;
    return growth == Growth::longrope ? 1 : length;
  }

 private:
  void scale(const RopeSource& s, int head_dim);
  void reverse();
};

} // namespace mlxlm
