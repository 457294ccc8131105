// One generation: its parameters, its stream of events, its statistics.
//
//   auto generation = model->generate(prompt_ids, parameters);
//   while (auto event = generation->next())
//     if (auto* chunk = std::get_if<TextChunk>(&*event))
//       std::cout << chunk->text << std::flush;
//   std::cerr << generation->info().generation_tps();
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "mlxlm/error.h"
#include "mlxlm/sampling.h"

namespace mlxlm {

// What an answer must be. Enforced token by token: nothing else can be drawn.
struct ResponseFormat {
  enum class Type {
    text, // anything
    json_object,
    json_schema, // `source`: the schema as JSON text
    regex, // of the whole answer
    choice, // a JSON list of strings: one of them is the whole answer
    grammar, // llguidance's dialect of Lark
  };
  Type type = Type::text;
  std::string source = {};
};

// ---- drafting --------------------------------------------------------------

// Tokens guessed ahead, which the model then reads in one pass and keeps as far
// as it would have drawn them: an answer comes faster and stays what it would
// be.
enum class DraftKind {
  // The draft model where one is loaded, else the model's own module where that
  // is, else none.
  automatic,
  none,
  prompt_lookup, // what followed when the text went like this before
  model, // LoadOptions::draft_model
  mtp, // LoadOptions::mtp
};
enum class DraftAcceptance {
  // A guess drawn by the draft model is taken with the probability
  // min(1, p / q): as many as can be, and the answer is distributed as without
  // drafting. Greedy answers and guesses that were not drawn: as `equality`.
  rejection,
  // Taken where the model draws the same token: with a seed the answer is the
  // one without drafting, token by token.
  equality,
};
struct DraftParameters {
  DraftKind kind = DraftKind::automatic;
  // Most tokens guessed at once; how many it is follows from how many of the
  // earlier ones were taken. Nothing: 15 for prompt lookup, else 3.
  std::optional<int> num_tokens = {};
  DraftAcceptance acceptance = DraftAcceptance::rejection;
};
// What became of it.
struct DraftCounts {
  int guessed = 0, taken = 0; // tokens
  int target_calls = 0; // passes of the model that drew tokens
  DraftCounts& operator+=(const DraftCounts& other) {
    guessed += other.guessed;
    taken += other.taken;
    target_calls += other.target_calls;
    return *this;
  }
  double acceptance_rate() const {
    return guessed > 0 ? double(taken) / guessed : 0;
  }
};

struct GenerateParameters {
  SamplingParameters sampling;
  DraftParameters draft = {};
  // Nothing or -1: until the model stops or its context is full.
  std::optional<int> max_tokens = {};
  // Nothing: taken from the system's entropy (reported in GenerateInfo).
  std::optional<std::uint64_t> seed = {};
  // Texts that end the answer; they are not part of it.
  std::vector<std::string> stop = {};
  // Token ids that end the answer, besides the model's own.
  std::vector<int> extra_eos_tokens = {};
  // Goes on when the model would stop (benchmarks).
  bool ignore_eos = false;
  // Of the answer; reasoning before it stays free. A source that cannot be
  // compiled is Error(request) from `generate`.
  ResponseFormat response_format = {};
  // Most tokens of reasoning, for models that set it apart: then the block is
  // closed.
  std::optional<int> reasoning_budget = {};
  // Report each token's log-probability (log-softmax of the processed logits).
  bool logprobs = false;
  // Begins with what other prompts that begin alike have left, and leaves its
  // own to others: to those of the same salt, so that what is read quickly
  // tells nothing of others' prompts. Any bytes.
  bool share_prefix = true;
  std::string cache_salt = {};
};

// ---- the table of settings -------------------------------------------------

// Each setting is declared once; command-line flags, JSON fields and manuals
// derive from this table.
enum class SettingType {
  integer,
  real,
  list, // may be repeated; each `set` appends
  map, // "id:value" or "id:value,id:value"; each `set` appends
  choice, // one of Setting::choices
};

struct Setting {
  std::string_view name; // JSON field, "top_p"
  std::string_view flag; // command line, "--top-p"
  SettingType type;
  std::string_view value; // default of the library; "" for none
  std::string_view program; // default of the command line (mlx-lm's)
  double low, high; // inclusive range of numbers
  std::string_view help; // one line
  std::string_view choices = {}; // separated by spaces
};

std::span<const Setting> generation_settings();
// Sets one by its JSON name. Throws Error(request): unknown name, value of the
// wrong kind or out of range.
void set(
    GenerateParameters& parameters,
    std::string_view name,
    std::string_view value);
// Every setting at the command line's default.
GenerateParameters program_defaults();
// Throws Error(request) naming the first value out of its range.
void validate(const GenerateParameters& parameters);

// ---- events ----------------------------------------------------------------
enum class FinishReason {
  stop, // a stop token or stop text
  length, // max_tokens reached, or the context is full
  cancelled,
  error, // GenerateInfo::error says what
};
std::string_view to_string(FinishReason reason);

// While the prompt is read; the last one has processed == total.
struct PrefillProgress {
  int processed = 0, total = 0; // tokens, those found in the cache included
};
// A piece of the answer: whole UTF-8 characters, stop texts held back. A token
// whose text is incomplete gives an empty text.
struct TextChunk {
  std::string text;
  std::vector<int> tokens; // the ids behind it, usually one
  std::vector<float> logprobs; // as long as `tokens` when asked for, else empty
  // SamplingParameters::top_logprobs of them a token, the likeliest first.
  std::vector<std::vector<TokenLogprob>> top_logprobs = {};
};

// What mlx-lm prints after an answer. Times in seconds.
struct GenerateInfo {
  int prompt_tokens = 0; // really read by the model
  int cached_prompt_tokens = 0; // found in the cache
  int generation_tokens = 0; // the stop token included
  double queue_time = 0; // waiting for admission
  double prompt_time = 0; // from admission to the first token
  double generate_time = 0; // from the first token to the last
  DraftCounts draft;
  std::size_t peak_memory_bytes = 0; // of the process (resident), or of the GPU
  std::uint64_t seed = 0;
  FinishReason finish_reason = FinishReason::stop;
  std::string stop_text; // the stop text met, if any
  std::string error; // FinishReason::error: one line
  ErrorKind error_kind = ErrorKind::internal; // and of which kind

  int total_prompt_tokens() const {
    return prompt_tokens + cached_prompt_tokens;
  }
  double prompt_tps() const {
    return prompt_time > 0 ? prompt_tokens / prompt_time : 0;
  }
  double generation_tps() const {
    return generate_time > 0 ? (generation_tokens - 1) / generate_time : 0;
  }
};

using GenerateEvent = std::variant<PrefillProgress, TextChunk>;

// A running generation. One thread reads it; any thread may cancel it.
// Destroying it cancels it.
class Generation {
 public:
  virtual ~Generation() = default;
  // Waits for the next event; nothing when the generation has ended (info() is
  // complete then). Never throws for what happens to the request itself: that
  // is finish_reason `error`.
  virtual std::optional<GenerateEvent> next() = 0;
  // As next(), but nothing also while there is no event yet; ended() tells.
  virtual std::optional<GenerateEvent> poll() = 0;
  virtual bool ended() const = 0;
  // For readers that poll: `wake` is called on the engine's thread (or at once)
  // whenever there is something new. It must not wait, and ends with the
  // generation.
  virtual void notify(std::function<void()> wake) = 0;
  // Honoured at the next step. Safe from any thread and from signal-driven
  // ones.
  virtual void cancel() = 0;
  // Complete once next() has returned nothing.
  virtual const GenerateInfo& info() const = 0;
  // Reads to the end and returns the whole text. Throws Error of
  // GenerateInfo::error_kind on FinishReason::error.
  std::string text();
};
using GenerationPtr = std::unique_ptr<Generation>;

} // namespace mlxlm
