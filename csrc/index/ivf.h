// The inverted file: rows are kept in lists by nearest centroid, and a search looks into the lists nearest to the
// query.
//
// Row store and inverted lists are two things. The finer codecs lie in columns by row number (rows.h), once a row; the
// lists hold row numbers and 1-bit codes of residuals from their centroid (lists.h), twice a row where lists spill.
// Centroids are rows of their own, B1+U8 about the same centre: a query's tables serve them too, and a centroid *is*
// what its 8-bit code says.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <mutex>

#include "index/fair_lock.h"
#include "index/flat.h"
#include "index/kmeans.h"
#include "index/lists.h"
#include "index/nearest.h"
#include "index/rows.h"
#include "index/search.h"

namespace tessella {

struct IvfConfig {
  RowConfig rows;         // codecs as the spec has them, B1 included
  std::size_t lists = 0;  // 0: from the number of training rows, 8 * sqrt(n), a power of two
  bool spill = false;     // each row in a second list too (SOAR)
};

std::size_t default_lists(std::size_t rows);

struct IvfSnapshot {
  std::size_t rows = 0;
  std::int64_t next_id = 0;
  std::optional<std::vector<std::int64_t>> ids;
  std::vector<float> centre;
  std::size_t lists = 0;  // 0: not trained
  std::map<std::string, Column> columns, centroids;
  std::vector<float> shrinks;  // (lists)
  std::vector<InvertedLists::List> entries;
  std::optional<PqModel> pq;
};

struct IvfRequest {
  SearchRequest search;
  std::size_t nprobe;
};

class IvfIndex {
 public:
  IvfIndex(IvfConfig config, KernelsFn kernels);

  const RowConfig& config() const { return config_.rows; }
  bool spills() const { return config_.spill; }
  std::size_t size() const;
  std::size_t nbytes() const;
  bool trained() const;
  std::size_t lists() const;  // 0 before training
  bool contains(std::int64_t id) const;
  std::vector<std::int64_t> ids() const;
  std::vector<std::int64_t> find(std::span<const std::int64_t> ids) const;  // row of each id, or -1
  std::vector<std::int64_t> removed_rows() const;                           // none: others take their places
  std::vector<std::size_t> list_sizes() const;
  void centroids(float* out) const;  // (lists, dim)

  // Centre and centroids from rows (n, dim); an error once there are rows.
  void train(const float* x, std::size_t n, std::size_t threads, const KmeansProgress& progress);
  void set_pq(PqModel model);
  void check_new_ids(std::span<const std::int64_t> ids);
  void add(const float* x, std::size_t n, std::span<const std::int64_t> ids, std::size_t threads);
  void remove(std::span<const std::int64_t> ids);
  void update(std::span<const std::int64_t> ids, const float* x, std::size_t threads);
  void reconstruct(std::span<const std::int64_t> ids, float* out) const;
  // Splits lists that have grown too long, gives up those that have grown too short, and puts lists in order. Searches
  // wait meanwhile.
  void compact(std::size_t threads);

  void search(const IvfRequest& request) const;
  std::vector<std::vector<RangeHit>> range_search(const float* queries, std::size_t nq, float threshold, float epsilon,
                                                  std::size_t nprobe, std::size_t threads) const;

  IvfSnapshot snapshot();
  void restore(IvfSnapshot snapshot);
  std::map<std::string, std::size_t> column_layout() const { return rows_.layout(); }
  std::map<std::string, std::size_t> centroid_layout() const { return centroids_.layout(); }
  std::size_t list_block_bytes() const { return lists_.block_bytes(); }

 private:
  friend class IvfScan;
  std::vector<std::vector<Candidate>> search_admitted(const IvfRequest& request) const;
  // For each row on its way in, its one or two lists.
  struct Homes {
    std::vector<std::uint32_t> lists;  // (n, homes)
  };
  // Scan codes of rows on their way in: 1-bit codes of residuals from their lists' centroids, or PQ codes.
  struct Entries {
    struct Factors { float scale, error, term; };
    std::vector<std::uint8_t> bits;  // (n, homes, D/8)
    std::vector<Factors> factors;    // (n, homes)
    PqCodes pq;
  };

  static constexpr std::uint32_t kNone = UINT32_MAX;
  static constexpr std::size_t kHomes = 2;

  bool scans_codes() const { return lists_.block_bytes() != 0; }
  std::size_t homes() const { return config_.spill ? 2 : 1; }
  void train_locked(const float* x, std::size_t n, std::size_t threads, const KmeansProgress& progress);
  void set_centroids(const float* centroids, std::size_t count, std::size_t threads);
  void fit_shrinks(const float* rows, const KmeansResult& found);
  void centre_of(std::size_t list, float* centre) const;
  void refresh_centroids();
  std::unique_ptr<FlatIndex> flat_centroids() const;
  const NearestCentroids& nearest_centroids(std::size_t threads) const;  // for the writer alone
  std::vector<float> all_centroids() const;                              // (lists, dim)
  Homes nearest_lists(const float* x, std::size_t n, std::size_t threads) const;
  std::uint32_t second_home(const float* row, const float* centroids, std::span<const std::int64_t> candidates) const;
  Entries encode_entries(const float* rows, const std::uint32_t* homes, std::size_t n) const;
  void append_row(const Entries& entries, std::size_t i, const std::uint32_t* homes, std::uint32_t row);
  void decode(std::size_t row, float* out) const;
  std::array<std::vector<std::uint32_t>, kHomes> checked_homes(const IvfSnapshot& snapshot) const;
  void drop_entries(std::uint32_t row);
  // Of compact: see ivf_balance.cpp.
  bool split_list(std::size_t list, std::size_t threads);
  void give_up_list(std::size_t list, std::size_t threads);
  std::vector<float> values_of(std::span<const std::uint32_t> rows) const;
  void set_centroid(std::size_t list, const float* centroid, std::size_t threads);
  void move_home(const float* row, std::uint32_t number, std::size_t home, std::uint32_t list);
  void renumber_row(std::uint32_t from, std::uint32_t to);

  IvfConfig config_;
  KernelsFn kernels_;
  Rows rows_;       // by row number; without B1
  Rows centroids_;  // by list; B1+U8
  bool trained_ = false;
  mutable std::unique_ptr<NearestCentroids> nearest_;  // of the writer; nullptr: centroids have changed since
  mutable std::atomic<std::size_t> nearest_bytes_ = 0;

  mutable FairLock lock_;
  std::mutex writer_;
  IdMap ids_;
  InvertedLists lists_;
  std::array<std::vector<std::uint32_t>, kHomes> homes_;  // lists of each row
  std::vector<float> shrinks_;                            // codes are taken about shrink * centroid
  std::vector<float> anchors_norm2_;                      // |anchor|^2, see encode_entries
  std::vector<float> rotated_centre_;                     // inner product: R(centre)
};

}  // namespace tessella
