#include "generate/drafting/assistant_drafter.h"

#include <mlx/ops.h>

#include <utility>

#include "cache/byteless_memory.h"
#include "core/check.h"
#include "generate/drafting/draft_round.h"

namespace mlxlm {
namespace {

// The assistant with the embeddings of the model.
class Embedded final : public Model {
 public:
  Embedded(
      std::shared_ptr<const Model> assistant,
      std::shared_ptr<const Model> model)
      : assistant_(std::move(assistant)), model_(std::move(model)) {}

  mx::array hidden(
      const Input& input,
      const Step& step,
      Memory& memory,
      const std::vector<int>& rows) const override {
    auto full = input;
    full.embeddings = model_->embed(input);
    return assistant_->hidden(full, step, memory, rows);
  }
  mx::array head(const mx::array& hidden) const override {
    return assistant_->head(hidden);
  }
  std::vector<CacheSpec> caches() const override {
    return assistant_->caches();
  }
  int vocab() const override {
    return assistant_->vocab();
  }

 private:
  std::shared_ptr<const Model> assistant_, model_;
};

// Heads, width of keys, width of values.
std::optional<std::array<int, 3>> shape(const FullKv& s) {
  return std::array{s.kv_heads, s.head_dim, s.v_dim};
}
std::optional<std::array<int, 3>> shape(const SlidingKv& s) {
  return std::array{s.kv_heads, s.head_dim, s.v_dim};
}
template <typename Other>
std::optional<std::array<int, 3>> shape(const Other&) {
  return std::nullopt;
}

// The last layer of `all` that remembers as `wanted` says: its kind, whatever
// its window.
int layer_seen(const CacheSpec& wanted, const std::vector<CacheSpec>& all) {
  auto shape_of = [](const CacheSpec& spec) {
    return std::visit([](const auto& s) { return shape(s); }, spec);
  };
  for (int i = static_cast<int>(all.size()); i-- > 0;) {
    if (all[i].index() != wanted.index()) continue;
    if (shape_of(all[i]) == shape_of(wanted)) return i;
    break;
  }
  auto heads = shape_of(wanted).value_or(std::array{0, 0, 0});
  fail(
      ErrorKind::request,
      "draft model",
      "expected an assistant of this model, found one that attends to {} heads "
      "of {} where this has others",
      heads[0],
      heads[1]);
}

// The model's memory as far as the assistant sees it.
class Borrowed final : public BytelessMemory {
 public:
  Borrowed(std::shared_ptr<Memory> memory, std::vector<int> layers)
      : memory_(std::move(memory)), layers_(std::move(layers)) {}

  LayerCache& layer(int index) override {
    return memory_->layer(layers_.at(index));
  }
  int layers() const override {
    return static_cast<int>(layers_.size());
  }
  int max_tokens() const override {
    return memory_->max_tokens();
  }
  bool partial_commit() const override {
    return memory_->partial_commit();
  }
  std::shared_ptr<PassTables> tables(const Step& step) override {
    return memory_->tables(step);
  }

 private:
  std::shared_ptr<Memory> memory_;
  std::vector<int> layers_;
};

std::shared_ptr<Memory> borrowed(
    const Model& assistant,
    const Model& model,
    std::shared_ptr<Memory> memory) {
  auto all = model.caches();
  std::vector<int> layers;
  for (const auto& wanted : assistant.caches())
    layers.push_back(layer_seen(wanted, all));
  return std::make_shared<Borrowed>(std::move(memory), std::move(layers));
}

} // namespace

class AssistantDrafter::State final : public DraftState {
 public:
  int read = 0; // tokens that the model has read
  std::optional<mx::array> hidden; // of the last of them, [1, 1, width]
};

AssistantDrafter::AssistantDrafter(
    std::shared_ptr<const Model> assistant,
    std::shared_ptr<const Model> model,
    std::shared_ptr<Memory> memory,
    const AssistantOptions& options)
    : forward_(
          std::make_shared<Embedded>(assistant, model),
          borrowed(*assistant, *model, std::move(memory))),
      options_(options) {
  if (assistant->vocab() != model->vocab())
    fail(
        ErrorKind::request,
        "draft model",
        "expected the model's vocabulary of {} tokens, found {}",
        model->vocab(),
        assistant->vocab());
}

std::unique_ptr<DraftState> AssistantDrafter::open() {
  return std::make_unique<State>();
}

void AssistantDrafter::watch(
    DraftState& opened,
    std::span<const int> known,
    const mx::array& hidden) {
  auto& state = static_cast<State&>(opened);
  int count = hidden.shape(1);
  state.read = static_cast<int>(known.size());
  state.hidden =
      mx::slice(hidden, {0, count - 1, 0}, {1, count, hidden.shape(2)});
}

void AssistantDrafter::propose(std::span<DraftTask> tasks) {
  std::vector<Guessing> all;
  for (auto& task : tasks) {
    auto& state = static_cast<State&>(*task.state);
    bool ready = state.hidden &&
        state.read + 1 == static_cast<int>(task.known.size()) &&
        state.read == task.memory->length();
    if (!ready) continue;
    all.push_back(
        {&task, task.memory, {task.known.back()}, *state.hidden, true});
  }
  guess(forward_, all, forward_.model().vocab());
}

} // namespace mlxlm
