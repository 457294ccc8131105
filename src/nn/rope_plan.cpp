#include "nn/rope_plan.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/check.h"
#include "core/strings.h"

namespace mlxlm {

// Where the parts of a config that concern rope are found.
struct RopeSource {
  Fields fields; // type, factor ...
  Fields config; // the whole config, for max_position_embeddings
  std::string type;
  double theta, partial;
};

namespace {

constexpr double two_pi = 2 * std::numbers::pi;

double positive(const Fields& f, std::string_view key, double value) {
  if (!(value > 0) || !std::isfinite(value))
    fail(
        ErrorKind::config,
        f.where(key),
        "expected a positive number, found {}",
        value);
  return value;
}
double positive(const Fields& f, std::string_view key) {
  return positive(f, key, f.req<double>(key));
}

// theta^(-2i / dims) for the first `pairs` pairs.
std::vector<double> frequencies(int dims, double theta, int pairs) {
  std::vector<double> out(pairs);
  for (int i = 0; i < pairs; ++i)
    out[i] = std::pow(theta, -2.0 * i / dims);
  return out;
}

std::vector<float> to_float(const std::vector<double>& v) {
  return {v.begin(), v.end()};
}

mx::array to_array(const std::vector<float>& v) {
  return mx::array(v.data(), {static_cast<int>(v.size())}, mx::float32);
}

RopeSource locate(const Fields& f, const RopeOptions& o) {
  if (f.is_object("rope_parameters")) {
    auto r = f.sub("rope_parameters");
    if (!o.layer_type.empty() && r.is_object(o.layer_type))
      r = r.sub(o.layer_type);
    auto type = r.opt("rope_type", r.opt("type", "default").c_str());
    double theta =
        r.opt<double>("rope_theta", f.opt<double>(o.theta_key, o.theta));
    double partial = r.opt<double>(
        "partial_rotary_factor",
        f.opt<double>("partial_rotary_factor", o.partial));
    return {r, f, type, theta, partial};
  }
  double theta = f.opt<double>(o.theta_key, o.theta);
  double partial = f.opt<double>("partial_rotary_factor", o.partial);
  if (!o.scaled)
    return {Fields(Json::object(), f.where()), f, "default", theta, partial};
  auto r = f.sub("rope_scaling");
  auto type = r.opt("rope_type", r.opt("type", "default").c_str());
  return {r, f, type, theta, partial};
}

int original_length(const RopeSource& s) {
  constexpr auto key = "original_max_position_embeddings";
  int fallback = s.config.range("max_position_embeddings", 0, 1, 1 << 30);
  fallback = s.config.range(key, fallback, 1, 1 << 30);
  int length = s.fields.range(key, fallback, 1, 1 << 30);
  if (length <= 0)
    fail(
        ErrorKind::config,
        s.fields.where(key),
        "expected an integer, found nothing");
  return length;
}

double factor_of(const RopeSource& s) {
  if (s.fields.has("factor")) return positive(s.fields, "factor");
  return static_cast<double>(
             s.config.range("max_position_embeddings", 1, 1 << 30)) /
      original_length(s);
}

std::vector<double> llama3(std::vector<double> inv, const RopeSource& s) {
  double factor = positive(s.fields, "factor");
  double low = positive(s.fields, "low_freq_factor");
  double high = positive(s.fields, "high_freq_factor");
  double original = original_length(s);
  for (auto& f : inv) {
    double wavelength = two_pi / f;
    if (wavelength < original / high) continue;
    double smooth =
        high == low ? 0 : (original / wavelength - low) / (high - low);
    f = wavelength > original / low ? f / factor
                                    : (1 - smooth) * f / factor + smooth * f;
  }
  return inv;
}

// YaRN: interpolates slow pairs, leaves fast ones, blends between.
std::vector<double> yarn(
    std::vector<double> inv,
    int dims,
    const RopeSource& s) {
  double factor = factor_of(s), original = original_length(s);
  double fast = s.fields.opt<double>("beta_fast", 32);
  double slow = s.fields.opt<double>("beta_slow", 1);
  auto dimension = [&](double rotations) {
    return dims * std::log(original / (rotations * two_pi)) /
        (2 * std::log(s.theta));
  };
  double low = dimension(fast), high = dimension(slow);
  if (s.fields.opt("truncate", true)) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dims - 1.0);
  if (low == high) high += 0.001;
  for (int i = 0; i < static_cast<int>(inv.size()); ++i) {
    double ramp = std::clamp((i - low) / (high - low), 0.0, 1.0);
    inv[i] = inv[i] / factor * ramp + inv[i] * (1 - ramp);
  }
  return inv;
}

double yarn_magnitude(const RopeSource& s) {
  if (s.fields.has("attention_factor"))
    return s.fields.req<double>("attention_factor");
  double factor = factor_of(s);
  double mscale = s.fields.opt<double>("mscale", 0);
  double all = s.fields.opt<double>("mscale_all_dim", 0);
  if (mscale != 0 && all != 0)
    return yarn_mscale(factor, mscale) / yarn_mscale(factor, all);
  return yarn_mscale(factor);
}

std::vector<double> divided(
    const std::vector<double>& inv,
    const RopeSource& s,
    const char* key) {
  auto factors = s.fields.req<std::vector<double>>(key);
  if (factors.size() != inv.size())
    fail(
        ErrorKind::config,
        s.fields.where(key),
        "expected {} numbers, found {}",
        inv.size(),
        factors.size());
  auto out = inv;
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] /= positive(s.fields, key, factors[i]);
  return out;
}

double longrope_magnitude(const RopeSource& s) {
  if (s.fields.has("attention_factor"))
    return s.fields.req<double>("attention_factor");
  double factor = factor_of(s);
  return factor <= 1
      ? 1
      : std::sqrt(1 + std::log(factor) / std::log(original_length(s)));
}

// A quarter, say, of the head's pairs turn; the others have frequency 0.
std::vector<double> proportional(int head_dim, const RopeSource& s) {
  int turning = static_cast<int>(s.partial * head_dim / 2);
  double factor =
      positive(s.fields, "factor", s.fields.opt<double>("factor", 1));
  auto inv = frequencies(head_dim, s.theta, turning);
  for (auto& f : inv)
    f /= factor;
  inv.resize(head_dim / 2, 0.0);
  return inv;
}

// How many dimensions of a head turn.
int rotated_dims(const RopeSource& s, int head_dim, const RopeOptions& o) {
  constexpr auto key = "partial_rotary_factor";
  if (!(s.partial > 0 && s.partial <= 1))
    fail(
        ErrorKind::config,
        s.fields.where(key),
        "expected a number in (0, 1], found {}",
        s.partial);
  int part = static_cast<int>(head_dim * s.partial);
  int dims = o.dims > 0 ? o.dims : s.type == "proportional" ? head_dim : part;
  if (dims < 2 || dims % 2 || dims > head_dim)
    fail(
        ErrorKind::config,
        s.fields.where(key),
        "expected an even number of rotated dimensions up to {}, found {}",
        head_dim,
        dims);
  return dims;
}

[[noreturn]] void unknown_type(const RopeSource& s) {
  fail(
      ErrorKind::config,
      s.fields.where("rope_type"),
      "expected default, linear, dynamic, llama3, yarn, longrope or "
      "proportional, found \"{}\"",
      printable(s.type));
}

} // namespace

double yarn_mscale(double scale, double mscale) {
  return scale <= 1 ? 1 : 0.1 * mscale * std::log(scale) + 1;
}

RopePlan::RopePlan(const Fields& f, int head_dim, const RopeOptions& o)
    : traditional(o.traditional) {
  auto s = locate(f, o);
  positive(s.fields, "rope_theta", s.theta);
  dims = rotated_dims(s, head_dim, o);
  scale(s, head_dim);
  if (o.backwards) reverse();
}

RopePlan::RopePlan(int dims, double theta, bool traditional)
    : dims(dims),
      traditional(traditional),
      base(to_float(frequencies(dims, theta, dims / 2))),
      base_array(to_array(base)) {}

void RopePlan::scale(const RopeSource& s, int head_dim) {
  theta = s.theta;
  auto inv = frequencies(dims, theta, dims / 2);
  if (s.type == "linear") {
    double factor = positive(s.fields, "factor");
    for (auto& v : inv)
      v /= factor;
  } else if (s.type == "dynamic" && s.fields.opt<double>("alpha", 0) > 0) {
    double power = static_cast<double>(dims) / std::max(dims - 2, 1);
    double alpha = s.fields.req<double>("alpha");
    inv = frequencies(dims, theta * std::pow(alpha, power), dims / 2);
  } else if (s.type == "dynamic") {
    growth = Growth::dynamic;
    factor = positive(s.fields, "factor");
    limit = s.config.range("max_position_embeddings", 1, 1 << 30);
  } else if (s.type == "llama3") {
    inv = llama3(std::move(inv), s);
  } else if (s.type == "yarn" || s.type == "deepseek_yarn") {
    inv = yarn(std::move(inv), dims, s);
    magnitude = static_cast<float>(yarn_magnitude(s));
  } else if (s.type == "longrope" || s.type == "su") {
    growth = Growth::longrope;
    limit = original_length(s);
    double shared = longrope_magnitude(s);
    auto own = [&](const char* key) {
      return static_cast<float>(s.fields.opt<double>(key, shared));
    };
    magnitude = own("short_mscale");
    long_magnitude = own("long_mscale");
    long_base = to_float(divided(inv, s, "long_factor"));
    long_array = to_array(long_base);
    inv = divided(inv, s, "short_factor");
  } else if (s.type == "proportional") {
    inv = proportional(head_dim, s);
  } else if (s.type != "default" && s.type != "mrope") {
    unknown_type(s);
  }
  base = to_float(inv);
  base_array = to_array(base);
}

// A negative frequency turns backwards.
void RopePlan::reverse() {
  MLXLM_CHECK(growth == Growth::none, "a growing rope that turns backwards");
  for (auto& f : base)
    f = -f;
  base_array = to_array(base);
}

std::vector<float> RopePlan::at(int length) const {
  if (length_class(length) == 0) return base;
  if (growth == Growth::longrope) return long_base;
  double grown = factor * length / limit - (factor - 1);
  double power = static_cast<double>(dims) / std::max(dims - 2, 1);
  return to_float(frequencies(dims, theta * std::pow(grown, power), dims / 2));
}

mx::array RopePlan::array_at(int length) const {
  int c = length_class(length);
  if (c == 0) return base_array;
  return growth == Growth::longrope ? long_array : to_array(at(length));
}

} // namespace mlxlm
