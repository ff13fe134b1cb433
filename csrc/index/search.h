// What a search is asked, what it costs, and where its results go: the same for every structure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "index/ids.h"
#include "index/row_bitmap.h"
#include "index/rows.h"
#include "tessella/types.h"

namespace tessella {

struct Plan;

// Work of a search, summed over its queries. Exact and repeatable at one thread.
struct SearchCounts {
  std::uint64_t scanned = 0;   // rows looked at through the first codec
  std::uint64_t refined = 0;   // rows looked at through the second
  std::uint64_t rescored = 0;  // final candidates scored once more
  std::uint64_t lists = 0;     // inverted lists looked into
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
  std::span<const RowBitmap> allowed = {};  // none: all rows count; one for all queries; or one for each
  Plan* plans = nullptr;                    // (nq) how each query was filtered, where somebody asks
  std::uint64_t state = 0;                  // of the index: see FairLock
  // A row for each query to look at first, which rules most others out; codes of a flat index and k = 1 only.
  std::span<const std::uint32_t> guesses = {};

  RowBitmap bitmap(std::size_t q) const { return allowed.empty() ? RowBitmap{} : allowed[allowed.size() == 1 ? 0 : q]; }
};

struct RangeHit {
  float score;
  std::int64_t id;
};

// Fills a request's results: ids and scores of lists that are best first.
void report(const SearchRequest& request, const std::vector<std::vector<Candidate>>& lists, Metric metric,
            const IdMap& ids);
// Throws InvalidArgument when an id occurs twice.
void check_unique(std::span<const std::int64_t> ids, const char* operation);
// Throws InvalidArgument when there are rows already, whose codes would not fit what training changes.
void require_empty(const IdMap& ids, const char* operation);
// Throws InvalidArgument when rows need codebooks that are not there.
void require_pq(const Rows& rows, const char* operation);
// Row numbers of these ids; throws InvalidArgument for one that is not here.
std::vector<std::size_t> rows_of(const IdMap& map, std::span<const std::int64_t> ids, const char* operation);

// A map read from a file: the ids (absent: 0, 1, 2, …) of so many rows. Throws FormatError.
IdMap restored_ids(const std::optional<std::vector<std::int64_t>>& ids, std::size_t rows, std::int64_t next_id);

}  // namespace tessella
