// Recurrences over time of state-space and linear-attention blocks: a prompt is
// one primitive, not a graph of a node a token. All arrays are float32; time
// runs in order within a row of state, rows run in parallel. Each has a plain
// MLX reference (namespace `reference`), which defines the result and runs
// where there is no fast path.
#pragma once

#include <mlx/array.h>

#include <utility>

namespace mlxlm::kernels {

namespace mx = mlx::core;

// h_t = a_t h_{t-1} + b_t, value by value: a, b [B, L, W], h [B, W]. Returns
// every h_t [B, L, W].
mx::array linear_scan(
    const mx::array& a,
    const mx::array& b,
    const mx::array& h);

// Mamba-1: h = exp(dt a) h + dt x b, y = h c + d x, for x, dt [B, L, C], a
// [C, S], b, c [B, L, S], d [C] and h [B, C, S]. Returns y [B, L, C] and the
// last h.
std::pair<mx::array, mx::array> selective_scan(
    const mx::array& x,
    const mx::array& dt,
    const mx::array& a,
    const mx::array& b,
    const mx::array& c,
    const mx::array& d,
    const mx::array& h);

// Mamba-2: h = exp(dt a) h + dt x b, y = h c + d x, for x [B, L, H, P], dt
// [B, L, H], a [H], b, c [B, L, G, S], d [H] and h [B, H, P, S]; groups repeat
// over heads. Returns y [B, L, H, P] and the last h.
std::pair<mx::array, mx::array> state_space(
    const mx::array& x,
    const mx::array& dt,
    const mx::array& a,
    const mx::array& b,
    const mx::array& c,
    const mx::array& d,
    const mx::array& h);

// The gated delta rule: S = S g, S += beta (v - S k) k^T, y = S q, for q, k
// [B, L, Hk, Dk], v [B, L, Hv, Dv], g [B, L, Hv] or, a decay for every key
// channel, [B, L, Hv, Dk], beta [B, L, Hv] and S [B, Hv, Dv, Dk]; key heads
// repeat over value heads. Returns y [B, L, Hv, Dv] and the last S.
std::pair<mx::array, mx::array> delta_rule(
    const mx::array& q,
    const mx::array& k,
    const mx::array& v,
    const mx::array& g,
    const mx::array& beta,
    const mx::array& state);

// RWKV-7: S = S diag(w) + (S a) b^T + v k^T, y = S r, for r, w, k, v, a, b
// [B, L, H, D] and S [B, H, D, D]. Returns y [B, L, H, D] and the last S.
std::pair<mx::array, mx::array> wkv7(
    const mx::array& r,
    const mx::array& w,
    const mx::array& k,
    const mx::array& v,
    const mx::array& a,
    const mx::array& b,
    const mx::array& state);

namespace reference {
mx::array linear_scan(
    const mx::array& a,
    const mx::array& b,
    const mx::array& h);
std::pair<mx::array, mx::array> selective_scan(
    const mx::array& x,
    const mx::array& dt,
    const mx::array& a,
    const mx::array& b,
    const mx::array& c,
    const mx::array& d,
    const mx::array& h);
std::pair<mx::array, mx::array> state_space(
    const mx::array& x,
    const mx::array& dt,
    const mx::array& a,
    const mx::array& b,
    const mx::array& c,
    const mx::array& d,
    const mx::array& h);

std::pair<mx::array, mx::array> delta_rule(
    const mx::array& q,
    const mx::array& k,
    const mx::array& v,
    const mx::array& g,
    const mx::array& beta,
    const mx::array& state);
std::pair<mx::array, mx::array> wkv7(
    const mx::array& r,
    const mx::array& w,
    const mx::array& k,
    const mx::array& v,
    const mx::array& a,
    const mx::array& b,
    const mx::array& state);
} // namespace reference

} // namespace mlxlm::kernels
