#include "index/graph_build.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <span>

#include "common/buffer.h"
#include "common/parallel.h"
#include "index/graph_edges.h"
#include "index/graph_leaves.h"
#include "index/selection.h"

namespace tessella {

namespace {

constexpr std::size_t kSmall = 2048;    // rows of a graph without leaves
constexpr std::size_t kNearOfAll = 16;  // candidates of a row there
constexpr std::size_t kMostNear = 100;  // candidates of a row from leaves
constexpr std::size_t kJoined = 16;     // nearest candidates whose nearest are looked at
constexpr std::size_t kMostBack = 128;  // links back that are considered
constexpr std::size_t kTaskRows = 256;
constexpr std::size_t kLanesAhead = 2;  // edges between the one that is written and the one that is fetched

}  // namespace

GraphBuild::GraphBuild(GraphParts& parts, KernelsFn table, const float* x, std::size_t threads, GraphProgress progress)
    : parts_(parts),
      table_(table),
      kernels_(table()),
      n_(parts.ids.size()),
      padded_(parts.rows.padded()),
      degree_(parts.links.degree()),
      threads_(threads),
      values_(n_ * padded_ * sizeof(float)),
      order_(n_),
      near_(n_),
      far_(n_),
      edges_(n_),
      progress_(std::move(progress)) {
  std::iota(order_.begin(), order_.end(), 0u);
  for_rows([&](std::size_t first, std::size_t last) {
    float* to = values_.as<float>() + first * padded_;
    parts_.rows.rotate(x + first * parts_.rows.config().dim, last - first, to);
  });
  const bool coarse = parts_.rows.config().codecs.back().kind == Codec::Kind::kScalar;
  if (n_ > kSmall && coarse && padded_ <= GraphDots::kMostPadded) {
    distances_ = std::make_unique<ByteDistances>(kernels_, all_values(), n_, padded_, threads_);
  } else {
    distances_ = std::make_unique<ValueDistances>(kernels_, padded_);
  }
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
  step(0.3);
  if (n_ <= kSmall) {
    search_all();
  } else {
    search_leaves();
    step(0.6);
    join();
  }
  step(0.8);
  choose();
  link_back();
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

// In a small graph every row looks at all others.
void GraphBuild::search_all() {
  const std::size_t k = std::min(kNearOfAll + 1, n_);
  std::vector<Candidate> best(n_ * k, Candidate{-std::numeric_limits<float>::infinity(), -1});
  AlignedBuffer scratch(kernels_.exact_topk_scratch(n_, n_, padded_, k));
  kernels_.exact_topk({all_values(), n_, all_values(), ScalarType::kF32, n_, padded_, Metric::kL2, 0, nullptr, k,
                       best.data(), scratch.data(), nullptr});
  for (std::size_t i = 0; i < n_; ++i) {
    for (std::size_t j = i * k; j < (i + 1) * k && near_[i].size() < kNearOfAll; ++j) {
      if (best[j].row < 0 || static_cast<std::size_t>(best[j].row) == i) continue;
      near_[i].push_back({std::max(0.0f, -best[j].similarity), static_cast<std::uint32_t>(best[j].row)});
    }
    std::sort(near_[i].begin(), near_[i].end());
  }
}

void GraphBuild::search_leaves() {
  GraphLeaves leaves(table_, all_values(), n_, padded_, parts_.rows.config().seed, threads_);
  parallel_for(leaves.count(), threads_, [&](std::size_t l) {
    leaves.search(l);
    report(l + 1, leaves.count());
  });
  order_ = leaves.order();
  for_rows([&](std::size_t first, std::size_t last) {
    SeenRows seen;
    std::vector<std::uint32_t> rows;
    const auto take = [&](std::uint32_t row, std::span<const std::uint32_t> found, std::vector<Near>& near) {
      seen.clear();
      rows.clear();
      for (const std::uint32_t each : found) {
        if (each != kNoRow && seen.insert(each)) rows.push_back(each);
      }
      measure(row, rows, near);
    };
    for (std::size_t p = first; p < last; ++p) {
      auto& near = near_[order_[p]];
      take(order_[p], leaves.found(order_[p]), near);
      std::partial_sort(near.begin(), near.begin() + std::min(kJoined, near.size()), near.end());
      take(order_[p], leaves.found_sampled(order_[p]), far_[order_[p]]);
    }
  });
}

// Neighbours of neighbours that leaves have kept apart (NN-descent: Dong, Moses & Li, WWW 2011).
void GraphBuild::join() {
  std::vector<std::uint32_t> nearest(n_ * kJoined, kNoRow);
  for (std::size_t i = 0; i < n_; ++i) {
    const std::size_t count = std::min(kJoined, near_[i].size());
    for (std::size_t j = 0; j < count; ++j) nearest[i * kJoined + j] = near_[i][j].row;
  }
  const auto of = [&](std::uint32_t row) { return std::span(nearest).subspan(row * kJoined, kJoined); };
  for_rows([&](std::size_t first, std::size_t last) {
    SeenRows seen;
    std::vector<std::uint32_t> rows;
    for (std::size_t p = first; p < last; ++p) {
      const std::uint32_t i = order_[p];
      seen.clear();
      rows.clear();
      seen.insert(i);
      for (const Near& each : near_[i]) seen.insert(each.row);
      for (const std::uint32_t between : of(i)) {
        for (const std::uint32_t row : between != kNoRow ? of(between) : std::span<std::uint32_t>()) {
          if (row != kNoRow && seen.insert(row)) rows.push_back(row);
        }
      }
      measure(i, rows, near_[i]);
    }
  });
}

// The nearest of these rows become candidates, beside the nearest there are.
void GraphBuild::measure(std::size_t row, const std::vector<std::uint32_t>& rows, std::vector<Near>& near) {
  std::vector<Neighbour> others;
  for (const std::uint32_t each : rows) others.push_back({0.0f, each, values(each)});
  std::vector<float> apart(rows.size());
  distances_->between({0.0f, static_cast<std::uint32_t>(row), values(row)}, others.data(), rows.size(), apart.data());
  const bool full = near.size() == kMostNear;
  const float most =
      full ? std::max_element(near.begin(), near.end())->distance : std::numeric_limits<float>::infinity();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (apart[i] <= most) near.push_back({apart[i], rows[i]});
  }
  if (near.size() <= kMostNear) return;
  std::nth_element(near.begin(), near.begin() + kMostNear, near.end());
  near.resize(kMostNear);
}

// Each row once, nearest first. Whichever of two rows is measured from, their distance is the same number.
void GraphBuild::drop_repeats(std::vector<Near>& near) {
  std::sort(near.begin(), near.end());
  near.erase(std::unique(near.begin(), near.end(), [](const Near& a, const Near& b) { return a.row == b.row; }),
             near.end());
}

// ---- edges ---------------------------------------------------------------------------------------------------------

void GraphBuild::choose_from(std::size_t row, const std::vector<Near>& candidates, std::vector<Neighbour>& work) {
  work.clear();
  for (const Near& each : candidates) work.push_back({each.distance, each.row, values(each.row)});
  Edges& edges = edges_[row];
  edges.wanted = prune(*distances_, static_cast<std::uint32_t>(row), work, degree_);
  edges.near.clear();
  for (const Neighbour& each : work) edges.near.push_back({each.distance, each.row});
}

void GraphBuild::choose() {
  for_rows([&](std::size_t first, std::size_t last) {
    std::vector<Neighbour> work;
    for (std::size_t p = first; p < last; ++p) {
      auto& near = near_[order_[p]];
      near.insert(near.end(), far_[order_[p]].begin(), far_[order_[p]].end());
      drop_repeats(near);
      choose_from(order_[p], near, work);
    }
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
    for (std::size_t p = first; p < last; ++p) {
      const std::size_t i = order_[p];
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

void GraphBuild::write() {
  parts_.links.resize(n_);
  parts_.links.own();
  for_rows([&](std::size_t first, std::size_t last) {
    EdgeWriter writer(parts_.rows, parts_.links);
    for (std::size_t p = first; p < last; ++p) {
      const std::size_t i = order_[p];
      std::uint8_t* record = parts_.links.record(i);
      parts_.links.clear(record);
      const auto& near = edges_[i].near;
      for (std::size_t lane = 0; lane < near.size(); ++lane) {
        if (lane + kLanesAhead < near.size()) fetch(near[lane + kLanesAhead].row);
        writer.write(record, lane, near[lane].row, values(i), values(near[lane].row));
      }
    }
  });
}

}  // namespace tessella
