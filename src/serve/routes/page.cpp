// The web page at /, and the conversations it keeps.
#include "page/static_file.h"

#include <fmt/format.h>

#include "core/strings.h"
#include "page/conversations.h"
#include "serve/routes/routes.h"

namespace mlxlm::serve {
namespace {

page::Conversations& kept(Context& context) {
  if (auto* store = context.service.options().conversations.get())
    return *store;
  throw ApiError{404, "This server keeps no conversations.", {}, "not_found"};
}

[[noreturn]] void no_such(const std::string& what) {
  throw ApiError{
      404, fmt::format("There is no {}.", printable(what)), {}, "not_found"};
}

} // namespace

ReplyPtr page_file(Context& context) {
  const auto* file = page::find_file(context.request.path);
  if (!file) no_such(context.request.path);
  std::string etag(file->etag);
  Response response;
  response.headers = {
      {"etag", etag},
      {"cache-control", "no-cache"},
      {"content-security-policy", std::string(page::content_security_policy)},
      {"referrer-policy", "no-referrer"}};
  const auto* known = context.request.header("if-none-match");
  if (known && *known == etag) {
    response.status = 304;
  } else {
    response.headers.emplace_back(
        "content-type", std::string(page::media_type(file->path)));
    response.body.assign(
        reinterpret_cast<const char*>(file->bytes.data()), file->bytes.size());
  }
  return std::make_unique<Ready>(std::move(response));
}

ReplyPtr list_conversations(Context& context) {
  auto data = Json::array();
  for (const auto& entry : kept(context).list(context.request.owner))
    data.push_back(
        {{"id", entry.id}, {"title", entry.title}, {"updated", entry.updated}});
  return context.json({{"data", std::move(data)}});
}

ReplyPtr get_conversation(Context& context) {
  auto found = kept(context).get(context.request.owner, context.tail);
  if (!found) no_such("such conversation");
  Response response;
  response.headers.emplace_back("content-type", "application/json");
  response.body = std::move(*found);
  return std::make_unique<Ready>(std::move(response));
}

ReplyPtr put_conversation(Context& context) {
  kept(context).put(context.request.owner, context.tail, context.request.body);
  return context.json({{"id", context.tail}});
}

ReplyPtr delete_conversation(Context& context) {
  if (!kept(context).remove(context.request.owner, context.tail))
    no_such("such conversation");
  return context.json({{"id", context.tail}, {"deleted", true}});
}

} // namespace mlxlm::serve
