// Keys and values of one group of layers, addressed by pages. One
// implementation a device; make_store is the only place that chooses.
#pragma once

#include <mlx/array.h>

#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "cache/layout.h"
#include "cache/pages.h"
#include "runtime/kernels/attention/paged.h"

namespace mlxlm::cache {

// A segment of the pass and the pages its sequence has in the group.
struct View {
  std::shared_ptr<const PageList> pages;
  int first, count, offset; // as in Segment
  bool apart = false;
};
// All of them, and the same as the CPU's kernels read it.
struct GroupViews {
  std::vector<View> views;
  std::shared_ptr<std::vector<kernels::PagedSegment>> segments;

  explicit GroupViews(std::vector<View> list);
};

struct Attended {
  mx::array out; // [1, N, H, Dv]
  // Set when the rows are written as a side effect: evaluated after they are.
  // What reads them must depend on it.
  std::optional<mx::array> written;
};

struct KeysValues {
  mx::array k, v; // v is not read when the geometry is latent
};

class KvStore {
 public:
  virtual ~KvStore() = default;
  // Stores `rows`, if any, and attends. `after`: writes that must come first.
  virtual Attended attend(
      int slot,
      const GroupViews& views,
      const mx::array& q,
      const std::optional<KeysValues>& rows,
      const AttendOptions& options,
      const std::vector<mx::array>& after) = 0;
  // Of latent rows: keeps them without attending. `out` is what must be
  // evaluated with the pass.
  virtual Attended keep(
      int slot,
      const GroupViews& views,
      const mx::array& rows,
      const std::vector<mx::array>& after) = 0;
  // All rows of a sequence, [offset + count, k_dim].
  virtual mx::array kept(
      int slot,
      const View& view,
      const std::vector<mx::array>& after) = 0;
  // Copies a page of every layer; what was written to `from` has been
  // evaluated.
  virtual void copy(const Page& from, const Page& to) = 0;
  // Packs the first `tokens` of a plain page into a packed one; before: the
  // page in front of it, which is done, or null.
  virtual void pack(
      const Page* before,
      const Page& from,
      const Page& to,
      int tokens) = 0;
  virtual std::size_t packed_page_bytes() const = 0;
  // One layer of a packed page as it lies here; all work on it is done.
  virtual std::vector<std::byte> packed_layer(int slot, const Page& page) = 0;
  // The opposite; false where the size is another.
  virtual bool set_packed_layer(
      int slot,
      const Page& page,
      std::span<const std::byte> bytes) = 0;
  // Rows [first, first + count) of one layer; all work on them is done.
  virtual CacheRows read(
      int slot,
      const PageList& pages,
      int first,
      int count,
      bool codes) = 0;
  virtual void write(
      int slot,
      const std::shared_ptr<const PageList>& pages,
      int first,
      const CacheRows& rows) = 0;
};

struct StoreOptions {
  mx::Dtype dtype;
  int page_tokens;
  bool raw; // pages are plain memory: raw_pages()
  KvStorage storage = {};
  int edge_of = 0; // layers with keys, of which storage.edge_layers are edges

  bool packs(const Geometry& geometry) const {
    return storage.packs() && !geometry.exact;
  }
  // Whether plain pages keep what queries weigh, for when they are packed.
  bool keeps_energies(const Geometry& geometry) const;
  // Of a plain page of all layers.
  std::size_t page_bytes(const Group& group) const;

  // Of the layer that is number `order` of those with keys.
  std::pair<kernels::RowCodec, kernels::RowCodec> codecs(int order) const;
};

// Whether pages are to be plain memory: what only the CPU can attend to.
bool raw_pages(const MemoryOptions& options);
std::unique_ptr<KvStore> make_store(
    const Group& group,
    const StoreOptions& options);

} // namespace mlxlm::cache
