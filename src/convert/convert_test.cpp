// Converting as a whole: exact values, interruptions, files, and what lies
// beside the weights.
#include "mlxlm/convert.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <mlx/ops.h>
#include <mlx/transforms.h>

#include "checkpoint/safetensors.h"
#include "checkpoint/testing.h"
#include "convert/folder.h"
#include "convert/layout.h"
#include "convert/recipe.h"
#include "convert/tasks.h"
#include "core/files.h"
#include "weights/random.h"

namespace mlxlm::converting {
namespace {

namespace fs = std::filesystem;
using testing::error_of;
using testing::TempFolder;

constexpr int hidden = 64, inner = 128, vocab = 96, layers = 2;

std::map<std::string, Shape64> llama_tensors() {
  std::map<std::string, Shape64> out = {
      {"model.embed_tokens.weight", {vocab, hidden}},
      {"model.norm.weight", {hidden}},
      {"lm_head.weight", {vocab, hidden}}};
  for (int i = 0; i < layers; ++i) {
    auto at = fmt::format("model.layers.{}.", i);
    for (auto name : {"input_layernorm", "post_attention_layernorm"})
      out[at + name + ".weight"] = {hidden};
    for (auto name : {"q_proj", "k_proj", "v_proj", "o_proj"})
      out[at + "self_attn." + name + ".weight"] = {hidden, hidden};
    for (auto name : {"gate_proj", "up_proj"})
      out[at + "mlp." + name + ".weight"] = {inner, hidden};
    out[at + "mlp.down_proj.weight"] = {hidden, inner};
  }
  return out;
}

// A Llama of random float32 values.
void write_llama(const TempFolder& folder) {
  Json header = Json::object();
  std::string data;
  for (const auto& [name, shape] : llama_tensors()) {
    auto tensor = random_tensor(1, name, shape);
    const auto begin = data.size();
    std::vector<std::byte> scratch(tensor.row_bytes());
    for (std::int64_t r = 0; r < tensor.rows(); ++r) {
      auto row = tensor.row(r, scratch);
      data.append(reinterpret_cast<const char*>(row.data()), row.size());
    }
    header[name] = {
        {"dtype", "F32"},
        {"shape", shape},
        {"data_offsets", {begin, data.size()}}};
  }
  folder.write("model.safetensors", testing::safetensors(header.dump(), data));
  folder.write(
      "config.json",
      R"({"model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
          "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 96,
          "rms_norm_eps": 1e-5, "tie_word_embeddings": false,
          "eos_token_id": 2, "_name_or_path": "x", "vision_config": {}})");
  folder.write("tokenizer.json", "{}");
  folder.write("generation_config.json", R"({"eos_token_id": [2, 7]})");
  folder.write("training_args.bin", "no");
}

// (gcc 12 takes designated initializers of these for uninitialized reads.)
ConvertOptions plain() {
  return {};
}
ConvertOptions quantized(
    int bits = 0,
    int group = 0,
    std::string mode = "affine") {
  ConvertOptions o;
  o.quantize = true;
  o.quantization.bits = bits;
  o.quantization.group_size = group;
  o.quantization.mode = std::move(mode);
  return o;
}
ConvertOptions stopping(
    ConvertOptions o,
    std::function<bool(const ConvertProgress&)> when) {
  o.progress = [when](const ConvertProgress& p) {
    if (when(p)) throw std::runtime_error("stopped");
  };
  return o;
}

std::map<std::string, std::string> files_of(const std::string& folder) {
  std::map<std::string, std::string> out;
  for (const auto& name : list_directory(folder))
    out[name] = read_file(join_path(folder, name));
  return out;
}

class ConvertTest : public ::testing::Test {
 protected:
  ConvertTest() {
    write_llama(source);
  }
  std::string target(const char* name) const {
    return work.path() + "/" + name;
  }
  Conversion run(ConvertOptions options, const char* name = "out") const {
    options.output = target(name);
    return convert(source.path(), options);
  }
  TempFolder source, work;
};

TEST_F(ConvertTest, WritesTheFolderOfMlxLm) {
  auto done = run(quantized());
  EXPECT_EQ(done.files, 1u);
  EXPECT_FALSE(fs::exists(target("out") + ".partial"));
  auto files = files_of(target("out"));
  std::vector<std::string> names;
  for (const auto& [name, text] : files)
    names.push_back(name);
  EXPECT_EQ(
      names,
      (std::vector<std::string>{
          "README.md",
          "config.json",
          "generation_config.json",
          "model.safetensors",
          "model.safetensors.index.json",
          "tokenizer.json"}));
  EXPECT_EQ(files["config.json"], R"({
    "eos_token_id": [
        2,
        7
    ],
    "hidden_size": 64,
    "intermediate_size": 128,
    "model_type": "llama",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "quantization": {
        "group_size": 64,
        "bits": 4,
        "mode": "affine"
    },
    "quantization_config": {
        "group_size": 64,
        "bits": 4,
        "mode": "affine"
    },
    "rms_norm_eps": 1e-05,
    "tie_word_embeddings": false,
    "vocab_size": 96
})");
  auto index = parse_json(files["model.safetensors.index.json"], "index");
  EXPECT_EQ(index["metadata"]["total_size"], done.bytes);
  EXPECT_EQ(index["metadata"]["total_parameters"], done.parameters);
  EXPECT_EQ(index["weight_map"].size(), done.tensors);
  SafetensorsSource weights({target("out") + "/model.safetensors"});
  EXPECT_EQ(weights.metadata().at("format"), "mlx");
  EXPECT_EQ(weights.names().size(), done.tensors);
}

TEST_F(ConvertTest, AnInterruptedRunGoesOn) {
  run(quantized(), "straight");
  int calls = 0;
  auto seventh = [&](const ConvertProgress&) { return ++calls == 7; };
  EXPECT_THROW(run(stopping(quantized(), seventh)), std::runtime_error);
  EXPECT_FALSE(fs::exists(target("out")));
  auto done = run(quantized());
  EXPECT_GT(done.resumed_bytes, 0u);
  EXPECT_LT(done.resumed_bytes, done.bytes);
  EXPECT_EQ(files_of(target("out")), files_of(target("straight")));
}

TEST_F(ConvertTest, AnotherConversionBeginsAnew) {
  int calls = 0;
  auto seventh = [&](const ConvertProgress&) { return ++calls == 7; };
  EXPECT_THROW(run(stopping(quantized(), seventh)), std::runtime_error);
  auto done = run(quantized(8));
  EXPECT_EQ(done.resumed_bytes, 0u);
}

TEST_F(ConvertTest, ChangedFilesOfAnInterruptedRunAreRefused) {
  auto half = [](const ConvertProgress& p) { return p.done > p.total / 2; };
  EXPECT_THROW(run(stopping(plain(), half)), std::runtime_error);
  fs::resize_file(target("out") + ".partial/model.safetensors", 100);
  EXPECT_NE(
      error_of([&] { run(plain()); }).find("begin again"), std::string::npos);
}

TEST_F(ConvertTest, LargeModelsAreCutIntoFiles) {
  auto options = plain();
  options.shard_bytes = 60'000;
  auto done = run(options);
  EXPECT_GT(done.files, 3u);
  auto index = read_json(target("out") + "/model.safetensors.index.json");
  auto last =
      fmt::format("model-{:05}-of-{:05}.safetensors", done.files, done.files);
  EXPECT_TRUE(is_file(join_path(target("out"), last)));
  auto opened = open_safetensors(target("out"));
  auto original = open_safetensors(source.path());
  for (const auto& name : original->names()) {
    const auto* a = opened->find(name);
    const auto* b = original->find(name);
    ASSERT_NE(a, nullptr) << name;
    EXPECT_EQ(a->shape, b->shape);
    EXPECT_TRUE(std::equal(
        a->bytes.begin(), a->bytes.end(), b->bytes.begin(), b->bytes.end()))
        << name;
  }
}

TEST_F(ConvertTest, DequantizingGivesPlainTensors) {
  run(quantized(), "packed");
  auto options = plain();
  options.output = target("out");
  options.dequantize = true;
  convert(target("packed"), options);
  auto opened = open_safetensors(target("out"));
  EXPECT_EQ(opened->names().size(), llama_tensors().size());
  auto config = read_json(target("out") + "/config.json");
  EXPECT_FALSE(config.contains("quantization"));
  EXPECT_FALSE(config.contains("quantization_config"));
}

TEST_F(ConvertTest, OptionsThatContradictEachOther) {
  auto refused = [&](ConvertOptions options, std::string_view part) {
    auto error = error_of([&] { run(std::move(options)); });
    EXPECT_NE(error.find(part), std::string::npos) << error;
    EXPECT_FALSE(fs::exists(target("out")));
  };
  auto both = quantized();
  both.dequantize = true;
  refused(both, "found both");
  auto alone = plain();
  alone.recipe = "mixed_2_6";
  refused(alone, "the recipe alone");
  refused(quantized(7), "found 7");
  refused(quantized(0, 48), "found 48");
  refused(quantized(8, 0, "mxfp4"), "for mxfp4, found 8 in 32");
  auto unknown = quantized();
  unknown.recipe = "mixed_9";
  refused(unknown, "found \"mixed_9\"");
  auto wide = plain();
  wide.dtype = "float64";
  refused(wide, "found \"float64\"");
  fs::create_directories(target("out"));
  EXPECT_NE(
      error_of([&] { run(plain()); }).find("does not exist"),
      std::string::npos);
}

TEST(ConvertTasks, PackingInPiecesIsPackingWhole) {
  // More rows than one piece holds.
  constexpr int rows = 9000, cols = 1024;
  auto tensor = random_tensor(3, "weight", {rows, cols});
  for (const Quantization& q :
       {Quantization{4, 64, "affine"},
        Quantization{3, 32, "affine"},
        Quantization{8, 32, "mxfp8"}}) {
    auto task = packed("m", stored_values(tensor), mx::bfloat16, q);
    std::vector<std::string> found;
    for (const auto& out : task.outputs)
      found.emplace_back(out.bytes(), '\0');
    task.run([&](std::size_t i,
                 std::size_t offset,
                 std::span<const std::byte> bytes) {
      ASSERT_LE(offset + bytes.size(), found[i].size());
      std::memcpy(found[i].data() + offset, bytes.data(), bytes.size());
    });
    auto all = mx::astype(stored_values(tensor)->rows(0, rows), mx::bfloat16);
    auto whole = mx::quantize(all, q.group_size, q.bits, q.mode);
    mx::eval(whole);
    ASSERT_EQ(whole.size(), found.size());
    for (std::size_t i = 0; i < whole.size(); ++i)
      EXPECT_TRUE(
          whole[i].nbytes() == found[i].size() &&
          std::memcmp(
              whole[i].data<char>(), found[i].data(), found[i].size()) == 0)
          << q.mode << " " << i;
  }
}

TEST(ConvertRecipe, MixedRecipesFavourEndsAndEveryThirdLayer) {
  auto options = quantized();
  options.recipe = "mixed_3_6";
  Layout layout("llama", "");
  Recipe recipe(options, layout, 16, false);
  std::string high;
  for (int i = 0; i < 16; ++i) {
    auto path = fmt::format("model.layers.{}.self_attn.v_proj", i);
    auto bits = recipe.decide(path, 64).how->bits;
    if (bits == 6) high += fmt::format("{} ", i);
  }
  EXPECT_EQ(high, "0 1 4 7 10 13 14 15 ");
  EXPECT_EQ(recipe.decide("lm_head", 64).how->bits, 6);
  EXPECT_EQ(recipe.decide("model.embed_tokens", 64).how->bits, 3);
  EXPECT_FALSE(recipe.decide("model.embed_tokens", 96).how);
}

TEST(ConvertRecipe, GatesAndOverrides) {
  auto options = quantized(0, 0, "mxfp4");
  options.layers = {
      {"*.o_proj", std::nullopt}, {"*.q_proj", Quantization{8, 32, "affine"}}};
  Layout layout("qwen3_moe", "");
  Recipe recipe(options, layout, 2, false);
  auto gate = recipe.decide("model.layers.0.mlp.gate", 128);
  EXPECT_EQ(gate.how->bits, 8);
  EXPECT_EQ(gate.how->mode, "affine");
  EXPECT_EQ(gate.entry.dump(), R"({"group_size":64,"bits":8})");
  EXPECT_FALSE(recipe.decide("model.layers.0.mlp.gate", 32).how);
  EXPECT_EQ(recipe.decide("a.o_proj", 64).entry, Json(false));
  EXPECT_EQ(recipe.decide("a.q_proj", 64).how->bits, 8);
  EXPECT_TRUE(recipe.decide("a.k_proj", 64).entry.is_null());
}

TEST(ConvertLayout, NamesOfMlxLm) {
  Layout exaone("exaone", "");
  EXPECT_EQ(
      exaone.name("model.layers.1.self_attn.o_proj.weight"),
      "transformer.h.1.attn.attention.out_proj.weight");
  Layout wrapped("qwen3_5_moe_text", "qwen3_5_moe");
  auto gate = wrapped.name("model.layers.0.mlp.gate");
  EXPECT_EQ(gate, "language_model.model.layers.0.mlp.gate");
  EXPECT_TRUE(wrapped.is(Difference::Kind::eight_bits, gate));
}

TEST(ConvertFolder, JsonAsPythonWritesIt) {
  Json value = {
      {"a", 1e-5},
      {"b", 10000.0},
      {"c", "é\x7f"},
      {"d", std::numeric_limits<double>::infinity()},
      {"e", Json::array()},
      {"f", Json::object()},
      {"g", nullptr}};
  EXPECT_EQ(python_json(value), R"({
    "a": 1e-05,
    "b": 10000.0,
    "c": "\u00e9\u007f",
    "d": {
        "__float__": "Infinity"
    },
    "e": [],
    "f": {},
    "g": null
})");
}

TEST(ConvertFolder, ModelCard) {
  TempFolder folder;
  EXPECT_EQ(
      model_card(folder.path(), ""),
      "---\nlanguage: en\nlibrary_name: mlx\npipeline_tag: text-generation\n"
      "tags:\n- mlx\n---\n");
  folder.write(
      "README.md",
      "---\nlicense: mit\ntags:\n- chat\nbase_model:\n- a/b\n---\n# Text\n");
  EXPECT_EQ(
      model_card(folder.path(), "org/name"),
      "---\nlicense: mit\ntags:\n- chat\n- mlx\nbase_model: org/name\n"
      "library_name: mlx\npipeline_tag: text-generation\n---\n");
}

} // namespace
} // namespace mlxlm::converting
