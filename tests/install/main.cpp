// Every public header, an answer and a caught error through the installed
// library.
#include <iostream>

#include <mlxlm/chat.h>
#include <mlxlm/convert.h>
#include <mlxlm/error.h>
#include <mlxlm/generate.h>
#include <mlxlm/hub.h>
#include <mlxlm/model.h>
#include <mlxlm/sampling.h>
#include <mlxlm/tokenizer.h>
#include <mlxlm/version.h>

int main() {
  std::cout << mlxlm::version() << " on MLX " << mlxlm::engine_version()
            << "\n";
  if (mlxlm::local_models().empty()) return 1;
  try {
    mlxlm::parse_hub_id("a/b/c/d");
    return 1;
  } catch (const mlxlm::Error& error) {
    std::cout << error.what() << "\n";
  }
  try {
    mlxlm::load("no-such-model");
    return 1;
  } catch (const mlxlm::Error& error) {
    std::cout << error.what() << "\n";
  }
  auto model = mlxlm::load("smollm2");
  mlxlm::GenerateParameters parameters{.max_tokens = 8};
  parameters.sampling.temperature = 0;
  auto text =
      model->generate(model->encode("The capital of France is"), parameters)
          ->text();
  std::cout << text << "\n";
  return text.find("Paris") == std::string::npos;
}
