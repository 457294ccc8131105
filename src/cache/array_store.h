// Pages as rows of MLX arrays, one pair a layer, written by scatter and read by
// gather: any device.
#pragma once

#include "cache/store.h"

namespace mlxlm::cache {

class ArrayStore final : public KvStore {
 public:
  ArrayStore(const Group& group, const StoreOptions& options);
  Attended attend(
      int slot,
      const GroupViews& group,
      const mx::array& q,
      const std::optional<KeysValues>& rows,
      const AttendOptions& options,
      const std::vector<mx::array>& after) override;
  Attended keep(
      int slot,
      const GroupViews& group,
      const mx::array& rows,
      const std::vector<mx::array>& after) override;
  mx::array kept(
      int slot,
      const View& view,
      const std::vector<mx::array>& after) override;
  void copy(const Page& from, const Page& to) override;

 private:
  struct Rows { // [pages * page_tokens, kv_heads, dim]
    mx::array keys, values;
  };

  void grow(int pages);
  void put(Rows& layer, const GroupViews& group, const KeysValues& rows);
  mx::array places(const std::vector<View>& views) const;
  mx::array gather(const mx::array& rows, const View& view, int first_page)
      const;
  mx::array attend_one(
      const Rows& rows,
      const View& view,
      const mx::array& q,
      const AttendOptions& options) const;

  Geometry geometry_;
  StoreOptions options_;
  int capacity_ = 0; // pages
  std::vector<Rows> layers_;
};

} // namespace mlxlm::cache
