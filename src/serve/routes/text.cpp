// What needs the tokenizer alone, and the list of models.
#include <fmt/format.h>

#include "core/strings.h"
#include "serve/routes/shared.h"

namespace mlxlm::serve {
namespace {

Json model_entry(const ModelState& state) {
  const auto& facts = state.facts;
  return {
      {"id", full_name(state)},
      {"object", "model"},
      {"created", facts.created},
      {"owned_by", "mlxlm"},
      {"context_length", facts.context_length},
      {"loaded", state.loaded}};
}

} // namespace

ReplyPtr list_models(Context& context) {
  auto data = Json::array();
  for (const auto& state : states_or_none(context))
    data.push_back(model_entry(state));
  return context.json({{"object", "list"}, {"data", std::move(data)}});
}

ReplyPtr show_model(Context& context) {
  return context.json(
      model_entry(context.service.models()->state({context.tail})));
}

ReplyPtr tokenize(Context& context) {
  Question question(context);
  auto& body = question.body;
  const auto& engine = *question.engine;
  auto text = body.needed("content", body.text("content"));
  bool special = body.boolean("add_special").value_or(false);
  bool pieces = body.boolean("with_pieces").value_or(false);
  body.accept({"parse_special"});
  question.close();
  auto tokens = Json::array();
  for (int id : engine.codec().encode(text, special)) {
    if (!pieces) {
      tokens.push_back(id);
      continue;
    }
    int ids[] = {id};
    tokens.push_back({{"id", id}, {"piece", engine.codec().decode(ids)}});
  }
  return context.json({{"tokens", std::move(tokens)}});
}

ReplyPtr detokenize(Context& context) {
  Question question(context);
  auto& body = question.body;
  const auto& engine = *question.engine;
  const auto& tokens = body.needed("tokens", body.list("tokens", 1 << 20));
  question.close();
  std::vector<int> ids;
  for (const auto& id : tokens) {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() > INT32_MAX)
      wrong_value("tokens", "token ids", id);
    ids.push_back(id.get<int>());
  }
  return context.json({{"content", engine.codec().decode(ids)}});
}

ReplyPtr apply_template(Context& context) {
  Question question(context);
  auto& body = question.body;
  const auto& engine = *question.engine;
  body.accept({"add_generation_prompt"});
  auto conversation = read_conversation(body, question.options);
  question.close();
  return context.json({{"prompt", render(conversation, engine)}});
}

} // namespace mlxlm::serve
