// tokenize, detokenize, template: everything textual; never starts the array
// engine.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/commands.h"
#include "cli/running.h"
#include "cli/terminal.h"
#include "core/check.h"
#include "core/files.h"
#include "core/json.h"
#include "core/strings.h"
#include "mlxlm/tokenizer.h"

namespace mlxlm::cli {
namespace {

constexpr JsonLimits wide = {
    .depth = 64,
    .bytes = std::size_t{1} << 30,
    .duplicate_keys = true};

std::string to_text(const std::vector<int>& ids) {
  return fmt::format("[{}]\n", fmt::join(ids, ", "));
}

std::vector<int> to_ids(
    std::string_view text,
    const std::string& where,
    const TextCodec& codec) {
  auto json = parse_json(text, where, ErrorKind::request, wide);
  if (!json.is_array())
    fail(
        ErrorKind::request,
        where,
        "expected a list of token ids, found {}",
        describe(json));
  std::vector<int> out;
  for (auto& item : json) {
    if (!item.is_number_integer() || item < 0 || item >= codec.vocab_size())
      fail(
          ErrorKind::request,
          where,
          "expected token ids from 0 to {}, found {}",
          codec.vocab_size() - 1,
          describe(item));
    out.push_back(item.get<int>());
  }
  return out;
}

// One input line to one output line, for every line that is not empty.
template <typename Function>
void each_line(const std::string& input, Function&& convert) {
  std::string out;
  int number = 0;
  for (auto& line : split(input, '\n')) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    out += convert(line, fmt::format("standard input:{}", number));
  }
  print(out);
}

std::string quoted_json(const std::string& text) {
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

// The bytes of a JSON file that must hold a list, or nothing.
std::string list_file(const Values& values, std::string_view name) {
  if (!values.has(name)) return "";
  auto file = values.text(name);
  auto where = file == "-" ? "standard input" : file;
  auto text = read_text(file);
  auto json = parse_json(text, where, ErrorKind::request, wide);
  if (!json.is_array())
    fail(
        ErrorKind::request, where, "expected a list, found {}", describe(json));
  return text;
}

// The model's BOS and EOS, unless given on the command line.
std::string render_model(const Values& values, TemplateInput input) {
  auto codec = TextCodec::load(fetch_model(values.text("model"), false));
  auto kwargs = values.json("kwargs");
  for (auto* name : {"bos", "eos"})
    if (values.has(name))
      kwargs[std::string(name) + "_token"] = values.text(name);
  if (!kwargs.empty()) input.kwargs = kwargs.dump();
  return codec->render(input);
}

} // namespace

int run_tokenize(const Values& values) {
  auto codec = TextCodec::load(fetch_model(values.text("model"), false));
  bool special = !values.flag("no-special");
  auto input = read_stdin();
  if (!values.flag("lines")) {
    if (!valid_utf8(input))
      fail(ErrorKind::request, "standard input", "expected UTF-8 text");
    print(to_text(codec->encode(input, special)));
    return 0;
  }
  each_line(input, [&](const std::string& line, const std::string& where) {
    auto json = parse_json(line, where, ErrorKind::request, wide);
    if (!json.is_string())
      fail(
          ErrorKind::request,
          where,
          "expected a JSON string, found {}",
          describe(json));
    return to_text(codec->encode(json.get<std::string>(), special));
  });
  return 0;
}

int run_detokenize(const Values& values) {
  auto codec = TextCodec::load(fetch_model(values.text("model"), false));
  auto input = read_stdin();
  if (!values.flag("lines")) {
    print(codec->decode(to_ids(input, "standard input", *codec)));
    return 0;
  }
  each_line(input, [&](const std::string& line, const std::string& where) {
    return quoted_json(codec->decode(to_ids(line, where, *codec))) + "\n";
  });
  return 0;
}

int run_template(const Values& values) {
  if (!values.has("messages"))
    throw UsageError("--messages: required; a JSON list of messages");
  if (values.has("template") == values.has("model"))
    throw UsageError("expected either --template or --model");
  TemplateInput input{
      .messages = list_file(values, "messages"),
      .tools = list_file(values, "tools"),
      .kwargs = values.text("kwargs"),
      .add_generation_prompt = values.flag("add-generation-prompt")};
  if (values.has("model"))
    print(render_model(values, std::move(input)));
  else
    print(render_template(
        read_file(values.text("template")),
        input,
        values.text("bos"),
        values.text("eos")));
  return 0;
}

} // namespace mlxlm::cli
