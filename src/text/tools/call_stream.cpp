#include "text/tools/call_stream.h"

#include <algorithm>

#include "text/tools/values.h"

namespace mlxlm::tools {

bool CallStream::refused(std::string_view name) const {
  return context_.listed_only && !is_listed(context_.tools, name);
}

void CallStream::feed(std::string_view text, OutputItems& out) {
  payload_ += text;
  if (!context_.format.head || !streaming_) return;
  for (auto before = std::string::npos; before != scanned_;) {
    before = scanned_;
    if (!open_ || scanner_.done()) find_head(out);
    if (open_ && !bad_) scan(out);
  }
}

void CallStream::find_head(OutputItems& out) {
  auto head = context_.format.head(payload_, scanned_);
  if (!head) return;
  // {'a': 1} is Python, not JSON: such a call comes whole.
  auto next = skip_space(payload_, head->arguments + 1);
  if (next >= payload_.size()) return;
  streaming_ =
      (payload_[next] == '"' || payload_[next] == '}') && !refused(head->name);
  if (!streaming_) return;
  if (open_) close(out, false);
  open_ = true;
  name_ = head->name;
  scanner_ = {};
  scanned_ = head->arguments;
  ++calls_;
  out.push_back(ToolCallDelta{
      context_.next_index,
      head->id.empty() ? context_.new_id() : head->id,
      head->name});
}

void CallStream::scan(OutputItems& out) {
  auto from = scanned_;
  while (scanned_ < payload_.size() && !scanner_.done() && !bad_) {
    bad_ = !scanner_.push(payload_[scanned_]);
    scanned_ += !bad_;
  }
  streaming_ = !bad_;
  if (scanned_ == from) return;
  auto text = payload_.substr(from, scanned_ - from);
  out.push_back(ToolCallDelta{context_.next_index, "", "", std::move(text)});
}

void CallStream::close(OutputItems& out, bool broken) {
  out.push_back(ToolCallDelta{context_.next_index, "", "", "", true, broken});
  ++context_.next_index;
  context_.whole_calls += !broken;
  if (!broken) confirmed_ = scanned_;
  open_ = false;
}

void CallStream::whole(const ParsedCall& call, OutputItems& out) {
  std::string arguments = "{}";
  if (call.arguments.is_string()) {
    arguments = call.arguments.get<std::string>();
  } else if (!call.arguments.is_null()) {
    arguments =
        call.arguments.dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  out.push_back(ToolCallDelta{
      context_.next_index++,
      call.id.empty() ? context_.new_id() : call.id,
      call.name,
      std::move(arguments),
      true});
  ++context_.whole_calls;
}

std::size_t CallStream::finish(OutputItems& out) {
  std::vector<ParsedCall> calls;
  try {
    calls = context_.format.parse(payload_, context_.tools);
  } catch (const Error&) {
    calls.clear();
  }
  if (std::any_of(calls.begin(), calls.end(), [&](const auto& call) {
        return call.name.empty() || refused(call.name);
      }))
    calls.clear();
  bool right = calls.size() >= calls_ && !bad_ && scanner_.done() &&
      (calls_ == 0 || calls[calls_ - 1].name == name_);
  if (open_) {
    close(out, !right);
    if (!right) --calls_;
  }
  if (calls.size() < calls_ || calls.empty())
    return calls_ > 0 && confirmed_ >= payload_.size() ? payload_.npos
                                                       : confirmed_;
  for (auto i = calls_; i < calls.size(); ++i)
    whole(calls[i], out);
  return payload_.npos;
}

} // namespace mlxlm::tools
