// ChatSession: renders the transcript each turn; the prompt cache finds what
// the model has already read of it.
#include "mlxlm/chat.h"

#include "core/check.h"

namespace mlxlm {

class ChatSession::State {
 public:
  State(std::shared_ptr<ModelContainer> container, ChatOptions chat_options)
      : model(std::move(container)),
        options(std::move(chat_options)),
        messages(std::move(options.history)),
        cache(model->make_prompt_cache()) {
    options.history.clear();
  }

  std::vector<Message> transcript() const {
    std::vector<Message> all;
    if (!options.instructions.empty())
      all.push_back({.role = "system", .content = options.instructions});
    all.insert(all.end(), messages.begin(), messages.end());
    return all;
  }
  std::vector<int> prompt() const {
    return model->apply_chat_template(
        {.messages = to_json(transcript()),
         .tools = options.tools,
         .kwargs = options.template_kwargs,
         .add_generation_prompt = true});
  }

  std::shared_ptr<ModelContainer> model;
  ChatOptions options;
  std::vector<Message> messages; // without the system text
  PromptCachePtr cache;
  GenerateInfo info;
};

namespace {

// A turn of a session: passes events on and settles the transcript at its end.
template <typename State>
class Turn final : public Generation {
 public:
  Turn(std::shared_ptr<State> state, GenerationPtr inner, std::size_t before)
      : state_(std::move(state)), inner_(std::move(inner)), before_(before) {}
  ~Turn() override {
    if (!settled_) settle(FinishReason::cancelled);
  }
  std::optional<GenerateEvent> next() override {
    return note(inner_->next());
  }
  std::optional<GenerateEvent> poll() override {
    return note(inner_->poll());
  }
  bool ended() const override {
    return settled_;
  }
  void notify(std::function<void()> wake) override {
    inner_->notify(std::move(wake));
  }
  void cancel() override {
    inner_->cancel();
  }
  const GenerateInfo& info() const override {
    return inner_->info();
  }

 private:
  std::optional<GenerateEvent> note(std::optional<GenerateEvent> event) {
    if (!event) {
      if (!settled_ && inner_->ended()) {
        state_->info = inner_->info();
        settle(inner_->info().finish_reason);
      }
    } else if (auto* chunk = std::get_if<TextChunk>(&*event)) {
      answer_ += chunk->text;
    }
    return event;
  }

  void settle(FinishReason reason) {
    settled_ = true;
    bool keep = reason == FinishReason::stop || reason == FinishReason::length;
    if (reason == FinishReason::cancelled)
      keep = state_->options.keep_cancelled;
    if (keep && !answer_.empty())
      state_->messages.push_back({.role = "assistant", .content = answer_});
    else
      state_->messages.resize(before_);
  }

  std::shared_ptr<State> state_;
  GenerationPtr inner_;
  std::size_t before_; // messages before the turn
  std::string answer_;
  bool settled_ = false;
};

} // namespace

ChatSession::ChatSession(
    std::shared_ptr<ModelContainer> model,
    ChatOptions options)
    : state_(std::make_shared<State>(std::move(model), std::move(options))) {}
ChatSession::~ChatSession() = default;
ChatSession::ChatSession(ChatSession&&) noexcept = default;
ChatSession& ChatSession::operator=(ChatSession&&) noexcept = default;

std::string ChatSession::respond(std::string_view text) {
  return stream(text)->text();
}

std::string ChatSession::respond(Message message) {
  return stream(std::move(message))->text();
}

GenerationPtr ChatSession::stream(std::string_view text) {
  return stream(Message{.role = "user", .content = std::string(text)});
}

GenerationPtr ChatSession::stream(Message message) {
  auto before = state_->messages.size();
  state_->messages.push_back(std::move(message));
  try {
    auto inner = state_->model->generate(
        state_->prompt(), state_->options.parameters, state_->cache);
    return std::make_unique<Turn<State>>(state_, std::move(inner), before);
  } catch (...) {
    state_->messages.resize(before);
    throw;
  }
}

ChatOptions& ChatSession::options() {
  return state_->options;
}

std::vector<Message> ChatSession::transcript() const {
  return state_->transcript();
}

void ChatSession::restore(std::vector<Message> messages) {
  state_->messages = std::move(messages);
}

void ChatSession::clear() {
  state_->messages.clear();
  state_->cache = state_->model->make_prompt_cache();
}

const GenerateInfo& ChatSession::info() const {
  return state_->info;
}

int ChatSession::cached_tokens() const {
  return static_cast<int>(state_->cache->tokens().size());
}

} // namespace mlxlm
