// tool_parsers: payloads to calls, and whole outputs to content, reasoning and
// calls: in one piece, split at every place, and character by character.
#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <vector>

#include "conformance.h"
#include "core/files.h"
#include "core/strings.h"
#include "text/output_parser.h"

namespace mlxlm::conformance {
namespace {

// Equal as JSON values: 1 and 1.0 too, numbers beyond 64 bits as doubles.
bool same(const Json& a, const Json& b) {
  if (a.is_number() && b.is_number()) {
    if (a.is_number_integer() && b.is_number_integer()) return a == b;
    return a.get<double>() == b.get<double>();
  }
  if (a.type() != b.type() || a.size() != b.size()) return a == b;
  if (a.is_array()) return std::equal(a.begin(), a.end(), b.begin(), same);
  if (!a.is_object()) return a == b;
  return std::all_of(a.items().begin(), a.items().end(), [&](const auto& item) {
    auto other = b.find(item.key());
    return other != b.end() && same(item.value(), *other);
  });
}

// An id is compared where it is expected; arguments may be missing.
bool same_call(const Json& wanted, const Json& found) {
  return wanted.at("name") == found.at("name") &&
      same(wanted.value("arguments", Json::object()), found.at("arguments")) &&
      (!wanted.contains("id") || wanted["id"] == found.at("id"));
}

bool same_calls(const Json& wanted, const Json& found) {
  return wanted.size() == found.size() &&
      std::equal(wanted.begin(), wanted.end(), found.begin(), same_call);
}

std::string_view trimmed(std::string_view text) {
  auto space = [](char c) { return c == ' ' || (c >= '\t' && c <= '\r'); };
  while (!text.empty() && space(text.front()))
    text.remove_prefix(1);
  while (!text.empty() && space(text.back()))
    text.remove_suffix(1);
  return text;
}

Json as_json(const ParsedCall& call) {
  return {
      {"name", call.name},
      {"arguments", call.arguments.is_null() ? Json::object() : call.arguments},
      {"id", call.id}};
}

// As JSON; arguments that are no JSON text stay text.
Json as_json(const OutputCall& call) {
  Json arguments = call.arguments;
  try {
    arguments = parse_json(
        call.arguments,
        "arguments",
        ErrorKind::text,
        {.duplicate_keys = true, .nonfinite = true});
  } catch (const Error&) {
  }
  return {{"name", call.name}, {"arguments", arguments}, {"id", call.id}};
}

Output run(
    const OutputFormat& format,
    const OutputOptions& options,
    std::span<const std::string_view> pieces) {
  OutputParser parser(format, options);
  Output output;
  auto take = [&](const OutputItems& items) {
    for (const auto& item : items)
      add(output, item);
  };
  for (auto piece : pieces)
    take(parser.feed(piece));
  take(parser.finish());
  return output;
}

struct ToolRows {
  const OutputFormat& format;
  Json tools;
  std::map<std::string, Json> rendered = {}; // payload -> the perfect answer
  int right = 0, count = 0;
  std::string first_wrong = {};

  void judge_row(const std::optional<std::string>& wrong, const Json& row) {
    ++count;
    right += !wrong;
    if (wrong && first_wrong.empty())
      first_wrong = fmt::format(
          ", first wrong: {}: {}", *wrong, printable(row.dump(), 500));
  }
};

std::optional<std::string> payload_problem(
    const Json& row,
    const ToolRows& rows) {
  Json found = Json::array();
  try {
    auto payload = row.at("payload").get<std::string>();
    Json tools = row.at("tools").get<bool>() ? rows.tools : Json();
    for (const auto& call : rows.format.tools->parse(payload, tools))
      found.push_back(as_json(call));
  } catch (const Error& error) {
    if (row.contains("error")) return {};
    return error.what();
  }
  bool perfect = row.contains("rendered_from") &&
      same_calls(Json::array({row["rendered_from"]}), found);
  if (perfect || (row.contains("calls") && same_calls(row["calls"], found)))
    return {};
  return "found " + found.dump();
}

// The calls a stream should give: those listed, or for each payload the call
// it was written from.
bool expected_calls(const Json& row, const Json& found, const ToolRows& rows) {
  if (same_calls(row.at("calls"), found)) return true;
  Json perfect = Json::array();
  for (const auto& payload : row.value("payloads", Json::array())) {
    auto known = rows.rendered.find(payload.get<std::string>());
    if (known == rows.rendered.end()) return false;
    perfect.push_back(known->second);
  }
  return same_calls(perfect, found);
}

// Exact: protocols with hand-written expectations have reasoning too.
std::optional<std::string> output_problem(
    const Json& row,
    const Output& output,
    const ToolRows& rows,
    bool exact) {
  Json found = Json::array();
  for (const auto& call : output.calls) {
    found.push_back(as_json(call));
    if (call.id.empty()) return "a call without an id";
  }
  if (!expected_calls(row, found, rows)) return "found " + found.dump();
  auto content = row.at("content").get<std::string>();
  bool equal = exact ? output.content == content
                     : trimmed(output.content) == trimmed(content);
  if (!equal) return "found content " + printable(output.content);
  auto reasoning = row.value("reasoning", "");
  if (output.reasoning != reasoning)
    return "found reasoning " + printable(output.reasoning);
  return {};
}

std::optional<std::string> stream_problem(
    const Json& row,
    const ToolRows& rows,
    bool exact) {
  auto text = row.at("text").get<std::string>();
  OutputOptions options{.tools = rows.tools, .give_back_malformed = false};
  auto problem = [&](std::span<const std::string_view> pieces) {
    return output_problem(row, run(rows.format, options, pieces), rows, exact);
  };
  std::string_view all = text;
  std::vector<std::string_view> pieces = {all};
  if (auto wrong = problem(pieces)) return wrong;
  for (std::size_t at = 1; at < all.size(); ++at) {
    pieces = {all.substr(0, at), all.substr(at)};
    if (auto wrong = problem(pieces))
      return fmt::format("split at byte {}: {}", at, *wrong);
  }
  pieces.clear();
  for (std::size_t at = 0; at < all.size(); ++at)
    pieces.push_back(all.substr(at, 1));
  if (auto wrong = problem(pieces)) return "byte by byte: " + *wrong;
  return {};
}

Outcome inference(const Case& c) {
  int right = 0, count = 0;
  std::string first;
  for (const auto& row : read_json(c.path("cases.json"))) {
    ++count;
    const auto* format =
        detect_tool_format(row.at("chat_template").get<std::string>());
    Json found = format ? Json(std::string(format->name)) : Json();
    right += found == row.at("parser");
    if (found != row["parser"] && first.empty())
      first =
          fmt::format(", first wrong: {}, found {}", row.dump(), found.dump());
  }
  return judge(
      right == count && count > 0,
      fmt::format("{} of {} templates{}", right, count, first));
}

// "gemma4", "harmony_protocol", "llama3_inline": the format's name comes first.
OutputFormat format_of(const std::string& name) {
  OutputFormat format;
  for (const char* end : {"", "_protocol", "_inline"})
    if (ends_with(name, end) && !format.tools)
      format.tools =
          find_tool_format(name.substr(0, name.size() - std::strlen(end)));
  if (!format.tools)
    fail(ErrorKind::config, name, "expected a known format, found none");
  if (format.tools->name == "harmony")
    format.reasoning = find_reasoning_format("harmony");
  return format;
}

} // namespace

Outcome tool_case(const Case& c) {
  auto name = c.name.substr(c.name.rfind('/') + 1);
  if (is_file(c.path("cases.json")) && name == "format_inference")
    return inference(c);
  auto format = format_of(name);
  ToolRows rows{format, {}};
  auto tools = c.json.opt<std::string>("tools", "");
  if (!tools.empty()) rows.tools = read_json(c.path(tools));
  if (is_file(c.path("payloads.json")))
    for (const auto& row : read_json(c.path("payloads.json"))) {
      if (row.contains("rendered_from"))
        rows.rendered[row.at("payload").get<std::string>()] =
            row["rendered_from"];
      rows.judge_row(payload_problem(row, rows), row);
    }
  for (const char* file : {"streams.json", "cases.json"}) {
    if (!is_file(c.path(file))) continue;
    bool exact = file[0] == 'c' && format.tools->name == "harmony";
    for (const auto& row : read_json(c.path(file)))
      rows.judge_row(stream_problem(row, rows, exact), row);
  }
  return judge(
      rows.right == rows.count && rows.count > 0,
      fmt::format("{} of {} rows{}", rows.right, rows.count, rows.first_wrong));
}

} // namespace mlxlm::conformance
