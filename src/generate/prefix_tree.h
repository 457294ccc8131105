// Which pages hold which text: a radix tree whose nodes are pages, shared by
// all that begin with the same tokens. Beside its pages a node holds what one
// needs to begin behind it: pages that windows still see, recurrent states.
// Knows nothing of what a page is. What was used least recently is given up
// first, a part at a time and from the ends of texts on.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "cache/parts.h"

namespace mlxlm {

// What has it is in use: gone last. Outlives the tree.
using PrefixPin = std::shared_ptr<const void>;

class PrefixTree {
 public:
  explicit PrefixTree(PartShape shape) : shape_(std::move(shape)) {}
  ~PrefixTree() { // a page after the other: texts are long
    clear();
  }
  PrefixTree(const PrefixTree&) = delete;
  PrefixTree& operator=(const PrefixTree&) = delete;

  struct Match {
    int length = 0;
    std::vector<PageColumn> pages; // null where no window sees any more
    KeptPtr state = nullptr;
    PrefixPin pin = nullptr;
  };
  // The longest beginning of the text, at most `most` tokens, that one can go
  // on from. key: of all but the tokens that decides what is remembered.
  std::optional<Match> match(
      std::span<const int> text,
      std::uint64_t key,
      int most);

  struct Inserted {
    std::vector<PageColumn> pages; // that the tree has for the text now
    PrefixPin pin;
  };
  // pages: as many as the text fills; the last may be filled in part. Those
  // without a window are all there. states: by the tokens they are behind. What
  // the tree has already stays, unless the same takes less memory now.
  Inserted insert(
      std::span<const int> text,
      std::uint64_t key,
      const std::vector<PageColumn>& pages,
      const std::vector<std::pair<int, KeptPtr>>& states);

  // Gives up one part; false: there is none. What is in use goes last, and only
  // if `all`.
  bool evict(bool all = true);
  void clear();

  struct Figures {
    std::size_t pages = 0, states = 0; // nodes; kept states
  };
  Figures figures() const {
    return figures_;
  }
  // All pages that it has.
  std::vector<KeptPtr> pages() const;

 private:
  struct Node;
  using NodePtr = std::shared_ptr<Node>;
  // No node's text is the beginning of a sibling's.
  struct ByText {
    using is_transparent = void;
    bool operator()(const NodePtr& a, const NodePtr& b) const;
    bool operator()(const NodePtr& a, std::span<const int> b) const;
    bool operator()(std::span<const int> a, const NodePtr& b) const;
  };
  using Children = std::set<NodePtr, ByText>;
  // A thing that can be given up by itself: a node, or what hangs at it.
  struct Use {
    Node* node;
    enum class What { node, window, state } what;
    int which = 0; // group, or tokens of the page
  };
  using Uses = std::list<Use>;
  struct Kept {
    KeptPtr part = nullptr;
    int filled = 0; // tokens
    Uses::iterator use = {}; // where it can be given up by itself
  };
  struct Node {
    Node* parent = nullptr; // null for a root
    std::vector<int> text; // of this page; a full one unless it is a leaf
    std::vector<Kept> groups;
    std::map<int, Kept> states; // by tokens of this page
    Children children;
    int pins = 0;
    Uses::iterator use;
  };
  struct Path { // of a text
    Node* root = nullptr;
    std::vector<Node*> nodes; // whole pages
  };
  struct Place { // behind the first `length` tokens of a node's page
    int length = 0;
    Node* node = nullptr;
  };

  Path walk(std::span<const int> text, std::uint64_t key) const;
  int covered(const Node& node) const;
  int first_seen(std::size_t group, int length) const;
  bool reaches(const Path& path, int length) const;
  int place_in(const Path& path, const Node& node, int before, int common)
      const;
  Place place_among(
      const Path& path,
      const Children& pages,
      std::span<const int> text,
      int before) const;
  Match take(const Path& path, Node& end, int length);

  Node& child(Node& parent, std::span<const int> text);
  void fill(Node& node, const PageColumn& column, int filled);
  void keep_state(Node& node, int tokens, const KeptPtr& state);
  Kept& hang(Kept& kept, const Use& use);
  void touch(Uses::iterator use) {
    uses_.splice(uses_.begin(), uses_, use);
  }
  void touch_path(Node& node);
  void drop(Node& node);
  PrefixPin pin(const NodePtr& node) const;
  NodePtr pointer(Node& node) const;

  PartShape shape_;
  std::map<std::uint64_t, NodePtr> roots_; // by key
  // Most recently used first; a node stands before all that hangs at it, so the
  // last has nothing.
  Uses uses_;
  Figures figures_;
};

} // namespace mlxlm
