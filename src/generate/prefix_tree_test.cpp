// The tree of prefixes against a list that is looked through from end to end;
// no model and no array.
#include "generate/prefix_tree.h"

#include <gtest/gtest.h>

#include <random>

#include "generate/prefix_tree_testing.h"

namespace mlxlm::prefixes {
namespace {

class PrefixTrees : public ::testing::Test {
 protected:
  void use(const PartShape& shape) {
    shape_ = shape;
    tree_ = std::make_unique<PrefixTree>(shape_);
  }
  PrefixTree::Inserted insert(
      const Text& text,
      std::uint64_t key = 0,
      const std::vector<int>& states = {},
      std::size_t bytes = 10) {
    Reader reader{shape_, alive_, bytes};
    return tree_->insert(
        text, key, reader.pages(text), reader.states(text, states));
  }
  int length(const Text& text, std::uint64_t key = 0) {
    auto found = tree_->match(text, key, static_cast<int>(text.size()));
    return found ? found->length : 0;
  }
  ~PrefixTrees() override {
    tree_.reset();
    EXPECT_EQ(alive_, 0);
  }
  int alive_ = 0;
  PartShape shape_;
  std::unique_ptr<PrefixTree> tree_;
};

TEST_F(PrefixTrees, PagesOfEqualTextsAreKeptOnce) {
  use({4, {{}}});
  auto one = insert(counting(10));
  EXPECT_EQ(alive_, 3);
  auto other = insert(counting(10));
  EXPECT_EQ(alive_, 3);
  EXPECT_EQ(one.pages, other.pages);
  Text branch = counting(8);
  branch.insert(branch.end(), {50, 51, 52, 53, 54});
  insert(branch);
  EXPECT_EQ(alive_, 5); // two more
  EXPECT_EQ(length(counting(20)), 10);
  EXPECT_EQ(length(branch), 13);
  EXPECT_EQ(length({0, 1, 2, 3, 4, 9}), 5); // within a page
  EXPECT_EQ(length({7}), 0);
  EXPECT_EQ(length(counting(10), 1), 0); // another adapter
}

TEST_F(PrefixTrees, APageThatHasBeenReadOnTakesThePlaceOfItsBeginning) {
  use({4, {{}}, true});
  insert(counting(6), 0, {6});
  insert(counting(7), 0, {7});
  EXPECT_EQ(alive_, 4); // two pages and both states
  insert(counting(5), 0, {5}); // less: adds its states only
  EXPECT_EQ(alive_, 5);
  EXPECT_EQ(tree_->figures().pages, 2u);
  EXPECT_EQ(length(counting(6)), 6);
  EXPECT_EQ(length({0, 1, 2, 3, 4, 9}), 5);
  EXPECT_EQ(length(counting(4)), 0); // no states there
  insert(counting(8), 0, {8});
  EXPECT_EQ(tree_->figures().pages, 2u);
  EXPECT_EQ(tree_->figures().states, 4u);
}

TEST_F(PrefixTrees, WhatIsStoredSmallerWins) {
  use({4, {{}}});
  auto plain = insert(counting(8), 0, {}, 100).pages[0][0];
  EXPECT_EQ(insert(counting(8), 0, {}, 200).pages[0][0], plain);
  auto packed = insert(counting(8), 0, {}, 30).pages[0][0];
  EXPECT_NE(packed, plain);
  EXPECT_EQ(insert(counting(8), 0, {}, 30).pages[0][0], packed);
}

TEST_F(PrefixTrees, AWindowMustSeeAllItsPages) {
  use({4, {{}, {.window = 6}}});
  insert(counting(20));
  EXPECT_EQ(length(counting(30)), 20);
  // Two steps back the window needs a page that has been passed.
  EXPECT_EQ(length(counting(18)), 18);
  EXPECT_EQ(length(counting(13)), 0);
  insert(counting(12));
  EXPECT_EQ(length(counting(12)), 12);
  EXPECT_EQ(length(counting(13)), 13); // the rest is the first's
  EXPECT_EQ(length(counting(30)), 20);
  auto found = tree_->match(counting(30), 0, 30);
  ASSERT_EQ(found->pages.size(), 5u);
  EXPECT_FALSE(found->pages[0][1]); // nobody looks there
  EXPECT_TRUE(found->pages[0][0]);
  EXPECT_TRUE(found->pages[4][1]);
}

TEST_F(PrefixTrees, TheEndsOfWhatWasUsedLeastGoFirst) {
  use({4, {{}}});
  Text system = counting(12), a = system, b = system;
  for (int i = 0; i < 8; ++i) {
    a.push_back(100 + i);
    b.push_back(200 + i);
  }
  insert(a);
  insert(b);
  EXPECT_EQ(length(a), 20); // used
  EXPECT_TRUE(tree_->evict());
  EXPECT_EQ(length(b), 16); // a page less, not the whole
  EXPECT_TRUE(tree_->evict()); // of a: b has just been used
  EXPECT_EQ(length(a), 16);
  for (int i = 0; i < 2; ++i)
    EXPECT_TRUE(tree_->evict());
  EXPECT_EQ(length(a), 12); // what both share is left
  EXPECT_EQ(length(b), 12);
}

TEST_F(PrefixTrees, WhatIsInUseGoesLast) {
  use({4, {{}}});
  auto found = insert(counting(8)).pin;
  insert(counting(8, 100));
  EXPECT_EQ(length(counting(9, 100)), 8); // used later
  EXPECT_TRUE(tree_->evict(false));
  EXPECT_TRUE(tree_->evict(false));
  EXPECT_FALSE(tree_->evict(false)); // only what is in use is left
  EXPECT_EQ(length(counting(9)), 8);
  EXPECT_EQ(length(counting(9, 100)), 0);
  EXPECT_TRUE(tree_->evict());
  EXPECT_TRUE(tree_->evict(false)); // the page before it is nobody's
  EXPECT_FALSE(tree_->evict());
  tree_.reset();
  found.reset(); // after the tree
}

struct Remembers {
  const char* name;
  PartShape shape;
};

class PrefixTreesOf : public ::testing::TestWithParam<Remembers> {};

TEST_P(PrefixTreesOf, AgreeWithAListOfAll) {
  const auto& shape = GetParam().shape;
  for (unsigned seed = 0; seed < 12; ++seed) {
    std::mt19937 random(seed);
    auto below = [&](std::size_t n) { return static_cast<int>(random() % n); };
    int alive = 0;
    PrefixTree tree(shape);
    ListOfAll list(shape);
    Reader reader{shape, alive};
    std::vector<Text> texts{{}};
    std::vector<std::pair<long, PrefixPin>> pins;
    auto hold = [&](const Text& text, std::uint64_t key, PrefixPin pin) {
      auto whole =
          first(text, int(text.size()) / shape.page_tokens * shape.page_tokens);
      if (!pin || whole.empty()) return;
      pins.emplace_back(list.pin(whole, key), std::move(pin));
    };
    auto branch = [&] {
      auto text = texts[random() % texts.size()];
      text.resize(random() % (text.size() + 1));
      for (int n = below(12); n > 0; --n)
        text.push_back(below(3));
      if (text.empty()) text.push_back(below(3));
      texts.push_back(text);
      if (texts.size() > 30) texts.erase(texts.begin());
      return text;
    };
    for (int step = 0; step < 600; ++step) {
      auto text = branch();
      auto key = static_cast<std::uint64_t>(below(2));
      int length = int(text.size());
      switch (below(7)) {
        case 0:
        case 1: {
          std::vector<int> places;
          for (int at = 1; shape.states && at <= length; ++at)
            if (at == length || below(4) == 0) places.push_back(at);
          auto pages = reader.pages(text);
          auto inserted =
              tree.insert(text, key, pages, reader.states(text, places));
          list.insert(text, key, places, [&](int i, int g) {
            return !pages[std::size_t(i)][std::size_t(g)];
          });
          if (below(4) == 0) hold(text, key, std::move(inserted.pin));
          break;
        }
        case 2:
        case 3: {
          int most = below(text.size() + 1);
          auto found = tree.match(text, key, most);
          int expected = list.match(text, key, most);
          ASSERT_EQ(found ? found->length : 0, expected) << step;
          if (!found) break;
          for (std::size_t i = 0; i < found->pages.size(); ++i)
            for (const auto& part : found->pages[i]) {
              if (!part) continue;
              auto& page = static_cast<const FakePart&>(*part);
              int end = std::min(int(i + 1) * shape.page_tokens, expected);
              ASSERT_GE(int(page.text.size()), end);
              ASSERT_TRUE(begins(first(text, end), page.text));
            }
          if (found->state) {
            ASSERT_EQ(
                static_cast<const FakePart&>(*found->state).text,
                first(text, expected));
          }
          if (below(3) == 0)
            hold(first(text, expected), key, std::move(found->pin));
          break;
        }
        case 4:
        case 5: {
          bool all = below(8) == 0;
          ASSERT_EQ(tree.evict(all), list.evict(all)) << step;
          break;
        }
        default:
          if (pins.empty()) break;
          auto at = random() % pins.size();
          list.unpin(pins[at].first);
          pins.erase(pins.begin() + std::ptrdiff_t(at));
      }
      auto figures = tree.figures();
      ASSERT_EQ(figures.pages, list.pages()) << step;
      ASSERT_EQ(figures.states, list.states()) << step;
      ASSERT_EQ(alive, int(list.parts())) << step;
    }
    while (tree.evict()) {
    }
    EXPECT_EQ(alive, 0);
    EXPECT_EQ(tree.figures().pages, 0u);
    EXPECT_EQ(tree.figures().states, 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Memories,
    PrefixTreesOf,
    ::testing::Values(
        Remembers{"dense", {4, {{}}}},
        Remembers{"two_shapes", {4, {{}, {}}}},
        Remembers{"states", {4, {{}}, true}},
        Remembers{"states_alone", {4, {}, true}},
        Remembers{"sliding", {4, {{}, {.window = 6}}}},
        Remembers{
            "windows_alone",
            {4, {{.window = 5}, {.window = 9, .keep = 3}}}},
        Remembers{"all", {4, {{}, {.window = 6, .keep = 2}}, true}}),
    [](const auto& info) { return std::string(info.param.name); });

} // namespace
} // namespace mlxlm::prefixes
