// Searching a graph: a thread takes several walks forward in turn, so that one's memory arrives during the others'
// steps.
#include <algorithm>
#include <atomic>
#include <optional>

#include "common/parallel.h"
#include "index/filtered.h"
#include "index/graph_walk.h"

namespace tessella {

namespace {

constexpr std::size_t kLonger = 4;  // a walk that has met too few rows beyond a threshold, by so much

// Rows without an id take places in the list of candidates; it is so much longer that they cost no result.
std::size_t room_for(const GraphParts& parts, std::size_t ef, std::size_t k) {
  const std::size_t wanted = std::min(std::max(ef, k), parts.size());
  return wanted + wanted * parts.ids.nameless() / parts.size();
}

}  // namespace

void GraphIndex::search(const GraphRequest& request) const {
  const auto reading = lock_.read();
  CandidateLists lists;
  if (parts_.size() != 0 && request.search.nq != 0) {
    const Prepared queries = parts_.rows.prepared(request.search.queries, request.search.nq);
    GraphRequest prepared = request;
    prepared.search.queries = queries.data();
    prepared.search.state = lock_.state();
    lists = request.search.allowed.empty() ? search_by_walks(prepared) : search_admitted(prepared);
  }
  report(request.search, lists, config().metric, parts_.ids);
}

CandidateLists GraphIndex::search_admitted(const GraphRequest& request) const {
  const RowScorer scorer(parts_.rows, request.search.epsilon);
  Ground ground(scorer, parts_.size());
  ground.offer_walk(request.ef, parts_.links.degree(), parts_.links.coded());
  if (parts_.links.coded()) ground.offer_copies();
  return search_filtered(request.search, scorer, parts_.ids, ground, [&](const SearchRequest& part, const Plan& plan) {
    return search_by_walks({part, plan.effort});
  });
}

// `request` has prepared queries. A list is short where a walk has met fewer rows that count.
CandidateLists GraphIndex::search_by_walks(const GraphRequest& request) const {
  const SearchRequest& asked = request.search;
  const RowScorer scorer(parts_.rows, asked.epsilon);
  const bool rescores = scorer.ends_raw() && !scorer.fine_is_raw();
  const std::size_t k = rescores ? kRawFactor * asked.k : asked.k;
  const std::size_t ef = room_for(parts_, request.ef, k), dim = config().dim;
  CandidateLists lists(asked.nq);
  std::atomic<std::uint64_t> visited{0}, scored{0}, rescored{0};
  // Each thread claims its next query as one of its walks ends, so that all are done at the same time.
  std::atomic<std::size_t> next{0};
  const auto claim = [&]() -> std::optional<std::size_t> {
    const std::size_t q = next.fetch_add(1, std::memory_order_relaxed);
    return q < asked.nq ? std::optional(q) : std::nullopt;
  };
  const auto begin = [&](std::size_t q, GraphWalk& walk) { walk.start(asked.queries + q * dim, asked.bitmap(q)); };
  const std::size_t threads = std::max<std::size_t>(1, std::min(asked.nq, asked.threads));
  parallel_for(threads, threads, [&](std::size_t) {
    const std::size_t share = (asked.nq + threads - 1) / threads;  // one thread must not begin the walks of all
    Walks walks(parts_, scorer, ef, k, GraphWalk::Stop::kHopeless, share);
    take_walks(walks, claim, begin, [&](std::size_t q, GraphWalk& walk) {
      std::vector<Ranked> ranked;
      for (const Candidate& c : walk.finish()) ranked.push_back({c, c.similarity});
      if (rescores) rescored += ranked.size();
      lists[q] = final_list(scorer, asked.queries + q * dim, ranked, asked.k, rescores, parts_.ids);
    });
    for (std::size_t w = 0; w < walks.size(); ++w) {
      visited += walks[w].visited();
      scored += walks[w].scored();
    }
  });
  if (asked.counts != nullptr) {
    const std::uint64_t seen = parts_.links.coded() ? visited * parts_.links.degree() : scored.load();
    *asked.counts = {seen, scored, rescored, visited};
  }
  return lists;
}

std::vector<std::vector<RangeHit>> GraphIndex::range_search(const float* queries, std::size_t nq, float threshold,
                                                            float epsilon, std::size_t ef, std::size_t threads) const {
  const auto reading = lock_.read();
  std::vector<std::vector<RangeHit>> hits(nq);
  if (parts_.size() == 0) return hits;
  const float sign = config().metric == Metric::kL2 ? -1.0f : 1.0f;
  const Prepared prepared = parts_.rows.prepared(queries, nq);
  const RowScorer scorer(parts_.rows, epsilon);
  const bool rescores = scorer.ends_raw() && !scorer.fine_is_raw();
  parallel_for(nq, threads, [&](std::size_t q) {
    const float* query = prepared.data() + q * config().dim;
    std::vector<Candidate> best;
    for (std::size_t k = std::max<std::size_t>(ef, 1);; k *= kLonger) {  // until no more than half of those met count
      GraphWalk walk;
      walk.prepare(parts_, scorer, room_for(parts_, k, k), std::min(k, parts_.size()), GraphWalk::Stop::kVisited);
      walk.start(query);
      while (walk.step()) {
      }
      best = walk.finish();
      if (k >= parts_.size() || best[best.size() / 2].similarity < sign * threshold) break;
    }
    std::vector<Ranked> ranked;
    for (const Candidate& c : best) ranked.push_back({c, c.similarity});
    for (const Candidate& c : final_list(scorer, query, ranked, ranked.size(), rescores, parts_.ids)) {
      if (c.similarity >= sign * threshold) {
        hits[q].push_back({sign * c.similarity, parts_.ids.id(static_cast<std::size_t>(c.row))});
      }
    }
  });
  return hits;
}

}  // namespace tessella
