#include "generate/prefix_tree.h"

#include <algorithm>

#include "core/check.h"
#include "generate/common_prefix.h"

namespace mlxlm {
namespace {

bool text_before(std::span<const int> a, std::span<const int> b) {
  return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end());
}

} // namespace

bool PrefixTree::ByText::operator()(const NodePtr& a, const NodePtr& b) const {
  return text_before(a->text, b->text);
}
bool PrefixTree::ByText::operator()(const NodePtr& a, std::span<const int> b)
    const {
  return text_before(a->text, b);
}
bool PrefixTree::ByText::operator()(std::span<const int> a, const NodePtr& b)
    const {
  return text_before(a, b->text);
}

// ---- finding
// Down whole pages.
PrefixTree::Path PrefixTree::walk(std::span<const int> text, std::uint64_t key)
    const {
  Path path;
  auto root = roots_.find(key);
  if (root == roots_.end()) return path;
  const auto page = static_cast<std::size_t>(shape_.page_tokens);
  path.root = root->second.get();
  for (auto* node = path.root; text.size() >= page;) {
    auto next = node->children.find(text.first(page));
    if (next == node->children.end()) break;
    node = next->get();
    path.nodes.push_back(node);
    text = text.subspan(page);
  }
  return path;
}

// The page of the first token that the one at `length` sees.
int PrefixTree::first_seen(std::size_t group, int length) const {
  int window = shape_.groups[group].window;
  if (window == 0) return 0;
  return std::max(0, length - window + 1) / shape_.page_tokens;
}

// Tokens of a node's page that all groups hold.
int PrefixTree::covered(const Node& node) const {
  auto tokens = static_cast<int>(node.text.size());
  for (const auto& kept : node.groups)
    tokens = std::min(tokens, kept.part ? kept.filled : 0);
  return tokens;
}

// Whether windows see all that they should, the last page left aside.
bool PrefixTree::reaches(const Path& path, int length) const {
  int page = shape_.page_tokens, last = (length - 1) / page;
  for (std::size_t g = 0; g < shape_.groups.size(); ++g) {
    auto [window, keep] = shape_.groups[g];
    if (window == 0) continue;
    auto full = [&](int i) {
      const auto& kept = path.nodes[static_cast<std::size_t>(i)]->groups[g];
      return kept.part && kept.filled == page;
    };
    for (int i = first_seen(g, length); i < last; ++i)
      if (!full(i)) return false;
    for (int i = 0; i * page < keep && i < last; ++i)
      if (!full(i)) return false;
  }
  return true;
}

// The most of the first `common` tokens of a node's page behind which one can
// begin; 0: nowhere. Further back windows only need earlier pages, so without
// states there is one place to try.
int PrefixTree::place_in(
    const Path& path,
    const Node& node,
    int before,
    int common) const {
  int top = std::min(common, covered(node));
  if (!shape_.states) return top > 0 && reaches(path, before + top) ? top : 0;
  for (auto it = node.states.upper_bound(top); it != node.states.begin();) {
    --it;
    if (reaches(path, before + it->first)) return it->first;
  }
  return 0;
}

// The best place in one of the pages that go on like the text. In their order
// those that share most with it stand beside where it would. Of equally good
// ones the first.
PrefixTree::Place PrefixTree::place_among(
    const Path& path,
    const Children& pages,
    std::span<const int> text,
    int before) const {
  Place best;
  auto consider = [&](const NodePtr& node, bool before_best) {
    int common = common_prefix(node->text, text);
    if (common == 0 || common < best.length) return false;
    int length = place_in(path, *node, before, common);
    int least = std::max(1, before_best ? best.length : best.length + 1);
    if (length >= least) best = {length, node.get()};
    return true;
  };
  auto at = pages.lower_bound(text);
  for (auto it = at; it != pages.end() && consider(*it, false);)
    ++it;
  for (auto it = at; it != pages.begin() && consider(*std::prev(it), true);)
    --it;
  return best;
}

// Nodes up to and with `end`, behind `length` tokens of which one begins.
PrefixTree::Match PrefixTree::take(const Path& path, Node& end, int length) {
  int page = shape_.page_tokens, last = (length - 1) / page;
  Match out{.length = length};
  for (int i = 0; i <= last; ++i) {
    auto& node = i < last ? *path.nodes[static_cast<std::size_t>(i)] : end;
    auto& column = out.pages.emplace_back();
    for (std::size_t g = 0; g < shape_.groups.size(); ++g) {
      auto& kept = node.groups[g];
      auto [window, keep] = shape_.groups[g];
      // One page more, for a step back.
      bool seen = i + 1 >= first_seen(g, length) || i * page < keep;
      bool good = seen && (i == last || kept.filled == page);
      column.push_back(good ? kept.part : nullptr);
      if (good && kept.part && window > 0) touch(kept.use);
    }
  }
  if (shape_.states) {
    auto& state = end.states.at(length - last * page);
    out.state = state.part;
    touch(state.use);
  }
  touch_path(end);
  auto* whole = length % page == 0 ? &end : end.parent;
  if (whole->parent) out.pin = pin(pointer(*whole));
  return out;
}

std::optional<PrefixTree::Match> PrefixTree::match(
    std::span<const int> text,
    std::uint64_t key,
    int most) {
  if (most <= 0) return std::nullopt;
  text = text.first(std::min(text.size(), static_cast<std::size_t>(most)));
  auto path = walk(text, key);
  if (!path.root) return std::nullopt;
  const auto page = static_cast<std::size_t>(shape_.page_tokens);
  for (auto i = std::min(path.nodes.size(), (text.size() - 1) / page) + 1;
       i-- > 0;) {
    const auto& parent = i == 0 ? *path.root : *path.nodes[i - 1];
    auto rest = text.subspan(i * page);
    rest = rest.first(std::min(page, rest.size()));
    auto before = static_cast<int>(i * page);
    if (auto best = place_among(path, parent.children, rest, before); best.node)
      return take(path, *best.node, before + best.length);
  }
  return std::nullopt;
}

// ---- keeping
// The node for a page of this text: one that holds it, one that held less of
// it, or a new one.
PrefixTree::Node& PrefixTree::child(Node& parent, std::span<const int> text) {
  auto& pages = parent.children;
  auto at = pages.lower_bound(text);
  auto size = static_cast<int>(text.size());
  if (at != pages.end() && common_prefix((*at)->text, text) == size)
    return **at;
  if (at != pages.begin()) {
    auto near = *std::prev(at);
    bool less =
        common_prefix(near->text, text) == static_cast<int>(near->text.size());
    if (less) {
      auto handle = pages.extract(std::prev(at));
      near->text.assign(text.begin(), text.end());
      pages.insert(std::move(handle));
      return *near;
    }
  }
  auto node = std::make_shared<Node>();
  node->parent = &parent;
  node->text.assign(text.begin(), text.end());
  node->groups.resize(shape_.groups.size());
  uses_.push_front({node.get(), Use::What::node});
  node->use = uses_.begin();
  pages.insert(node);
  ++figures_.pages;
  return *node;
}

PrefixTree::Kept& PrefixTree::hang(Kept& kept, const Use& use) {
  if (kept.part) {
    touch(kept.use);
  } else {
    uses_.push_front(use);
    kept.use = uses_.begin();
  }
  return kept;
}

void PrefixTree::fill(Node& node, const PageColumn& column, int filled) {
  MLXLM_CHECK(column.size() == shape_.groups.size(), "a page of every group");
  for (std::size_t g = 0; g < column.size(); ++g) {
    auto& kept = node.groups[g];
    const auto& part = column[g];
    bool windowed = shape_.groups[g].window > 0;
    MLXLM_CHECK(part || windowed, "pages without a window are all there");
    if (!part) continue;
    if (windowed) hang(kept, {&node, Use::What::window, static_cast<int>(g)});
    bool better = !kept.part || filled > kept.filled ||
        (filled == kept.filled && part->bytes < kept.part->bytes);
    if (!better) continue;
    kept.part = part;
    kept.filled = filled;
  }
}

void PrefixTree::keep_state(Node& node, int tokens, const KeptPtr& state) {
  auto& kept = node.states[tokens];
  hang(kept, {&node, Use::What::state, tokens});
  if (kept.part) return;
  kept.part = state;
  kept.filled = tokens;
  ++figures_.states;
}

PrefixTree::Inserted PrefixTree::insert(
    std::span<const int> text,
    std::uint64_t key,
    const std::vector<PageColumn>& pages,
    const std::vector<std::pair<int, KeptPtr>>& states) {
  const auto page = static_cast<std::size_t>(shape_.page_tokens);
  MLXLM_CHECK(
      !text.empty() && pages.size() == (text.size() + page - 1) / page,
      "a text and its pages");
  auto& root = roots_[key];
  if (!root) root = std::make_shared<Node>();
  Inserted out;
  auto state = states.begin();
  auto* node = root.get();
  for (std::size_t i = 0; i < pages.size(); ++i) {
    auto slice = text.subspan(i * page);
    slice = slice.first(std::min(page, slice.size()));
    node = &child(*node, slice);
    fill(*node, pages[i], static_cast<int>(slice.size()));
    auto before = static_cast<int>(i * page);
    auto end = before + static_cast<int>(slice.size());
    for (; state != states.end() && state->first <= end; ++state)
      if (state->first > before)
        keep_state(*node, state->first - before, state->second);
    auto& column = out.pages.emplace_back();
    for (const auto& kept : node->groups)
      column.push_back(kept.part);
  }
  touch_path(*node);
  auto* whole = text.size() % page == 0 ? node : node->parent;
  if (whole->parent) out.pin = pin(pointer(*whole));
  return out;
}

// ---- giving up
void PrefixTree::touch_path(Node& node) {
  for (auto* at = &node; at->parent; at = at->parent)
    touch(at->use);
}

PrefixTree::NodePtr PrefixTree::pointer(Node& node) const {
  return *node.parent->children.find(std::span<const int>(node.text));
}

PrefixPin PrefixTree::pin(const NodePtr& node) const {
  ++node->pins;
  return {node.get(), [node](const void*) { --node->pins; }};
}

void PrefixTree::drop(Node& node) {
  MLXLM_CHECK(
      node.children.empty() && node.states.empty(),
      "what is given up has nothing behind it");
  auto self = pointer(node); // a pin may keep the node, not its pages
  self->groups.clear();
  uses_.erase(self->use);
  auto* parent = self->parent;
  parent->children.erase(self);
  --figures_.pages;
  if (parent->parent || !parent->children.empty()) return;
  auto root = std::find_if(roots_.begin(), roots_.end(), [&](const auto& r) {
    return r.second.get() == parent;
  });
  roots_.erase(root);
}

bool PrefixTree::evict(bool all) {
  auto in_use = [&] {
    const auto& last = uses_.back();
    return last.what == Use::What::node && last.node->pins > 0;
  };
  // What is in use counts as used now.
  for (auto left = uses_.size(); left > 0 && in_use(); --left)
    touch_path(*uses_.back().node);
  if (uses_.empty() || (!all && in_use())) return false;
  auto [node, what, which] = uses_.back();
  switch (what) {
    case Use::What::node:
      drop(*node);
      return true;
    case Use::What::window:
      node->groups[static_cast<std::size_t>(which)] = {};
      break;
    case Use::What::state:
      node->states.erase(which);
      --figures_.states;
      break;
  }
  uses_.pop_back();
  return true;
}

std::vector<KeptPtr> PrefixTree::pages() const {
  std::vector<KeptPtr> out;
  for (const auto& use : uses_) {
    if (use.what != Use::What::node) continue;
    for (const auto& kept : use.node->groups)
      if (kept.part) out.push_back(kept.part);
  }
  return out;
}

void PrefixTree::clear() {
  while (evict()) {
  }
}

} // namespace mlxlm
