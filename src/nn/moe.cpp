#include "nn/moe.h"

#include <mlx/ops.h>

#include "core/check.h"
#include "runtime/kernels/elementwise.h"

namespace mlxlm {

namespace {

void check(const Scope& s, const RouterOptions& o) {
  const auto& r = o.routing;
  auto refuse = [&](const char* what, int value) {
    fail(
        ErrorKind::config,
        s.path(),
        "expected {} that fits {} experts in {} groups, found {}",
        what,
        o.experts,
        r.groups,
        value);
  };
  if (r.groups < 1 || o.experts % r.groups) refuse("a group count", r.groups);
  if (r.top_groups < 1 || r.top_groups > r.groups)
    refuse("a number of chosen groups", r.top_groups);
  int reachable = o.experts / r.groups * r.top_groups;
  if (r.top_k < 1 || r.top_k > reachable)
    refuse("a number of experts a token", r.top_k);
}

} // namespace

Router::Router(const Scope& s, const RouterOptions& o)
    : o_((check(s, o), o)),
      gate_(s.linear(o.name, o.hidden, o.experts, {.bias = o.bias})) {
  if (!o.correction.empty())
    correction_ = s.param(o.correction, {o.experts}, mx::float32);
}

Router::Choice Router::operator()(const mx::array& x) const {
  // In half precision near ties would go to other experts.
  auto logits = gate_(mx::astype(x, mx::float32));
  if (o_.choose) return o_.choose(logits);
  std::optional<mx::array> correction;
  if (correction_) correction = **correction_;
  return choose(logits, correction, o_);
}

Router::Choice Router::choose(
    const mx::array& logits,
    const std::optional<mx::array>& correction,
    const RouterOptions& o) {
  auto [ids, weights] = o.scores
      ? kernels::reference::route_scores(
            o.scores(logits), correction, o.routing)
      : kernels::route(logits, correction, o.routing);
  return {ids, weights};
}

Experts::Experts(const Scope& s, const ExpertOptions& o)
    : o_(o),
      up_(s.linear(
          o.up,
          o.hidden,
          o.inner,
          {.bias = o.bias, .split = Split::out, .experts = o.experts})),
      down_(s.linear(
          o.down,
          o.inner,
          o.hidden,
          {.bias = o.bias, .split = Split::in, .experts = o.experts})) {
  if (o.gated)
    gate_ = s.linear(
        o.gate,
        o.hidden,
        o.inner,
        {.bias = o.bias, .split = Split::out, .experts = o.experts});
}

mx::array Experts::operator()(const mx::array& x, const mx::array& ids) const {
  auto row = mx::expand_dims(x, 1); // the same for every choice
  auto up = up_.kernel().gather(row, ids);
  if (!gate_) return down_.kernel().gather(apply(o_.act, up), ids);
  auto gate = gate_->kernel().gather(row, ids);
  auto inner = o_.join ? o_.join(gate, up) : gate_up(o_.act, gate, up);
  return down_.kernel().gather(inner, ids);
}

namespace {

class Moe : public Block {
 public:
  Moe(const Scope& s,
      const MoeOptions& o,
      BlockPtr shared,
      std::optional<Linear> shared_gate)
      : router_(s, o.router),
        experts_(s / o.at, o.experts),
        shared_(std::move(shared)),
        shared_gate_(std::move(shared_gate)) {}

  mx::array operator()(const mx::array& x, const Step& step, LayerCache*)
      const override {
    auto rows = mx::squeeze(x, 0); // [T, hidden]
    auto [ids, weights] = router_(rows);
    auto parts = experts_(rows, ids); // [T, k, hidden]
    auto y = mx::expand_dims(kernels::weighted_sum(parts, weights), 0);
    if (!shared_) return y;
    auto common = (*shared_)(x, step, nullptr);
    if (shared_gate_) common = kernels::gated_by(common, (*shared_gate_)(x));
    return kernels::add(y, common);
  }

 private:
  Router router_;
  Experts experts_;
  BlockPtr shared_;
  std::optional<Linear> shared_gate_;
};

} // namespace

BlockPtr moe(
    const Scope& s,
    const MoeOptions& options,
    BlockPtr shared,
    std::optional<Linear> shared_gate) {
  return std::make_unique<Moe>(
      s, options, std::move(shared), std::move(shared_gate));
}

std::vector<Rule> expert_rules(
    const std::vector<std::pair<std::string, std::string>>& names) {
  std::vector<Rule> out;
  for (const auto& [from, to] : names)
    out.push_back(
        stack("*.experts.#." + from + ".*", "*.switch_mlp." + to + ".*"));
  auto all = [](const char* name, const char* what = "weight") {
    return "*.switch_mlp." + std::string(name) + "." + what;
  };
  // MLX keeps some families' stacked experts under `experts`.
  for (const char* name : {"gate_proj", "up_proj", "down_proj"})
    out.push_back(
        rename("*.experts." + std::string(name) + ".*", all(name, "*")));
  out.push_back(
      split("*.experts.gate_up_proj", {all("gate_proj"), all("up_proj")}, -2));
  out.push_back(rename("*.experts.down_proj", all("down_proj")));
  const char* blocks = "weight_scale_inv"; // of FP8
  out.push_back(split(
      "*.experts.gate_up_proj_scale_inv",
      {all("gate_proj", blocks), all("up_proj", blocks)},
      -2));
  out.push_back(
      rename("*.experts.down_proj_scale_inv", all("down_proj", blocks)));
  return out;
}

} // namespace mlxlm
