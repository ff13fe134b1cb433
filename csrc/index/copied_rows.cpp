#include "index/copied_rows.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <unordered_map>

#include "common/parallel.h"
#include "index/row_filter.h"
#include "index/selection.h"

namespace tessella {

namespace {

constexpr std::size_t kTaskQueries = 64;  // under one filter, that share a task
constexpr std::size_t kFirstRows = 256;   // scanned before a threshold is known, at most
constexpr std::size_t kRangeRows = 4096;  // between two looks at the threshold
// Error bounds that are kept, at least: a gathering would have looked at every row, and 1.9 of them lose three or four
// in a thousand of what that finds.
constexpr float kBounds = 2.6f;

// Queries under one filter.
struct Company {
  std::shared_ptr<const CopiedRows> copies;
  std::vector<std::size_t> queries;
};

std::vector<Company> companies(const SearchRequest& request) {
  std::unordered_map<RowFilter*, std::size_t> open;  // the number of a company that has room
  std::vector<Company> all;
  for (std::size_t q = 0; q < request.nq; ++q) {
    RowFilter* filter = request.bitmap(q).filter;
    const auto [at, fresh] = open.try_emplace(filter, all.size());
    if (fresh || all[at->second].queries.size() == kTaskQueries) {
      at->second = all.size();
      all.push_back({filter->copies(request.state), {}});
    }
    all[at->second].queries.push_back(q);
  }
  return all;
}

// One task's queries and what they have found.
class CopyScan {
 public:
  CopyScan(const SearchRequest& request, const RowScorer& scorer, const IdMap& ids, std::size_t keep,
           const Company& company)
      : scorer_(scorer), copies_(*company.copies), memory_(company.queries.size() * scorer.table_bytes()) {
    const std::size_t nq = company.queries.size(), dim = scorer.rows().config().dim;
    tables_.reserve(nq);
    found_.reserve(nq);
    for (std::size_t i = 0; i < nq; ++i) {
      tables_.push_back(
          scorer.tables_for(request.queries + company.queries[i] * dim, memory_.data() + i * scorer.table_bytes()));
      found_.emplace_back(scorer, tables_.back(), keep, ids, false);
    }
    for (std::size_t i = 0; i < std::min(nq, kRabitqQueries); ++i) {
      hits_[i] = std::make_unique_for_overwrite<RabitqHit[]>(kRangeRows);
    }
  }

  void run() {
    const std::size_t n = copies_.numbers.size();
    for (std::size_t row = 0, length = kFirstRows; row < n; length = std::min(2 * length, kRangeRows)) {
      const std::size_t count = std::min(length, n - row);
      for (std::size_t q = 0; q < found_.size(); q += kRabitqQueries) {
        scan(q, std::min(kRabitqQueries, found_.size() - q), row, count);
      }
      row += count;
    }
  }
  Selection& found(std::size_t i) { return found_[i]; }

 private:
  void scan(std::size_t q0, std::size_t nq, std::size_t first, std::size_t count) {
    const std::size_t padded = scorer_.rows().padded();
    std::array<RabitqQuery, kRabitqQueries> queries;
    std::array<RabitqHit*, kRabitqQueries> hits{};
    std::array<std::size_t, kRabitqQueries> counts{};
    for (std::size_t i = 0; i < nq; ++i) {
      queries[i] = tables_[q0 + i].b1;
      queries[i].threshold = found_[q0 + i].threshold();
      queries[i].epsilon *= wider_;
      hits[i] = hits_[i].get();
    }
    const std::uint8_t* blocks = copies_.blocks.data() + first / kBlockRows * rabitq_block_bytes(padded, scorer_.l2());
    scorer_.rows().kernels().rabitq_scan(
        {blocks, count, padded, scorer_.l2(), queries.data(), nq, hits.data(), counts.data()});
    for (std::size_t i = 0; i < nq; ++i) {
      found_[q0 + i].offer(hits[i], counts[i], copies_.numbers.data() + first, 0);
    }
  }

  const RowScorer& scorer_;
  const float wider_ = scorer_.epsilon() > 0.0f ? std::max(1.0f, kBounds / scorer_.epsilon()) : 1.0f;  // 0: no bounds
  const CopiedRows& copies_;
  AlignedBuffer memory_;
  std::vector<QueryTables> tables_;
  std::vector<Selection> found_;
  std::array<std::unique_ptr<RabitqHit[]>, kRabitqQueries> hits_;
};

}  // namespace

CopiedRows copy_rows(const Rows& rows, const RowBitmap& allowed, const IdMap& ids) {
  const bool l2 = rows.config().metric == Metric::kL2;
  const std::size_t padded = rows.padded(), block_bytes = rabitq_block_bytes(padded, l2);
  const Column* b1 = rows.column("b1");
  CopiedRows copies;
  allowed.for_rows(0, ids.size(), [&](std::size_t row) {
    if (ids.named(row)) copies.numbers.push_back(static_cast<std::uint32_t>(row));
  });
  copies.blocks = AlignedBuffer((copies.numbers.size() + kBlockRows - 1) / kBlockRows * block_bytes);
  std::vector<float> values(rows.config().dim), residual(padded);
  std::vector<std::uint8_t> bits(padded / 8);
  for (std::size_t i = 0; i < copies.numbers.size(); ++i) {
    std::uint8_t* block = copies.blocks.data() + i / kBlockRows * block_bytes;
    const std::size_t row = copies.numbers[i];
    if (b1 != nullptr) {
      move_b1(b1->block(row / kBlockRows), row % kBlockRows, block, i % kBlockRows, padded, l2);
      continue;
    }
    RabitqFactors factors;
    rows.decode(row, values.data());
    rows.rotate(values.data(), 1, residual.data());
    rows.kernels().rabitq_encode(residual.data(), padded, bits.data(), &factors);
    put_b1(block, i % kBlockRows, padded, bits.data(), factors.scale, factors.error,
           l2 ? std::optional(factors.norm2) : std::nullopt);
  }
  return copies;
}

CandidateLists scan_copies(const SearchRequest& request, const RowScorer& scorer, const IdMap& ids) {
  const bool rescores = scorer.ends_raw() && !scorer.fine_is_raw();
  const std::size_t keep = rescores ? kRawFactor * request.k : request.k, dim = scorer.rows().config().dim;
  const std::vector<Company> all = companies(request);
  CandidateLists lists(request.nq);
  std::atomic<std::uint64_t> scanned{0}, refined{0}, rescored{0};
  parallel_for(all.size(), request.threads, [&](std::size_t c) {
    const std::vector<std::size_t>& queries = all[c].queries;
    CopyScan scan(request, scorer, ids, keep, all[c]);
    scan.run();
    scanned += queries.size() * all[c].copies->numbers.size();
    for (std::size_t i = 0; i < queries.size(); ++i) {
      const std::vector<Ranked> ranked = scan.found(i).finish();
      if (rescores) rescored += ranked.size();
      refined += scan.found(i).refined();
      lists[queries[i]] = final_list(scorer, request.queries + queries[i] * dim, ranked, request.k, rescores, ids);
    }
  });
  if (request.counts != nullptr) *request.counts = {scanned, refined, rescored, 0};
  return lists;
}

}  // namespace tessella
