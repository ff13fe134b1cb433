// Searching a flat index. Raw rows are scanned exactly. Codes are scanned by estimate, and rows whose upper bound can
// still reach the k-th best are refined by the next codec (see selection.h).
#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <limits>
#include <memory>

#include "common/parallel.h"
#include "index/filtered.h"
#include "index/flat.h"
#include "index/selection.h"

namespace tessella {

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::size_t kProductQueries = 1024;  // queries that share one packing of the rows
constexpr std::size_t kPoolBytes = 16u << 20;  // most memory for one task's candidate pools
constexpr std::size_t kFirstRows = 512;        // a scan's first range, until a threshold is known, at most
constexpr std::size_t kRangeRows = 4096;       // its largest
constexpr std::size_t kPackQueries = 16;       // queries for which raw rows that count are put together
constexpr std::size_t kPackedRows = 2048;      // …, as many at a time

constexpr std::size_t kTaskQueries = 64;  // queries that share one task's work space
constexpr std::size_t kPassQueries = 16;  // queries that share a range while it is in the cache

struct Range { std::size_t first, last; };

using Lists = std::vector<std::vector<Ranked>>;

// Room for one task, allocated once: fresh pages would cost more than the scan of a small index.
struct WorkSpace {
  AlignedBuffer tables;
  std::array<std::unique_ptr<RabitqHit[]>, kRabitqQueries> hits;
};

}  // namespace

class FlatScan {
 public:
  // `request` has prepared queries.
  FlatScan(const FlatIndex& index, const SearchRequest& request)
      : ids_(index.ids_),
        rows_(index.rows_),
        config_(rows_.config()),
        kernels_(rows_.kernels()),
        request_(request),
        scorer_(rows_, request.epsilon),
        b1_(rows_.column("b1")),
        pq_(rows_.column("pq")) {}

  // Best first, at most k a query.
  std::vector<std::vector<Candidate>> run() {
    scans_raw() ? scan_raw() : scan_codes();
    std::vector<std::vector<Candidate>> out(request_.nq);
    parallel_for(request_.nq, request_.threads, [&](std::size_t q) { out[q] = finished(q); });
    std::uint64_t scanned = request_.allowed.empty() ? request_.nq * rows() : scanned_.load();
    if (packs()) scanned = request_.nq * request_.bitmap(0).count;
    if (request_.counts != nullptr) *request_.counts = {scanned, refined_, rescored_, 0};
    return out;
  }

  std::vector<Candidate> within(std::size_t q, float similarity);

  // What there is for a search under bitmaps. Without estimates every row costs the same, whichever way it is met.
  Ground ground() const {
    Ground ground(scorer_, rows());
    if (estimates()) ground.offer_scan();
    if (b1_ != nullptr) ground.offer_copies();
    return ground;
  }
  const RowScorer& scorer() const { return scorer_; }
  // Whether rows that count are worth a copy: raw ones, looked at by many queries.
  bool packs() const { return scans_raw() && request_.allowed.size() == 1 && request_.nq >= kPackQueries; }

 private:
  std::size_t rows() const { return ids_.size(); }
  const float* query(std::size_t q) const { return request_.queries + q * config_.dim; }
  bool scans_raw() const { return config_.codecs.front().kind == Codec::Kind::kRaw; }

  // Work is cut by queries when there are enough of them, otherwise by rows; lists of parts are merged.
  template <typename Scan>
  void for_parts(std::size_t group, std::size_t unit, std::size_t enough, std::size_t keep, const Scan& scan);

  void scan_raw();
  template <typename Look>
  void look_at_admitted(Range range, const Look& look, std::vector<Candidate>& best) const;
  void exact_part(std::size_t q0, std::size_t nq, Range range, std::size_t keep, Lists& out) const;

  void scan_codes();
  void code_part(std::size_t q0, std::size_t nq, Range range, std::size_t keep, WorkSpace& space, Lists& out) const;
  void scan_estimates(const QueryTables* tables, std::size_t nq, Range range, WorkSpace& space, Selection* found) const;
  void scan_admitted(const QueryTables* tables, std::size_t nq, Range range, WorkSpace& space, Selection* found) const;
  void scan_range(const QueryTables* tables, std::size_t nq, Range range, WorkSpace& space, Selection* found) const;
  void scan_blocks(const QueryTables* tables, std::size_t nq, Range range, const float* thresholds,
                   RabitqHit* const* hits, std::size_t* counts) const;
  std::vector<Ranked> scan_scalar(const QueryTables& tables, Range range, std::size_t keep) const;
  std::vector<Candidate> finished(std::size_t q);

  const IdMap& ids_;
  const Rows& rows_;
  const RowConfig& config_;
  const Kernels& kernels_;
  const SearchRequest& request_;
  RowScorer scorer_;
  const Column *b1_, *pq_;  // nullptr where the index has no such column
  bool estimates() const { return b1_ != nullptr || pq_ != nullptr; }
  std::size_t table_bytes() const { return scorer_.table_bytes() + scorer_.pq_table_bytes(); }
  QueryTables tables_for(const float* query, std::uint8_t* memory) const {
    QueryTables tables = scorer_.tables_for(query, memory);
    if (pq_ != nullptr) scorer_.add_pq_tables(tables, memory + scorer_.table_bytes());
    return tables;
  }
  WorkSpace work_space(std::size_t queries) const {
    WorkSpace space{AlignedBuffer(std::min(queries, kPassQueries) * table_bytes()), {}};
    for (std::size_t i = 0; i < std::min(queries, kRabitqQueries); ++i) {
      space.hits[i] = std::make_unique_for_overwrite<RabitqHit[]>(kRangeRows);
    }
    return space;
  }
  Lists lists_;
  mutable std::atomic<std::uint64_t> scanned_{0}, refined_{0}, rescored_{0};
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
    std::sort(list.begin(), list.end(), [&](const Ranked& a, const Ranked& b) { return ids_.better(a.by, b.by); });
    if (list.size() > keep) list.resize(keep);
  }
}

std::vector<Candidate> FlatScan::finished(std::size_t q) {
  if (scorer_.ends_raw()) rescored_.fetch_add(lists_[q].size(), std::memory_order_relaxed);
  return final_list(scorer_, query(q), lists_[q], request_.k, scorer_.ends_raw(), ids_);
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
  const auto look = [&](const void* rows, std::size_t count, std::size_t first, const std::int64_t* ids) {
    kernels_.exact_topk({query(q0), nq, rows, config_.codecs.front().type, count, config_.dim, config_.metric,
                         static_cast<std::int64_t>(first), ids, keep, best.data(), scratch.data(), nullptr});
  };
  if (!request_.allowed.empty()) look_at_admitted(range, look, best);
  for (std::size_t row = range.first; request_.allowed.empty() && row < range.last;) {
    const std::size_t end = std::min(range.last, (row / kChunkRows + 1) * kChunkRows);
    look(rows_.column("raw")->row(row), end - row, row, ids_.data());
    row = end;
  }
  out.resize(nq);
  for (std::size_t i = 0; i < nq; ++i) {
    for (std::size_t j = i * keep; j < (i + 1) * keep && best[j].row >= 0; ++j) {
      out[i].push_back({best[j], best[j].similarity});
    }
  }
}

// Rows that count are copied one behind another, some at a time, and looked at as if there were no others.
template <typename Look>
void FlatScan::look_at_admitted(Range range, const Look& look, std::vector<Candidate>& best) const {
  const Column& raw = *rows_.column("raw");
  std::vector<std::uint32_t> rows;
  std::vector<std::int64_t> ids;  // none: rows are in the order of their ids
  AlignedBuffer values(kPackedRows * raw.row_bytes());
  std::size_t packed = 0;
  const auto hand_on = [&] {
    look(values.data(), packed, rows.size() - packed, ids.empty() ? nullptr : ids.data());
    packed = 0;
  };
  request_.bitmap(0).for_rows(range.first / 64 * 64, range.last, [&](std::size_t row) {
    if (row < range.first) return;
    std::memcpy(values.data() + packed++ * raw.row_bytes(), raw.row(row), raw.row_bytes());
    rows.push_back(static_cast<std::uint32_t>(row));
    if (ids_.data() != nullptr) ids.push_back(ids_.id(row));
    if (packed == kPackedRows) hand_on();
  });
  if (packed != 0) hand_on();
  for (Candidate& c : best) c.row = c.row < 0 ? c.row : rows[static_cast<std::size_t>(c.row)];
}

// ---- codes ---------------------------------------------------------------------------------------------------------

void FlatScan::scan_codes() {
  const bool rescored = scorer_.ends_raw() && rows_.column("codes") != nullptr;
  const std::size_t keep = rescored ? kRawFactor * request_.k : request_.k;
  for_parts(kTaskQueries, kRabitqQueries, kRabitqQueries, keep,
            [&](std::size_t q0, std::size_t nq, Range range, Lists& out) {
              WorkSpace space = work_space(nq);
              for (std::size_t i = 0; i < nq; i += kPassQueries) {
                code_part(q0 + i, std::min(kPassQueries, nq - i), range, keep, space, out);
              }
            });
}

void FlatScan::code_part(std::size_t q0, std::size_t nq, Range range, std::size_t keep, WorkSpace& space,
                         Lists& out) const {
  std::array<QueryTables, kPassQueries> tables;
  for (std::size_t i = 0; i < nq; ++i) {
    tables[i] = tables_for(query(q0 + i), space.tables.data() + i * table_bytes());
  }
  if (!estimates()) {
    for (std::size_t i = 0; i < nq; ++i) out.push_back(scan_scalar(tables[i], range, keep));
    return;
  }
  std::vector<Selection> found;
  found.reserve(nq);
  for (std::size_t i = 0; i < nq; ++i) {
    found.emplace_back(scorer_, tables[i], keep, ids_, false, request_.bitmap(q0 + i));
    if (!request_.guesses.empty()) found.back().begin_with(request_.guesses[q0 + i]);
  }
  scan_estimates(tables.data(), nq, range, space, found.data());
  for (Selection& each : found) {
    out.push_back(each.finish());
    refined_.fetch_add(each.refined(), std::memory_order_relaxed);
  }
}

void FlatScan::scan_estimates(const QueryTables* tables, std::size_t nq, Range range, WorkSpace& space,
                              Selection* found) const {
  // Short where few rows are wanted: all of its hits have to be sifted, and scored again where that ends the search.
  const std::size_t first = (scorer_.fine() == nullptr ? 4 : 16) * request_.k;
  std::size_t length = std::clamp(first / kBlockRows * kBlockRows, std::size_t{64}, kFirstRows);
  for (std::size_t row = range.first; row < range.last; length = std::min(2 * length, kRangeRows)) {
    const std::size_t chunk_end = (row / kChunkRows + 1) * kChunkRows;
    const std::size_t end = std::min({range.last, chunk_end, row + length});
    for (std::size_t q = 0; q < nq; q += kRabitqQueries) {
      scan_admitted(tables + q, std::min(kRabitqQueries, nq - q), {row, end}, space, found + q);
    }
    row = end;
  }
}

// The range without the blocks of which no query wants a row.
void FlatScan::scan_admitted(const QueryTables* tables, std::size_t nq, Range range, WorkSpace& space,
                             Selection* found) const {
  if (request_.allowed.empty()) return scan_range(tables, nq, range, space, found);
  const auto wanted = [&](std::size_t row) {
    std::uint32_t lanes = 0;
    for (std::size_t i = 0; i < nq; ++i) lanes |= found[i].allowed().block(row / kBlockRows);
    return lanes != 0;
  };
  for (std::size_t row = range.first; row < range.last;) {
    const std::size_t first = row;
    while (row < range.last && wanted(row)) row += kBlockRows;
    if (row != first) {
      scan_range(tables, nq, {first, std::min(row, range.last)}, space, found);
      scanned_.fetch_add(nq * (std::min(row, range.last) - first), std::memory_order_relaxed);
    }
    while (row < range.last && !wanted(row)) row += kBlockRows;
  }
}

void FlatScan::scan_range(const QueryTables* tables, std::size_t nq, Range range, WorkSpace& space,
                          Selection* found) const {
  std::array<RabitqHit*, kRabitqQueries> hits{};
  std::array<std::size_t, kRabitqQueries> counts{};
  std::array<float, kRabitqQueries> thresholds{};
  for (std::size_t i = 0; i < nq; ++i) {
    thresholds[i] = found[i].threshold();
    hits[i] = space.hits[i].get();
  }
  scan_blocks(tables, nq, range, thresholds.data(), hits.data(), counts.data());
  for (std::size_t i = 0; i < nq; ++i) found[i].offer(hits[i], counts[i], nullptr, range.first);
}

// Hits of a range that lies in one chunk.
void FlatScan::scan_blocks(const QueryTables* tables, std::size_t nq, Range range, const float* thresholds,
                           RabitqHit* const* hits, std::size_t* counts) const {
  const std::size_t block = range.first / kBlockRows, n = range.last - range.first;
  if (pq_ != nullptr) {
    std::array<const QueryTables*, kRabitqQueries> each{};
    for (std::size_t i = 0; i < nq; ++i) each[i] = tables + i;
    return scorer_.scan_pq(pq_->block(block), n, each.data(), thresholds, nq, hits, counts);
  }
  std::array<RabitqQuery, kRabitqQueries> queries;
  for (std::size_t i = 0; i < nq; ++i) {
    queries[i] = tables[i].b1;
    queries[i].threshold = thresholds[i];
  }
  kernels_.rabitq_scan({b1_->block(block), n, rows_.padded(), scorer_.l2(), queries.data(), nq, hits, counts});
}

std::vector<Ranked> FlatScan::scan_scalar(const QueryTables& tables, Range range, std::size_t keep) const {
  TopK pool(keep, ids_);
  std::array<float, kFirstRows> similarities;
  for (std::size_t row = range.first; row < range.last;) {
    const std::size_t end = std::min({range.last, row + kFirstRows, (row / kChunkRows + 1) * kChunkRows});
    scorer_.score_run(tables, row, end - row, similarities.data());
    for (std::size_t i = 0; i < end - row; ++i) pool.push(similarities[i], static_cast<std::int64_t>(row + i));
    row = end;
  }
  std::vector<Ranked> list;
  for (const Candidate& c : pool.take_sorted()) list.push_back({c, c.similarity});
  return list;
}

// ---- range search --------------------------------------------------------------------------------------------------

// Every row whose similarity reaches `least`. Codes: rows whose B1 upper bound reaches it, by their finest score.
std::vector<Candidate> FlatScan::within(std::size_t q, float least) {
  QueryTables tables;
  tables.raw = query(q);
  AlignedBuffer memory(scans_raw() ? 0 : table_bytes());
  if (!scans_raw()) tables = tables_for(query(q), memory.data());
  std::vector<Candidate> found;
  std::vector<RabitqHit> hits(kRangeRows);
  const auto offer = [&](std::uint32_t row, float similarity) {
    if (scorer_.ends_raw()) similarity = scorer_.exact(query(q), row);
    if (similarity >= least) found.push_back({similarity, row});
  };
  std::vector<float> similarities(kRangeRows);
  for (std::size_t row = 0; row < rows();) {
    const std::size_t end = std::min({rows(), row + kRangeRows, (row / kChunkRows + 1) * kChunkRows});
    if (!estimates()) {
      scorer_.score_run(tables, row, end - row, similarities.data());
      for (std::size_t i = 0; i < end - row; ++i) {
        if (scans_raw() || !scorer_.ends_raw()) {
          if (similarities[i] >= least) found.push_back({similarities[i], static_cast<std::int64_t>(row + i)});
        } else {
          offer(static_cast<std::uint32_t>(row + i), similarities[i]);
        }
      }
    } else {
      RabitqHit* out = hits.data();
      std::size_t count = 0;
      scan_blocks(&tables, 1, {row, end}, &least, &out, &count);
      for (std::size_t i = 0; i < count; ++i) {
        const auto at = static_cast<std::uint32_t>(row + hits[i].row);
        float similarity = hits[i].estimate;
        if (scorer_.fine() != nullptr && !scorer_.ends_raw()) scorer_.score(tables, &at, 1, &similarity);
        offer(at, similarity);
      }
    }
    row = end;
  }
  ids_.sort(found);
  return found;
}

// ---- the index's face ----------------------------------------------------------------------------------------------

void FlatIndex::search(const SearchRequest& request) const {
  const auto reading = lock_.read();
  std::vector<std::vector<Candidate>> lists;
  if (ids_.size() != 0 && request.nq != 0) {
    const Prepared queries = rows_.prepared(request.queries, request.nq);
    SearchRequest prepared = request;
    prepared.queries = queries.data();
    prepared.state = lock_.state();
    lists = request.allowed.empty() ? FlatScan(*this, prepared).run() : search_admitted(prepared);
  }
  report(request, lists, config().metric, ids_);
}

CandidateLists FlatIndex::search_admitted(const SearchRequest& request) const {
  FlatScan scan(*this, request);
  if (scan.packs()) {
    const Plan plan = plan_for(scan.ground(), request.k, request.bitmap(0).count);
    if (request.plans != nullptr) std::fill_n(request.plans, request.nq, plan);
    return scan.run();
  }
  return search_filtered(request, scan.scorer(), ids_, scan.ground(),
                         [&](const SearchRequest& part, const Plan&) { return FlatScan(*this, part).run(); });
}

std::vector<std::vector<RangeHit>> FlatIndex::range_search(const float* queries, std::size_t nq, float threshold,
                                                           float epsilon, std::size_t threads) const {
  const auto reading = lock_.read();
  const float sign = config().metric == Metric::kL2 ? -1.0f : 1.0f;
  const Prepared prepared = rows_.prepared(queries, nq);
  const SearchRequest request{prepared.data(), nq, 1, epsilon, threads, nullptr, nullptr};
  FlatScan scan(*this, request);
  std::vector<std::vector<RangeHit>> lists(nq);
  parallel_for(nq, threads, [&](std::size_t q) {
    for (const Candidate& c : scan.within(q, sign * threshold)) {
      lists[q].push_back({sign * c.similarity, ids_.id(static_cast<std::size_t>(c.row))});
    }
  });
  return lists;
}

}  // namespace tessella
