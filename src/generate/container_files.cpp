// Prompt caches to and from files; see cache_file.h.
#include "core/check.h"
#include "core/json.h"
#include "generate/cache_file.h"
#include "generate/container.h"
#include "generate/disk_prefixes.h"
#include "generate/model_identity.h"
#include "generate/prompt_cache.h"

namespace mlxlm {
namespace {

constexpr const char* model_key = "mlxlm.model";

std::uint64_t hash(std::string_view text, std::uint64_t h) {
  for (unsigned char c : text)
    h = (h ^ c) * 0x100000001B3; // FNV-1a
  return h;
}

} // namespace

// Of what decides which keys and values a text gets.
std::string Container::fingerprint() const {
  auto& loaded = state_->loaded;
  auto h = hash(loaded.config.json().dump(), 0xCBF29CE484222325);
  h = hash(loaded.quantization, h);
  h = hash(std::to_string(loaded.model->vocab()), h);
  return fmt::format("{}-{:016x}", loaded.model_type, h);
}

// Entries of others are not found, so all that keys and values depend on is in
// the owner's name.
std::shared_ptr<PrefixTier> Container::prefix_tier(
    const LoadOptions& options) const {
  if (options.prompt_cache_dir.empty()) return nullptr;
  const auto& how = state_->memory_options;
  auto codec = [](const kernels::RowCodec& c) {
    return fmt::format("{}.{}.{}", int(c.kind), c.bits, c.group);
  };
  auto owner = fmt::format(
      "{} {}{} compute {} qa {} kv {} {} {} {} {} {} max {} {}",
      fingerprint(),
      weights_identity(path_),
      options.adapter_path.empty()
          ? std::string()
          : " with " + weights_identity(options.adapter_path),
      int(state_->loaded.compute_type.val()),
      options.quantize_activations,
      int(how.dtype.val()),
      codec(how.storage.keys),
      codec(how.storage.values),
      how.storage.start,
      how.storage.plain_tokens,
      how.storage.edge_layers,
      how.max_tokens,
      how.keep_tokens);
  disk::StoreOptions disk;
  disk.folder = options.prompt_cache_dir;
  disk.owner = std::move(owner);
  disk.max_bytes = options.prompt_cache_dir_bytes;
  return std::make_shared<DiskPrefixes>(
      std::move(disk),
      state_->loaded.model->caches(),
      how,
      std::shared_ptr<Memory>(state_, state_->memory.get()));
}

PromptCachePtr Container::load_prompt_cache(const std::string& path) {
  auto file = read_cache_file(path);
  auto known = file.metadata.find(model_key);
  if (known != file.metadata.end() && known->second != fingerprint()) {
    fail(
        ErrorKind::request,
        path,
        "expected a prompt cache of {}, found one of {}",
        fingerprint(),
        known->second);
  }
  auto ids = file.ids();
  bool foreign = known == file.metadata.end() || ids.empty();
  int vocab = state_->loaded.model->vocab();
  if (ids.empty()) ids.resize(std::size_t(file.tokens()));
  bool good = int(ids.size()) == file.tokens();
  for (int id : ids)
    good = good && id < vocab;
  if (!good) {
    fail(
        ErrorKind::weights,
        path,
        "expected {} token ids below {}, found {} others",
        file.tokens(),
        vocab,
        ids.size());
  }
  auto cache = make_prompt_cache();
  auto inside = sequence_cache(cache);
  perform([&] {
    auto sequence = state_->memory->sequence();
    restore(
        file,
        state_->loaded.model->caches(),
        state_->memory_options,
        *state_->memory,
        *sequence);
    sequence->mark();
    inside->memory = std::move(sequence);
    inside->tokens = std::move(ids);
    inside->foreign = foreign;
  });
  return cache;
}

void Container::save_prompt_cache(
    const PromptCachePtr& cache,
    const std::string& path,
    PromptCacheLayout layout) {
  auto inside = sequence_cache(cache);
  if (!inside)
    fail(ErrorKind::request, "prompt cache", "expected one, found none");
  CacheFile file;
  perform([&] {
    if (!inside->memory || inside->memory->length() == 0)
      fail(ErrorKind::request, "prompt cache", "expected tokens, found none");
    file = snapshot(
        state_->loaded.model->caches(),
        state_->memory_options,
        *state_->memory,
        *inside->memory);
    file.set_ids(inside->tokens);
  });
  file.metadata[model_key] = fingerprint();
  bool halves = state_->memory_options.dtype != mx::float32;
  write_cache_file(path, file, layout, halves);
}

} // namespace mlxlm
