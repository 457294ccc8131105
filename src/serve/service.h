// What the server does with a request: who may ask, which route, how many at
// once. The routes themselves are in routes/.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "page/conversations.h"
#include "serve/access.h"
#include "serve/answer.h"
#include "serve/engine.h"
#include "serve/limits.h"
#include "serve/models.h"
#include "serve/statistics.h"

namespace mlxlm::serve {

// How OpenAI's answers name reasoning: "reasoning_content", "reasoning", both.
enum class ReasoningField { content, plain, both };

struct ServiceOptions {
  Limits limits;
  GenerateParameters defaults; // where a request says nothing
  std::string template_kwargs; // JSON object for the chat template, or empty
  std::vector<Key> keys; // none: everybody may ask
  std::vector<std::string> hosts; // names in Host; empty with `any_host`: all
  bool any_host = false;
  std::vector<std::string> origins; // of web pages; "*": any
  bool strict = false; // unknown fields are an error
  ReasoningField reasoning_field = ReasoningField::content;
  bool any_model = false; // whatever name a request gives
  // Of the web page; null: it keeps them itself.
  std::shared_ptr<page::Conversations> conversations;
  // Where errors go that clients do not see.
  std::function<void(const std::string&)> log;
};

class Service;

// A request on its way through a route.
struct Context {
  Service& service;
  HttpRequest& request;
  const Wake& wake;
  Headers headers = {}; // of the response
  std::string tail = {}; // what a route's "*" stands for
  EnginePtr engine = {}; // what answers, once it is known

  // Sets `engine`. Throws ApiError for a model that is not served, and
  // NotLoaded for one that has to be loaded: the request begins anew when that
  // is done.
  void use(const ModelWish& wish);

  // A complete JSON answer.
  ReplyPtr json(const Json& value) const;
  // Fields that no one reads: remembered, and told at the end. An error when
  // the server is strict.
  void unknown(const std::vector<std::string>& names);
  void report_unknown();
  std::vector<std::string> unknown_fields = {};
};

struct NotLoaded {
  LoadingPtr loading;
};

struct Route {
  std::string_view method, path; // a path may end in "*"
  bool open; // without a key
  ReplyPtr (*run)(Context&);
  std::string_view about;
};
// All of them: routes/table.cpp.
std::span<const Route> routes();

class Service final : public Handler {
 public:
  explicit Service(ServiceOptions options);

  ReplyPtr handle(HttpRequest& request, const Wake& wake) override;
  ReplyPtr refuse(int status, std::string_view message) override;

  // Until there are some, answers are 503 "Loading model".
  void set_models(ModelsPtr models);
  void set_engine(EnginePtr engine); // one that stays
  ModelsPtr models() const; // throws ApiError 503
  void set_keys(std::vector<Key> keys);
  void set_draining() {
    draining_ = true;
  }
  bool draining() const {
    return draining_;
  }
  // Why the model is not well, or empty.
  std::string trouble() const;

  const ServiceOptions& options() const {
    return options_;
  }
  const Limits& limits() const {
    return options_.limits;
  }
  Statistics& statistics() {
    return statistics_;
  }

  // Takes `count` places for the client; throws ApiError 429.
  std::vector<Gate::PlacePtr> admit(
      Context& context,
      int count,
      int priority = 0);
  int admitted() const;
  // Makes `job` a choice of `answer`, which starts when the place is ready.
  void start(
      Context& context,
      Answer& answer,
      Answer::Choice choice,
      Gate::PlacePtr place,
      Job job);

 private:
  ReplyPtr dispatch(Context& context);
  void check_host(const HttpRequest& request) const;
  // Headers for a page that may ask; throws for one that may not.
  Headers check_origin(const HttpRequest& request) const;
  bool allowed_origin(const HttpRequest& request, const std::string& origin)
      const;
  void check_key(HttpRequest& request, bool open);
  ReplyPtr preflight(Context& context);
  ReplyPtr run_route(Context& context);

  const ServiceOptions options_;
  mutable std::mutex mutex_; // of what follows
  ModelsPtr models_;
  std::shared_ptr<const std::vector<Key>> keys_;
  int last_key_ = 0; // of those without a name
  std::atomic<bool> draining_{false};
  Statistics statistics_;

  mutable std::mutex gates_mutex_;
  // By model, whatever its adapters: no model waits for another's places.
  std::map<std::string, std::shared_ptr<Gate>> gates_;
};

} // namespace mlxlm::serve
