// A search under bitmaps: queries with the same plan run together, and those whose plan finds too little are answered
// by looking at every row that counts.
#pragma once

#include <functional>
#include <vector>

#include "index/plan.h"
#include "index/search.h"

namespace tessella {

using CandidateLists = std::vector<std::vector<Candidate>>;
// Runs a plan other than a gathering; `part` has queries that are prepared, and as many bitmaps.
using RunPlan = std::function<CandidateLists(const SearchRequest& part, const Plan& plan)>;

// `request` has prepared queries.
CandidateLists search_filtered(const SearchRequest& request, const RowScorer& scorer, const IdMap& ids,
                               const Ground& ground, const RunPlan& run);

// The k best of the rows that each query's bitmap admits, by the finest codec.
CandidateLists gather(const SearchRequest& request, const RowScorer& scorer, const IdMap& ids);

}  // namespace tessella
