#include "hub/presets.h"

#include <gtest/gtest.h>

#include <set>

namespace mlxlm::hub {
namespace {

TEST(Presets, IdsAreDifferentAndHaveAnOwner) {
  std::set<std::string_view> ids;
  for (const auto& p : presets()) {
    EXPECT_TRUE(ids.insert(p.id).second) << p.id;
    EXPECT_NE(p.id.find('/'), std::string_view::npos) << p.id;
  }
}

TEST(Presets, AreFoundByIdAndByCacheFolder) {
  constexpr auto id = "mlx-community/Phi-3.5-mini-instruct-4bit";
  for (auto reference :
       {"mlx-community/Phi-3.5-mini-instruct-4bit",
        "mlx-community/Phi-3.5-mini-instruct-4bit@main",
        "/c/hub/models--mlx-community--Phi-3.5-mini-instruct-4bit/snapshots/1",
        "models--mlx-community--Phi-3.5-mini-instruct-4bit"}) {
    auto* p = preset_of(reference);
    ASSERT_NE(p, nullptr) << reference;
    EXPECT_EQ(p->id, id);
    ASSERT_EQ(p->extra_eos_tokens.size(), 1u);
    EXPECT_EQ(p->extra_eos_tokens[0], "<|end|>");
  }
  EXPECT_EQ(preset_of("someone/else"), nullptr);
  EXPECT_EQ(preset_of("/models/folder"), nullptr);
  EXPECT_EQ(preset_of(""), nullptr);
}

} // namespace
} // namespace mlxlm::hub
