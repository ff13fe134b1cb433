// One query's way from B1 hits to its best rows: which hits are refined, when, and what they leave behind.
//
// A row's rank is decided by min(refined similarity, B1 upper bound). Then dropping a row because its upper bound lies
// under the running threshold never changes the outcome, so results do not depend on the order of the scan or on the
// number of threads. Reported scores are the refined ones.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <vector>

#include "index/row_bitmap.h"
#include "index/score.h"
#include "index/topk.h"

namespace tessella {

constexpr std::size_t kRawFactor = 4;  // a raw last stage re-scores this many times k

// A candidate and the score that will be reported for it; the two differ where a refined score exceeds its bound.
struct Ranked {
  Candidate by;
  float score;
};

// The k best by a raw last codec after another one: a row's score is then that of exact_score, whichever path found it.
std::vector<Candidate> rescored(const RowScorer& scorer, const float* query, std::vector<Candidate> list, std::size_t k,
                                const IdMap& ids);
// The k best of a ranked list by their final scores.
std::vector<Candidate> final_list(const RowScorer& scorer, const float* query, const std::vector<Ranked>& ranked,
                                  std::size_t k, bool rescore, const IdMap& ids);

// Row numbers met before. Grows as it fills.
class SeenRows {
 public:
  explicit SeenRows(std::size_t slots = kFewest) : slots_(slots) {}
  // Whether the row was met, as far as one look tells: seldom no where it was.
  bool has_at_once(std::uint32_t row) const { return slots_[home_of(row)] == row + 1; }
  bool insert(std::uint32_t row) {  // false: was there already
    const std::size_t slot = slot_of(row);
    if (slots_[slot] != 0) return false;
    slots_[slot] = row + 1;
    if (kSpare * ++count_ > slots_.size()) grow();
    return true;
  }
  void clear() {  // with room for as many again
    slots_.assign(std::max(kFewest, std::bit_ceil(kSpare * count_ + 1)), 0u);
    count_ = 0;
  }

 private:
  std::size_t home_of(std::uint32_t row) const { return row * 0x9E3779B1u & (slots_.size() - 1); }
  // The row's slot, or the empty one where it would go.
  std::size_t slot_of(std::uint32_t row) const {
    const std::size_t mask = slots_.size() - 1;
    std::size_t slot = home_of(row);
    while (slots_[slot] != 0 && slots_[slot] != row + 1) slot = (slot + 1) & mask;
    return slot;
  }
  void grow();
  static constexpr std::size_t kSpare = 4;  // slots for each row: a probe seldom has to look twice
  static constexpr std::size_t kFewest = 1024;
  std::vector<std::uint32_t> slots_;  // row + 1; a power of two
  std::size_t count_ = 0;
};

class Selection {
 public:
  // keep: length of the list. once: rows may be offered twice and count once (lists that spill into each other).
  Selection(const RowScorer& scorer, const QueryTables& tables, std::size_t keep, const IdMap& ids, bool once,
            RowBitmap allowed = {});

  // Similarity below which a row's upper bound rules it out.
  float threshold() const { return pool_.threshold(); }

  // Hits of rows numbers[hit.row], or base + hit.row where there are no numbers. Those that do not count are dropped,
  // and the others put in their places.
  void offer(RabitqHit* hits, std::size_t count, const std::uint32_t* numbers, std::size_t base);
  // Rows to be scored without a B1 estimate, several at a time: the last ones wait for more, or for the end.
  void offer_rows(const std::uint32_t* numbers, std::size_t count);
  // A row that is scored at once; where it may come again, once more.
  void begin_with(std::uint32_t row);
  // Refines what was put off; best first, at most `keep`.
  std::vector<Ranked> finish();

  std::size_t refined() const { return refined_; }
  const RowBitmap& allowed() const { return allowed_; }

 private:
  struct Deferred {
    std::uint32_t row;
    float upper;
  };
  void add(const Deferred& hit);
  void flush();

  static constexpr std::size_t kRefineRows = 32;  // rows refined between two looks at the threshold, at most
  static constexpr std::size_t kEnough = 8;       // …, at least, but at the end

  const RowScorer& scorer_;
  const QueryTables& tables_;
  std::size_t keep_;
  bool once_;
  RowBitmap allowed_;
  TopK pool_;
  std::vector<Deferred> deferred_;
  SeenRows seen_;  // without slots unless rows count once
  std::size_t refined_ = 0, count_ = 0;
  std::array<std::uint32_t, kRefineRows> rows_;
  std::array<float, kRefineRows> uppers_;
};

}  // namespace tessella
