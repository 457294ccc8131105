#include "checkpoint/gguf_names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/testing.h"
#include "checkpoint/values.h"

namespace mlxlm {
namespace {

using testing::error_of;
using testing::GgufBuilder;
using ::testing::HasSubstr;
using testing::raw;
using testing::TempFolder;

std::string counting(std::size_t n, float first = 0) {
  std::vector<float> values(n);
  for (std::size_t i = 0; i < n; ++i)
    values[i] = first + static_cast<float>(i);
  return raw(values);
}

// One layer of width 8, two heads of 4, one of keys.
GgufBuilder tiny(
    const std::string& arch,
    bool tied = false,
    std::uint32_t layers = 1) {
  GgufBuilder b;
  b.string("general.architecture", arch);
  b.u32(arch + ".embedding_length", 8).u32(arch + ".block_count", layers);
  b.u32(arch + ".attention.head_count", 2)
      .u32(arch + ".attention.head_count_kv", 1);
  b.u32(arch + ".feed_forward_length", 16).u32(arch + ".context_length", 64);
  b.f32(arch + ".attention.layer_norm_rms_epsilon", 1e-5f)
      .f32(arch + ".rope.freq_base", 1e6f);
  b.strings("tokenizer.ggml.tokens", {"a", "b", "c"});
  b.u32("tokenizer.ggml.eos_token_id", 2);
  b.tensor("token_embd.weight", {8, 3}, 0, counting(24));
  b.tensor("output_norm.weight", {8}, 0, counting(8, 1));
  if (!tied) b.tensor("output.weight", {8, 3}, 0, counting(24));
  b.tensor("blk.0.attn_q.weight", {8, 8}, 0, counting(64));
  b.tensor("blk.0.attn_k.weight", {8, 4}, 0, counting(32));
  b.tensor("blk.0.ffn_norm.weight", {8}, 0, counting(8, 1));
  return b;
}

Checkpoint open(const TempFolder& folder, const GgufBuilder& b) {
  return open_checkpoint(folder.write("m.gguf", b.build()));
}

TEST(GgufNames, LlamaBecomesHuggingFace) {
  TempFolder f;
  auto c = open(f, tiny("llama"));
  EXPECT_EQ(c.config.req<std::string>("model_type"), "llama");
  EXPECT_EQ(c.config.req<int>("hidden_size"), 8);
  EXPECT_EQ(c.config.req<int>("head_dim"), 4);
  EXPECT_EQ(c.config.req<int>("num_key_value_heads"), 1);
  EXPECT_EQ(c.config.req<int>("vocab_size"), 3);
  EXPECT_EQ(c.config.req<double>("rope_theta"), 1e6);
  EXPECT_EQ(c.config.req<int>("eos_token_id"), 2);
  EXPECT_FALSE(c.config.req<bool>("tie_word_embeddings"));
  EXPECT_FALSE(c.config.has("rope_scaling"));
  auto map = rewritten(*c.tensors, c.rules);
  ASSERT_TRUE(map.contains("lm_head.weight"));
  ASSERT_TRUE(map.contains("model.norm.weight"));
  EXPECT_TRUE(map.contains("model.layers.0.post_attention_layernorm.weight"));
  // Pairs to halves, by head: rows 0 2 1 3, 4 6 5 7.
  auto q = read_floats(map.at("model.layers.0.self_attn.q_proj.weight"));
  EXPECT_EQ(q[8], 16);
  EXPECT_EQ(q[16], 8);
  EXPECT_EQ(q[5 * 8], 48);
  auto k = read_floats(map.at("model.layers.0.self_attn.k_proj.weight"));
  EXPECT_EQ(k[8], 16);
}

TEST(GgufNames, TiedHeadsAndGemmaNorms) {
  TempFolder f;
  auto c = open(f, tiny("gemma2", true));
  EXPECT_TRUE(c.config.req<bool>("tie_word_embeddings"));
  EXPECT_EQ(c.config.req<double>("query_pre_attn_scalar"), 4);
  auto map = rewritten(*c.tensors, c.rules);
  EXPECT_EQ(read_floats(map.at("model.norm.weight"))[0], 0);
  EXPECT_TRUE(map.contains("model.layers.0.pre_feedforward_layernorm.weight"));
  // Not paired: rows stay.
  EXPECT_EQ(
      read_floats(map.at("model.layers.0.self_attn.q_proj.weight"))[8], 8);
}

TEST(GgufNames, RopeFactorsOfLlama3) {
  TempFolder f;
  auto b = tiny("llama");
  b.tensor("rope_freqs.weight", {2}, 0, raw(std::vector<float>{1, 8}));
  auto c = open(f, b);
  auto scaling = c.config.sub("rope_scaling");
  EXPECT_EQ(scaling.req<std::string>("rope_type"), "longrope");
  EXPECT_EQ(
      scaling.req<std::vector<float>>("long_factor"),
      (std::vector<float>{1, 8}));
  EXPECT_FALSE(rewritten(*c.tensors, c.rules).contains("rope_freqs.weight"));
}

TEST(GgufNames, ExpertsOfTheLlamaArchitectureAreMixtral) {
  TempFolder f;
  auto b = tiny("llama");
  b.u32("llama.expert_count", 4).u32("llama.expert_used_count", 2);
  b.tensor("blk.0.ffn_gate_exps.weight", {8, 2, 4}, 0, counting(64));
  auto c = open(f, b);
  EXPECT_EQ(c.config.req<std::string>("model_type"), "mixtral");
  auto map = rewritten(*c.tensors, c.rules);
  EXPECT_EQ(
      map.at("model.layers.0.block_sparse_moe.switch_mlp.gate_proj.weight")
          .shape(),
      (Shape64{4, 2, 8}));
}

TEST(GgufNames, TheLayerBehindTheLastPredicts) {
  for (std::string arch : {"glm4moe", "deepseek2"}) {
    TempFolder f;
    auto b = tiny(arch, false, 2);
    b.u32(arch + ".nextn_predict_layers", 1);
    b.u32(arch + ".expert_count", 2).u32(arch + ".expert_used_count", 1);
    b.u32(arch + ".attention.key_length", 4)
        .u32(arch + ".attention.value_length", 4)
        .u32(arch + ".attention.kv_lora_rank", 4)
        .u32(arch + ".rope.dimension_count", 2);
    b.tensor("blk.1.attn_norm.weight", {8}, 0, counting(8));
    for (std::string name :
         {"eh_proj", "enorm", "hnorm", "shared_head_norm", "shared_head_head"})
      b.tensor("blk.1.nextn." + name + ".weight", {8}, 0, counting(8));
    auto c = open(f, b);
    EXPECT_EQ(c.config.req<int>("num_hidden_layers"), 1);
    auto map = rewritten(*c.tensors, c.rules);
    for (std::string name :
         {"eh_proj",
          "enorm",
          "hnorm",
          "shared_head.norm",
          "shared_head.head",
          "input_layernorm"})
      EXPECT_TRUE(map.contains("model.layers.1." + name + ".weight")) << name;
  }
}

TEST(GgufNames, FusedFormsComeApart) {
  TempFolder f;
  auto b = tiny("qwen3moe");
  b.u32("qwen3moe.expert_count", 2).u32("qwen3moe.expert_used_count", 1);
  b.tensor("blk.1.attn_qkv.weight", {8, 16}, 0, counting(128));
  b.tensor("blk.1.attn_qkv.bias", {16}, 0, counting(16));
  b.tensor("blk.0.ffn_gate_up_exps.weight", {8, 4, 2}, 0, counting(64));
  b.tensor("blk.0.ffn_down.0.weight", {2, 8}, 0, counting(16));
  b.tensor("blk.0.ffn_down.1.weight", {2, 8}, 0, counting(16, 16));
  auto c = open(f, b);
  auto map = rewritten(*c.tensors, c.rules);
  auto layer = [&](const std::string& name) {
    return map.at("model.layers." + name);
  };
  EXPECT_EQ(layer("1.self_attn.q_proj.weight").shape(), (Shape64{8, 8}));
  EXPECT_EQ(read_floats(layer("1.self_attn.v_proj.weight"))[0], 96);
  EXPECT_EQ(
      read_floats(layer("1.self_attn.k_proj.bias")),
      (std::vector<float>{8, 9, 10, 11}));
  auto up = layer("0.mlp.switch_mlp.up_proj.weight");
  EXPECT_EQ(up.shape(), (Shape64{2, 2, 8}));
  EXPECT_EQ(read_floats(up)[16], 48);
  EXPECT_EQ(
      layer("0.mlp.switch_mlp.down_proj.weight").shape(), (Shape64{2, 8, 2}));
}

TEST(GgufNames, GptOssAndDeepSeek) {
  TempFolder f;
  auto b = tiny("gpt-oss");
  b.u32("gpt-oss.expert_count", 4).u32("gpt-oss.expert_used_count", 2);
  b.u32("gpt-oss.expert_feed_forward_length", 6);
  b.string("gpt-oss.rope.scaling.type", "yarn");
  b.f32("gpt-oss.rope.scaling.factor", 8);
  b.tensor("blk.0.attn_sinks.weight", {2}, 0, counting(2));
  auto c = open(f, b);
  EXPECT_EQ(c.config.req<int>("num_local_experts"), 4);
  EXPECT_EQ(c.config.req<int>("intermediate_size"), 6);
  EXPECT_FALSE(c.config.sub("rope_scaling").req<bool>("truncate"));
  EXPECT_TRUE(rewritten(*c.tensors, c.rules)
                  .contains("model.layers.0.self_attn.sinks"));

  auto d = tiny("deepseek2");
  d.u32("deepseek2.expert_count", 4).u32("deepseek2.expert_used_count", 2);
  d.u32("deepseek2.expert_gating_func", 2);
  d.u32("deepseek2.attention.kv_lora_rank", 4);
  d.u32("deepseek2.attention.key_length", 6);
  d.u32("deepseek2.attention.value_length", 4);
  d.u32("deepseek2.attention.key_length_mla", 5);
  d.u32("deepseek2.attention.value_length_mla", 3);
  d.u32("deepseek2.rope.dimension_count", 2);
  d.tensor("blk.0.exp_probs_b.bias", {4}, 0, counting(4));
  auto e = open(f, d);
  EXPECT_EQ(e.config.req<std::string>("model_type"), "deepseek_v3");
  EXPECT_EQ(e.config.req<int>("qk_nope_head_dim"), 3);
  EXPECT_EQ(e.config.req<int>("v_head_dim"), 3);
  EXPECT_TRUE(rewritten(*e.tensors, e.rules)
                  .contains("model.layers.0.mlp.gate.e_score_correction_bias"));
}

TEST(GgufNames, RefusesBadMetadata) { // G15, G16
  auto only = [](const char* arch) {
    GgufBuilder b;
    b.string("general.architecture", arch);
    return b;
  };
  TempFolder f;
  EXPECT_THAT(
      error_of([&] { open(f, GgufBuilder()); }),
      HasSubstr("general.architecture: expected a string, found nothing"));
  EXPECT_THAT(
      error_of([&] { open(f, only("lama")); }),
      HasSubstr("found \"lama\"; nearest: llama"));
  EXPECT_THAT(
      error_of([&] { open(f, only("llama")); }),
      HasSubstr("llama.embedding_length: expected an integer, found nothing"));
  auto sized =
      [&](std::uint32_t hidden, std::uint32_t heads, std::uint32_t layers) {
        auto b = only("llama");
        b.u32("llama.embedding_length", hidden)
            .u32("llama.attention.head_count", heads);
        b.u32("llama.block_count", layers).u32("llama.context_length", 8);
        return error_of([&] { open(f, b); });
      };
  EXPECT_THAT(
      sized(8, 0, 1), HasSubstr("head_count: expected an integer from 1"));
  EXPECT_THAT(sized(8, 3, 1), HasSubstr("expected a divisor of 8, found 3"));
  EXPECT_THAT(
      sized(8, 2, 0),
      HasSubstr("block_count: expected an integer from 1 to 65536, found 0"));
  EXPECT_THAT(sized(8, 2, 1u << 31), HasSubstr("found 2147483648"));
  EXPECT_THAT(sized(0, 2, 1), HasSubstr("embedding_length"));
  EXPECT_THAT(
      sized(8, 2, 1),
      HasSubstr("token_embd.weight: expected a matrix, found nothing"));

  auto b = tiny("llama");
  b.key(
      "tokenizer.ggml.scores",
      GgufType::array,
      raw(static_cast<std::uint32_t>(GgufType::f32)) + raw(std::uint64_t{2}) +
          raw(1.f) + raw(2.f));
  EXPECT_THAT(
      error_of([&] { open(f, b); }),
      HasSubstr(
          "expected 3 entries, one per row of token_embd.weight, found 2"));
  auto bos = tiny("llama");
  bos.u32("tokenizer.ggml.bos_token_id", 3);
  EXPECT_THAT(
      error_of([&] { open(f, bos); }),
      HasSubstr("expected a token id below 3, found 3"));
}

TEST(Checkpoint, OpensFoldersAndGguf) {
  TempFolder f;
  EXPECT_THAT(
      error_of([&] { open_checkpoint(f.path()); }), HasSubstr("config.json"));
  EXPECT_THAT(
      error_of([&] { open_checkpoint(f.path() + "/none"); }),
      HasSubstr("cannot open"));
  f.write("a.gguf", tiny("llama").build());
  EXPECT_NE(open_checkpoint(f.path()).gguf, nullptr);
  f.write("b.gguf", tiny("llama").build());
  EXPECT_THAT(
      error_of([&] { open_checkpoint(f.path()); }),
      HasSubstr("found 2: a.gguf, b.gguf"));
  f.write("config.json", R"({"model_type":"llama","limit":Infinity})");
  f.write(
      "model.safetensors",
      testing::safetensors(
          R"({"__metadata__":{"format":"pt"},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
          "x"));
  auto c = open_checkpoint(f.path());
  EXPECT_EQ(c.gguf, nullptr);
  EXPECT_EQ(c.metadata.at("format"), "pt");
  EXPECT_NE(c.tensors->find("a"), nullptr);
}

} // namespace
} // namespace mlxlm
