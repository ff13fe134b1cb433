// One query's walk over a graph. Steps are taken one at a time, so that several walks can share a thread: while one
// waits for memory, others go on.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "common/buffer.h"
#include "index/graph.h"
#include "index/score.h"
#include "index/selection.h"
#include "index/sortable.h"
#include "index/topk.h"

namespace tessella {

// The ef best rows met so far, best first, each with its estimate and whether the walk has been there: one sortable
// number each, since what a visit costs beside memory is mostly their insertion.
class WalkPool {
 public:
  using Key = std::int64_t;

  void prepare(std::size_t ef, const Kernels& kernels) {
    ef_ = ef;
    kernels_ = &kernels;
  }
  void clear() {
    size_ = next_ = 0;
    keys_.assign((ef_ + GraphMerge::kUnit - 1) / GraphMerge::kUnit * GraphMerge::kUnit, GraphMerge::kNone);
  }
  // What an estimate must reach to get in.
  float threshold() const { return size_ < ef_ ? std::numeric_limits<float>::lowest() : estimate(ef_ - 1); }
  static Key key(float estimate, std::uint32_t row) { return sortable(estimate) << 32 | Key{row} << 1; }
  void insert(Key key) { insert(&key, 1); }
  void insert(Key* fresh, std::size_t count) {  // overwrites them
    if (count == 0) return;
    const std::size_t best = kernels_->graph_merge({keys_.data(), size_, ef_, fresh, count});
    size_ = std::min(size_ + count, ef_);
    next_ = std::min(next_, std::min(best, size_));
  }
  std::size_t next() const { return next_; }
  bool done() const { return next_ == size_; }
  std::uint32_t peek() const { return row(next_); }
  // The one that will be the best once the best was taken, as far as is known; size() where there is none.
  std::size_t after() const {
    std::size_t i = next_ + 1;
    while (i < size_ && (keys_[i] & kTaken) != 0) ++i;
    return std::min(i, size_);
  }
  std::uint32_t take() {  // the best that was not taken yet
    keys_[next_] |= kTaken;
    const std::uint32_t best = row(next_);
    while (next_ < size_ && (keys_[next_] & kTaken) != 0) ++next_;
    return best;
  }

  std::size_t size() const { return size_; }
  std::uint32_t row(std::size_t i) const { return static_cast<std::uint32_t>(keys_[i]) >> 1; }
  float estimate(std::size_t i) const { return unsortable(keys_[i] >> 32); }

 private:
  static constexpr Key kTaken = 1;

  std::size_t ef_ = 0, size_ = 0, next_ = 0;
  const Kernels* kernels_ = nullptr;
  std::vector<Key> keys_;
};

class GraphWalk {
 public:
  // kHopeless: a walk ends where the next candidate is far beyond the k-th best, how far, ef decides; kVisited: only
  // when it has been to all its candidates. With room for all rows nothing is walked: `finish` looks at every one.
  enum class Stop { kHopeless, kVisited };
  // Before it starts, and whenever it is to walk for somebody else.
  void prepare(const GraphParts& parts, const RowScorer& scorer, std::size_t ef, std::size_t k, Stop stop);

  // A walk that is alone on its thread asks for the memory of the step after the next one, too.
  void go_alone(bool alone) { alone_ = alone; }
  void start(const float* query, RowBitmap allowed = {});
  bool step();  // false: the walk is over
  // The k best of the rows that were scored, best first. Where the walk has met fewer than k it looks at every row; or,
  // where not all rows are allowed, it returns too few, which says that it is not to be relied on.
  std::vector<Candidate> finish();

  // Rows met: those visited and those in the pool, some in both; all rows where none are walked.
  template <typename Each>
  void for_met(const Each& each) const {
    for (std::uint32_t row = 0; everywhere_ && row < parts_->ids.size(); ++row) each(row);
    for (const std::uint32_t row : path_) each(row);
    for (std::size_t i = 0; i < pool_.size(); ++i) each(pool_.row(i));
  }
  std::size_t visited() const { return visited_; }  // of all walks that this one has taken
  std::size_t scored() const { return scored_; }

 private:
  bool counts(std::uint32_t row) const { return parts_->ids.named(row) && allowed_.admits(row); }
  bool leads_somewhere(std::uint32_t row) const { return row < parts_->ids.size(); }
  void offer(std::uint32_t row, float similarity) {
    if (counts(row)) best_->push(similarity, row);
  }
  void visit_coded(std::uint32_t row);
  void visit_scored(std::uint32_t row);
  void score_all(const std::uint32_t* rows, std::size_t count, bool insert);
  std::vector<Candidate> walk_again();
  void look_at_every_row();
  bool strayed();
  void fetch_next() const;
  void fetch(std::uint32_t row) const;
  float worth() const;

  const GraphParts* parts_ = nullptr;
  const RowScorer* scorer_ = nullptr;
  const Kernels* kernels_ = nullptr;
  RowBitmap allowed_;
  float slack_ = 0.0f;
  float most_ = 0.0f;  // the best score there could be
  std::size_t k_ = 0;
  bool everywhere_ = false, alone_ = false;
  bool repeats_ = false;  // a row may be a candidate by several estimates: seen_ holds those visited, else those met
  AlignedBuffer memory_;
  QueryTables tables_;
  WalkPool pool_, starts_;
  std::vector<std::uint32_t> path_;
  SeenRows seen_;
  std::optional<TopK> best_;
  std::vector<float> estimates_;
  std::vector<std::uint32_t> reach_;
  std::array<WalkPool::Key, RowScorer::kMostGathered> fresh_;  // what joins the pool next
  std::vector<RabitqHit> hits_;
  std::size_t visited_ = 0, scored_ = 0;
};

constexpr std::size_t kWalksTogether = 4;  // on one thread: more are no faster

// Walks that a thread takes together. Their memory is kept for the thread's next ones: whoever asks one query at a time
// would wait for it as long as for a visit or two.
class Walks {
 public:
  Walks(const GraphParts& parts, const RowScorer& scorer, std::size_t ef, std::size_t k, GraphWalk::Stop stop,
        std::size_t queries);
  ~Walks();
  Walks(const Walks&) = delete;
  Walks& operator=(const Walks&) = delete;

  std::size_t size() const { return walks_.size(); }
  GraphWalk& operator[](std::size_t i) { return *walks_[i]; }
  void swap(std::size_t i, std::size_t j) { std::swap(walks_[i], walks_[j]); }

 private:
  std::vector<std::unique_ptr<GraphWalk>> walks_;
  bool kept_;
};

// Walks for the queries that `claim()` returns, until it returns none, several at a time; `started(query, walk)` and
// `ended(query, walk)` for each.
template <typename Claim, typename Started, typename Ended>
void take_walks(Walks& walks, const Claim& claim, const Started& started, const Ended& ended) {
  std::vector<std::size_t> query(walks.size());
  const auto begin = [&](std::size_t w) {
    const std::optional<std::size_t> next = claim();
    if (!next) return false;
    query[w] = *next;
    started(query[w], walks[w]);
    return true;
  };
  std::size_t alive = 0;
  while (alive < walks.size() && begin(alive)) ++alive;
  while (alive > 0) {
    for (std::size_t w = 0; w < alive;) {
      if (walks[w].step()) {
        ++w;
        continue;
      }
      ended(query[w], walks[w]);
      if (begin(w)) {
        ++w;
      } else {  // the last one takes its place
        --alive;
        walks.swap(w, alive);
        std::swap(query[w], query[alive]);
      }
    }
  }
}

}  // namespace tessella
