#include "index/selection.h"

#include <algorithm>

namespace tessella {

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

constexpr std::size_t kPivotHits = 512;

// An estimate that at least `wanted` of the hits reach, and seldom more than twice as many. By bisection: counting
// takes no branches, where a partial sort would mispredict most of its.
float pivot_of(const RabitqHit* hits, std::size_t count, std::size_t wanted) {
  std::array<float, kPivotHits> estimates;
  count = std::min(count, kPivotHits);
  float low = hits[0].estimate, high = low;
  for (std::size_t i = 0; i < count; ++i) {
    estimates[i] = hits[i].estimate;
    low = std::min(low, estimates[i]);
    high = std::max(high, estimates[i]);
  }
  for (int step = 0; step < 10; ++step) {
    const float middle = low + 0.5f * (high - low);
    std::uint32_t reached = 0;
    for (std::size_t i = 0; i < count; ++i) reached += estimates[i] >= middle ? 1 : 0;
    (reached >= wanted ? low : high) = middle;
    if (reached >= wanted && reached <= 2 * wanted) break;
  }
  return low;
}

}  // namespace

std::vector<Candidate> rescored(const RowScorer& scorer, const float* query, std::vector<Candidate> list, std::size_t k,
                                const IdMap& ids) {
  for (Candidate& c : list) c.similarity = scorer.exact(query, static_cast<std::size_t>(c.row));
  ids.sort(list);
  if (list.size() > k) list.resize(k);
  return list;
}

std::vector<Candidate> final_list(const RowScorer& scorer, const float* query, const std::vector<Ranked>& ranked,
                                  std::size_t k, bool rescore, const IdMap& ids) {
  std::vector<Candidate> list;
  list.reserve(ranked.size());
  for (const Ranked& entry : ranked) list.push_back({entry.score, entry.by.row});
  if (rescore) return rescored(scorer, query, std::move(list), k, ids);
  ids.sort(list);
  if (list.size() > k) list.resize(k);
  return list;
}

void SeenRows::grow() {
  std::vector<std::uint32_t> old(2 * slots_.size());
  old.swap(slots_);
  count_ = 0;
  for (const std::uint32_t entry : old) {
    if (entry != 0) insert(entry - 1);
  }
}

Selection::Selection(const RowScorer& scorer, const QueryTables& tables, std::size_t keep, const IdMap& ids, bool once,
                     RowBitmap allowed)
    : scorer_(scorer),
      tables_(tables),
      keep_(keep),
      once_(once),
      allowed_(allowed),
      pool_(keep, ids),
      seen_(once ? 1024 : 0) {
  deferred_.reserve(kRefineRows);
}

// Rows that look as if they belong among the best are refined at once; those that only might are put off until the
// threshold is what the best have made of it, which spares most of them.
void Selection::offer(RabitqHit* hits, std::size_t count, const std::uint32_t* numbers, std::size_t base) {
  const auto row_of = [&](const RabitqHit& hit) {
    return numbers != nullptr ? numbers[hit.row] : static_cast<std::uint32_t>(base + hit.row);
  };
  if (!allowed_.all()) {
    const auto out = [&](const RabitqHit& hit) { return !allowed_.admits(row_of(hit)); };
    count = static_cast<std::size_t>(std::remove_if(hits, hits + count, out) - hits);
  }
  if (scorer_.fine() == nullptr) {  // B1 alone ranks by its estimates
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint32_t row = row_of(hits[i]);
      if (hits[i].estimate < pool_.threshold() || (once_ && !seen_.insert(row))) continue;
      pool_.push(hits[i].estimate, static_cast<std::int64_t>(row));
    }
    return pool_.sharpen();
  }
  const bool opening = pool_.threshold() == -kInfinity && count > 2 * keep_;
  const float pivot = opening ? pivot_of(hits, count, keep_) : kInfinity;
  if (opening) {  // nothing is known yet: begin with what looks best
    for (std::size_t i = 0; i < count; ++i) {
      if (hits[i].estimate >= pivot) add({row_of(hits[i]), hits[i].upper});
    }
    flush();
  }
  for (std::size_t i = 0; i < count; ++i) {
    if (opening && hits[i].estimate >= pivot) continue;
    if (hits[i].estimate >= pool_.threshold()) {
      add({row_of(hits[i]), hits[i].upper});
    } else if (!(hits[i].upper < pool_.threshold())) {  // a bound beyond float16 is NaN and rules nothing out
      deferred_.push_back({row_of(hits[i]), hits[i].upper});
    }
  }
  if (count_ >= kEnough || pool_.threshold() == -kInfinity) flush();
}

void Selection::offer_rows(const std::uint32_t* numbers, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    if (allowed_.admits(numbers[i])) add({numbers[i], kInfinity});
  }
}

void Selection::begin_with(std::uint32_t row) {
  add({row, kInfinity});
  flush();
}

void Selection::add(const Deferred& hit) {
  if (hit.upper < pool_.threshold() || (once_ && !seen_.insert(hit.row))) return;
  if (count_ == kRefineRows) flush();
  scorer_.fetch(hit.row);
  rows_[count_] = hit.row;
  uppers_[count_++] = hit.upper;
}

void Selection::flush() {
  if (count_ == 0) return;
  std::array<float, kRefineRows> similarities;
  scorer_.score(tables_, rows_.data(), count_, similarities.data());
  for (std::size_t j = 0; j < count_; ++j) {
    pool_.push(std::min(similarities[j], uppers_[j]), static_cast<std::int64_t>(rows_[j]));
  }
  pool_.sharpen();
  refined_ += count_;
  count_ = 0;
}

std::vector<Ranked> Selection::finish() {
  for (const Deferred& hit : deferred_) add(hit);
  deferred_.clear();
  flush();
  const std::vector<Candidate> best = pool_.take_sorted();
  std::vector<Ranked> list(best.size());
  for (std::size_t i = 0; i < best.size(); ++i) list[i] = {best[i], best[i].similarity};
  if (scorer_.fine() == nullptr) return list;
  std::array<float, kRefineRows> scores;
  for (std::size_t first = 0; first < list.size(); first += kRefineRows) {
    const std::size_t count = std::min(kRefineRows, list.size() - first);
    for (std::size_t i = 0; i < count; ++i) rows_[i] = static_cast<std::uint32_t>(best[first + i].row);
    scorer_.score(tables_, rows_.data(), count, scores.data());
    for (std::size_t i = 0; i < count; ++i) list[first + i].score = scores[i];
  }
  return list;
}

}  // namespace tessella
