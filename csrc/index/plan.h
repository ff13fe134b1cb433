// How a filtered search is run: of the ways an index has, the one that is estimated to cost least.
//
// Every way returns only rows that the filter admits, and min(k, matches) of them; what they differ in is what they
// look at. The constants are measured (see plan.cpp) and need not be exact: near the crossing of two ways either will
// do.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "index/score.h"

namespace tessella {

enum class Way : std::uint8_t {
  kGather,  // every row that counts, scored by itself
  kScan,    // all rows by estimates, blocks of 32 without a match left out
  kLists,   // inverted lists, nearest first, until enough rows that count were met
  kWalk,    // a walk over the graph, through rows that do not count, too
  kCopies,  // 1-bit codes of the rows that count, which the filter keeps
};
constexpr std::size_t kWays = 5;

// What an index offers a filtered search, and what its steps cost, in nanoseconds. A way that is not there has
// infinite steps.
struct Ground {
  static constexpr double kNumber = 2.0;  // a row number of a list, looked up in the bitmap
  static constexpr double kSorted = 6.0;  // a row of the bitmap, on its way to its list

  Ground(const RowScorer& scorer, std::size_t rows_there);

  std::size_t rows;
  double gathered;  // a row scored by itself
  double block;     // 32 rows scanned by estimates
  double run;       // blocks one after another, up to one in which no row counts
  double list;      // a list looked into
  double number;    // …: each of its rows, before it is known to count
  double visit;     // a step of a walk
  double copied;    // 32 rows of a filter's copies, scanned
  std::size_t lists = 0;
  std::size_t effort = 0;  // nprobe or ef that the caller wants where nothing is filtered

  void offer_scan();
  void offer_lists(std::size_t count, std::size_t nprobe, bool scans_codes);
  void offer_walk(std::size_t ef, std::size_t degree, bool coded);  // of B1 codes at the edges
  void offer_copies();                                              // a filter may keep 1-bit codes of its rows

 private:
  double estimate_;  // a block of 32 codes of the scanning codec
};

struct Plan {
  Way way = Way::kGather;
  std::size_t effort = 0;             // candidates that a walk keeps
  std::array<double, kWays> costs{};  // estimated, in nanoseconds; infinity: there is no such way
};

// What is known of the rows that a filter admits.
struct Matches {
  Matches(std::size_t rows) : count(rows) {}

  std::size_t count;
  bool copies = false;               // the filter keeps copies of their codes
  std::size_t blocks = 0, runs = 0;  // of 32 rows that have one, and how many runs these make; 0: as chance has it
};

Plan plan_for(const Ground& ground, std::size_t k, const Matches& matches);

// For tests and benchmarks: from now on this way wherever an index has it, -1: the one that costs least. What a way
// falls back on when it finds too little stays in force.
void force_way(int way);

// Lists, or candidates of a walk, among which as many rows count, of `rows` of which the filter admits `matches`, as
// there are in `effort` of them without a filter.
std::size_t widened(std::size_t effort, std::size_t matches, std::size_t rows);

}  // namespace tessella
