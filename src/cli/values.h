// What the user asked for: one command's settings with their values, checked
// against the table.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "cli/settings.h"
#include "core/json.h"

namespace mlxlm::cli {

// A mistake on the command line: exit code 2.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Values by setting name. Precedence: flag, environment (MLXLM_MAX_TOKENS), the
// settings file, default. Asking for a name the command does not have is a bug.
class Values {
 public:
  explicit Values(const Command& command);

  // Sets or replaces `name`; throws UsageError naming `origin` when the text
  // does not fit the setting.
  void set(
      std::string_view name,
      std::vector<std::string> texts,
      std::string_view origin);

  const Command& command() const {
    return *command_;
  }
  bool has(std::string_view name) const; // given, or there is a default
  bool given(std::string_view name) const;
  bool flag(std::string_view name) const;
  int integer(std::string_view name) const;
  double number(std::string_view name) const;
  std::string text(std::string_view name) const;
  std::vector<std::string> list(std::string_view name) const;
  Json json(std::string_view name) const; // {} when absent

 private:
  struct Entry {
    Setting setting;
    std::vector<std::string> texts;
    bool given = false;
  };
  const Entry& entry(std::string_view name) const;

  const Command* command_;
  std::map<std::string, Entry, std::less<>> entries_;
};

// Parses what follows `mlxlm COMMAND`. Throws UsageError.
Values parse(const Command& command, const std::vector<std::string>& arguments);

} // namespace mlxlm::cli
