#include "index/graph_build.h"

#include <algorithm>
#include <memory>
#include <numeric>

#include "common/buffer.h"
#include "common/parallel.h"
#include "common/random.h"
#include "index/flat.h"
#include "index/graph_edges.h"
#include "index/graph_walk.h"

namespace tessella {

namespace {

constexpr std::size_t kLeafRows = 500;  // of a leaf, on average
constexpr std::size_t kMostLeafRows = 2048;
constexpr std::size_t kFanout = 4;      // leaves that a row lies in
constexpr std::size_t kLeafNear = 16;   // neighbours that a row takes from each leaf
constexpr std::size_t kWalkEf = 100;    // candidates of a walk
constexpr std::size_t kMostNear = 200;  // candidates that are pruned
constexpr std::size_t kMostBack = 128;  // links back that are considered
constexpr std::size_t kTaskRows = 256;
constexpr std::size_t kSliceRows = 8192;  // rows that look for their leaves together

}  // namespace

GraphBuild::GraphBuild(GraphParts& parts, KernelsFn table, const float* x, std::size_t threads, GraphProgress progress)
    : parts_(parts),
      table_(table),
      kernels_(table()),
      x_(x),
      n_(parts.ids.size()),
      padded_(parts.rows.padded()),
      degree_(parts.links.degree()),
      threads_(threads),
      values_(n_ * padded_),
      near_(n_),
      edges_(n_),
      progress_(std::move(progress)) {
  for_rows([&](std::size_t first, std::size_t last) {
    parts_.rows.rotate(x_ + first * parts_.rows.config().dim, last - first, values_.data() + first * padded_);
  });
}

template <typename Work>
void GraphBuild::for_rows(const Work& work) {
  const std::size_t tasks = (n_ + kTaskRows - 1) / kTaskRows;
  parallel_for(tasks, threads_, [&](std::size_t task) {
    work(task * kTaskRows, std::min(n_, (task + 1) * kTaskRows));
    report(task + 1, tasks);
  });
}

void GraphBuild::run() {
  step(0.15);
  search_leaves(leaves());
  step(0.25);
  choose();
  link_back();
  if (n_ > kMostLeafRows) {  // else every row has seen all the others
    write();
    step(0.65);
    walk();
    step(0.85);
    choose();
    link_back();
  }
  step(1.0);
  reach_all();
  write();
  step(1.0);
}

// What follows brings the work this far.
void GraphBuild::step(double until) {
  from_ = until_;
  until_ = until;
  report(0, 1);
}

// Tasks begin in order, so the caller's own tell how far all of them are.
void GraphBuild::report(std::size_t done, std::size_t all) {
  if (std::this_thread::get_id() != caller_ || !progress_) return;
  const double share = from_ + (until_ - from_) * static_cast<double>(done) / static_cast<double>(all);
  if (share > told_) progress_(told_ = share);
}

// ---- candidates ----------------------------------------------------------------------------------------------------

// Rows by their kFanout nearest of some rows drawn as leaders.
GraphBuild::Leaves GraphBuild::leaves() const {
  const std::size_t leaders = n_ <= kMostLeafRows ? 1 : n_ * kFanout / kLeafRows, fanout = std::min(kFanout, leaders);
  Leaves leaves(leaders);
  if (leaders == 1) {
    leaves[0].resize(n_);
    std::iota(leaves[0].begin(), leaves[0].end(), 0u);
    return leaves;
  }
  std::vector<float> heads(leaders * padded_);
  for (std::size_t l = 0; l < leaders; ++l) {
    const std::size_t row = splitmix64(splitmix64(parts_.rows.config().seed) + l) % n_;
    std::copy_n(values(row), padded_, heads.data() + l * padded_);
  }
  FlatIndex flat({padded_, Metric::kL2, false, parse_codecs({"B1", "U8"}), parts_.rows.config().seed}, table_);
  flat.add(heads.data(), leaders, {}, threads_);
  std::vector<float> scores(kSliceRows * fanout);
  std::vector<std::int64_t> found(kSliceRows * fanout);
  for (std::size_t first = 0; first < n_; first += kSliceRows) {
    const std::size_t count = std::min(kSliceRows, n_ - first);
    flat.search({values(first), count, fanout, 1.0f, threads_, scores.data(), found.data()});
    for (std::size_t i = 0; i < count * fanout; ++i) {
      if (found[i] >= 0)
        leaves[static_cast<std::size_t>(found[i])].push_back(static_cast<std::uint32_t>(first + i / fanout));
    }
  }
  Leaves parts;  // of leaves that came out too large, every so-manieth row
  for (const auto& leaf : leaves) {
    const std::size_t count = (leaf.size() + kMostLeafRows - 1) / kMostLeafRows;
    for (std::size_t p = 0; p < count; ++p) {
      parts.emplace_back();
      for (std::size_t i = p; i < leaf.size(); i += count) parts.back().push_back(leaf[i]);
    }
  }
  return parts;
}

// Each row's kLeafNear nearest in each of its leaves, together.
void GraphBuild::search_leaves(const Leaves& leaves) {
  // Every member of a leaf has a place of its own for what it finds, whichever thread gets there first.
  std::vector<std::uint32_t> met(n_, 0);
  std::vector<std::vector<std::uint32_t>> visit(leaves.size());
  for (std::size_t l = 0; l < leaves.size(); ++l) {
    for (const std::uint32_t row : leaves[l]) visit[l].push_back(met[row]++);
  }
  for (std::size_t i = 0; i < n_; ++i) near_[i].assign(met[i] * kLeafNear, {0.0f, kNoRow});
  parallel_for(leaves.size(), threads_, [&](std::size_t l) {
    search_leaf(leaves[l], visit[l]);
    report(l + 1, leaves.size());
  });
  for_rows([&](std::size_t first, std::size_t last) {
    for (std::size_t i = first; i < last; ++i) {
      std::erase_if(near_[i], [](const Near& each) { return each.row == kNoRow; });
      drop_repeats(near_[i]);
    }
  });
}

void GraphBuild::search_leaf(const std::vector<std::uint32_t>& members, const std::vector<std::uint32_t>& visit) {
  const std::size_t m = members.size(), k = std::min(kLeafNear + 1, m);
  std::vector<float> rows(m * padded_);
  for (std::size_t i = 0; i < m; ++i) std::copy_n(values(members[i]), padded_, rows.data() + i * padded_);
  std::vector<Candidate> best(m * k, Candidate{-std::numeric_limits<float>::infinity(), -1});
  AlignedBuffer scratch(kernels_.exact_topk_scratch(m, m, padded_, k));
  kernels_.exact_topk({rows.data(), m, rows.data(), ScalarType::kF32, m, padded_, Metric::kL2, 0, nullptr, k,
                       best.data(), scratch.data(), nullptr});
  for (std::size_t i = 0; i < m; ++i) {
    Near* to = near_[members[i]].data() + visit[i] * kLeafNear;
    for (std::size_t j = 0, count = 0; j < k && count < kLeafNear; ++j) {
      const Candidate& c = best[i * k + j];
      if (c.row < 0 || static_cast<std::size_t>(c.row) == i) continue;
      to[count++] = {std::max(0.0f, -c.similarity), members[static_cast<std::size_t>(c.row)]};
    }
  }
}

// Each row once, nearest first.
void GraphBuild::drop_repeats(std::vector<Near>& near) {
  std::sort(near.begin(), near.end(),
            [](const Near& a, const Near& b) { return a.row != b.row ? a.row < b.row : a.distance < b.distance; });
  near.erase(std::unique(near.begin(), near.end(), [](const Near& a, const Near& b) { return a.row == b.row; }),
             near.end());
  std::sort(near.begin(), near.end());
}

// What each row meets when it is looked for, and the neighbours it has.
void GraphBuild::walk() {
  const RowScorer scorer(parts_.rows, 0.0f);
  for_rows([&](std::size_t first, std::size_t last) {
    std::vector<const void*> at;
    std::vector<float> distances;
    std::vector<std::uint32_t> rows;
    std::vector<std::unique_ptr<GraphWalk>> walks;
    for (std::size_t w = 0; w < kWalksTogether; ++w) {
      walks.push_back(std::make_unique<GraphWalk>(parts_, scorer, kWalkEf, 1, GraphWalk::Stop::kVisited));
    }
    take_walks(walks, x_, parts_.rows.config().dim, first, last, [&](std::size_t i, GraphWalk& walk) {
      rows.clear();
      walk.for_met([&](std::uint32_t row) { rows.push_back(row); });
      for (const Near& each : edges_[i].near) rows.push_back(each.row);
      std::sort(rows.begin(), rows.end());
      rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
      std::erase(rows, static_cast<std::uint32_t>(i));
      at.clear();
      for (const std::uint32_t row : rows) at.push_back(values(row));
      distances.resize(rows.size());
      kernels_.exact_score({values(i), nullptr, ScalarType::kF32, padded_, Metric::kL2, nullptr, rows.size(),
                            distances.data(), at.data()});
      near_[i].clear();
      for (std::size_t j = 0; j < rows.size(); ++j) near_[i].push_back({std::max(0.0f, -distances[j]), rows[j]});
      std::sort(near_[i].begin(), near_[i].end());
      if (near_[i].size() > kMostNear) near_[i].resize(kMostNear);
    });
  });
}

// ---- edges ---------------------------------------------------------------------------------------------------------

void GraphBuild::choose_from(std::size_t row, const std::vector<Near>& candidates, std::vector<Neighbour>& work) {
  work.clear();
  for (const Near& each : candidates) work.push_back({each.distance, each.row, values(each.row)});
  Edges& edges = edges_[row];
  edges.wanted = prune(kernels_, padded_, static_cast<std::uint32_t>(row), work, degree_);
  edges.near.clear();
  for (const Neighbour& each : work) edges.near.push_back({each.distance, each.row});
}

void GraphBuild::choose() {
  for_rows([&](std::size_t first, std::size_t last) {
    std::vector<Neighbour> work;
    for (std::size_t i = first; i < last; ++i) choose_from(i, near_[i], work);
  });
}

// A row that is chosen may choose in turn among those that have chosen it.
void GraphBuild::link_back() {
  std::vector<std::vector<Near>> all(n_);
  for (std::size_t i = 0; i < n_; ++i) {
    for (std::size_t j = 0; j < edges_[i].wanted; ++j) {
      const Near& edge = edges_[i].near[j];
      all[edge.row].push_back({edge.distance, static_cast<std::uint32_t>(i)});
    }
  }
  for_rows([&](std::size_t first, std::size_t last) {
    std::vector<Neighbour> work;
    for (std::size_t i = first; i < last; ++i) {
      std::sort(all[i].begin(), all[i].end());
      if (all[i].size() > kMostBack) all[i].resize(kMostBack);
      all[i].insert(all[i].end(), edges_[i].near.begin(), edges_[i].near.end());
      drop_repeats(all[i]);
      choose_from(i, all[i], work);
    }
  });
}

// Rows that no way leads to from the entries, in order; marks those that one does.
std::vector<std::uint32_t> GraphBuild::unreached(std::vector<char>& reached) const {
  std::vector<std::uint32_t> open;
  for (std::size_t i = 0; i < n_; ++i) {
    if (reached[i]) open.push_back(static_cast<std::uint32_t>(i));
  }
  while (!open.empty()) {
    const std::uint32_t row = open.back();
    open.pop_back();
    for (const Near& edge : edges_[row].near) {
      if (reached[edge.row]) continue;
      reached[edge.row] = 1;
      open.push_back(edge.row);
    }
  }
  std::vector<std::uint32_t> rows;
  for (std::size_t i = 0; i < n_; ++i) {
    if (!reached[i]) rows.push_back(static_cast<std::uint32_t>(i));
  }
  return rows;
}

// A row that cannot be reached takes the last place among the edges of the nearest of its neighbours that can.
void GraphBuild::reach_all() {
  std::vector<char> taken(n_, 0);  // whose last edge was given away: it is not given away again
  for (int round = 0; round < 4; ++round) {
    std::vector<char> reached(n_, 0);
    for (const std::uint32_t row : parts_.entries.rows) reached[row] = 1;
    const std::vector<std::uint32_t> lost = unreached(reached);
    if (lost.empty()) return;
    for (const std::uint32_t row : lost) {
      for (const Near& edge : edges_[row].near) {
        auto& near = edges_[edge.row].near;
        if (!reached[edge.row] || taken[edge.row]) continue;
        if (near.size() == degree_) near.pop_back();
        near.push_back({edge.distance, row});
        taken[edge.row] = 1;
        break;
      }
    }
  }
}

// Edges that were written before stay as they are.
void GraphBuild::write() {
  parts_.links.resize(n_);
  parts_.links.own();
  for_rows([&](std::size_t first, std::size_t last) {
    EdgeWriter writer(parts_.rows, parts_.links);
    std::vector<Neighbour> chosen;
    for (std::size_t i = first; i < last; ++i) {
      std::uint8_t* record = parts_.links.record(i);
      if (!written_) parts_.links.clear(record);
      chosen.clear();
      for (const Near& each : edges_[i].near) chosen.push_back({each.distance, each.row, values(each.row)});
      writer.replace(record, values(i), chosen);
    }
  });
  written_ = true;
}

}  // namespace tessella
