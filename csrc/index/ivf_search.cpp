// Searching an inverted file: the nearest centroids by a B1+U8 scan of them, then their lists by the index's codecs.
//
// A query looks into its kNear nearest lists first, which makes its threshold sharp, and into the others in the order
// of their numbers: so the queries of a batch that share a list share one pass over it. What a query finds depends on
// nothing but itself, so results are the same in any batch and at any number of threads.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "common/parallel.h"
#include "index/ivf_scan.h"

namespace tessella {

namespace {

constexpr std::size_t kSharedLists = 6;  // queries a task has for each list, where there are enough
constexpr std::size_t kFewestQueries = 32;
constexpr std::size_t kFetchedBytes = 4096;  // of the next list, asked for while one is scanned

}  // namespace

// By counting: comparisons would be mispredicted.
std::vector<Visit> list_by_list(const std::vector<Visit>& visits, std::size_t lists) {
  std::vector<std::uint32_t> next(lists + 1, 0);
  for (const Visit& each : visits) ++next[each.probe.list + 1];
  for (std::size_t l = 1; l <= lists; ++l) next[l] += next[l - 1];
  std::vector<Visit> sorted(visits.size());
  for (const Visit& each : visits) sorted[next[each.probe.list]++] = each;
  return sorted;
}

CandidateLists IvfScan::run() {
  const std::size_t nq = request_.nq;
  CandidateLists out(nq);
  const std::size_t each = std::clamp(kSharedLists * ix_.lists_.count() / nprobe_, kFewestQueries, kMostQueries);
  const std::size_t tasks = std::max((nq + each - 1) / each, std::min(nq, request_.threads));
  parallel_for(tasks, request_.threads, [&](std::size_t task) {
    const std::size_t first = nq * task / tasks, last = nq * (task + 1) / tasks;
    WorkSpace space = work_space(last - first);
    search_group(first, last - first, space, out.data() + first);
  });
  if (request_.counts != nullptr) *request_.counts = {scanned_, refined_, rescored_, probed_};
  return out;
}

void IvfScan::search_group(std::size_t q0, std::size_t nq, WorkSpace& space, std::vector<Candidate>* out) {
  std::vector<QueryTables> tables(nq);
  for (std::size_t i = 0; i < nq; ++i) {
    tables[i] = tables_for(query(q0 + i), space.tables.data() + i * table_bytes());
  }
  std::vector<std::vector<Probe>> probes(nq);
  nearest_lists(tables.data(), nq, nprobe_, space, probes.data());
  std::vector<Selection> found;
  found.reserve(nq);
  std::vector<Visit> visits;
  std::size_t scanned = 0, probed = 0, refined = 0;
  for (std::size_t i = 0; i < nq; ++i) {
    found.emplace_back(scorer_, tables[i], keep(), ix_.ids_, ix_.spills());
    for (std::size_t p = 0; p < probes[i].size(); ++p) {
      scanned += ix_.lists_[probes[i][p].list].size;
      Visit visit{probes[i][p], static_cast<std::uint32_t>(i)};
      if (p < kNear && p + 1 < probes[i].size()) fetch(probes[i][p + 1]);
      p < kNear ? scan_list(&visit, 1, tables.data(), space, found.data()) : visits.push_back(visit);
    }
    probed += probes[i].size();
  }
  visits = list_by_list(visits, ix_.lists_.count());
  for (std::size_t v = 0; v < visits.size();) {
    std::size_t count = 1;
    while (count < kRabitqQueries && v + count < visits.size() &&
           visits[v + count].probe.list == visits[v].probe.list) {
      ++count;
    }
    if (v + count < visits.size()) fetch(visits[v + count].probe);
    scan_list(visits.data() + v, count, tables.data(), space, found.data());
    v += count;
  }
  for (std::size_t i = 0; i < nq; ++i) {
    out[i] = finished(q0 + i, found[i].finish());
    refined += found[i].refined();
  }
  scanned_.fetch_add(scanned, std::memory_order_relaxed);
  refined_.fetch_add(refined, std::memory_order_relaxed);
  probed_.fetch_add(probed, std::memory_order_relaxed);
}

// A centroid's score by its 8-bit code is what estimates in its list are built on.
void IvfScan::nearest_lists(const QueryTables* tables, std::size_t nq, std::size_t wanted, WorkSpace& space,
                            std::vector<Probe>* probes) const {
  std::vector<Selection> found;
  found.reserve(nq);
  for (std::size_t i = 0; i < nq; ++i) found.emplace_back(coarse_, tables[i], wanted, list_ids_, false);
  const Column& blocks = *ix_.centroids_.column("b1");
  const std::size_t count = ix_.lists_.count();
  std::array<RabitqQuery, kRabitqQueries> queries;
  std::array<RabitqHit*, kRabitqQueries> hits{};
  std::array<std::size_t, kRabitqQueries> counts{};
  for (std::size_t first = 0; first < count;) {
    const std::size_t range = first == 0 ? std::max<std::size_t>(128, 2 * wanted) : std::max<std::size_t>(first, 512);
    const std::size_t end = std::min(
        {count, (first / kChunkRows + 1) * kChunkRows, first + std::min(range, kRangeRows) / kBlockRows * kBlockRows});
    for (std::size_t q = 0; q < nq; q += kRabitqQueries) {
      const std::size_t together = std::min(kRabitqQueries, nq - q);
      for (std::size_t i = 0; i < together; ++i) {
        queries[i] = tables[q + i].b1;
        queries[i].threshold = found[q + i].threshold();
        hits[i] = space.hits[i].get();
      }
      kernels_.rabitq_scan({blocks.block(first / kBlockRows), end - first, ix_.rows_.padded(), scorer_.l2(),
                            queries.data(), together, hits.data(), counts.data()});
      for (std::size_t i = 0; i < together; ++i) found[q + i].offer(hits[i], counts[i], nullptr, first);
    }
    first = end;
  }
  for (std::size_t i = 0; i < nq; ++i) {
    for (const Ranked& entry : found[i].finish()) {
      probes[i].push_back({static_cast<std::uint32_t>(entry.by.row), entry.score});
    }
  }
}

void IvfScan::fetch(const Probe& probe) const {
  const auto& list = ix_.lists_[probe.list];
  const std::uint8_t* from = list.blocks != nullptr ? list.blocks : reinterpret_cast<const std::uint8_t*>(list.rows);
  const std::size_t bytes = std::min<std::size_t>(
      kFetchedBytes, list.blocks != nullptr ? list.size * (ix_.lists_.block_bytes() / kBlockRows) : list.size * 4);
  for (std::size_t at = 0; at < bytes; at += 64) __builtin_prefetch(from + at);
}

// <q, x> = <q, c> + <q - a, r> + <a, r>; see IvfIndex::encode_entries.
RabitqQuery IvfScan::for_list(const QueryTables& tables, const Probe& probe) const {
  RabitqQuery query = tables.b1;
  float distance2 = -probe.add;
  query.add = probe.add;
  if (!scorer_.l2()) {
    query.add = tables.add + ix_.shrinks_[probe.list] * (probe.add - tables.add);
    distance2 = tables.raw_norm2 + ix_.anchors_norm2_[probe.list] - 2.0f * query.add;
  }
  query.epsilon = query.factor * request_.epsilon * std::sqrt(std::max(distance2, 0.0f));
  return query;
}

// One pass over a list, for up to kRabitqQueries queries that visit it.
void IvfScan::scan_list(const Visit* visits, std::size_t count, const QueryTables* tables, WorkSpace& space,
                        Selection* found) const {
  const InvertedLists::List& list = ix_.lists_[visits[0].probe.list];
  if (!ix_.scans_codes()) {
    for (std::size_t v = 0; v < count; ++v) found[visits[v].query].offer_rows(list.rows, list.size);
    return;
  }
  std::array<RabitqHit*, kRabitqQueries> hits{};
  std::array<std::size_t, kRabitqQueries> counts{};
  std::array<float, kRabitqQueries> thresholds{};
  for (std::size_t v = 0; v < count; ++v) hits[v] = space.hits[v].get();
  for (std::size_t first = 0; first < list.size; first += kRangeRows) {
    for (std::size_t v = 0; v < count; ++v) thresholds[v] = found[visits[v].query].threshold();
    scan_blocks(visits, count, tables, first, thresholds.data(), hits.data(), counts.data());
    for (std::size_t v = 0; v < count; ++v) {
      found[visits[v].query].offer(hits[v], counts[v], list.rows + first, 0);
    }
  }
}

// Hits of kRangeRows of a list's rows, from `first` on.
void IvfScan::scan_blocks(const Visit* visits, std::size_t count, const QueryTables* tables, std::size_t first,
                          const float* thresholds, RabitqHit* const* hits, std::size_t* counts) const {
  const InvertedLists::List& list = ix_.lists_[visits[0].probe.list];
  const std::uint8_t* blocks = list.blocks + first / kBlockRows * ix_.lists_.block_bytes();
  const std::size_t n = std::min<std::size_t>(kRangeRows, list.size - first);
  if (scorer_.pq_table_bytes() != 0) {
    std::array<const QueryTables*, kRabitqQueries> each{};
    for (std::size_t v = 0; v < count; ++v) each[v] = tables + visits[v].query;
    return scorer_.scan_pq(blocks, n, each.data(), thresholds, count, hits, counts);
  }
  std::array<RabitqQuery, kRabitqQueries> queries;
  for (std::size_t v = 0; v < count; ++v) {
    queries[v] = for_list(tables[visits[v].query], visits[v].probe);
    queries[v].threshold = thresholds[v];
  }
  kernels_.rabitq_scan({blocks, n, ix_.rows_.padded(), true, queries.data(), count, hits, counts});
}

std::vector<Candidate> IvfScan::finished(std::size_t q, const std::vector<Ranked>& ranked) {
  const bool rescore = ends_raw() && !scorer_.fine_is_raw();
  if (rescore) rescored_.fetch_add(ranked.size(), std::memory_order_relaxed);
  return final_list(scorer_, query(q), ranked, request_.k, rescore, ix_.ids_);
}

// Every row of the probed lists whose similarity reaches `least`.
std::vector<Candidate> IvfScan::within(std::size_t q, float least) const {
  WorkSpace space = work_space(1);
  const QueryTables tables = tables_for(query(q), space.tables.data());
  std::vector<Probe> probes;
  nearest_lists(&tables, 1, nprobe_, space, &probes);
  std::vector<Candidate> found;
  SeenRows seen;
  const auto offer = [&](std::uint32_t row, float similarity) {
    if (ix_.spills() && !seen.insert(row)) return;
    if (scorer_.fine() != nullptr && !ends_raw()) scorer_.score(tables, &row, 1, &similarity);
    if (ends_raw()) similarity = scorer_.exact(query(q), row);
    if (similarity >= least) found.push_back({similarity, row});
  };
  for (const Probe& probe : probes) {
    const InvertedLists::List& list = ix_.lists_[probe.list];
    if (!ix_.scans_codes()) {
      for (const std::uint32_t row : list.numbers()) offer(row, 0.0f);
      continue;
    }
    const Visit visit{probe, 0};
    for (std::size_t first = 0; first < list.size; first += kRangeRows) {
      RabitqHit* hits = space.hits[0].get();
      std::size_t count = 0;
      scan_blocks(&visit, 1, &tables, first, &least, &hits, &count);
      for (std::size_t i = 0; i < count; ++i) offer(list.rows[first + hits[i].row], hits[i].estimate);
    }
  }
  ix_.ids_.sort(found);
  return found;
}

// ---- the index's face ----------------------------------------------------------------------------------------------

void IvfIndex::search(const IvfRequest& request) const {
  const auto reading = lock_.read();
  std::vector<std::vector<Candidate>> lists;
  if (ids_.size() != 0 && request.search.nq != 0) {
    const Prepared queries = rows_.prepared(request.search.queries, request.search.nq);
    IvfRequest prepared = request;
    prepared.search.queries = queries.data();
    prepared.search.state = lock_.state();
    lists = request.search.allowed.empty() ? IvfScan(*this, prepared).run() : search_admitted(prepared);
  }
  report(request.search, lists, config().metric, ids_);
}

CandidateLists IvfIndex::search_admitted(const IvfRequest& request) const {
  const IvfScan scan(*this, request);
  const Ground ground = scan.ground();
  return search_filtered(request.search, scan.scorer(), ids_, ground, [&](const SearchRequest& part, const Plan&) {
    return IvfScan(*this, {part, request.nprobe}).run_admitted(ground);
  });
}

std::vector<std::vector<RangeHit>> IvfIndex::range_search(const float* queries, std::size_t nq, float threshold,
                                                          float epsilon, std::size_t nprobe,
                                                          std::size_t threads) const {
  const auto reading = lock_.read();
  std::vector<std::vector<RangeHit>> lists(nq);
  if (ids_.size() == 0) return lists;
  const float sign = config().metric == Metric::kL2 ? -1.0f : 1.0f;
  const Prepared prepared = rows_.prepared(queries, nq);
  const IvfRequest request{{prepared.data(), nq, 1, epsilon, threads, nullptr, nullptr}, nprobe};
  const IvfScan scan(*this, request);
  parallel_for(nq, threads, [&](std::size_t q) {
    for (const Candidate& c : scan.within(q, sign * threshold)) {
      lists[q].push_back({sign * c.similarity, ids_.id(static_cast<std::size_t>(c.row))});
    }
  });
  return lists;
}

}  // namespace tessella
