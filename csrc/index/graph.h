// The graph index: rows are vertices, a search walks from neighbour to neighbour towards the query.
//
// With a B1 codec a vertex's record holds 1-bit codes of its edges, and a walk sees 32 neighbours at the price of one
// (Gou et al., SymphonyQG, arXiv 2411.12229); the finer codec scores the vertices that it visits. Without B1 every
// neighbour is scored by its own code. Rows that were removed stay as stepping stones until enough have gathered; then
// those that linked to them are linked anew, and the rows are given up.
//
// One writer at a time, beside any number of searches: a writer looks for neighbours while others search, and waits
// for them only to put down what it has found.
#pragma once

#include <functional>
#include <mutex>

#include "index/fair_lock.h"
#include "index/links.h"
#include "index/rows.h"
#include "index/search.h"

namespace tessella {

struct GraphConfig {
  RowConfig rows;
  std::size_t degree = 32;
};

// Rows from all over, looked through by 1-bit codes: a walk begins at the best of them.
struct GraphEntries {
  std::vector<std::uint32_t> rows;
  std::vector<std::uint8_t> blocks;  // see tessella/rabitq.h
  float longest2 = 0.0f;             // the largest squared length among them
  std::size_t chosen_from = 0;       // rows there were then
};

// Everything that a walk reads.
struct GraphParts {
  GraphParts(const GraphConfig& config, KernelsFn kernels);

  // Chooses the entries anew, from the rows there are; the second only where many have come since.
  void refresh_entries();
  void refresh_outgrown_entries();
  std::size_t size() const { return ids.size() - ids.nameless(); }

  Rows rows;  // without B1
  Links links;
  GraphEntries entries;
  IdMap ids;  // rows without an id were removed
};

struct GraphSnapshot {
  std::size_t rows = 0;
  std::int64_t next_id = 0;
  bool trained = false;
  std::optional<std::vector<std::int64_t>> ids;
  std::vector<float> centre;
  std::map<std::string, Column> columns;  // those of the rows, and "links"
};

struct GraphRequest {
  SearchRequest search;
  std::size_t ef;  // length of the list of candidates that a walk keeps
};

using GraphProgress = std::function<void(double share)>;

class GraphIndex {
 public:
  GraphIndex(GraphConfig config, KernelsFn kernels);

  const RowConfig& config() const { return config_.rows; }
  std::size_t size() const;
  std::size_t nbytes() const;
  bool trained() const;
  bool contains(std::int64_t id) const;
  std::vector<std::int64_t> ids() const;
  std::vector<std::int64_t> find(std::span<const std::int64_t> ids) const;  // row of each id, or -1
  std::vector<std::int64_t> removed_rows() const;                           // rows that are still there, without an id

  // The centre: the mean of x (n, dim). An error once there are rows.
  void train(const float* x, std::size_t n);
  void check_new_ids(std::span<const std::int64_t> ids);
  // The first rows are linked all at once, later ones by walks. `progress` hears of the first, on the caller's thread;
  // what it throws leaves the index as it was.
  void add(const float* x, std::size_t n, std::span<const std::int64_t> ids, std::size_t threads,
           const GraphProgress& progress = {});
  void remove(std::span<const std::int64_t> ids);
  void update(std::span<const std::int64_t> ids, const float* x, std::size_t threads);
  void reconstruct(std::span<const std::int64_t> ids, float* out) const;
  void compact(std::size_t threads);  // gives up removed rows now

  void search(const GraphRequest& request) const;
  // Of the rows that a walk with `ef` candidates meets, longer ones while more than half of those count.
  std::vector<std::vector<RangeHit>> range_search(const float* queries, std::size_t nq, float threshold, float epsilon,
                                                  std::size_t ef, std::size_t threads) const;

  GraphSnapshot snapshot();
  void restore(GraphSnapshot snapshot);
  std::map<std::string, std::size_t> column_layout() const;

 private:
  std::vector<std::vector<Candidate>> search_admitted(const GraphRequest& request) const;
  std::vector<std::vector<Candidate>> search_by_walks(const GraphRequest& request) const;
  void build(const float* x, std::size_t n, std::span<const std::int64_t> ids, std::vector<float> centre,
             std::size_t threads, const GraphProgress& progress);
  void insert(const float* x, std::size_t n, std::span<const std::int64_t> ids, std::span<const std::size_t> replaced,
              std::size_t threads);
  void tidy(std::size_t threads);   // sweeps where enough rows were removed
  void sweep(std::size_t threads);  // gives up removed rows

  GraphConfig config_;
  KernelsFn kernels_;
  bool trained_ = false;

  mutable FairLock lock_;  // guards parts_ and trained_
  std::mutex writer_;
  GraphParts parts_;
};

}  // namespace tessella
