// Watches JSON text go by, character for character: is it still the beginning
// of a value, and is the value whole?
#pragma once

#include <string>

namespace mlxlm::tools {

// For objects, arrays and strings, whose end can be seen: numbers and literals
// are done with the character before the one that ends them.
class JsonScanner {
 public:
  // False: no value begins like this. The character is then not part of it.
  bool push(char c);
  // The value is whole; nothing more belongs to it.
  bool done() const {
    return done_;
  }

 private:
  enum class Expect { value, first_value, key, first_key, colon, next };
  bool structure(char c);
  bool value(char c);
  bool string(char c);
  bool word(char c);
  bool number_ok() const;
  bool word_end();
  void closed();

  Expect expect_ = Expect::value;
  std::string open_; // brackets: '{' or '['
  std::string word_; // a number or literal under way
  bool in_string_ = false, escape_ = false, key_string_ = false;
  int hex_ = 0; // digits of \u still to come
  bool done_ = false;
};

} // namespace mlxlm::tools
