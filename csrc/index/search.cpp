#include "index/search.h"

#include <algorithm>
#include <string>
#include <unordered_set>

#include "tessella/errors.h"

namespace tessella {

void report(const SearchRequest& request, const std::vector<std::vector<Candidate>>& lists, Metric metric,
            const IdMap& ids) {
  const float sign = metric == Metric::kL2 ? -1.0f : 1.0f;
  std::fill_n(request.scores, request.nq * request.k, -sign * std::numeric_limits<float>::infinity());
  std::fill_n(request.ids, request.nq * request.k, std::int64_t{-1});
  for (std::size_t q = 0; q < lists.size(); ++q) {
    for (std::size_t i = 0; i < lists[q].size(); ++i) {
      request.scores[q * request.k + i] = sign * lists[q][i].similarity;
      request.ids[q * request.k + i] = ids.id(static_cast<std::size_t>(lists[q][i].row));
    }
  }
}

void check_unique(std::span<const std::int64_t> ids, const char* operation) {
  std::unordered_set<std::int64_t> seen;
  seen.reserve(ids.size());
  for (const std::int64_t id : ids) {
    if (seen.insert(id).second) continue;
    throw Error(ErrorKind::kInvalidArgument,
                std::string(operation) + ": expected ids without repeats; " + std::to_string(id) + " occurs twice");
  }
}

void require_empty(const IdMap& ids, const char* operation) {
  if (ids.size() == 0) return;
  throw Error(ErrorKind::kInvalidArgument, std::string(operation) +
                                               ": expected an empty index, since stored codes depend on what training "
                                               "finds; got one of " +
                                               std::to_string(ids.size() - ids.nameless()) + " rows");
}

void require_pq(const Rows& rows, const char* operation) {
  if (!rows.has(Codec::Kind::kPq) || rows.pq() != nullptr) return;
  throw Error(ErrorKind::kInvalidArgument,
              std::string(operation) + ": expected a trained index, since PQ needs codebooks; train(x) comes first");
}

std::vector<std::size_t> rows_of(const IdMap& map, std::span<const std::int64_t> ids, const char* operation) {
  std::vector<std::size_t> rows(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const std::int64_t row = map.find(ids[i]);
    if (row < 0) {
      throw Error(ErrorKind::kInvalidArgument,
                  std::string(operation) + ": id " + std::to_string(ids[i]) + " is not in the index");
    }
    rows[i] = static_cast<std::size_t>(row);
  }
  return rows;
}

IdMap restored_ids(const std::optional<std::vector<std::int64_t>>& ids, std::size_t rows, std::int64_t next_id) {
  IdMap map;
  if (ids) {
    try {
      map.check_new(*ids, "load");
    } catch (const Error& error) {
      throw Error(ErrorKind::kFormat, error.what());
    }
    map.append(*ids);
  } else {
    map.append_next(rows);
  }
  map.raise_next_id(next_id);
  return map;
}

}  // namespace tessella
