// Loading a model and using it.
//
//   auto model = load("smollm2");
//   auto generation = model->generate(model->encode("Once upon a time"), {});
//   std::cout << generation->text();
//
// A reference is a folder, a .gguf file, a hub id
// "org/name[:variant][@revision]", fetched into the Hugging Face cache when it
// is not there (see hub.h), or a short name ("smollm2").
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mlxlm/generate.h"
#include "mlxlm/hub.h"
#include "mlxlm/tokenizer.h"
#include "mlxlm/wired_memory.h"

namespace mlxlm {

// ---- finding ---------------------------------------------------------------

// Where a reference leads: a folder or a .gguf file on this machine; `fetch` of
// hub.h downloads what is not here. Throws Error(io) or Error(request) saying
// where it looked.
std::string resolve(std::string_view reference);

// ---- what a model is --------------------------------------------------------
struct Capabilities {
  bool text = false, chat = false, vision = false, audio = false;
  bool embedding = false, rerank = false;
  bool tools = false; // its chat template takes tools
  bool reasoning = false, thinking_switch = false;
  // What predicts further tokens (LoadOptions::mtp) is there: in the files, of
  // a loaded model in memory.
  bool mtp = false;
};

struct TensorSummary {
  std::string name;
  std::vector<std::int64_t> shape;
  std::string format; // as stored: "Q4_1", "BF16", "affine 4 bit, group 64"
  std::size_t bytes = 0;
};

// What a reference holds, by inspect().
struct ModelSummary {
  std::string path;
  std::string container; // "GGUF" or "safetensors"
  std::string model_type; // "llama"
  std::string quantization; // "Q4_1", "affine 4 bit, group 64", "none"
  std::string config; // JSON text
  std::vector<TensorSummary> tensors; // by name
  std::size_t parameters = 0;
  std::size_t weight_bytes = 0;
  int layers = 0;
  int vocab = 0;
  int context_length = 0; // tokens the model was made for
  std::string obstacle; // why load() would refuse it; empty: nothing is known
  // What a sequence takes (keys and values in f16), if it can be loaded: each
  // token of layers that remember everything, and all of it at the context
  // length, windows and recurrent states included.
  std::size_t kv_bytes_per_token = 0;
  std::size_t kv_bytes_of_context = 0;
  std::size_t available_memory = 0; // of this machine now
  int context_that_fits = 0; // tokens, weights included
  Capabilities capabilities;
};
// From file headers and config alone; the array engine is not started. Throws
// as resolve(), Error(config) and Error(weights) for damaged files.
ModelSummary inspect(std::string_view reference);

// ---- what there is ----------------------------------------------------------
// The `model_type` names that load() knows, sorted.
std::vector<std::string> supported_model_types();

// Models known by their hub id. Answers of a preset's model also end at its
// extra tokens.
struct ModelPreset {
  std::string id; // "mlx-community/Qwen3-4B-4bit"
  std::string prompt; // one that shows what the model does; may be empty
  std::vector<std::string> extra_eos_tokens;
};
std::vector<ModelPreset> model_presets();

// ---- loading ---------------------------------------------------------------

// automatic: the checkpoint's own type on a GPU, float32 activations on a CPU.
enum class ComputeType { automatic, float32, bfloat16, float16 };

// How keys and values are remembered.
struct KvCacheOptions {
  // "affine8" (6, 5, 4, 3, 2); "turbo4v3": TurboQuant with keys of 4 bits and
  // values of 3 (2 to 4; keys also 8, affine, or 0, as they are); "turbo3",
  // "turboQuant(3,3)"; "turbo4v3q" with a sketch of the residual; "turbo4+",
  // "turbo4v3+" with the first tokens plain and the first and last two layers
  // in 8 bits, as "quality", "balanced" and "memory" have them. Empty: in the
  // compute type, 16 bits on a CPU.
  std::string scheme = {};
  int group_size = 64; // of affine
  int quantized_start = 0; // tokens of a sequence before it is packed
  // Most tokens that layers without a window remember; the first 4 are always
  // among them. 0: all.
  int max_tokens = 0;
  // Take over what a prompt-cache file was made with, where nothing is said.
  std::string like_file = {};
};
// The scheme of mlx-lm's --kv-bits.
inline std::string affine_kv(int bits) {
  return "affine" + std::to_string(bits);
}
// What mlx-swift-lm spells kvMode: .turboQuant(keyBits, valueBits).
inline std::string turbo_quant(int key_bits, int value_bits) {
  return "turbo" + std::to_string(key_bits) + "v" + std::to_string(value_bits);
}

// What to do where a draft model's weights need more than the memory there is.
struct DraftPolicy {
  enum class Action {
    allow, // load it all the same
    fall_back, // do without it; see ModelContainer::draft_obstacle
    fail, // throw Error(resource)
  };
  Action action = Action::fall_back;
  std::size_t limit_bytes = 0; // 0: what is free once the model is loaded
  std::size_t additional_bytes = 0; // to be left besides
};

struct LoadOptions {
  ComputeType dtype = ComputeType::automatic;
  // 8-bit activations in CPU matrix products: faster, less exact.
  bool quantize_activations = false;
  // A folder that mlx-lm's fine-tuning wrote (LoRA, DoRA, whole weights), or a
  // LoRA of PEFT.
  std::string adapter_path;
  int threads = 0; // of the CPU kernels; 0: the machine's physical cores
  // Tokens of one pass; 0: 512 on a CPU, 2048 elsewhere.
  int prefill_step_size = 0;
  int max_batch = 32; // sequences that run together
  int max_queue = 512; // requests that wait; more are refused
  int context_length = 0; // 0: the model's own
  // Of all sequences together. A request waits until its whole length fits and
  // is refused when it never will; one without max_tokens begins when its
  // prompt fits and takes memory as it grows, up to what fits alone. When there
  // is none left the youngest of these reads its tokens again later.
  // 0: nine tenths of what the machine (its control groups, the GPU) has free
  // once the weights are loaded.
  std::size_t max_kv_bytes = 0;
  WiredMemoryPtr wired_memory; // admits requests; null: the process's
  // Sequences take their memory in this group, which several models may share;
  // whoever made it reserves the weights in it. Null: a group of the model's
  // own, weights included.
  WiredPolicyPtr memory_group = {};
  // A smaller model of the same vocabulary that guesses tokens ahead; a
  // reference, as the model's. Empty: none.
  std::string draft_model = {};
  DraftPolicy draft_policy = {};
  // Loads what the model was trained with to predict further tokens
  // (multi-token prediction) as well, for DraftKind::mtp; Error(weights) where
  // the checkpoint has none.
  bool mtp = false;
  DownloaderPtr downloader; // null: the hub of the environment
  // Asked while a model is downloaded; true ends that with Interrupted.
  std::function<bool()> cancelled;
  KvCacheOptions kv_cache = {};
  // Where what prompts and answers leave in memory is also written, so that
  // prompts that begin alike are read from there on after a restart too. Empty:
  // nowhere. Several processes and models may share a folder. Not for
  // TurboQuant schemes.
  std::string prompt_cache_dir = {};
  // Of all files in it; the least recently used go first.
  std::uint64_t prompt_cache_dir_bytes = std::uint64_t{20} << 30;
};

struct LoadProgress {
  std::string_view phase; // "download", "weights"
  std::size_t done = 0, total = 0; // bytes
  // Of a download; see DownloadProgress.
  double bytes_per_second = 0, seconds_left = 0;
  std::string_view note = {};
};
// Called from a loading thread.
using LoadProgressFunction = std::function<void(const LoadProgress&)>;

struct MemoryFigures {
  std::size_t weights = 0;
  std::size_t kv = 0; // of pages in use and kept
  int pages_in_use = 0; // by requests that run
  int pages_kept = 0; // only for prompts that begin alike
  // Of passes, at most: what the memory budget sets aside for them on a CPU.
  std::size_t workspace = 0;
  std::size_t active = 0, cache = 0, peak = 0; // of the array engine
  std::size_t resident = 0, peak_resident = 0; // of the process
};

// What a model makes of a token, given all before it.
struct TokenScore {
  float logprob;
  int best; // the token it would have chosen
  float best_logprob;
};

// Mean negative log-likelihood of ids[1..n-1], each given all before it.
struct Score {
  double mean_nll = 0;
  int tokens = 0; // predicted ones: n - 1
  std::vector<TokenScore> each = {}; // of ids[1..n-1]
  double seconds = 0;
  double perplexity() const;
};

// Remembers what the model has read, so that a prompt that begins alike is read
// from there on. For one request at a time; ChatSession has one.
class PromptCache {
 public:
  virtual ~PromptCache() = default;
  virtual std::vector<int> tokens() const = 0; // what it holds
  virtual std::size_t bytes() const = 0;
};
using PromptCachePtr = std::shared_ptr<PromptCache>;
// Of files: mlx-swift-lm's, which older mlx-lm has too, or mlx-lm's own.
enum class PromptCacheLayout { swift, python };

struct BenchShape {
  int prompt = 512, generation = 128; // tokens of each sequence
  int batch = 1; // sequences together
  // Tokens that each has before its prompt. Nobody reads them: keys and values
  // are random numbers, states stay as they begin.
  int depth = 0;
  DraftParameters draft = {.kind = DraftKind::none};
};

struct BenchTrial {
  double prompt_tps = 0; // all sequences together
  double generation_tps = 0; // all sequences together
  std::size_t peak_memory_bytes = 0;
  double prompt_seconds = 0, generation_seconds = 0;
  std::size_t kv_bytes = 0; // that the sequences had in the end
  DraftCounts draft; // of all sequences
};

// What a prompt takes, measured; bytes. Of a GPU, or of what a CPU's array
// engine, weights and pages hold.
struct MeasuredBudget {
  std::size_t weights = 0;
  std::size_t kv = 0; // of the prompt's tokens
  std::size_t workspace = 0; // of its passes, at the highest
  std::size_t peak_active = 0;
  int tokens = 0, prefill_step_size = 0;
  std::size_t total() const {
    return weights + kv + workspace;
  }
};

// A loaded model. All functions may be called from any thread; the model itself
// lives on its engine's thread, where requests are batched together.
class ModelContainer {
 public:
  virtual ~ModelContainer() = default;

  virtual const std::string& path() const = 0;
  virtual const std::string& model_type() const = 0;
  virtual int context_length() const = 0;
  virtual Capabilities capabilities() const = 0;
  virtual const TextCodec& codec() const = 0;
  virtual MemoryFigures memory() = 0;
  virtual double load_seconds() const = 0;
  // Why LoadOptions::draft_model is not used; empty: it is, or there is none.
  virtual std::string draft_obstacle() const {
    return {};
  }

  std::vector<int> encode(std::string_view text, bool special = true) const {
    return codec().encode(text, special);
  }
  std::string decode(std::span<const int> ids) const {
    return codec().decode(ids);
  }
  std::vector<int> apply_chat_template(const TemplateInput& input) const {
    return codec().apply_chat_template(input);
  }

  // Starts generating. Throws Error(request) for an empty prompt, ids outside
  // the vocabulary, a prompt that leaves no room in the context, or parameters
  // out of range. Where the queue is full or memory for it never comes, the
  // generation ends at once: FinishReason::error, ErrorKind::resource. `cache`
  // may be null.
  virtual GenerationPtr generate(
      std::vector<int> prompt,
      const GenerateParameters& parameters,
      PromptCachePtr cache = nullptr) = 0;
  // `count` answers to one prompt, drawn with one seed and each its own number.
  // The prompt is read once; the others begin with forks of its pages.
  virtual std::vector<GenerationPtr> generate_several(
      std::vector<int> prompt,
      const GenerateParameters& parameters,
      int count) = 0;
  virtual PromptCachePtr make_prompt_cache() = 0;
  // A cache from a file of ours, mlx-lm's or mlx-swift-lm's. A file that does
  // not tell its tokens stands for as many of id 0: a prompt that begins with
  // tokens() is read behind it. Throws Error(io | weights) for a file that is
  // damaged, Error(request) for another model's.
  virtual PromptCachePtr load_prompt_cache(const std::string& path) = 0;
  // Throws Error(io); Error(request) for a cache that is empty.
  virtual void save_prompt_cache(
      const PromptCachePtr& cache,
      const std::string& path,
      PromptCacheLayout layout = PromptCacheLayout::swift) = 0;

  // Reads ids in windows of at most the context and scores them. Throws
  // Error(request) for fewer than two ids.
  virtual Score score(
      std::span<const int> ids,
      const std::function<void(int done, int total)>& progress = {}) = 0;

  // One trial: prompts of random tokens together, then generation at the depth
  // that they left, EOS ignored, greedy.
  virtual BenchTrial bench(const BenchShape& shape) = 0;

  // Reads a prompt of `tokens` random tokens and says what that took: for
  // budget_policy and the sizes of tickets. Throws Error(request) where they do
  // not fit the context.
  virtual MeasuredBudget measure(int tokens) = 0;

  // Runs `work` on the engine's thread between two steps and waits for it.
  // Exceptions come back to the caller.
  virtual void perform(const std::function<void()>& work) = 0;
};

// Throws Error of the kind that fits; nothing is left half-loaded.
std::shared_ptr<ModelContainer> load(
    std::string_view reference,
    const LoadOptions& options = {},
    const LoadProgressFunction& progress = {});

} // namespace mlxlm
