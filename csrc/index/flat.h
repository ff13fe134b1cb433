// The flat index: every row is looked at, through the cheapest codec first.
//
// Rows lie in columns (see column.h). Removing a row moves the last row into its place, so columns stay dense and
// there is nothing to compact. One writer at a time; any number of searches beside it, each of which sees the rows
// that were complete when it began.
#pragma once

#include <mutex>

#include "index/fair_lock.h"
#include "index/ids.h"
#include "index/rows.h"
#include "index/search.h"

namespace tessella {

// What a file holds. Columns are shared, not copied: a writer copies a chunk that a snapshot still holds.
struct FlatSnapshot {
  std::size_t rows = 0;
  std::int64_t next_id = 0;
  bool trained = false;
  std::optional<std::vector<std::int64_t>> ids;  // absent: 0, 1, 2, …
  std::vector<float> centre;
  std::map<std::string, Column> columns;
  std::optional<PqModel> pq;  // codebooks; biases and the transpose are not looked at
};

class FlatIndex {
 public:
  FlatIndex(RowConfig config, KernelsFn kernels);

  const RowConfig& config() const { return rows_.config(); }
  std::size_t size() const;
  std::size_t nbytes() const;
  bool trained() const;
  bool contains(std::int64_t id) const;
  std::vector<std::int64_t> ids() const;
  std::vector<std::int64_t> find(std::span<const std::int64_t> ids) const;  // row of each id, or -1
  std::vector<std::int64_t> removed_rows() const;                           // none: others take their places

  // x (n, dim) finite floats. The centre is the mean of the rows; later calls move no stored row and are an error
  // once there are any.
  void train(const float* x, std::size_t n);
  // Codebooks of the spec's PQ codec; nothing can be added before they are there. An error once there are rows.
  void set_pq(PqModel model);
  // Throws InvalidArgument unless add would take these ids.
  void check_new_ids(std::span<const std::int64_t> ids);
  // ids empty: next free numbers. All or nothing.
  void add(const float* x, std::size_t n, std::span<const std::int64_t> ids, std::size_t threads);
  // Unknown or repeated ids: InvalidArgument, nothing changed.
  void remove(std::span<const std::int64_t> ids);
  void update(std::span<const std::int64_t> ids, const float* x, std::size_t threads);
  void reconstruct(std::span<const std::int64_t> ids, float* out) const;  // (n, dim)

  void search(const SearchRequest& request) const;
  // Rows whose score reaches the threshold (L2: lies within it), best first, one list per query.
  std::vector<std::vector<RangeHit>> range_search(const float* queries, std::size_t nq, float threshold, float epsilon,
                                                  std::size_t threads) const;

  FlatSnapshot snapshot() const;
  // Replaces everything. Throws FormatError when sizes do not fit together.
  void restore(FlatSnapshot snapshot);
  // Names and bytes per 32-row block of the columns this configuration has.
  std::map<std::string, std::size_t> column_layout() const { return rows_.layout(); }

 private:
  friend class FlatScan;

  std::vector<std::vector<Candidate>> search_admitted(const SearchRequest& request) const;
  void train_locked(const float* x, std::size_t n);

  Rows rows_;
  bool trained_ = false;

  mutable FairLock lock_;  // guards rows_ and everything below
  std::mutex writer_;      // one writer prepares at a time
  IdMap ids_;
};

}  // namespace tessella
