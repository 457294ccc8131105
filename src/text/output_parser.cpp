#include "text/output_parser.h"

#include <algorithm>
#include <array>
#include <random>
#include <vector>

#include "core/check.h"
#include "core/strings.h"
#include "text/tools/call_stream.h"
#include "text/tools/values.h"

namespace mlxlm {
namespace {

constexpr std::size_t longest_bare_call = 32768;

std::function<std::string()> random_ids(const ToolFormat* format) {
  int length = format ? format->id_length : 0;
  std::mt19937_64 random{std::random_device{}()};
  return [length, random]() mutable {
    constexpr std::string_view letters =
        "0123456789abcdefABCDEFGHIJKLMNOPQRSTUVWXYZghijklmnopqrstuvwxyz";
    std::string id = length ? "" : "call_";
    std::uniform_int_distribution<std::size_t> pick(
        0, length ? letters.size() - 1 : 15);
    for (int i = 0; i < (length ? length : 32); ++i)
      id += letters[pick(random)];
    return id;
  };
}

constexpr std::string_view message = "<|message|>";

} // namespace

class OutputParser::State {
  enum class Zone { content, reasoning, call, header };

  // A text that ends a zone and is itself not shown.
  struct Mark {
    std::string text;
    Zone next;
  };

 public:
  State(const OutputFormat& format, OutputOptions options)
      : options_(std::move(options)),
        reasoning_(options_.parse_reasoning ? format.reasoning : nullptr),
        tools_(options_.parse_tools ? format.tools : nullptr) {
    if (tools_)
      options_.tools = tools::resolved_tools(std::move(options_.tools));
    if (!options_.new_id) options_.new_id = random_ids(tools_);
    // One whose tags may be missing is read even where calls are not.
    channels_ = reasoning_ && reasoning_->channels;
    set_marks();
    if (reasoning_ && ends_in_reasoning(*reasoning_, options_.prompt))
      enter(Zone::reasoning);
    if (tools_)
      calls_.emplace(tools::CallContext{
          *tools_, options_.tools, options_.listed_only, options_.new_id});
  }

  OutputItems feed(std::string_view text) {
    items_.clear();
    held_ += text;
    while (step()) {
    }
    return std::move(items_);
  }

  OutputItems finish(FinishReason reason) {
    items_.clear();
    text(std::exchange(held_, {}));
    if (zone_ == Zone::call) end_call("");
    if (zone_ == Zone::header) content(opened_ + header_);
    if (!bare_.empty()) bare(true);
    items_.push_back(OutputEnd{reason, calls_ ? calls_->whole_calls : 0});
    return std::move(items_);
  }

  bool in_reasoning() const {
    return zone_ == Zone::reasoning;
  }

 private:
  std::vector<Mark>& marks(Zone zone) {
    return marks_[static_cast<std::size_t>(zone)];
  }

  void set_marks() {
    auto& content = marks(Zone::content);
    auto& reasoning = marks(Zone::reasoning);
    if (channels_) {
      for (auto* zone : {&content, &reasoning}) {
        for (const char* header : {"<|channel|>", "<|start|>assistant"})
          zone->push_back({header, Zone::header});
        for (auto mark : reasoning_->structural)
          zone->push_back({std::string(mark), Zone::content});
      }
      marks(Zone::header).push_back({std::string(message), Zone::content});
    } else if (reasoning_) {
      content.push_back({std::string(reasoning_->open), Zone::reasoning});
      reasoning.push_back({std::string(reasoning_->close), Zone::content});
      for (auto mark : reasoning_->structural)
        if (mark != reasoning_->close)
          content.push_back({std::string(mark), Zone::content});
    }
    if (!tools_) return;
    if (!channels_)
      for (auto* zone : {&content, &reasoning})
        zone->push_back({std::string(tools_->open), Zone::call});
    if (!tools_->close.empty())
      marks(Zone::call).push_back({std::string(tools_->close), Zone::content});
  }

  // Takes the text up to the next mark, or what is certainly not one.
  bool step() {
    const Mark* found = nullptr;
    auto at = held_.npos;
    for (const auto& mark : marks(zone_))
      if (auto place = held_.find(mark.text); place < at)
        at = place, found = &mark;
    if (!found) {
      auto safe = held_.size() - open_end();
      text(held_.substr(0, safe));
      held_.erase(0, safe);
      return false;
    }
    text(held_.substr(0, at));
    held_.erase(0, at + found->text.size());
    pass(*found);
    return true;
  }

  // Length of the longest end of held_ that is the beginning of a mark.
  std::size_t open_end() {
    std::size_t longest = 0;
    for (const auto& mark : marks(zone_)) {
      auto most = std::min(mark.text.size() - 1, held_.size());
      for (auto size = most; size > longest; --size)
        if (held_.compare(held_.size() - size, size, mark.text, 0, size) == 0)
          longest = size;
    }
    return longest;
  }

  void pass(const Mark& mark) {
    if (zone_ == Zone::call) {
      end_call(mark.text);
    } else if (zone_ == Zone::header) {
      end_header();
    } else {
      if (!bare_.empty()) bare(true);
      opened_ = mark.text;
      enter(mark.next);
    }
  }

  void enter(Zone zone) {
    bool thought = zone_ == Zone::reasoning || zone == Zone::reasoning;
    if (thought && zone != zone_ && !channels_) trim_ = true;
    if (zone == Zone::call) {
      trim_ = false;
      call_.emplace(*calls_);
    }
    if (zone == Zone::header) header_.clear();
    zone_ = zone;
  }

  // Text of the present zone.
  void text(std::string_view piece) {
    if (piece.empty()) return;
    switch (zone_) {
      case Zone::call:
        call_->feed(piece, items_);
        return;
      case Zone::header:
        header_ += piece;
        return;
      default:
        break;
    }
    if (trim_) piece.remove_prefix(tools::skip_space(piece, 0));
    if (piece.empty()) return;
    trim_ = false;
    if (zone_ == Zone::reasoning) {
      items_.push_back(ReasoningDelta{std::string(piece)});
    } else if (may_be_bare()) {
      bare_ += piece;
      bare(false);
    } else {
      content(piece);
    }
  }

  void content(std::string_view piece) {
    if (!piece.empty()) items_.push_back(ContentDelta{std::string(piece)});
  }

  void malformed(std::string_view piece) {
    if (options_.give_back_malformed) content(piece);
  }

  void end_call(std::string_view close) {
    auto from = call_->finish(items_);
    if (from != std::string::npos)
      malformed(
          (from == 0 ? opened_ : "") + call_->payload().substr(from) +
          std::string(close));
    call_.reset();
    enter(Zone::content);
  }

  // Harmony: what the message is depends on its header.
  void end_header() {
    auto recipient = header_.find("to=");
    auto channel = header_.rfind("<|channel|>");
    auto name = tools::strip(
        channel == header_.npos
            ? std::string_view(header_)
            : std::string_view(header_).substr(channel + 11));
    if (recipient != header_.npos && tools_) {
      opened_ += header_.substr(0, recipient + 3);
      auto payload = header_.substr(recipient + 3) + std::string(message);
      enter(Zone::call);
      call_->feed(payload, items_);
    } else {
      enter(starts_with(name, "analysis") ? Zone::reasoning : Zone::content);
    }
  }

  // ---- calls without marks, where the content begins with JSON
  bool may_be_bare() const {
    bool any = tools_ && tools_->bare == ToolFormat::Bare::any;
    bool listed = tools_ && tools_->bare == ToolFormat::Bare::listed &&
        options_.tools.is_array();
    return (any || listed) && !content_began_;
  }

  void bare(bool final) {
    while (!bare_.empty() && bare_value(final)) {
    }
    if (bare_.empty()) return;
    bool blank = tools::strip(bare_).empty();
    if (!final && (blank || bare_open_)) return;
    content_began_ = true;
    if (!blank || calls_->whole_calls == 0) content(bare_);
    bare_.clear();
  }

  // A whole JSON value at the beginning of bare_ that is calls: takes it. Sets
  // bare_open_ while more text may make it one.
  bool bare_value(bool final) {
    bare_open_ = false;
    auto at = tools::skip_space(bare_, 0);
    if (calls_->whole_calls > 0 && at < bare_.size() &&
        (bare_[at] == ';' || bare_[at] == ','))
      at = tools::skip_space(bare_, at + 1);
    bare_open_ = at == bare_.size();
    if (bare_open_ || (bare_[at] != '{' && bare_[at] != '[')) return false;
    if (bare_at_ != at) {
      bare_at_ = bare_scanned_ = at;
      bare_scanner_ = {};
    }
    while (bare_scanned_ < bare_.size() && !bare_scanner_.done())
      if (!bare_scanner_.push(bare_[bare_scanned_++])) return bare_stop();
    if (!bare_scanner_.done()) {
      bare_open_ = !final && bare_.size() <= longest_bare_call &&
          first_key_fits(std::string_view(bare_).substr(at));
      return false;
    }
    return take_bare(at);
  }

  bool bare_stop() {
    bare_at_ = std::string::npos;
    return false;
  }

  bool take_bare(std::size_t at) {
    auto payload = bare_.substr(at, bare_scanned_ - at);
    bare_at_ = std::string::npos;
    std::vector<ParsedCall> parsed;
    try {
      parsed = tools_->parse(payload, options_.tools);
    } catch (const Error&) {
      return false;
    }
    bool must_be_listed =
        options_.listed_only || tools_->bare == ToolFormat::Bare::listed;
    for (const auto& call : parsed)
      if (must_be_listed && !tools::is_listed(options_.tools, call.name))
        return false;
    tools::CallStream stream(*calls_);
    // Whole at once: such calls are not streamed.
    OutputItems made;
    stream.feed(payload, made);
    if (stream.finish(made) != std::string::npos) return false;
    std::move(made.begin(), made.end(), std::back_inserter(items_));
    bare_.erase(0, bare_scanned_);
    return true;
  }

  // An object (perhaps in a list) whose first key is one that calls have, as
  // far as can be seen.
  static bool first_key_fits(std::string_view text) {
    auto at = tools::skip_space(text, 1);
    if (text[0] == '[' && at < text.size()) {
      if (text[at] != '{') return false;
      at = tools::skip_space(text, at + 1);
    }
    if (at >= text.size()) return true;
    auto seen = text.substr(at);
    for (std::string_view key :
         {"\"name\"",
          "\"type\"",
          "\"function\"",
          "\"parameters\"",
          "\"arguments\"",
          "\"id\""}) {
      auto size = std::min(key.size(), seen.size());
      if (key.substr(0, size) == seen.substr(0, size)) return true;
    }
    return false;
  }

  OutputOptions options_;
  const ReasoningFormat* reasoning_;
  const ToolFormat* tools_;
  bool channels_ = false;
  std::array<std::vector<Mark>, 4> marks_;
  Zone zone_ = Zone::content;
  std::string held_; // may be the beginning of a mark
  std::string opened_; // the mark that began a call or header
  std::string header_;
  bool trim_ = false; // white space is left out until there is other text
  std::optional<tools::CallContext> calls_;
  std::optional<tools::CallStream> call_;
  OutputItems items_;

  std::string bare_; // content that may be a call
  bool content_began_ = false, bare_open_ = false;
  std::size_t bare_at_ = std::string::npos, bare_scanned_ = 0;
  tools::JsonScanner bare_scanner_;
};

OutputParser::OutputParser(const OutputFormat& format, OutputOptions options)
    : state_(std::make_unique<State>(format, std::move(options))) {}
OutputParser::~OutputParser() = default;
OutputParser::OutputParser(OutputParser&&) noexcept = default;
OutputParser& OutputParser::operator=(OutputParser&&) noexcept = default;

OutputItems OutputParser::feed(std::string_view text) {
  return state_->feed(text);
}

OutputItems OutputParser::finish(FinishReason reason) {
  return state_->finish(reason);
}

bool OutputParser::reasoning() const {
  return state_->in_reasoning();
}

void add(Output& output, const OutputItem& item) {
  if (auto* content = std::get_if<ContentDelta>(&item)) {
    output.content += content->text;
  } else if (auto* thought = std::get_if<ReasoningDelta>(&item)) {
    output.reasoning += thought->text;
  } else if (auto* call = std::get_if<ToolCallDelta>(&item)) {
    if (!call->name.empty()) output.calls.push_back({call->id, call->name, ""});
    if (output.calls.empty()) return;
    output.calls.back().arguments += call->arguments;
    if (call->last && call->broken) output.calls.pop_back();
  } else {
    output.reason = std::get<OutputEnd>(item).reason;
  }
}

Output parse_output(
    const OutputFormat& format,
    std::string_view text,
    const OutputOptions& options) {
  Output output;
  OutputParser parser(format, options);
  for (const auto& item : parser.feed(text))
    add(output, item);
  for (const auto& item : parser.finish())
    add(output, item);
  return output;
}

} // namespace mlxlm
