// What answers: a model, or in tests something that needs none. All that the
// server knows of it.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "mlxlm/generate.h"
#include "mlxlm/model.h"
#include "mlxlm/tokenizer.h"
#include "mlxlm/wired_memory.h"
#include "serve/infill.h"
#include "text/output_parser.h"

namespace mlxlm::serve {

struct EngineFacts {
  std::string model; // the name that clients see
  std::string adapter; // that is loaded with it, or empty
  std::string draft; // name of the draft model, or empty
  std::string fingerprint; // of program, engine and device
  std::int64_t created = 0; // seconds since 1970
  int context_length = 0;
  int slots = 1; // sequences that run together
  Capabilities capabilities;
  OutputFormat output; // how it writes reasoning and calls
  NamedTokens named_tokens = {}; // of a GGUF file
  // Of the checkpoint.
  std::string family, format, quantization;
  std::size_t bytes = 0, parameters = 0;
};

// How likely a prompt was: of each token behind the first a list, itself and
// then the likeliest there.
struct PromptScores {
  std::atomic<bool> cancelled{false}; // nobody wants them any more
  std::atomic<bool> over{false}; // the rest stays as it is from then on
  std::vector<std::vector<TokenLogprob>> lists;
  std::exception_ptr error;
};
using PromptScoresPtr = std::shared_ptr<PromptScores>;

struct Job {
  std::vector<int> prompt;
  GenerateParameters parameters;
};

// All functions may be called from any thread.
class Engine {
 public:
  virtual ~Engine() = default;
  virtual const EngineFacts& facts() const = 0;
  virtual const TextCodec& codec() const = 0;
  // Starts generating; `wake` is called from any thread, also before this
  // returns, when there is something to poll. Throws Error(request) for what
  // cannot be run.
  virtual GenerationPtr start(Job job, std::function<void()> wake) = 0;
  // Begins to score a prompt of at least two tokens; `wake` as above. Throws
  // Error(request) where that cannot be done.
  virtual PromptScoresPtr score(
      std::vector<int> prompt,
      int top,
      std::function<void()> wake);
  // An answer that is a call of one of `tools` (JSON text), or of the one that
  // is named. Throws Error(request) where that cannot be enforced.
  virtual ResponseFormat forced_call(
      const std::string& tools,
      const std::string& name,
      bool several) const = 0;
  // May wait for a step of the model.
  virtual MemoryFigures memory() = 0;
  // The memory tickets of requests: who runs, who waits.
  virtual WiredStatus tickets() const {
    return {};
  }
};
using EnginePtr = std::shared_ptr<Engine>;

} // namespace mlxlm::serve
