#include "cache/page_counts.h"

#include <gtest/gtest.h>

#include "cache/memory.h"

namespace mlxlm {
namespace {

TEST(PageCounts, TellsPagesInUseFromThoseKept) {
  auto memory = make_memory({FullKv{1, 8}}, {.page_tokens = 4});
  auto expect = [&](std::span<const KeptPtr> kept, int in_use, int only_kept) {
    auto counts = count_pages(*memory, kept);
    EXPECT_EQ(counts.in_use, in_use);
    EXPECT_EQ(counts.kept, only_kept);
  };
  expect({}, 0, 0);
  auto runs = memory->sequence();
  runs->begin(10);
  runs->commit(10);
  expect({}, 3, 0);
  std::vector<KeptPtr> kept;
  for (auto& column : kept_pages(*runs, 8))
    kept.insert(kept.end(), column.begin(), column.end());
  expect(kept, 3, 0); // the one that runs has them too
  runs.reset();
  expect(kept, 0, 2);
  expect(std::span(kept).first(1), 1, 1); // somebody else keeps the other
  kept.clear();
  expect({}, 0, 0);
}

} // namespace
} // namespace mlxlm
