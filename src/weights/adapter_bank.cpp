#include "weights/adapter_bank.h"

#include <fmt/ranges.h>
#include <mlx/ops.h>

#include <algorithm>

#include "core/check.h"
#include "core/strings.h"
#include "weights/kernels.h"
#include "weights/random.h"

namespace mlxlm {

void PassAdapters::begin(
    std::vector<int> of_tokens,
    const std::vector<std::vector<int>>& carried) {
  lists_.clear();
  active_ = std::any_of(
      of_tokens.begin(), of_tokens.end(), [](int id) { return id != 0; });
  if (!active_) return;
  for (const auto& tokens : carried) {
    std::vector<int> ids;
    for (int token : tokens)
      ids.push_back(of_tokens.at(static_cast<std::size_t>(token)));
    lists_[ids.size()] = std::move(ids);
  }
  auto all = of_tokens.size();
  lists_[all] = std::move(of_tokens);
}

void PassAdapters::end() {
  active_ = false;
  lists_.clear();
}

const std::vector<int>& PassAdapters::of_rows(std::size_t rows) const {
  auto list = lists_.find(rows);
  MLXLM_CHECK(list != lists_.end(), "rows of a pass with adapters");
  return list->second;
}

// A matrix with the factors of those adapters that have some for it.
class AdapterBank::Module final : public LinearKernel {
 public:
  Module(LinearKernelPtr base, std::shared_ptr<const PassAdapters> pass)
      : base(std::move(base)), pass_(std::move(pass)) {}

  mx::array operator()(const mx::array& x) const override {
    auto y = (*base)(x);
    if (!pass_->active() || x.size() == 0) return y;
    const int in = x.shape(-1), out = y.shape(-1);
    const int rows = static_cast<int>(x.size()) / in;
    const auto& ids = pass_->of_rows(static_cast<std::size_t>(rows));
    auto flat_x = mx::reshape(x, {rows, in});
    auto flat_y = mx::reshape(y, {rows, out});
    std::vector<mx::array> runs;
    bool any = false;
    for (int begin = 0; begin < rows;) {
      int end = begin + 1;
      while (end < rows && ids[end] == ids[begin])
        ++end;
      auto run = mx::slice(flat_y, {begin, 0}, {end, out});
      auto own = factors.find(ids[begin]);
      if (own != factors.end()) {
        auto part = mx::slice(flat_x, {begin, 0}, {end, in});
        const auto& [down, up, scale, magnitude] = own->second;
        auto z = (*up)((*down)(part));
        run = run + mx::astype(z * mx::array(scale, z.dtype()), y.dtype());
        any = true;
      }
      runs.push_back(std::move(run));
      begin = end;
    }
    if (!any) return y;
    return mx::reshape(mx::concatenate(std::move(runs), 0), y.shape());
  }
  mx::array gather(const mx::array& x, const mx::array& ids) const override {
    return plain()->gather(x, ids);
  }
  mx::array rows(const mx::array& ids, mx::Dtype type) const override {
    return plain()->rows(ids, type);
  }
  mx::array dense(mx::Dtype type) const override {
    return plain()->dense(type);
  }
  std::optional<mx::array> bias() const override {
    return base->bias();
  }
  // Fused kernels know nothing of adapters.
  kernels::MatrixPtr packed() const override {
    return pass_->active() ? nullptr : base->packed();
  }
  kernels::Activations activations() const override {
    return base->activations();
  }
  mx::Shape shape() const override {
    return base->shape();
  }
  std::size_t bytes() const override {
    return base->bytes();
  }
  std::string format() const override {
    return base->format();
  }

  const LinearKernelPtr base;
  std::map<int, LowRankLinear> factors; // by adapter

 private:
  // Uses of the matrix that are no product of its own with rows of the pass.
  const LinearKernelPtr& plain() const {
    if (pass_->active())
      fail(
          ErrorKind::request,
          "adapters",
          "expected modules that are only multiplied with, found {}",
          base->format());
    return base;
  }
  std::shared_ptr<const PassAdapters> pass_;
};

AdapterBank::AdapterBank(
    std::shared_ptr<const ParameterTable> table,
    AdapterBankOptions options)
    : table_(std::move(table)),
      options_(options),
      pass_(std::make_shared<PassAdapters>()) {}

AdapterBank::~AdapterBank() = default;

std::string AdapterBank::obstacle(const Adapter& adapter) {
  if (!adapter.tensors.empty()) return "it has whole tensors";
  for (const auto& [path, module] : adapter.modules) {
    if (module.magnitude) return "it sets the lengths of rows (DoRA)";
    if (module.up.shape().size() != 2) return "it is for experts";
    for (auto other : {"embed", "wte", "kv_b_proj", "lm_head"})
      if (path.find(other) != path.npos)
        return fmt::format("it is for {}", printable(path));
  }
  return {};
}

AdapterBank::Module& AdapterBank::module(const Linear& linear) {
  for (auto& one : modules_)
    if (linear.share() == one) return *one;
  auto made = std::make_shared<Module>(linear.share(), pass_);
  modules_.push_back(made);
  Linear handle = linear;
  handle.replace(made);
  return *modules_.back();
}

namespace {

// "path" or "path[begin:end]", as the table names what it has.
std::string factor_shape(const RowTensor& tensor) {
  return fmt::format("[{}]", fmt::join(tensor.shape(), ", "));
}

struct Place {
  std::string path;
  int begin = 0, end = 0; // both 0: all rows
};

Place place_of(const std::string& name) {
  Place out{name};
  auto open = name.rfind('['), colon = name.rfind(':');
  if (open == name.npos || colon == name.npos || name.back() != ']' ||
      colon < open)
    return out;
  out.path = name.substr(0, open);
  out.begin = std::stoi(name.substr(open + 1, colon - open - 1));
  out.end = std::stoi(name.substr(colon + 1));
  return out;
}

} // namespace

int AdapterBank::add(const Adapter& adapter) {
  sweep();
  std::vector<std::pair<const Linear*, LowRankLinear>> all;
  std::map<std::string, bool, std::less<>> found;
  std::size_t bytes = 0;
  auto kernel = [&](const RowTensor& tensor) {
    auto matrix = dense_matrix(tensor);
    auto made = options_.packed
        ? packed_linear(matrix, std::nullopt, kernels::Activations::exact)
        : mlx_linear(matrix, std::nullopt, options_.type);
    bytes += made->bytes();
    return made;
  };
  for (const auto& entry : table_->entries()) {
    const auto* linear = std::get_if<Linear>(&entry.handle);
    if (!linear) continue;
    auto place = place_of(entry.path);
    auto own = adapter.modules.find(place.path);
    if (own == adapter.modules.end()) continue;
    const auto& m = own->second;
    auto shape = linear->kernel().shape();
    auto rows = m.up.shape()[0];
    if (place.end == 0) place.end = static_cast<int>(rows);
    bool fits = shape.size() == 2 && m.down.shape()[1] == shape[1] &&
        m.down.shape()[0] == m.up.shape()[1] && place.end <= rows &&
        place.end - place.begin == shape[0];
    if (!fits)
      fail(
          ErrorKind::weights,
          m.up.where(),
          "expected factors of the matrix {}, found {} and {}",
          entry.path,
          factor_shape(m.up),
          factor_shape(m.down));
    all.emplace_back(
        linear,
        LowRankLinear{
            kernel(m.down),
            kernel(m.up.slice(-2, place.begin, place.end)),
            m.scale,
            std::nullopt});
    found[place.path] = true;
  }
  for (const auto& [path, low_rank] : adapter.modules)
    if (!found.count(path))
      fail(
          ErrorKind::weights,
          low_rank.up.where(),
          "expected a module that the model has, found {}",
          printable(path));
  int id = ++last_;
  for (auto& [linear, parts] : all)
    module(*linear).factors.emplace(id, std::move(parts));
  bytes_[id] = bytes;
  return id;
}

std::size_t AdapterBank::bytes(int id) const {
  return bytes_.at(id);
}

void AdapterBank::release(int id) {
  std::lock_guard lock(mutex_);
  released_.push_back(id);
}

// The matrices stay as they are: without adapters they cost nothing.
void AdapterBank::sweep() {
  std::vector<int> gone;
  {
    std::lock_guard lock(mutex_);
    gone.swap(released_);
  }
  for (int id : gone) {
    bytes_.erase(id);
    for (auto& one : modules_)
      one->factors.erase(id);
  }
}

} // namespace mlxlm
