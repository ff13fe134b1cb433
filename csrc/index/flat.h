// The flat index: every row is looked at, through the cheapest codec first.
//
// Rows lie in columns (see column.h). Removing a row moves the last row into its place, so columns stay dense and
// there is nothing to compact. One writer at a time; any number of searches beside it, each of which sees the rows
// that were complete when it began.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "index/codec.h"
#include "index/column.h"
#include "index/fair_lock.h"
#include "index/ids.h"
#include "index/topk.h"
#include "tessella/kernels.h"

namespace tessella {

struct FlatConfig {
  std::size_t dim = 0;
  Metric metric = Metric::kInnerProduct;
  bool normalize = false;  // cosine: rows and queries are scaled to unit length on the way in
  std::vector<Codec> codecs;
  std::uint64_t seed = 0;  // of the rotation
};

// What a file holds. Columns are shared, not copied: a writer copies a chunk that a snapshot still holds.
struct FlatSnapshot {
  std::size_t rows = 0;
  std::int64_t next_id = 0;
  bool trained = false;
  std::optional<std::vector<std::int64_t>> ids;  // absent: 0, 1, 2, …
  std::vector<float> centre;
  std::map<std::string, Column> columns;
};

// Work of a search, summed over its queries. Exact and repeatable at one thread.
struct SearchCounts {
  std::uint64_t scanned = 0;   // rows looked at through the first codec
  std::uint64_t refined = 0;   // rows looked at through the second
  std::uint64_t rescored = 0;  // final candidates scored once more
};

struct SearchRequest {
  const float* queries;  // (nq, dim)
  std::size_t nq;
  std::size_t k;
  float epsilon;  // how many error bounds B1 keeps
  std::size_t threads;
  float* scores;      // (nq, k): similarity, or squared distance for L2
  std::int64_t* ids;  // (nq, k), -1 where there are fewer rows
  SearchCounts* counts = nullptr;
};

struct RangeHit {
  float score;
  std::int64_t id;
};

class FlatIndex {
 public:
  using KernelsFn = const Kernels& (*)();

  FlatIndex(FlatConfig config, KernelsFn kernels);

  const FlatConfig& config() const { return config_; }
  std::size_t size() const;
  std::size_t nbytes() const;
  bool trained() const;
  bool contains(std::int64_t id) const;
  std::vector<std::int64_t> ids() const;

  // x (n, dim) finite floats. The centre is the mean of the rows; later calls move no stored row and are an error
  // once there are any.
  void train(const float* x, std::size_t n);
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
  std::map<std::string, std::size_t> column_layout() const;

 private:
  friend class FlatScan;
  struct Encoded;  // rows on their way in

  bool has(Codec::Kind kind) const;
  bool rotates() const { return has(Codec::Kind::kB1) || has(Codec::Kind::kScalar); }
  bool keeps_norms() const;
  void train_locked(const float* x, std::size_t n);
  std::vector<float> prepared(const float* x, std::size_t n) const;  // normalised if need be
  Encoded encode(const float* x, std::size_t n, std::size_t threads) const;
  void encode_tile(const float* x, std::size_t first, std::size_t n, Encoded& out) const;
  void store(const Encoded& rows, std::size_t i, std::size_t row);
  void move_row(std::size_t from, std::size_t to);
  void resize(std::size_t rows);
  std::vector<std::size_t> rows_of(std::span<const std::int64_t> ids, const char* operation) const;
  void check_unique(std::span<const std::int64_t> ids, const char* operation) const;
  void decode(std::size_t row, float* out) const;

  FlatConfig config_;
  KernelsFn kernels_;
  std::size_t padded_;
  std::vector<std::uint64_t> signs_;
  std::vector<float> centre_;
  bool trained_ = false;

  mutable FairLock lock_;  // guards everything below
  std::mutex writer_;      // one writer prepares at a time
  IdMap ids_;
  std::map<std::string, Column> columns_;
};

}  // namespace tessella
