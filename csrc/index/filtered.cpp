#include "index/filtered.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <numeric>
#include <unordered_map>

#include "common/buffer.h"
#include "common/parallel.h"
#include "index/copied_rows.h"
#include "index/row_filter.h"
#include "index/selection.h"

namespace tessella {

namespace {

constexpr std::size_t kPartRows = 8192;     // a part of fewer rows is not worth a thread
constexpr std::size_t kSharedRows = 256;    // scored for one query after another, at a time
constexpr std::size_t kGatherQueries = 32;  // that share a look at rows
constexpr std::size_t kAheadRows = 32;      // asked for while as many are scored

// What one of several parts of the rows has for one query.
struct Gathered {
  std::vector<Candidate> best;
  std::size_t scored = 0;
};

// The best rows for one query, of rows that are scored by themselves.
class Best {
 public:
  Best(const RowScorer& scorer, const QueryTables& tables, std::size_t keep, const IdMap& ids)
      : scorer_(scorer), tables_(tables), pool_(keep, ids) {}

  // From memory that may be far away.
  void fetch_and_score(const std::uint32_t* rows, std::size_t count) {
    const auto fetch = [&](std::size_t first) {
      for (std::size_t i = first; i < std::min(count, first + kAheadRows); ++i) scorer_.fetch(rows[i]);
    };
    fetch(0);
    for (std::size_t first = 0; first < count; first += kAheadRows) {
      fetch(first + kAheadRows);
      score(rows + first, std::min(kAheadRows, count - first));
    }
  }
  void score(const std::uint32_t* rows, std::size_t count) {
    std::array<float, RowScorer::kMostGathered> similarities;
    for (std::size_t first = 0; first < count; first += similarities.size()) {
      const std::size_t some = std::min(similarities.size(), count - first);
      scorer_.score(tables_, rows + first, some, similarities.data());
      for (std::size_t i = 0; i < some; ++i) pool_.push(similarities[i], static_cast<std::int64_t>(rows[first + i]));
    }
    pool_.sharpen();
  }
  std::vector<Candidate> take() { return pool_.take_sorted(); }

 private:
  const RowScorer& scorer_;
  const QueryTables& tables_;
  TopK pool_;
};

// Queries under one bitmap share a look at its rows: these are scored for one after another while they are in the
// cache.
std::vector<Gathered> gather_range(const RowScorer& scorer, std::span<const QueryTables> tables,
                                   const RowBitmap& allowed, const IdMap& ids, std::size_t keep, std::size_t first,
                                   std::size_t last) {
  std::vector<Best> best;
  best.reserve(tables.size());
  for (const QueryTables& each : tables) best.emplace_back(scorer, each, keep, ids);
  std::array<std::uint32_t, kSharedRows> rows;
  std::size_t count = 0, scored = 0;
  const auto offer = [&] {
    best.front().fetch_and_score(rows.data(), count);
    for (std::size_t q = 1; q < best.size(); ++q) best[q].score(rows.data(), count);
    scored += count;
    count = 0;
  };
  allowed.for_rows(first, last, [&](std::size_t row) {
    if (!ids.named(row)) return;
    rows[count++] = static_cast<std::uint32_t>(row);
    if (count == rows.size()) offer();
  });
  offer();
  std::vector<Gathered> out(best.size());
  for (std::size_t q = 0; q < best.size(); ++q) out[q] = {best[q].take(), scored};
  return out;
}

// Queries under one bitmap, each group in order.
std::vector<std::vector<std::size_t>> by_filter(const SearchRequest& request) {
  std::vector<std::vector<std::size_t>> groups;
  if (request.nq == 0) return groups;
  if (request.allowed.size() <= 1) {
    groups.emplace_back(request.nq);
    std::iota(groups[0].begin(), groups[0].end(), std::size_t{0});
    return groups;
  }
  std::unordered_map<const std::uint64_t*, std::size_t> numbers;
  for (std::size_t q = 0; q < request.nq; ++q) {
    const std::size_t group = numbers.try_emplace(request.bitmap(q).words.data(), groups.size()).first->second;
    if (group == groups.size()) groups.emplace_back();
    groups[group].push_back(q);
  }
  return groups;
}

// The same, so many at most.
std::vector<std::vector<std::size_t>> companies(const SearchRequest& request) {
  std::vector<std::vector<std::size_t>> all;
  for (const std::vector<std::size_t>& group : by_filter(request)) {
    for (std::size_t first = 0; first < group.size(); first += kGatherQueries) {
      const auto begin = group.begin() + static_cast<std::ptrdiff_t>(first);
      all.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(std::min(kGatherQueries, group.size() - first)));
    }
  }
  return all;
}

// The best of all parts.
std::vector<Candidate> merged(std::span<Gathered> parts, const IdMap& ids, std::size_t keep, SearchCounts& counts) {
  for (const Gathered& part : parts) counts.scanned += part.scored;
  if (parts.size() == 1) return std::move(parts.front().best);
  std::vector<Candidate> all;
  for (const Gathered& part : parts) all.insert(all.end(), part.best.begin(), part.best.end());
  ids.sort(all);
  if (all.size() > keep) all.resize(keep);
  return all;
}

// Some of a request's queries, in order, as a request of their own.
class Part {
 public:
  Part(const SearchRequest& whole, const std::vector<std::size_t>& queries, std::size_t dim) : request_(whole) {
    request_.counts = &counts_;
    request_.plans = nullptr;
    if (queries.size() == whole.nq) return;
    for (const std::size_t q : queries) {
      const float* from = whole.queries + q * dim;
      rows_.insert(rows_.end(), from, from + dim);
      allowed_.push_back(whole.bitmap(q));
    }
    request_.queries = rows_.data();
    request_.nq = queries.size();
    request_.allowed = allowed_;
  }
  const SearchRequest& request() const { return request_; }
  const SearchCounts& counts() const { return counts_; }

 private:
  SearchRequest request_;
  SearchCounts counts_;
  std::vector<float> rows_;
  std::vector<RowBitmap> allowed_;
};

// Queries that are answered in the same way.
struct Same {
  Plan plan;
  std::vector<std::size_t> queries;
};

// What the planner goes by; a filter that should keep copies of its rows makes them here.
Matches matches_of(const RowBitmap& allowed, const SearchRequest& request, const RowScorer& scorer, const IdMap& ids,
                   const Ground& ground) {
  Matches matches(allowed.all() ? ground.rows : allowed.count);
  RowFilter* filter = allowed.filter;
  if (allowed.all() || filter == nullptr) return matches;
  matches.copies = filter->wants_copies() && std::isfinite(ground.copied);
  if (matches.copies) filter->copies(request.state, [&] { return copy_rows(scorer.rows(), allowed, ids); });
  if (!std::isfinite(ground.run)) return matches;
  matches.blocks = filter->spread().blocks;
  matches.runs = filter->spread().runs;
  return matches;
}

std::map<std::pair<Way, std::size_t>, Same> by_plan(const SearchRequest& request, const RowScorer& scorer,
                                                    const IdMap& ids, const Ground& ground) {
  std::map<std::pair<Way, std::size_t>, Same> groups;
  for (const std::vector<std::size_t>& queries : by_filter(request)) {
    const Matches matches = matches_of(request.bitmap(queries.front()), request, scorer, ids, ground);
    const Plan plan = plan_for(ground, request.k, matches);
    Same& same = groups[{plan.way, plan.effort}];
    same.plan = plan;
    same.queries.insert(same.queries.end(), queries.begin(), queries.end());
    if (request.plans == nullptr) continue;
    for (const std::size_t q : queries) request.plans[q] = plan;
  }
  for (auto& [kind, same] : groups) std::sort(same.queries.begin(), same.queries.end());
  return groups;
}

void add_counts(SearchCounts* to, const SearchCounts& from) {
  if (to == nullptr) return;
  to->scanned += from.scanned;
  to->refined += from.refined;
  to->rescored += from.rescored;
  to->lists += from.lists;
}

}  // namespace

CandidateLists gather(const SearchRequest& request, const RowScorer& scorer, const IdMap& ids) {
  const bool rescores = scorer.ends_raw() && !scorer.fine_is_raw();
  const std::size_t keep = rescores ? kRawFactor * request.k : request.k, dim = scorer.rows().config().dim;
  const std::size_t most = std::max<std::size_t>(1, ids.size() / kPartRows);
  const std::vector<std::vector<std::size_t>> all = companies(request);
  const std::size_t parts = all.size() < request.threads ? std::min(request.threads, most) : 1;
  std::vector<std::vector<Gathered>> found(all.size() * parts);
  parallel_for(found.size(), request.threads, [&](std::size_t task) {
    const std::vector<std::size_t>& company = all[task / parts];
    const std::size_t p = task % parts, words = (ids.size() + 63) / 64;
    if (const RowBitmap allowed = request.bitmap(company.front()); !allowed.all() && allowed.count == 0) {
      found[task].resize(company.size());
      return;
    }
    const std::size_t bytes = scorer.fine_is_raw() ? 0 : (scorer.fine_table_bytes() + 63) / 64 * 64;
    AlignedBuffer memory(bytes * company.size());
    std::vector<QueryTables> tables(company.size());
    for (std::size_t i = 0; i < company.size(); ++i) {
      tables[i].raw = request.queries + company[i] * dim;
      if (bytes != 0) tables[i] = scorer.fine_tables_for(tables[i].raw, memory.data() + i * bytes);
    }
    found[task] = gather_range(scorer, tables, request.bitmap(company.front()), ids, keep, words * p / parts * 64,
                               std::min(ids.size(), words * (p + 1) / parts * 64));
  });
  CandidateLists lists(request.nq);
  SearchCounts counts;
  for (std::size_t c = 0; c < all.size(); ++c) {
    for (std::size_t i = 0; i < all[c].size(); ++i) {
      std::vector<Gathered> each(parts);
      for (std::size_t p = 0; p < parts; ++p) each[p] = std::move(found[c * parts + p][i]);
      std::vector<Candidate>& list = lists[all[c][i]];
      list = merged(each, ids, keep, counts);
      if (!rescores) continue;
      counts.rescored += list.size();
      list = rescored(scorer, request.queries + all[c][i] * dim, std::move(list), request.k, ids);
    }
  }
  if (request.counts != nullptr) *request.counts = counts;
  return lists;
}

CandidateLists search_filtered(const SearchRequest& request, const RowScorer& scorer, const IdMap& ids,
                               const Ground& ground, const RunPlan& run) {
  CandidateLists lists(request.nq);
  const auto take = [&](const std::vector<std::size_t>& queries, const auto& answer) {
    if (queries.empty()) return;
    const Part part(request, queries, scorer.rows().config().dim);
    CandidateLists found = answer(part.request());
    for (std::size_t i = 0; i < queries.size(); ++i) lists[queries[i]] = std::move(found[i]);
    add_counts(request.counts, part.counts());
  };
  std::vector<std::size_t> gathered;
  for (const auto& [kind, same] : by_plan(request, scorer, ids, ground)) {
    if (same.plan.way == Way::kGather) {
      gathered.insert(gathered.end(), same.queries.begin(), same.queries.end());
      continue;
    }
    take(same.queries, [&](const SearchRequest& part) {
      return same.plan.way == Way::kCopies ? scan_copies(part, scorer, ids) : run(part, same.plan);
    });
    for (const std::size_t q : same.queries) {
      if (lists[q].size() < std::min(request.k, request.bitmap(q).count)) gathered.push_back(q);
    }
  }
  if (scorer.fine() != nullptr) {
    std::sort(gathered.begin(), gathered.end());
    take(gathered, [&](const SearchRequest& part) { return gather(part, scorer, ids); });
  }
  return lists;
}

}  // namespace tessella
