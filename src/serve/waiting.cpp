#include "serve/waiting.h"

#include <chrono>
#include <utility>

#include "core/check.h"
#include "core/json.h"
#include "core/strings.h"

namespace mlxlm::serve {
namespace {

using WaitingClock = std::chrono::steady_clock;

class Waiting final : public Reply {
 public:
  Waiting(
      LoadingPtr loading,
      HttpRequest& request,
      Style style,
      std::int64_t ping_seconds)
      : loading_(std::move(loading)),
        request_(request),
        style_(style),
        pause_(ping_seconds),
        // Ollama's lines have no comments.
        events_(request.wants_stream && style != Style::ollama) {}

  void poll(Outgoing& out) override {
    try {
      if (!stopped_.empty()) throw ApiError{503, stopped_, {}, "stopped", 1};
      if (!loading_->over()) return ping(out);
      request_.held = loading_->engine();
      out.again = true;
    } catch (const ApiError& error) {
      end(out, error);
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::resource)
        end(out, {503, error.what(), "model", "insufficient_memory", 5});
      else
        end(out, {500, unloadable, "model", "model_not_loaded"});
    } catch (const std::exception&) {
      end(out, {500, unloadable, "model", "model_not_loaded"});
    }
  }
  void stop(std::string_view why) override {
    stopped_ = why;
  }

 private:
  static constexpr auto unloadable =
      "The model could not be loaded; the server's log says why.";

  void ping(Outgoing& out) {
    auto now = WaitingClock::now();
    if (!events_ || now < last_ + pause_) return;
    last_ = now;
    if (!std::exchange(request_.streaming, true))
      out.head = stream_head("text/event-stream");
    out.body = ": keepalive loading\n\n";
  }

  void end(Outgoing& out, const ApiError& error) const {
    auto response = error_response(error, style_);
    out.body = std::move(response.body);
    out.last = true;
    if (request_.streaming)
      out.body = error_event(error, style_);
    else
      out.head = Head{response.status, std::move(response.headers)};
  }

  const LoadingPtr loading_;
  HttpRequest& request_;
  const Style style_;
  const std::chrono::seconds pause_;
  const bool events_;
  std::string stopped_;
  WaitingClock::time_point last_ = WaitingClock::now();
};

class Continued final : public Reply {
 public:
  Continued(ReplyPtr inner, Style style)
      : inner_(std::move(inner)), style_(style) {}
  void poll(Outgoing& out) override {
    inner_->poll(out);
    if (!out.head) return;
    auto status = out.head->status;
    out.head.reset();
    if (status == 200) return;
    auto body = Json::parse(out.body, nullptr, false);
    out.body = body.is_discarded()
        ? error_event(ApiError{status, out.body}, style_)
        : error_event(body, style_);
  }
  void stop(std::string_view why) override {
    inner_->stop(why);
  }
  std::string note() const override {
    return inner_->note();
  }

 private:
  const ReplyPtr inner_;
  const Style style_;
};

} // namespace

ReplyPtr waiting(
    LoadingPtr loading,
    HttpRequest& request,
    Style style,
    std::int64_t ping_seconds) {
  return std::make_unique<Waiting>(
      std::move(loading), request, style, ping_seconds);
}

ReplyPtr continued(ReplyPtr inner, Style style) {
  return std::make_unique<Continued>(std::move(inner), style);
}

} // namespace mlxlm::serve
