// One payload as it comes: JSON arguments are handed out while they are
// written, other calls when the payload is whole.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "text/output_item.h"
#include "text/tools/json_scanner.h"
#include "text/tools/tool_format.h"

namespace mlxlm::tools {

struct CallContext {
  const ToolFormat& format;
  const Json& tools;
  bool listed_only;
  std::function<std::string()> new_id;
  int next_index = 0;
  int whole_calls = 0;
};

class CallStream {
 public:
  explicit CallStream(CallContext& context) : context_(context) {}

  void feed(std::string_view text, OutputItems& out);
  // The payload's end. Returns the offset in payload() from where on it was no
  // call and should be shown as text, or npos.
  std::size_t finish(OutputItems& out);
  const std::string& payload() const {
    return payload_;
  }

 private:
  void find_head(OutputItems& out);
  void scan(OutputItems& out);
  void close(OutputItems& out, bool broken);
  void whole(const ParsedCall& call, OutputItems& out);
  bool refused(std::string_view name) const;

  CallContext& context_;
  std::string payload_;
  // Of the call whose arguments are being handed out.
  bool open_ = false, bad_ = false;
  bool streaming_ = true; // heads are looked for
  std::string name_;
  JsonScanner scanner_;
  std::size_t scanned_ = 0; // offset up to which arguments were looked at
  std::size_t confirmed_ = 0; // behind the last call that is certain
  std::size_t calls_ = 0; // of this payload that were begun
};

} // namespace mlxlm::tools
