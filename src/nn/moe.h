// Mixture of experts: a router that picks a few experts a token, and the
// experts as stacked matrices. Checkpoints that hold one tensor an expert are
// stacked by the family's rewrite rules, see expert_rules.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/rewrite.h"
#include "nn/block.h"
#include "nn/fused.h"
#include "runtime/kernels/routing.h"

namespace mlxlm {

struct RouterChoice {
  mx::array experts; // [T, k] uint32
  mx::array weights; // [T, k] float32
};

using kernels::Routing;

struct RouterOptions {
  int hidden = 0, experts = 0;
  Routing routing = {};
  std::string name = "gate";
  Bias bias = Bias::none;
  std::string correction = {}; // name of a bias that counts for the choice only
  // Instead of routing.score: the scores of logits [T, experts].
  std::function<mx::array(const mx::array&)> scores = {};
  // Instead of all that: the choice for logits [T, experts].
  std::function<RouterChoice(const mx::array&)> choose = {};
};

class Router {
 public:
  Router(const Scope& s, const RouterOptions& options);
  using Choice = RouterChoice;
  Choice operator()(const mx::array& x) const; // x [T, hidden]

  // The choice for given logits [T, experts], float32.
  static Choice choose(
      const mx::array& logits,
      const std::optional<mx::array>& correction,
      const RouterOptions& options);

 private:
  RouterOptions o_;
  Linear gate_;
  std::optional<Param> correction_;
};

struct ExpertOptions {
  int hidden = 0, inner = 0, experts = 0;
  Activation act = Activation::silu;
  bool gated = true; // down(act(gate) * up), else down(act(up))
  Bias bias = Bias::none;
  std::string gate = "gate_proj", up = "up_proj", down = "down_proj";
  // Instead of act(gate) * up.
  std::function<mx::array(const mx::array& gate, const mx::array& up)> join =
      {};
};

class Experts {
 public:
  Experts(const Scope& s, const ExpertOptions& options);
  // x [T, hidden] -> [T, k, hidden]
  mx::array operator()(const mx::array& x, const mx::array& ids) const;

 private:
  ExpertOptions o_;
  std::optional<Linear> gate_;
  Linear up_, down_;
};

struct MoeOptions {
  RouterOptions router;
  ExpertOptions experts;
  std::string at = "switch_mlp"; // where the stacked matrices are
};
// `shared` sees every token as well; `shared_gate` [1, hidden] then weighs it.
BlockPtr moe(
    const Scope& s,
    const MoeOptions& options,
    BlockPtr shared = nullptr,
    std::optional<Linear> shared_gate = std::nullopt);

// {`*.experts.#.FROM.*` -> `*.switch_mlp.TO.*`}: one tensor an expert becomes
// one of all. Tensors of all experts, as transformers 5 saves them (gate and up
// one behind the other), are taken as well.
std::vector<Rule> expert_rules(
    const std::vector<std::pair<std::string, std::string>>& names = {
        {"gate_proj", "gate_proj"},
        {"up_proj", "up_proj"},
        {"down_proj", "down_proj"}});

} // namespace mlxlm
