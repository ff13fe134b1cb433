#include "index/graph_walk.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tessella/graph.h"

namespace tessella {

namespace {

constexpr float kLowest = std::numeric_limits<float>::lowest();
constexpr std::size_t kStarts = 4;     // entries that a walk begins from
constexpr std::size_t kKeptEf = 1024;  // memory of longer walks is given back
// How much farther behind the best score there could be than the k-th best a candidate may fall: kSlack sqrt(ef), and
// more in few dimensions, where estimates from 1 bit each are less to be trusted.
constexpr float kSlack = 0.009f;
constexpr std::size_t kTrusted = 256;  // dimensions

thread_local std::vector<std::unique_ptr<GraphWalk>> spare_walks;

float slack_of(std::size_t ef, std::size_t padded) {
  return kSlack *
         std::sqrt(static_cast<float>(ef) * std::max(1.0f, static_cast<float>(kTrusted) / static_cast<float>(padded)));
}

}  // namespace

Walks::Walks(const GraphParts& parts, const RowScorer& scorer, std::size_t ef, std::size_t k, GraphWalk::Stop stop,
             std::size_t queries)
    : kept_(ef <= kKeptEf) {
  for (std::size_t count = std::min(kWalksTogether, queries); walks_.size() < count;) {
    if (spare_walks.empty()) spare_walks.push_back(std::make_unique<GraphWalk>());
    walks_.push_back(std::move(spare_walks.back()));
    spare_walks.pop_back();
    walks_.back()->prepare(parts, scorer, ef, k, stop);
  }
  for (auto& walk : walks_) walk->go_alone(walks_.size() == 1);
}

Walks::~Walks() {
  for (auto& walk : walks_) {
    if (kept_ && spare_walks.size() < kWalksTogether) spare_walks.push_back(std::move(walk));
  }
}

void GraphWalk::prepare(const GraphParts& parts, const RowScorer& scorer, std::size_t ef, std::size_t k, Stop stop) {
  parts_ = &parts;
  scorer_ = &scorer;
  kernels_ = &parts.rows.kernels();
  slack_ = stop == Stop::kHopeless ? slack_of(ef, parts.rows.padded()) : std::numeric_limits<float>::infinity();
  k_ = k;
  everywhere_ = ef >= parts.ids.size();
  repeats_ = parts.links.coded() && ef >= 2 * k;
  if (memory_.size() < scorer.table_bytes()) memory_ = AlignedBuffer(scorer.table_bytes());
  pool_.prepare(everywhere_ ? 0 : ef, *kernels_);
  starts_.prepare(kStarts, *kernels_);
  estimates_.resize(parts.links.degree());
  reach_.resize(parts.links.degree() / kBlockRows);
  hits_.resize((parts.entries.rows.size() + kBlockRows - 1) / kBlockRows * kBlockRows);
  visited_ = scored_ = 0;
}

void GraphWalk::start(const float* query, RowBitmap allowed) {
  allowed_ = allowed;
  tables_ = scorer_->tables_for(query, memory_.data());
  pool_.clear();
  starts_.clear();
  path_.clear();
  seen_.clear();
  best_.emplace(k_, parts_->ids);
  most_ = scorer_->l2() ? 0.0f : std::sqrt(tables_.raw_norm2 * parts_->entries.longest2);
  if (everywhere_) return;
  RabitqQuery entry = tables_.b1;
  entry.threshold = -std::numeric_limits<float>::infinity();
  RabitqHit* hits = hits_.data();
  std::size_t count = 0;
  kernels_->rabitq_scan({parts_->entries.blocks.data(), parts_->entries.rows.size(), parts_->rows.padded(),
                         scorer_->l2(), &entry, 1, &hits, &count});
  for (std::size_t i = 0; i < count; ++i) {
    if (!(hits[i].estimate >= starts_.threshold())) continue;
    starts_.insert(WalkPool::key(hits[i].estimate, parts_->entries.rows[hits[i].row]));
  }
  std::array<std::uint32_t, kStarts> rows;
  for (std::size_t i = 0; i < starts_.size(); ++i) {
    rows[i] = starts_.row(i);
    if (!repeats_) seen_.insert(rows[i]);
    if (parts_->links.coded()) pool_.insert(WalkPool::key(starts_.estimate(i), rows[i]));
  }
  if (!parts_->links.coded()) score_all(rows.data(), starts_.size(), true);
  fetch_next();
}

// The estimate below which nothing is to be expected of a candidate: it falls so much farther behind the best score
// there could be than the k-th best does (adaptive beam search, arXiv 2505.15636). That score is 0 for distances, and
// the product of the query's and the longest row's length for inner products.
float GraphWalk::worth() const {
  const float kth = best_->threshold();
  if (!(kth > kLowest)) return kLowest;
  return std::max(kLowest, kth - slack_ * std::max(most_ - kth, 0.0f));
}

void GraphWalk::fetch(std::uint32_t row) const {
  parts_->links.fetch(row);
  if (parts_->links.coded()) scorer_->fetch(row);
}

void GraphWalk::fetch_next() const {
  if (pool_.done()) return;
  fetch(pool_.peek());
  if (alone_ && pool_.after() < pool_.size()) fetch(pool_.row(pool_.after()));
}

bool GraphWalk::step() {
  if (pool_.done()) return false;
  if (pool_.estimate(pool_.next()) < worth()) return false;
  const std::uint32_t row = pool_.take();
  if (repeats_ && !seen_.insert(row)) {
    fetch_next();
    return !pool_.done();
  }
  ++visited_;
  path_.push_back(row);
  parts_->links.coded() ? visit_coded(row) : visit_scored(row);
  fetch_next();
  return !pool_.done();
}

// The row by its own code, its neighbours by the codes of the edges to them. An estimate from 1 bit each is often too
// low: a row that several edges lead to is a candidate by each of them, and is visited at the highest.
void GraphWalk::visit_coded(std::uint32_t row) {
  float similarity;
  scorer_->score(tables_, &row, 1, &similarity);
  ++scored_;
  offer(row, similarity);
  RabitqQuery query = tables_.b1;
  query.threshold = std::max(pool_.threshold(), worth());  // others would never be visited
  kernels_->graph_scan({parts_->links.blocks(row), parts_->links.degree(), parts_->rows.padded(), &query, similarity,
                        graph_weight(scorer_->l2(), similarity), estimates_.data(), reach_.data()});
  const auto neighbours = parts_->links.of(row);
  for (std::size_t block = 0; block < reach_.size(); ++block) {
    std::size_t count = 0;
    for (std::uint32_t mask = reach_[block]; mask != 0; mask &= mask - 1) {  // no branch inside: it would be a guess
      const std::size_t lane = block * kBlockRows + static_cast<std::size_t>(__builtin_ctz(mask));
      const std::uint32_t neighbour = neighbours[lane];
      fresh_[count] = WalkPool::key(estimates_[lane], neighbour);
      const bool known =
          repeats_ ? seen_.has_at_once(neighbour) : leads_somewhere(neighbour) && !seen_.insert(neighbour);
      count += static_cast<std::size_t>(leads_somewhere(neighbour)) & static_cast<std::size_t>(!known);
    }
    pool_.insert(fresh_.data(), count);
  }
}

// The row was scored when it was met; now its neighbours are.
void GraphWalk::visit_scored(std::uint32_t row) {
  std::array<std::uint32_t, RowScorer::kMostGathered> fresh;
  std::size_t count = 0;
  for (const std::uint32_t neighbour : parts_->links.of(row)) {
    if (!leads_somewhere(neighbour) || !seen_.insert(neighbour)) continue;
    scorer_->fetch(neighbour);
    fresh[count++] = neighbour;
    if (count < fresh.size()) continue;
    score_all(fresh.data(), count, true);
    count = 0;
  }
  score_all(fresh.data(), count, true);
}

void GraphWalk::score_all(const std::uint32_t* rows, std::size_t count, bool insert) {
  std::array<float, RowScorer::kMostGathered> scores;
  scorer_->score(tables_, rows, count, scores.data());
  scored_ += count;
  for (std::size_t i = 0; i < count; ++i) {
    offer(rows[i], scores[i]);
    fresh_[i] = WalkPool::key(scores[i], rows[i]);
  }
  if (insert) pool_.insert(fresh_.data(), count);
}

void GraphWalk::look_at_every_row() {
  best_.emplace(k_, parts_->ids);
  std::array<std::uint32_t, RowScorer::kMostGathered> rows;
  std::size_t count = 0;
  for (std::uint32_t row = 0; row < parts_->ids.size(); ++row) {
    if (!counts(row)) continue;
    rows[count++] = row;
    if (count < rows.size()) continue;
    score_all(rows.data(), count, false);
    count = 0;
  }
  score_all(rows.data(), count, false);
}

// The k best that are allowed lie farther out than all the rows that the walk has kept: there it has seen some rows,
// but not all.
bool GraphWalk::strayed() {
  best_->sharpen();
  return pool_.done() && best_->threshold() < pool_.threshold();
}

// Each row once in the pool: repeated ones have left no room for k others.
std::vector<Candidate> GraphWalk::walk_again() {
  repeats_ = false;
  start(tables_.raw, allowed_);
  while (step()) {
  }
  repeats_ = true;
  return best_->take_sorted();
}

std::vector<Candidate> GraphWalk::finish() {
  if (!allowed_.all() && !everywhere_) return strayed() ? std::vector<Candidate>{} : best_->take_sorted();
  const std::size_t wanted = std::min(k_, parts_->size());
  std::vector<Candidate> best = best_->take_sorted();
  if (best.size() < wanted && repeats_ && !everywhere_) best = walk_again();
  if (best.size() >= wanted) return best;
  look_at_every_row();
  return best_->take_sorted();
}

}  // namespace tessella
