// A request's tokens as text, on the reader's thread.
#pragma once

#include <memory>
#include <optional>

#include "generate/request.h"
#include "mlxlm/generate.h"
#include "text/detokenizer.h"
#include "text/stop_strings.h"

namespace mlxlm {

class TextStream final : public Generation {
 public:
  // `keep`: what must live as long as the generation (the engine).
  TextStream(
      std::shared_ptr<Channel> channel,
      TokenizerPtr tokenizer,
      const GenerateParameters& parameters,
      std::shared_ptr<void> keep);
  ~TextStream() override;

  std::optional<GenerateEvent> next() override;
  std::optional<GenerateEvent> poll() override;
  bool ended() const override {
    return ended_;
  }
  void notify(std::function<void()> wake) override;
  void cancel() override;
  const GenerateInfo& info() const override {
    return info_;
  }

 private:
  std::optional<GenerateEvent> read(EngineEvent event);
  TextChunk chunk(const TokenEvent& event);
  std::optional<GenerateEvent> finish(FinishedEvent event);

  std::shared_ptr<void> keep_;
  std::shared_ptr<Channel> channel_;
  Detokenizer detokenizer_;
  StopStrings stops_;
  bool logprobs_, ended_ = false;
  int tokens_ = 0; // seen here
  GenerateInfo info_;
};

} // namespace mlxlm
