// What sequences remember. A model states per layer *what* must be remembered
// (CacheSpec); Memory decides how: paged pools, one per geometry, shared by all
// sequences; per sequence a page table with reference-counted pages.
//
//   auto memory = make_memory(model.caches(), {.dtype = mx::float16});
//   auto sequence = memory->sequence();
//   sequence->begin(n);  // room for n more tokens, or throws
//   Step step({{sequence.get(), 0, n, sequence->length()}});
//   auto logits = model(tokens, step, *memory);  // blocks use memory.layer(i)
//   sequence->commit(n);  // or rollback()
#pragma once

#include <mlx/array.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "cache/step.h"
#include "runtime/kernels/attention/row_codec.h"
#include "runtime/kernels/mixers.h"

namespace mlxlm {

// ---- what a layer remembers -------------------------------------------------
struct FullKv {
  int kv_heads, head_dim, v_dim = 0; // v_dim 0: head_dim
};
struct SlidingKv {
  int kv_heads, head_dim;
  int window; // a token sees itself and window - 1 before
  int v_dim = 0;
  bool chunked = false; // only those of its own chunk of `window` tokens
  int keep = 0; // first tokens seen for ever, of the window's number
};
// One shared row a token: `rank` latent values, then `rope` rotated ones. Keys
// are the whole row, values its first `rank` entries (MLA, absorbed form).
struct LatentKv {
  int rank, rope;
  bool readable = false; // rows can be kept and read without attending
  bool exact = false; // never packed: other attention is chosen by it
};
// Arrays that summarise the past, each [1, shape...], zero at the start.
struct Recurrent {
  struct State {
    mx::Shape shape;
    mx::Dtype dtype;
  };
  std::vector<State> states;
};
// Borrows the keys and values of layer `source` (KV sharing).
struct SharedKv {
  int source;
};
using CacheSpec = std::
    variant<std::monostate, FullKv, SlidingKv, LatentKv, Recurrent, SharedKv>;

// ---- what a block calls -----------------------------------------------------
struct AttendOptions {
  float scale = 1;
  float softcap = 0; // 0: none; else cap * tanh(score / cap)
  // [heads]: a logit per head that takes mass
  std::optional<mx::array> sinks = {};
};

// One layer's view of Memory. The functions a layer's spec does not provide
// throw Error(internal).
class LayerCache {
 public:
  virtual ~LayerCache() = default;

  // Stores k, v of this pass' tokens and attends causally, within the window.
  // q [1, N, H, D], k [1, N, Hkv, D], v [1, N, Hkv, Dv]; result [1, N, H, Dv].
  virtual mx::array attend(
      const Step& step,
      const mx::array& q,
      const mx::array& k,
      const mx::array& v,
      const AttendOptions& options);
  // Attends to what the layer it borrows from has stored in this pass and
  // before.
  virtual mx::array attend(
      const Step& step,
      const mx::array& q,
      const AttendOptions& options);
  // Latent: q [1, N, H, rank + rope], row [1, N, rank + rope] -> [1, N, H,
  // rank].
  virtual mx::array attend_latent(
      const Step& step,
      const mx::array& q,
      const mx::array& row,
      const AttendOptions& options);

  // Latent and readable: keeps rows [1, N, rank + rope] without attending. The
  // result must be evaluated with the pass (mx::depends).
  virtual mx::array keep(const Step& step, const mx::array& row);
  // Every row that the sequence of segment `segment` has, this pass' included,
  // [T, rank + rope].
  virtual mx::array kept(const Step& step, int segment);

  // Recurrent: state `index` of the segment's sequence, [1, shape...], and what
  // it is after the segment's last token.
  virtual mx::array state(const Segment& segment, int index);
  virtual void set_state(const Segment& segment, int index, mx::array value);
  // Recurrent, for kernels that read and write states in place: where state
  // `index` of each of the pass' sequences lies and where the pass leaves it. A
  // layer that asks for one takes all its states so. Null where states are
  // arrays of the graph.
  virtual kernels::StatePlacesPtr places(const Step& step, int index);
};

// ---- memory -----------------------------------------------------------------
// How rows are kept in a sequence that has `start` tokens or more. Plain: as
// MemoryOptions::dtype says.
struct KvStorage {
  kernels::RowCodec keys, values;
  int start = 0;
  int plain_tokens = 0; // first tokens that stay plain, in whole pages
  int edge_layers = 0; // at either end, kept in 8 bits

  bool packs() const {
    constexpr auto plain = kernels::RowCodec::Kind::floats;
    return keys.kind != plain || values.kind != plain;
  }
};

struct MemoryOptions {
  mx::Dtype dtype = mx::float16; // of stored keys and values
  int page_tokens = 64;
  std::size_t max_bytes = 0; // 0: unlimited
  // Keeps rows in MLX arrays, as GPUs do, where plain memory would be the
  // choice.
  bool arrays = false;
  KvStorage storage = {};
  // Most tokens a layer without a window remembers, of them the first
  // `keep_tokens`; 0: all.
  int max_tokens = 0;
  int keep_tokens = 4;
};

// Rows of one layer as plain numbers, for files: [count, kv_heads, dim]. Either
// floats, or affine codes with a scale and a bias a group.
struct CacheRows {
  struct Codes {
    std::vector<std::uint8_t> codes;
    std::vector<float> scales, biases; // [count, kv_heads, groups]
  };
  int count = 0;
  std::vector<float> k, v; // v empty where one row is both
  int bits = 0, group = 0; // of codes; 0: floats
  Codes k_codes = {}, v_codes = {};
};

// One sequence's page tables and states. Destroying it frees its pages.
class SequenceMemory {
 public:
  virtual ~SequenceMemory() = default;
  virtual int length() const = 0; // tokens remembered (committed)
  // Makes room for `tokens` more. Throws Error(resource) when the pool is full;
  // nothing has changed then.
  virtual void begin(int tokens) = 0;
  // Keeps the first `tokens` of those begun and forgets the rest. Where
  // Memory::partial_commit is false, all or none.
  virtual void commit(int tokens) = 0;
  // Forgets everything since begin.
  virtual void rollback() = 0;
  // Shortens to `length` tokens; returns the length reached, less than asked
  // when a window or a recurrent state forces going back further (0: start
  // again).
  virtual int trim(int length) = 0;
  // Remembers recurrent states as they are now, so that trim can come back here
  // (the end of a message). Done by itself at page boundaries; the latest few
  // are kept.
  virtual void mark() = 0;
  // A second sequence that shares these pages (copy on write).
  virtual std::unique_ptr<SequenceMemory> fork() = 0;
  virtual std::size_t bytes() const = 0;

  // Rows of `layer` at [first, first + count), which must be remembered; as
  // codes where they are packed so and `codes` asks for it.
  virtual CacheRows rows(int layer, int first, int count, bool codes) = 0;
  // Between begin and commit: what a pass would have written.
  virtual void set_rows(int layer, int first, const CacheRows& rows) = 0;
  // Page `number` of `layer`, which must be remembered, as it is packed: bytes
  // that only memory of the same specs and options reads. Empty where the page
  // is plain.
  virtual std::vector<std::byte> packed_page(int layer, int number) = 0;
  // Between begin and commit, the whole page. Throws Error(io) where the page
  // is plain here or of another size.
  virtual void set_packed_page(
      int layer,
      int number,
      std::span<const std::byte> bytes) = 0;
};

// Where the kernels of a pass find its sequences' pages.
class PassTables {
 public:
  virtual ~PassTables() = default;
  // Exchanges contents with tables of the same memory, for kernels that were
  // recorded with these to run for the other's pass.
  virtual void swap(PassTables& other) = 0;
  // Gives every sequence room for the states that the recorded pass leaves.
  virtual void prepare(const PassTables& recorded) = 0;
  // Lets go of the pages.
  virtual void clear() = 0;
};

class Memory {
 public:
  virtual ~Memory() = default;
  virtual std::unique_ptr<SequenceMemory> sequence() = 0;
  virtual LayerCache& layer(int index) = 0;
  virtual int layers() const = 0;
  virtual std::size_t bytes() const = 0; // pages and states in use
  virtual std::size_t bytes_per_token() const = 0;
  // What a sequence of `tokens` takes between passes at most, whole pages and
  // states; Footprint adds what a pass needs besides.
  virtual std::size_t bytes_for(int tokens) const = 0;
  // The longest new sequence that fits in what is free now.
  virtual int max_tokens() const = 0;
  // Whether commit may keep a part of what was begun (recurrent states cannot).
  virtual bool partial_commit() const = 0;
  // The tables of a step, made once; null where nothing is paged.
  virtual std::shared_ptr<PassTables> tables(const Step&) {
    return nullptr;
  }
  // Gives memory of pages no longer used back to the system.
  virtual void release_unused() = 0;
};

std::unique_ptr<Memory> make_memory(
    const std::vector<CacheSpec>& specs,
    const MemoryOptions& options);
// Remembers nothing: every segment sees only itself. For training and
// embedding.
std::unique_ptr<Memory> make_stateless(const std::vector<CacheSpec>& specs);

} // namespace mlxlm
