#include <gtest/gtest.h>

#include <limits>

#include "mlxlm/error.h"
#include "mlxlm/wired_memory.h"

namespace mlxlm {
namespace {

constexpr auto most = std::numeric_limits<std::int64_t>::max();

TEST(WiredPolicies, SumIsCapped) {
  auto sum = sum_policy(100);
  EXPECT_EQ(sum->limit({10, {}, {20, 30}}), 60);
  EXPECT_EQ(sum->limit({10, {}, {20, 300}}), 100);
  EXPECT_TRUE(sum->can_admit({10, {}, {20, 30}}, 40));
  EXPECT_FALSE(sum->can_admit({10, {}, {20, 30}}, 41));
  EXPECT_TRUE(sum->can_admit({0, {}, {100}}, -5)); // less than 0 counts as 0
  EXPECT_FALSE(sum_policy(-1)->can_admit({}, 1));
}

TEST(WiredPolicies, WithoutACapTheDevicesRecommendationHolds) {
  auto sum = sum_policy();
  EXPECT_EQ(sum->limit({0, 50, {80}}), 50);
  EXPECT_FALSE(sum->can_admit({0, 50, {40}}, 11));
  EXPECT_TRUE(sum->can_admit({0, {}, {40}}, most - 40));
  EXPECT_TRUE(sum_policy(200)->can_admit({0, 50, {40}}, 100)); // a cap wins
}

TEST(WiredPolicies, MaxAndFixedAdmitEverything) {
  EXPECT_EQ(max_policy()->limit({10, {}, {20, 30}}), 30);
  EXPECT_EQ(max_policy()->limit({40, {}, {20, 30}}), 40);
  EXPECT_EQ(max_policy()->limit({40, {}, {}}), 40);
  EXPECT_TRUE(max_policy()->can_admit({0, 1, {1}}, most));
  EXPECT_EQ(fixed_policy(7)->limit({100, {}, {1, 2}}), 7);
  EXPECT_TRUE(fixed_policy(7)->can_admit({0, 1, {1}}, most));
}

TEST(WiredPolicies, BudgetAddsItsBase) {
  auto budget =
      budget_policy({.base_bytes = 50, .kv_cache_bytes = 10, .cap = 100});
  EXPECT_EQ(budget->limit({5, {}, {20}}), 85);
  EXPECT_TRUE(budget->can_admit({5, {}, {20}}, 15));
  EXPECT_FALSE(budget->can_admit({5, {}, {20}}, 16));
  EXPECT_EQ(budget_policy({.base_bytes = -3})->limit({1, {}, {}}), 1);
}

TEST(WiredPolicies, SumsDoNotWrap) {
  auto sum = sum_policy();
  EXPECT_EQ(sum->limit({most, {}, {most}}), most);
  EXPECT_FALSE(sum->can_admit({most, {}, {}}, 1));
  auto budget = budget_policy({.base_bytes = most, .kv_cache_bytes = most});
  EXPECT_EQ(budget->limit({}), most);
  EXPECT_FALSE(budget->can_admit({}, 1));
}

TEST(WiredPolicies, EqualOnesAreOneGroup) {
  EXPECT_EQ(sum_policy()->id(), sum_policy()->id());
  EXPECT_EQ(sum_policy(5)->id(), sum_policy(5)->id());
  EXPECT_NE(sum_policy(5)->id(), sum_policy(6)->id());
  EXPECT_NE(sum_policy(5)->id(), fixed_policy(5)->id());
  EXPECT_NE(budget_policy({})->id(), budget_policy({})->id());
  EXPECT_EQ(
      budget_policy({.base_bytes = 1, .id = "a"})->id(),
      budget_policy({.base_bytes = 2, .id = "a"})->id());
}

TEST(WiredPolicies, TicketsHaveIdsOfTheirOwn) {
  EXPECT_NE(make_ticket(1, max_policy()).id, make_ticket(1, max_policy()).id);
  EXPECT_THROW(make_ticket(1, nullptr), Error);
}

} // namespace
} // namespace mlxlm
