// For tests of the tree of prefixes: parts that say what they are, and an
// oracle that looks through a list of everything.
#pragma once

#include <algorithm>
#include <numeric>
#include <optional>
#include <vector>

#include "generate/prefix_tree.h"

namespace mlxlm::prefixes {

using Text = std::vector<int>;

// A page, or states, as it says itself.
struct FakePart final : KeptPart {
  FakePart(int& alive, std::size_t bytes, Text text, int filled)
      : KeptPart(bytes), alive(alive), text(std::move(text)), filled(filled) {
    ++alive;
  }
  ~FakePart() override {
    --alive;
  }
  int& alive;
  Text text; // from its very beginning to its end
  int filled;
};

inline bool begins(const Text& a, const Text& b) { // a is the beginning of b
  return a.size() <= b.size() && std::equal(a.begin(), a.end(), b.begin());
}

inline Text first(const Text& text, int n) {
  return {text.begin(), text.begin() + n};
}

inline Text counting(int n, int from = 0) {
  Text out(static_cast<std::size_t>(n));
  std::iota(out.begin(), out.end(), from);
  return out;
}

// What somebody has who has read a text: all its pages but those that windows
// have passed, and states at some places.
struct Reader {
  const PartShape& shape;
  int& alive;
  std::size_t bytes = 10;

  std::vector<PageColumn> pages(const Text& text) const {
    int page = shape.page_tokens, length = static_cast<int>(text.size());
    std::vector<PageColumn> out;
    for (int at = 0; at < length; at += page) {
      auto& column = out.emplace_back();
      int end = std::min(at + page, length);
      for (const auto& [window, keep] : shape.groups) {
        bool passed = window > 0 && at >= keep && end <= length - window;
        column.push_back(
            passed ? nullptr
                   : std::make_shared<FakePart>(
                         alive, bytes, first(text, end), end - at));
      }
    }
    return out;
  }
  std::vector<std::pair<int, KeptPtr>> states(
      const Text& text,
      const std::vector<int>& places) const {
    std::vector<std::pair<int, KeptPtr>> out;
    for (int at : places)
      out.emplace_back(
          at, std::make_shared<FakePart>(alive, bytes, first(text, at), at));
    return out;
  }
};

// Everything in one list: entries that say of which text they are and when they
// were used. As slow and as simple as can be.
class ListOfAll {
 public:
  explicit ListOfAll(const PartShape& shape) : shape_(shape) {}

  struct Entry {
    enum class What { page, window, state } what;
    std::uint64_t key;
    Text text; // to the end of its page
    int which = 0; // group, or place in the text
    int filled = 0;
    long used = 0;
    int pins = 0;
    long id = 0;
  };

  int match(const Text& text, std::uint64_t key, int most) {
    for (int length = most; length > 0; --length) {
      std::optional<Text> holder; // the first in order
      for (const auto& e : entries_) {
        bool good = is_page_of(e, first(text, length), key) &&
            (!holder || e.text < *holder) &&
            can_begin(first(text, length), key, e.text);
        if (good) holder = e.text;
      }
      if (!holder) continue;
      note_use(first(text, length), key, *holder);
      return length;
    }
    return 0;
  }

  // passed(page, group): whether the reader has it no more.
  template <typename Passed>
  void insert(
      const Text& text,
      std::uint64_t key,
      const std::vector<int>& states,
      const Passed& passed) {
    int page = shape_.page_tokens, length = static_cast<int>(text.size());
    for (int at = 0; at < length; at += page) {
      auto part = first(text, std::min(at + page, length));
      add_page(part, key);
      for (int g = 0; g < int(shape_.groups.size()); ++g) {
        if (shape_.groups[g].window == 0 || passed(at / page, g)) continue;
        auto holder = page_of(part, key)->text;
        auto* known = find(Entry::What::window, holder, key, g);
        if (!known) known = add({Entry::What::window, key, holder, g});
        known->filled = std::max(known->filled, int(part.size()) - at);
        known->used = ++clock_;
      }
      for (int place : states) {
        if (place <= at || place > int(part.size())) continue;
        auto holder = page_of(part, key)->text;
        auto* known = find(Entry::What::state, holder, key, place);
        if (!known) known = add({Entry::What::state, key, holder, place});
        known->used = ++clock_;
      }
    }
    touch_pages(text, key);
  }

  bool evict(bool all) {
    // The pages of a path get their times from the end on, and after what hangs
    // at them, so the oldest has nothing behind it.
    for (std::size_t left = entries_.size(); left > 0; --left) {
      auto* e = oldest();
      if (e->what != Entry::What::page || e->pins == 0) break;
      touch_pages(e->text, e->key);
    }
    if (entries_.empty()) return false;
    auto* e = oldest();
    if (e->what == Entry::What::page && e->pins > 0 && !all) return false;
    entries_.erase(entries_.begin() + (e - entries_.data()));
    return true;
  }

  long pin(const Text& text, std::uint64_t key) {
    auto* e = find(Entry::What::page, text, key, 0);
    ++e->pins;
    return e->id;
  }
  void unpin(long id) {
    for (auto& e : entries_)
      if (e.id == id) --e.pins;
  }
  std::size_t pages() const {
    return count(Entry::What::page);
  }
  std::size_t states() const {
    return count(Entry::What::state);
  }
  std::size_t parts() const { // that are alive
    std::size_t full = 0;
    for (const auto& g : shape_.groups)
      full += g.window == 0;
    return full * pages() + states() + count(Entry::What::window);
  }

 private:
  std::size_t count(Entry::What what) const {
    return static_cast<std::size_t>(
        std::count_if(entries_.begin(), entries_.end(), [&](const auto& e) {
          return e.what == what;
        }));
  }
  int before(int length) const { // tokens in the pages before the last
    return (length - 1) / shape_.page_tokens * shape_.page_tokens;
  }
  Entry* add(Entry e) {
    e.id = ++last_id_;
    entries_.push_back(std::move(e));
    return &entries_.back();
  }
  Entry* find(
      Entry::What what,
      const Text& text,
      std::uint64_t key,
      int which) {
    for (auto& e : entries_)
      if (e.what == what && e.text == text && e.key == key && e.which == which)
        return &e;
    return nullptr;
  }
  // Whether it is a page that begins as this text's last.
  bool is_page_of(const Entry& e, const Text& text, std::uint64_t key) const {
    return e.what == Entry::What::page && e.key == key &&
        begins(text, e.text) &&
        before(int(e.text.size())) == before(int(text.size()));
  }
  Entry* page_of(const Text& text, std::uint64_t key) {
    Entry* best = nullptr; // the first in order
    for (auto& e : entries_)
      if (is_page_of(e, text, key) && (!best || e.text < best->text)) best = &e;
    return best;
  }
  void add_page(const Text& text, std::uint64_t key) {
    if (page_of(text, key)) return;
    int start = before(int(text.size()));
    for (auto& e : entries_) { // one that this goes on from
      bool goes_on = e.what == Entry::What::page && e.key == key &&
          begins(e.text, text) && before(int(e.text.size())) == start;
      if (!goes_on) continue;
      auto old = e.text;
      for (auto& x : entries_)
        if (x.key == key && x.text == old) x.text = text;
      return;
    }
    add({Entry::What::page, key, text});
  }
  // Behind this text, its last page the beginning of `last`.
  bool can_begin(const Text& text, std::uint64_t key, const Text& last) {
    int page = shape_.page_tokens, length = int(text.size());
    for (int at = 0; at < length; at += page) {
      int end = std::min(at + page, length);
      auto* holder = find(
          Entry::What::page, end == length ? last : first(text, end), key, 0);
      if (!holder) return false;
      for (int g = 0; g < int(shape_.groups.size()); ++g) {
        auto [window, keep] = shape_.groups[g];
        bool seen = window > 0 &&
            (at < keep || end > std::max(0, length - window + 1) ||
             end == length);
        if (!seen) continue;
        auto* kept = find(Entry::What::window, holder->text, key, g);
        if (!kept || kept->filled < end - at) return false;
      }
    }
    return !shape_.states || find(Entry::What::state, last, key, length);
  }
  void touch_pages(const Text& text, std::uint64_t key) {
    int page = shape_.page_tokens, length = int(text.size());
    for (int at = before(length); at >= 0; at -= page)
      page_of(first(text, std::min(at + page, length)), key)->used = ++clock_;
  }
  void note_use(const Text& text, std::uint64_t key, const Text& last) {
    int page = shape_.page_tokens, length = int(text.size());
    for (int at = 0; at < length; at += page) {
      int end = std::min(at + page, length);
      for (int g = 0; g < int(shape_.groups.size()); ++g) {
        auto [window, keep] = shape_.groups[g];
        if (window == 0) continue;
        int from = std::max(0, length - window + 1) / page * page;
        bool wanted = at < keep || at + page >= from;
        auto* kept = find(
            Entry::What::window,
            end == length ? last : first(text, end),
            key,
            g);
        bool whole = kept && (end == length || kept->filled == page);
        if (wanted && whole) kept->used = ++clock_;
      }
    }
    if (auto* state = find(Entry::What::state, last, key, length))
      state->used = ++clock_;
    touch_pages(last, key);
  }
  Entry* oldest() {
    return &*std::min_element(
        entries_.begin(), entries_.end(), [](auto& a, auto& b) {
          return a.used < b.used;
        });
  }

  PartShape shape_;
  std::vector<Entry> entries_;
  long clock_ = 0, last_id_ = 0;
};

} // namespace mlxlm::prefixes
