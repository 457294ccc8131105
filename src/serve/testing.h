// An engine without a model: it answers with the prompt's own text, a byte a
// token, so that a test can tell whose answer it reads. What it does wrong can
// be asked for.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/check.h"
#include "core/json.h"
#include "serve/engine.h"

namespace mlxlm::serve::testing {

// Bytes are tokens; a conversation is its last message.
class ByteCodec final : public TextCodec {
 public:
  std::vector<int> encode(std::string_view text, bool) const override {
    std::vector<int> out;
    for (unsigned char c : text)
      out.push_back(c);
    return out;
  }
  std::string decode(std::span<const int> ids, bool = false) const override {
    std::string out;
    for (int id : ids)
      out += static_cast<char>(id);
    return out;
  }
  int token_id(std::string_view) const override {
    return -1;
  }
  int vocab_size() const override {
    return 256;
  }
  const std::set<int>& eos_tokens() const override {
    return none_;
  }
  bool has_chat_template() const override {
    return true;
  }
  std::string render(const TemplateInput& input) const override {
    auto messages = parse_json(input.messages, "messages");
    return messages.back()["content"].get<std::string>();
  }
  std::vector<int> apply_chat_template(
      const TemplateInput& input) const override {
    return encode(render(input), true);
  }

 private:
  std::set<int> none_;
};

// A queue that a thread fills; what TextStream is to the real engine.
class FakeGeneration final : public Generation {
 public:
  struct Shared {
    std::mutex mutex;
    std::deque<GenerateEvent> events;
    std::function<void()> wake;
    GenerateInfo info;
    bool ended = false; // no more events
    std::atomic<bool> cancelled{false};
    std::vector<int> answer;
    std::size_t sent = 0;
    std::size_t limit = 0;
  };
  explicit FakeGeneration(std::shared_ptr<Shared> shared)
      : shared_(std::move(shared)) {}
  ~FakeGeneration() override {
    shared_->cancelled = true;
    notify({});
  }
  std::optional<GenerateEvent> next() override {
    return poll(); // tests poll
  }
  std::optional<GenerateEvent> poll() override {
    std::lock_guard lock(shared_->mutex);
    if (shared_->events.empty()) {
      ended_ = shared_->ended;
      return std::nullopt;
    }
    auto event = std::move(shared_->events.front());
    shared_->events.pop_front();
    return event;
  }
  bool ended() const override {
    return ended_;
  }
  void notify(std::function<void()> wake) override {
    std::lock_guard lock(shared_->mutex);
    shared_->wake = std::move(wake);
    if (shared_->wake) shared_->wake();
  }
  void cancel() override {
    shared_->cancelled = true;
  }
  const GenerateInfo& info() const override {
    return shared_->info;
  }

 private:
  std::shared_ptr<Shared> shared_;
  bool ended_ = false;
};

class FakeEngine final : public Engine {
 public:
  explicit FakeEngine(std::chrono::microseconds step) : step_(step) {
    facts_.model = "fake";
    facts_.context_length = 4096;
    facts_.slots = 1 << 20;
    thread_ = std::thread([this] { run(); });
  }
  ~FakeEngine() override {
    stopping_ = true;
    thread_.join();
  }

  std::atomic<bool> fails{false}; // every answer, after a token
  std::atomic<bool> hangs{false};

  // Before any request.
  void speak(const OutputFormat& format) {
    facts_.output = format;
  }
  const EngineFacts& facts() const override {
    return facts_;
  }
  const TextCodec& codec() const override {
    return codec_;
  }
  GenerationPtr start(Job job, std::function<void()> wake) override {
    auto shared = std::make_shared<FakeGeneration::Shared>();
    shared->wake = std::move(wake);
    shared->limit =
        static_cast<std::size_t>(job.parameters.max_tokens.value_or(1 << 20));
    shared->info.prompt_tokens = static_cast<int>(job.prompt.size());
    shared->answer = std::move(job.prompt);
    std::lock_guard lock(mutex_);
    running_.push_back(shared);
    return std::make_unique<FakeGeneration>(std::move(shared));
  }
  ResponseFormat forced_call(const std::string&, const std::string&, bool)
      const override {
    fail(ErrorKind::request, "tool_choice", "expected a model");
  }
  MemoryFigures memory() override {
    return {};
  }
  std::size_t running() const {
    std::lock_guard lock(mutex_);
    return running_.size();
  }

 private:
  using Shared = FakeGeneration::Shared;

  void run() {
    while (!stopping_) {
      std::this_thread::sleep_for(step_);
      if (hangs) continue;
      std::vector<std::shared_ptr<Shared>> all;
      {
        std::lock_guard lock(mutex_);
        all = running_;
      }
      for (auto& one : all)
        advance(*one);
      std::lock_guard lock(mutex_);
      std::erase_if(running_, [](auto& one) {
        std::lock_guard inner(one->mutex);
        return one->ended;
      });
    }
  }

  void advance(Shared& one) {
    std::lock_guard lock(one.mutex);
    auto end = [&](FinishReason reason) {
      one.info.finish_reason = reason;
      one.ended = true;
    };
    if (one.cancelled) {
      end(FinishReason::cancelled);
    } else if (fails && !one.events.empty()) {
      return; // not before the token is read: a failure alone is no stream
    } else if (fails && one.sent > 0) {
      one.info.error = "injected: expected nothing, found a failure";
      end(FinishReason::error);
    } else if (one.sent < std::min(one.limit, one.answer.size())) {
      int id = one.answer[one.sent++];
      auto& event = one.events.emplace_back(std::in_place_type<TextChunk>);
      auto& chunk = std::get<TextChunk>(event);
      chunk.text = static_cast<char>(id);
      chunk.tokens.push_back(id);
      ++one.info.generation_tokens;
    } else {
      end(one.sent < one.answer.size() ? FinishReason::length
                                       : FinishReason::stop);
    }
    if (one.wake) one.wake();
  }

  const std::chrono::microseconds step_;
  EngineFacts facts_;
  ByteCodec codec_;
  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<Shared>> running_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

} // namespace mlxlm::serve::testing
