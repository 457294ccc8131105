// Answers that a model gives: runs one or more generations and lets a protocol
// put what comes into its frames, as a stream or as one body.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "serve/engine.h"
#include "serve/errors.h"
#include "serve/gate.h"
#include "serve/statistics.h"
#include "text/output_parser.h"

namespace mlxlm::serve {

struct AnswerOptions {
  bool stream = false;
  std::string media_type = "text/event-stream"; // of a stream
  Style style = Style::openai; // of errors
  Headers headers = {};
  int ping_seconds = 10;
  int deadline_seconds = 0; // 0: none
  // Told what a client is not: why a model failed.
  std::function<void(const std::string&)> log = {};
};

class Answer : public Reply {
 public:
  struct Token {
    int id;
    float logprob;
    std::vector<TokenLogprob> top; // the likeliest, if asked for
  };
  struct Choice {
    int index = 0;
    Job job; // until it starts
    Gate::PlacePtr place;
    int score_top = -1; // the prompt is scored first, with so many beside
    PromptScoresPtr scores; // null until then
    GenerationPtr generation; // null while it waits for its place
    OutputParser parser = OutputParser(OutputFormat{});
    std::uint64_t activity = 0;
    bool ended = false;
    Output output; // all of it, unless it is streamed
    std::vector<Token> tokens; // with log-probabilities only
    int calls = 0;
    int prompt_tokens = 0;
    int streamed = 0; // tokens
    int reasoning = 0; // tokens of it
    int done = 0; // tokens of the prompt
    GenerateInfo info; // once ended
  };

  Answer(AnswerOptions options, Statistics& statistics);
  ~Answer() override;
  // Starts it now if its place is ready, otherwise when it is.
  void add(Choice choice, EnginePtr engine, std::function<void()> wake);

  void poll(Outgoing& out) final;
  void stop(std::string_view why) final;
  std::string note() const final;

 protected:
  // Of a stream: the frames at its begin, of what has come of one choice, at
  // the choice's end, at the end of all, for an error instead of that, and a
  // sign of life.
  virtual std::string open() {
    return {};
  }
  virtual std::string frames(
      Choice& choice,
      const OutputItems& items,
      const std::vector<Token>& tokens) = 0;
  virtual std::string close(Choice& choice) = 0;
  virtual std::string done() = 0;
  virtual std::string failure(const ApiError& error);
  virtual std::string ping(int processed, int total);
  // Of an answer in one piece.
  virtual Json whole() = 0;

  const std::vector<Choice>& choices() const {
    return choices_;
  }
  int prompt_tokens() const;
  int cached_tokens() const;
  int generated_tokens() const;
  int reasoning_tokens() const;

 private:
  using Clock = std::chrono::steady_clock;
  bool started(Choice& choice);
  bool scored(Choice& choice);
  void advance(std::string& body);
  void take(Choice& choice, std::string& body);
  void finish(Choice& choice, std::string& body);
  void send(Outgoing& out, std::string body);
  void fail(Outgoing& out, const ApiError& error);
  std::string signs_of_life();

  AnswerOptions options_;
  Statistics& statistics_;
  EnginePtr engine_;
  std::function<void()> wake_;
  std::vector<Choice> choices_;
  bool begun_ = false; // the head is out
  bool opened_ = false; // and the first frames
  bool ended_ = false;
  std::string stopped_; // why
  bool progressed_ = false; // of a prompt, since the last frame
  Clock::time_point started_ = Clock::now(), last_ = started_;
};

// llama-server's account of an answer.
Json timings(const GenerateInfo& info);

} // namespace mlxlm::serve
