// Searching a flat index. Raw rows are scanned exactly. Codes are scanned by estimate, and rows whose upper bound can
// still reach the k-th best are refined by the next codec.
//
// A row's rank is decided by min(refined similarity, B1 upper bound). Then dropping a row because its upper bound lies
// under the running threshold never changes the outcome, so results do not depend on the order of the scan or on the
// number of threads. Reported scores are the refined ones.
#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>

#include "common/parallel.h"
#include "index/flat.h"
#include "tessella/errors.h"

namespace tessella {

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::size_t kProductQueries = 1024;  // queries that share one packing of the rows
constexpr std::size_t kPoolBytes = 16u << 20;  // most memory for one task's candidate pools
constexpr std::size_t kFirstRows = 512;        // a scan's first range, until a threshold is known
constexpr std::size_t kRangeRows = 4096;       // its largest
constexpr std::size_t kRefineRows = 64;        // rows refined between two looks at the threshold
constexpr std::size_t kRawFactor = 4;          // a raw last stage re-scores this many times k

constexpr std::size_t kTaskQueries = 64;  // queries that share one task's work space
constexpr std::size_t kPassQueries = 16;  // queries that share a range while it is in the cache

struct Range { std::size_t first, last; };

// A candidate and the score that will be reported for it; the two differ where a refined score exceeds its bound.
struct Ranked {
  Candidate by;
  float score;
};
using Lists = std::vector<std::vector<Ranked>>;

// A row whose upper bound reaches the threshold though its estimate does not.
struct Deferred {
  std::uint32_t row;
  float upper;
};

// Room for one task, allocated once: fresh pages would cost more than the scan of a small index.
struct WorkSpace {
  std::array<std::vector<RabitqHit>, kRabitqQueries> hits;
  std::array<std::vector<Deferred>, kPassQueries> deferred;
  AlignedBuffer tables;
};

}  // namespace

// One query's tables for every codec of the index.
struct QueryTables {
  const float* raw = nullptr;
  RabitqQuery b1{};
  ScalarQuery scalar{};
  float add = 0.0f;
};

class FlatScan {
 public:
  FlatScan(const FlatIndex& index, const SearchRequest& request, std::vector<float> queries)
      : ix_(index),
        config_(index.config_),
        kernels_(index.kernels_()),
        request_(request),
        queries_(std::move(queries)),
        b1_(column("b1")),
        codes_(column("codes")),
        scales_(column("scales")),
        norms2_(column("norms2")),
        raw_(column("raw")) {}

  // Best first, at most k a query.
  std::vector<std::vector<Candidate>> run() {
    config_.codecs.front().kind == Codec::Kind::kRaw ? scan_raw() : scan_codes();
    std::vector<std::vector<Candidate>> out(request_.nq);
    parallel_for(request_.nq, request_.threads, [&](std::size_t q) { out[q] = finished(q); });
    if (request_.counts != nullptr) *request_.counts = {request_.nq * rows(), refined_, rescored_};
    return out;
  }

  std::vector<Candidate> within(std::size_t q, float similarity);

 private:
  const Column* column(const char* name) const {
    const auto found = ix_.columns_.find(name);
    return found == ix_.columns_.end() ? nullptr : &found->second;
  }
  std::size_t rows() const { return ix_.ids_.size(); }
  const float* query(std::size_t q) const { return queries_.data() + q * config_.dim; }
  float factor() const { return config_.metric == Metric::kL2 ? 2.0f : 1.0f; }

  // Work is cut by queries when there are enough of them, otherwise by rows; lists of parts are merged.
  template <typename Scan>
  void for_parts(std::size_t group, std::size_t unit, std::size_t enough, std::size_t keep, const Scan& scan);

  void scan_raw();
  void exact_part(std::size_t q0, std::size_t nq, Range range, std::size_t keep, Lists& out) const;

  void scan_codes();
  std::size_t table_bytes() const { return ix_.padded_ * 7 + rabitq_table_bytes(ix_.padded_); }
  QueryTables tables_for(const float* query, std::uint8_t* memory) const;
  void code_part(std::size_t q0, std::size_t nq, Range range, std::size_t keep, WorkSpace& space, Lists& out) const;
  void scan_b1(const QueryTables* tables, std::size_t nq, Range range, WorkSpace& space,
               std::vector<TopK>& pools) const;
  void scan_range(const QueryTables* tables, std::size_t nq, Range range, WorkSpace& space, TopK* pools,
                  std::vector<Deferred>* deferred) const;
  void scan_scalar(const QueryTables& tables, Range range, TopK& pool) const;
  void keep_best(const QueryTables& tables, std::size_t base, RabitqHit* hits, std::size_t count, TopK& pool,
                 std::vector<Deferred>& deferred) const;
  void refine_deferred(const QueryTables& tables, std::vector<Deferred>& deferred, TopK& pool) const;
  void scalar_similarities(const QueryTables& tables, std::size_t base, const std::uint32_t* which, std::size_t count,
                           float* out) const;
  float norm2(std::size_t row) const;
  std::vector<Candidate> finished(std::size_t q);

  // Rows on their way through the refining codec, a few at a time and all of one chunk.
  class Refinement {
   public:
    Refinement(const FlatScan& scan, const QueryTables& tables, TopK& pool)
        : scan_(scan), tables_(tables), pool_(pool) {}
    void add(const Deferred& hit);
    void flush();

   private:
    const FlatScan& scan_;
    const QueryTables& tables_;
    TopK& pool_;
    std::size_t base_ = 0, count_ = 0;
    std::array<std::uint32_t, kRefineRows> which_;
    std::array<float, kRefineRows> uppers_;
  };

  const Codec* refiner() const { return config_.codecs.size() > 1 ? &config_.codecs[1] : nullptr; }
  bool ends_raw() const { return config_.codecs.back().kind == Codec::Kind::kRaw; }

  const FlatIndex& ix_;
  const FlatConfig& config_;
  const Kernels& kernels_;
  const SearchRequest& request_;
  std::vector<float> queries_;
  Lists lists_;
  mutable std::atomic<std::uint64_t> refined_{0}, rescored_{0};
  const Column *b1_, *codes_, *scales_, *norms2_, *raw_;  // nullptr where the index has no such column
};

template <typename Scan>
void FlatScan::for_parts(std::size_t group, std::size_t unit, std::size_t enough, std::size_t keep, const Scan& scan) {
  const std::size_t nq = request_.nq, threads = request_.threads;
  const std::size_t blocks = (rows() + kBlockRows - 1) / kBlockRows;
  std::size_t groups = (nq + group - 1) / group;
  std::size_t parts = 1;
  if (nq < enough * threads) {
    parts = std::min(threads, (blocks + 31) / 32);  // a part of fewer than 1,024 rows is not worth a thread
  } else {
    groups = std::min(nq, (groups + threads - 1) / threads * threads);
  }
  // Whole tiles but for the last group: queries that share a pass cost less.
  const std::size_t each = ((nq + groups - 1) / groups + unit - 1) / unit * unit;
  groups = (nq + each - 1) / each;
  std::vector<Lists> found(groups * parts);
  parallel_for(groups * parts, threads, [&](std::size_t task) {
    const std::size_t g = task / parts, p = task % parts;
    const std::size_t q0 = g * each, q1 = std::min(nq, q0 + each);
    const Range range{blocks * p / parts * kBlockRows, std::min(rows(), blocks * (p + 1) / parts * kBlockRows)};
    scan(q0, q1 - q0, range, found[task]);
  });
  lists_.resize(nq);
  for (std::size_t task = 0; task < found.size(); ++task) {
    const std::size_t q0 = task / parts * each;
    for (std::size_t i = 0; i < found[task].size(); ++i) {
      auto& list = lists_[q0 + i];
      list.insert(list.end(), found[task][i].begin(), found[task][i].end());
    }
  }
  if (parts == 1) return;
  for (auto& list : lists_) {
    std::sort(list.begin(), list.end(), [&](const Ranked& a, const Ranked& b) { return ix_.ids_.better(a.by, b.by); });
    if (list.size() > keep) list.resize(keep);
  }
}

// A raw last codec scores once more: a row's score is that of exact_score, whichever path found it.
std::vector<Candidate> FlatScan::finished(std::size_t q) {
  std::vector<Candidate> list;
  list.reserve(lists_[q].size());
  for (const Ranked& entry : lists_[q]) list.push_back({entry.score, entry.by.row});
  if (ends_raw()) {
    for (Candidate& c : list) {
      kernels_.exact_score({query(q), raw_->row(static_cast<std::size_t>(c.row)), config_.codecs.back().type,
                            config_.dim, config_.metric, nullptr, 1, &c.similarity});
    }
  }
  rescored_.fetch_add(ends_raw() ? list.size() : 0, std::memory_order_relaxed);
  ix_.ids_.sort(list);
  if (list.size() > request_.k) list.resize(request_.k);
  return list;
}

// ---- raw rows ------------------------------------------------------------------------------------------------------

void FlatScan::scan_raw() {
  const std::size_t keep = std::min(request_.k + kSpareCandidates, rows());
  const std::size_t pool_bytes = (2 * keep + 64) * sizeof(Candidate);
  const std::size_t group = std::clamp(kPoolBytes / pool_bytes, std::size_t{16}, kProductQueries);
  for_parts(group, 1, 8, keep,
            [&](std::size_t q0, std::size_t nq, Range range, auto& out) { exact_part(q0, nq, range, keep, out); });
}

void FlatScan::exact_part(std::size_t q0, std::size_t nq, Range range, std::size_t keep, Lists& out) const {
  std::vector<Candidate> best(nq * keep, Candidate{-kInfinity, -1});
  AlignedBuffer scratch(kernels_.exact_topk_scratch(nq, kChunkRows, config_.dim, keep));
  for (std::size_t row = range.first; row < range.last;) {
    const std::size_t end = std::min(range.last, (row / kChunkRows + 1) * kChunkRows);
    kernels_.exact_topk({query(q0), nq, raw_->row(row), config_.codecs.front().type, end - row, config_.dim,
                         config_.metric, static_cast<std::int64_t>(row), ix_.ids_.data(), keep, best.data(),
                         scratch.data(), nullptr});
    row = end;
  }
  out.resize(nq);
  for (std::size_t i = 0; i < nq; ++i) {
    for (std::size_t j = i * keep; j < (i + 1) * keep && best[j].row >= 0; ++j) {
      out[i].push_back({best[j], best[j].similarity});
    }
  }
}

// ---- codes ---------------------------------------------------------------------------------------------------------

QueryTables FlatScan::tables_for(const float* query, std::uint8_t* memory) const {
  const std::size_t padded = ix_.padded_, d = config_.dim;
  QueryTables tables;
  tables.raw = query;
  tables.b1.table.entries = memory;
  auto* rotated = reinterpret_cast<float*>(memory + rabitq_table_bytes(padded));
  tables.scalar.words = reinterpret_cast<std::int16_t*>(rotated + padded);
  tables.scalar.bytes = reinterpret_cast<std::int8_t*>(tables.scalar.words + padded);

  const bool l2 = config_.metric == Metric::kL2;
  const float* centre = ix_.centre_.data();
  kernels_.rotate_forward({ix_.signs_.data(), query, 1, d, l2 ? centre : nullptr, rotated, nullptr});
  double norm2 = 0.0, along = 0.0;
  for (std::size_t j = 0; j < padded; ++j) norm2 += double{rotated[j]} * rotated[j];
  for (std::size_t j = 0; j < d; ++j) along += double{query[j]} * centre[j];
  tables.add = static_cast<float>(l2 ? -norm2 : along);
  if (b1_ != nullptr) {
    kernels_.rabitq_table(rotated, padded, &tables.b1.table);
    tables.b1.add = tables.add;
    tables.b1.epsilon = request_.epsilon * static_cast<float>(std::sqrt(norm2));
  }
  kernels_.scalar_query(rotated, padded, &tables.scalar);
  return tables;
}

void FlatScan::scan_codes() {
  const std::size_t keep = ends_raw() && codes_ != nullptr ? kRawFactor * request_.k : request_.k;
  for_parts(kTaskQueries, kRabitqQueries, kRabitqQueries, keep,
            [&](std::size_t q0, std::size_t nq, Range range, Lists& out) {
              WorkSpace space;
              space.tables = AlignedBuffer(kPassQueries * table_bytes());
              for (auto& hits : space.hits) hits.resize(kRangeRows);
              for (std::size_t i = 0; i < nq; i += kPassQueries) {
                code_part(q0 + i, std::min(kPassQueries, nq - i), range, keep, space, out);
              }
            });
}

void FlatScan::code_part(std::size_t q0, std::size_t nq, Range range, std::size_t keep, WorkSpace& space,
                         Lists& out) const {
  std::array<QueryTables, kPassQueries> tables;
  std::vector<TopK> pools;
  pools.reserve(nq);
  for (std::size_t i = 0; i < nq; ++i) {
    tables[i] = tables_for(query(q0 + i), space.tables.data() + i * table_bytes());
    pools.emplace_back(keep, ix_.ids_);
  }
  if (b1_ != nullptr) {
    scan_b1(tables.data(), nq, range, space, pools);
  } else {
    for (std::size_t i = 0; i < nq; ++i) scan_scalar(tables[i], range, pools[i]);
  }
  for (std::size_t i = 0; i < nq; ++i) {
    auto& list = out.emplace_back();
    for (const Candidate& c : pools[i].take_sorted()) {
      list.push_back({c, c.similarity});
      if (b1_ == nullptr || codes_ == nullptr) continue;
      const auto row = static_cast<std::uint32_t>(c.row % kChunkRows);
      scalar_similarities(tables[i], static_cast<std::size_t>(c.row) - row, &row, 1, &list.back().score);
    }
  }
}

void FlatScan::scan_b1(const QueryTables* tables, std::size_t nq, Range range, WorkSpace& space,
                       std::vector<TopK>& pools) const {
  std::size_t length = kFirstRows;
  for (std::size_t row = range.first; row < range.last; length = std::min(2 * length, kRangeRows)) {
    const std::size_t chunk_end = (row / kChunkRows + 1) * kChunkRows;
    const std::size_t end = std::min({range.last, chunk_end, row + length});
    for (std::size_t q = 0; q < nq; q += kRabitqQueries) {
      scan_range(tables + q, std::min(kRabitqQueries, nq - q), {row, end}, space, pools.data() + q,
                 space.deferred.data() + q);
    }
    row = end;
  }
  for (std::size_t q = 0; q < nq; ++q) refine_deferred(tables[q], space.deferred[q], pools[q]);
}

void FlatScan::scan_range(const QueryTables* tables, std::size_t nq, Range range, WorkSpace& space, TopK* pools,
                          std::vector<Deferred>* deferred) const {
  std::array<RabitqQuery, kRabitqQueries> queries;
  std::array<RabitqHit*, kRabitqQueries> hits{};
  std::array<std::size_t, kRabitqQueries> counts{};
  for (std::size_t i = 0; i < nq; ++i) {
    queries[i] = tables[i].b1;
    queries[i].threshold = pools[i].threshold();
    hits[i] = space.hits[i].data();
  }
  kernels_.rabitq_scan({b1_->block(range.first / kBlockRows), range.last - range.first, ix_.padded_, config_.metric,
                        queries.data(), nq, hits.data(), counts.data()});
  for (std::size_t i = 0; i < nq; ++i) {
    keep_best(tables[i], range.first, hits[i], counts[i], pools[i], deferred[i]);
  }
}

// Rows that look as if they belong among the best are refined at once; those that only might are put off until the
// threshold is what the best have made of it, which spares most of them.
void FlatScan::keep_best(const QueryTables& tables, std::size_t base, RabitqHit* hits, std::size_t count, TopK& pool,
                         std::vector<Deferred>& deferred) const {
  if (refiner() == nullptr) {  // B1 alone ranks by its estimates
    for (std::size_t i = 0; i < count; ++i) pool.push(hits[i].estimate, static_cast<std::int64_t>(base + hits[i].row));
    return pool.cut();
  }
  Refinement now(*this, tables, pool);
  std::size_t done = 0;
  if (pool.threshold() == -kInfinity) {  // nothing is known yet: begin with the rows that look best
    done = std::min(count, 2 * request_.k);
    std::nth_element(hits, hits + done, hits + count,
                     [](const RabitqHit& a, const RabitqHit& b) { return a.estimate > b.estimate; });
    for (std::size_t i = 0; i < done; ++i) now.add({static_cast<std::uint32_t>(base + hits[i].row), hits[i].upper});
    now.flush();
  }
  for (std::size_t i = done; i < count; ++i) {
    const Deferred hit{static_cast<std::uint32_t>(base + hits[i].row), hits[i].upper};
    if (hits[i].estimate >= pool.threshold()) {
      now.add(hit);
    } else if (hit.upper >= pool.threshold()) {
      deferred.push_back(hit);
    }
  }
  now.flush();
}

void FlatScan::refine_deferred(const QueryTables& tables, std::vector<Deferred>& deferred, TopK& pool) const {
  Refinement now(*this, tables, pool);
  for (const Deferred& hit : deferred) now.add(hit);
  now.flush();
  deferred.clear();
}

void FlatScan::Refinement::add(const Deferred& hit) {
  if (hit.upper < pool_.threshold()) return;
  const std::size_t base = hit.row / kChunkRows * kChunkRows;
  if (count_ == kRefineRows || (count_ > 0 && base != base_)) flush();
  base_ = base;
  which_[count_] = static_cast<std::uint32_t>(hit.row - base);
  uppers_[count_++] = hit.upper;
}

void FlatScan::Refinement::flush() {
  if (count_ == 0) return;
  const FlatScan& scan = scan_;
  std::array<float, kRefineRows> similarities;
  if (scan.refiner()->kind == Codec::Kind::kScalar) {
    scan.scalar_similarities(tables_, base_, which_.data(), count_, similarities.data());
  } else {
    scan.kernels_.exact_score({tables_.raw, scan.raw_->row(base_), scan.refiner()->type, scan.config_.dim,
                               scan.config_.metric, which_.data(), count_, similarities.data()});
  }
  for (std::size_t j = 0; j < count_; ++j) {
    pool_.push(std::min(similarities[j], uppers_[j]), static_cast<std::int64_t>(base_ + which_[j]));
  }
  pool_.cut();
  scan.refined_.fetch_add(count_, std::memory_order_relaxed);
  count_ = 0;
}

float FlatScan::norm2(std::size_t row) const {
  float value;
  if (norms2_ != nullptr) {
    std::memcpy(&value, norms2_->row(row), sizeof(value));
  } else {
    const std::uint8_t* block = b1_->block(row / kBlockRows);
    std::memcpy(&value, block + kBlockRows * (ix_.padded_ / 8 + 4) + row % kBlockRows * sizeof(value), sizeof(value));
  }
  return value;
}

// Rows base + which[i] (base + i without which), all in the chunk of `base`.
void FlatScan::scalar_similarities(const QueryTables& tables, std::size_t base, const std::uint32_t* which,
                                   std::size_t count, float* out) const {
  const Codec& codec = config_.codecs.front().kind == Codec::Kind::kScalar ? config_.codecs.front() : *refiner();
  kernels_.scalar_dot({&tables.scalar, codes_->row(base), ix_.padded_, codec.bits, codec.grid, which, count, out});
  const auto* scales = reinterpret_cast<const float*>(scales_->row(base));
  const bool l2 = config_.metric == Metric::kL2;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t at = which != nullptr ? which[i] : i;
    out[i] = tables.add + factor() * scales[at] * out[i];
    if (l2) out[i] -= norm2(base + at);
  }
}

void FlatScan::scan_scalar(const QueryTables& tables, Range range, TopK& pool) const {
  std::array<float, kFirstRows> similarities;
  for (std::size_t row = range.first; row < range.last;) {
    const std::size_t end = std::min({range.last, row + kFirstRows, (row / kChunkRows + 1) * kChunkRows});
    scalar_similarities(tables, row, nullptr, end - row, similarities.data());
    for (std::size_t i = 0; i < end - row; ++i) pool.push(similarities[i], static_cast<std::int64_t>(row + i));
    row = end;
  }
}

// ---- range search --------------------------------------------------------------------------------------------------

// Every row whose similarity reaches `least`. Codes: rows whose B1 upper bound reaches it, by their refined score.
std::vector<Candidate> FlatScan::within(std::size_t q, float least) {
  const bool raw_scan = config_.codecs.front().kind == Codec::Kind::kRaw;
  QueryTables tables;
  AlignedBuffer memory(raw_scan ? 0 : table_bytes());
  if (!raw_scan) tables = tables_for(query(q), memory.data());
  tables.b1.threshold = least;
  std::vector<Candidate> found;
  std::vector<RabitqHit> hits(kRangeRows);
  std::vector<float> similarities(kRangeRows);
  std::vector<std::uint32_t> which(kRangeRows);
  for (std::size_t row = 0; row < rows();) {
    const std::size_t end = std::min({rows(), row + kRangeRows, (row / kChunkRows + 1) * kChunkRows});
    std::size_t count = end - row;
    for (std::size_t i = 0; i < count; ++i) which[i] = static_cast<std::uint32_t>(i);
    if (b1_ != nullptr) {
      RabitqHit* out = hits.data();
      kernels_.rabitq_scan(
          {b1_->block(row / kBlockRows), end - row, ix_.padded_, config_.metric, &tables.b1, 1, &out, &count});
      for (std::size_t i = 0; i < count; ++i) {
        which[i] = hits[i].row;
        similarities[i] = hits[i].estimate;
      }
    }
    if (ends_raw()) {
      kernels_.exact_score({query(q), raw_->row(row), config_.codecs.back().type, config_.dim, config_.metric,
                            which.data(), count, similarities.data()});
    } else if (config_.codecs.back().kind == Codec::Kind::kScalar) {
      scalar_similarities(tables, row, which.data(), count, similarities.data());
    }
    for (std::size_t i = 0; i < count; ++i) {
      if (similarities[i] >= least) found.push_back({similarities[i], static_cast<std::int64_t>(row + which[i])});
    }
    row = end;
  }
  ix_.ids_.sort(found);
  return found;
}

// ---- the index's face ----------------------------------------------------------------------------------------------

void FlatIndex::search(const SearchRequest& request) const {
  const auto reading = lock_.read();
  const float sign = config_.metric == Metric::kL2 ? -1.0f : 1.0f;
  std::fill_n(request.scores, request.nq * request.k, -sign * kInfinity);
  std::fill_n(request.ids, request.nq * request.k, std::int64_t{-1});
  if (ids_.size() == 0 || request.nq == 0) return;
  const auto lists = FlatScan(*this, request, prepared(request.queries, request.nq)).run();
  for (std::size_t q = 0; q < request.nq; ++q) {
    for (std::size_t i = 0; i < lists[q].size(); ++i) {
      request.scores[q * request.k + i] = sign * lists[q][i].similarity;
      request.ids[q * request.k + i] = ids_.id(static_cast<std::size_t>(lists[q][i].row));
    }
  }
}

std::vector<std::vector<RangeHit>> FlatIndex::range_search(const float* queries, std::size_t nq, float threshold,
                                                           float epsilon, std::size_t threads) const {
  const auto reading = lock_.read();
  const float sign = config_.metric == Metric::kL2 ? -1.0f : 1.0f;
  const SearchRequest request{queries, nq, 1, epsilon, threads, nullptr, nullptr};
  FlatScan scan(*this, request, prepared(queries, nq));
  std::vector<std::vector<RangeHit>> lists(nq);
  parallel_for(nq, threads, [&](std::size_t q) {
    for (const Candidate& c : scan.within(q, sign * threshold)) {
      lists[q].push_back({sign * c.similarity, ids_.id(static_cast<std::size_t>(c.row))});
    }
  });
  return lists;
}

}  // namespace tessella
