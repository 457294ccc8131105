#include <gtest/gtest.h>

#include <cmath>

#include "mlxlm/error.h"
#include "mlxlm/generate.h"

namespace mlxlm {
namespace {

TEST(Settings, SetByName) {
  GenerateParameters p;
  set(p, "temperature", "0.25");
  set(p, "top_k", "40");
  set(p, "logit_bias", "3:-100,7:2.5");
  set(p, "stop", "END");
  set(p, "seed", "18446744073709551615");
  EXPECT_EQ(p.sampling.temperature, 0.25);
  EXPECT_EQ(p.sampling.top_k, 40);
  ASSERT_EQ(p.sampling.logit_bias.size(), 2u);
  EXPECT_EQ(p.sampling.logit_bias[1], std::pair(7, 2.5f));
  EXPECT_EQ(p.stop, std::vector<std::string>{"END"});
  EXPECT_EQ(*p.seed, 18446744073709551615u);
}

TEST(Settings, RejectsWrongValues) {
  GenerateParameters p;
  for (auto [name, value] :
       std::initializer_list<std::pair<const char*, const char*>>{
           {"top_k", "-1"},
           {"top_k", "1.5"},
           {"top_p", "1.1"},
           {"top_p", "nan"},
           {"temperature", "-0.1"},
           {"temperature", "hot"},
           {"xtc_threshold", "0.6"},
           {"repetition_penalty", "-1"},
           {"seed", "-1"},
           {"seed", "18446744073709551616"},
           {"logit_bias", "5"},
           {"logit_bias", "a:1"},
           {"no_such", "1"},
           {"min_tokens_to_keep", "0"}})
    EXPECT_THROW(set(p, name, value), Error) << name << " " << value;
}

TEST(Settings, DefaultsInTheTableAreTheLibrarys) {
  GenerateParameters from_table;
  for (const auto& s : generation_settings())
    if (!s.value.empty()) set(from_table, s.name, s.value);
  GenerateParameters built;
  EXPECT_EQ(from_table.sampling.temperature, built.sampling.temperature);
  EXPECT_EQ(from_table.sampling.xtc_threshold, built.sampling.xtc_threshold);
  EXPECT_EQ(
      from_table.sampling.repetition_context_size,
      built.sampling.repetition_context_size);
  EXPECT_EQ(program_defaults().sampling.temperature, 0);
  EXPECT_EQ(program_defaults().max_tokens, 100);
}

TEST(Settings, ValidateChecksValuesSetInCode) {
  GenerateParameters p;
  EXPECT_NO_THROW(validate(p));
  p.sampling.min_p = NAN;
  EXPECT_THROW(validate(p), Error);
  p = {};
  p.sampling.top_k = -3;
  EXPECT_THROW(validate(p), Error);
  p = {};
  p.stop = {""};
  EXPECT_THROW(validate(p), Error);
}

} // namespace
} // namespace mlxlm
