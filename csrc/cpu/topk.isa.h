// Keeping the k best of a stream: candidates that pass the running threshold go into a pool; a full pool is cut back
// to its k best by quickselect, which also raises the threshold. Amortised O(1) a candidate, for k = 1 and k = 2,048.
#pragma once

#include "tessella/types.h"

namespace tessella::TSL_LEVEL {

struct Pool {
  Candidate* entries;
  std::size_t count;
  std::size_t capacity;  // more than k
  std::size_t k;
  float threshold;  // similarity of the k-th best when last cut; -inf before
  const std::int64_t* ids;
};

static inline bool is_better(const Candidate& a, const Candidate& b, const std::int64_t* ids) {
  if (a.similarity != b.similarity) return a.similarity > b.similarity;
  return ids == nullptr ? a.row < b.row : ids[a.row] < ids[b.row];
}

static inline void swap(Candidate& a, Candidate& b) {
  const Candidate held = a;
  a = b;
  b = held;
}

// Moves the k best of `entries` to its front, in no order. Hoare's partition with a median of three; equal elements
// do not occur (positions differ), so both scans stop.
static void select_best(Candidate* entries, std::size_t n, std::size_t k, const std::int64_t* ids) {
  std::size_t low = 0, high = n;  // the k-th boundary lies in [low, high)
  while (high - low > 1) {
    Candidate& middle = entries[low + (high - low) / 2];
    Candidate& last = entries[high - 1];
    if (is_better(middle, entries[low], ids)) swap(middle, entries[low]);
    if (is_better(last, entries[low], ids)) swap(last, entries[low]);
    if (is_better(last, middle, ids)) swap(last, middle);
    const Candidate pivot = middle;
    std::size_t i = low, j = high - 1;
    for (;;) {
      while (is_better(entries[i], pivot, ids)) ++i;
      while (is_better(pivot, entries[j], ids)) --j;
      if (i >= j) break;
      swap(entries[i++], entries[j--]);
    }
    const std::size_t split = i == j ? i + 1 : i;  // [low, split) is no worse than [split, high)
    if (k == split) return;
    if (k < split) {
      if (split == high) return;
      high = split;
    } else {
      low = split;
    }
  }
}

// Best first, by heap sort: the root of the heap is the worst entry.
static void sort_best(Candidate* entries, std::size_t n, const std::int64_t* ids) {
  const auto sift = [&](std::size_t root, std::size_t end) {
    for (std::size_t child = 2 * root + 1; child < end; child = 2 * root + 1) {
      if (child + 1 < end && is_better(entries[child], entries[child + 1], ids)) ++child;
      if (!is_better(entries[root], entries[child], ids)) return;
      swap(entries[root], entries[child]);
      root = child;
    }
  };
  for (std::size_t root = n / 2; root-- > 0;) sift(root, n);
  for (std::size_t end = n; end > 1;) {
    swap(entries[0], entries[--end]);
    sift(0, end);
  }
}

static inline void cut(Pool& pool) {
  if (pool.count < pool.k) return;
  if (pool.count > pool.k) select_best(pool.entries, pool.count, pool.k, pool.ids);
  pool.count = pool.k;
  float worst = pool.entries[0].similarity;
  for (std::size_t i = 1; i < pool.k; ++i) {
    if (pool.entries[i].similarity < worst) worst = pool.entries[i].similarity;
  }
  pool.threshold = worst;
}

// The caller has compared with the threshold; equal passes, since a smaller id may still win.
static inline void push(Pool& pool, float similarity, std::int64_t row) {
  pool.entries[pool.count++] = Candidate{similarity, row};
  if (pool.count == pool.capacity) cut(pool);
}

static inline void open_pool(Pool& pool, const Candidate* best) {
  pool.count = 0;
  pool.threshold = -__builtin_inff();
  while (pool.count < pool.k && best[pool.count].row >= 0) {
    pool.entries[pool.count] = best[pool.count];
    ++pool.count;
  }
  if (pool.count == pool.k) cut(pool);
}

static inline void close_pool(Pool& pool, Candidate* best) {
  cut(pool);
  sort_best(pool.entries, pool.count, pool.ids);
  for (std::size_t i = 0; i < pool.k; ++i) {
    best[i] = i < pool.count ? pool.entries[i] : Candidate{-__builtin_inff(), -1};
  }
}

}  // namespace tessella::TSL_LEVEL
