#include "serve/logprobs.h"

namespace mlxlm::serve {
namespace {

std::string token_text(const TextCodec& codec, int id) {
  int ids[] = {id};
  return codec.decode(ids);
}

Json entry(const TextCodec& codec, int id, float logprob) {
  auto text = token_text(codec, id);
  auto bytes = Json::array();
  for (unsigned char c : text)
    bytes.push_back(int{c});
  return {
      {"token", std::move(text)},
      {"logprob", logprob},
      {"bytes", std::move(bytes)}};
}

Json entries(const TextCodec& codec, const AnswerTokens& tokens, bool ids) {
  auto out = Json::array();
  auto named = [&](int id, float logprob) {
    auto one = entry(codec, id, logprob);
    if (ids) one["id"] = id;
    return one;
  };
  for (const auto& token : tokens) {
    auto one = named(token.id, token.logprob);
    one["top_logprobs"] = Json::array();
    for (const auto& other : token.top)
      one["top_logprobs"].push_back(named(other.token, other.logprob));
    out.push_back(std::move(one));
  }
  return out;
}

} // namespace

Json chat_logprobs(const TextCodec& codec, const AnswerTokens& tokens) {
  return {{"content", entries(codec, tokens, false)}};
}

Json native_logprobs(const TextCodec& codec, const AnswerTokens& tokens) {
  return entries(codec, tokens, true);
}

Json completion_logprobs(
    const TextCodec& codec,
    const AnswerTokens& tokens,
    std::int64_t& offset) {
  Json texts = Json::array(), values = Json::array();
  Json tops = Json::array(), offsets = Json::array();
  for (const auto& token : tokens) {
    auto text = token_text(codec, token.id);
    auto top = Json::object();
    for (const auto& other : token.top)
      // Of tokens with the same text the likeliest.
      top.emplace(token_text(codec, other.token), other.logprob);
    top.emplace(text, token.logprob);
    tops.push_back(std::move(top));
    offsets.push_back(offset);
    offset += static_cast<std::int64_t>(text.size());
    texts.push_back(std::move(text));
    values.push_back(token.logprob);
  }
  return {
      {"tokens", std::move(texts)},
      {"token_logprobs", std::move(values)},
      {"top_logprobs", std::move(tops)},
      {"text_offset", std::move(offsets)}};
}

Json prompt_logprobs(
    const TextCodec& codec,
    const std::vector<int>& prompt,
    const std::vector<std::vector<TokenLogprob>>& lists,
    std::int64_t& offset) {
  AnswerTokens tokens;
  if (!prompt.empty()) tokens.push_back({prompt[0], 0, {}});
  for (const auto& list : lists)
    tokens.push_back(
        {list[0].token, list[0].logprob, {list.begin() + 1, list.end()}});
  auto out = completion_logprobs(codec, tokens, offset);
  if (!tokens.empty())
    out["token_logprobs"][0] = out["top_logprobs"][0] = nullptr;
  return out;
}

Json joined_logprobs(Json first, const Json& second) {
  if (second.is_null()) return first;
  for (auto& [name, list] : first.items())
    list.insert(list.end(), second[name].begin(), second[name].end());
  return first;
}

} // namespace mlxlm::serve
