#include "index/graph_insert.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "common/parallel.h"
#include "index/graph_walk.h"

namespace tessella {

namespace {

constexpr std::size_t kWalkEf = 100;
constexpr std::size_t kTogetherNear = 32;  // neighbours that a new row takes from those that come with it
constexpr std::size_t kTaskRows = 16;

}  // namespace

GraphInsert::GraphInsert(const GraphParts& parts, const float* x, std::size_t n, std::size_t threads)
    : parts_(parts),
      kernels_(parts.rows.kernels()),
      distances_(kernels_, parts.rows.padded()),
      x_(x),
      n_(n),
      base_(parts.ids.size()),
      padded_(parts.rows.padded()),
      threads_(threads),
      values_(n * padded_),
      encoded_(parts.rows.encode_prepared(x, n, threads)),
      wanted_(n),
      records_(n * parts.links.record_bytes()) {
  parts_.rows.rotate(x, n, values_.data());
  const std::size_t tasks = (n + kTaskRows - 1) / kTaskRows;
  parallel_for(tasks, threads,
               [&](std::size_t task) { find_edges(task * kTaskRows, std::min(n_, (task + 1) * kTaskRows)); });
  std::map<std::uint32_t, std::vector<std::uint32_t>> by;
  for (std::size_t i = 0; i < n; ++i) {
    for (const std::uint32_t row : wanted_[i]) by[row].push_back(static_cast<std::uint32_t>(base_ + i));
  }
  for (auto& [row, rows] : by) backs_.push_back({row, std::move(rows), {}});
  parallel_for((backs_.size() + kTaskRows - 1) / kTaskRows, threads, [&](std::size_t task) {
    EdgeWriter writer(parts_.rows, parts_.links);
    for (std::size_t i = task * kTaskRows; i < std::min(backs_.size(), (task + 1) * kTaskRows); ++i) {
      link_back(backs_[i], writer);
    }
  });
}

void GraphInsert::values_of(std::uint32_t row, float* out) const {
  if (row < base_) return parts_.rows.decode_residual(row, out);
  std::copy_n(values_.data() + (row - base_) * padded_, padded_, out);
}

void GraphInsert::find_edges(std::size_t first, std::size_t last) {
  const RowScorer scorer(parts_.rows, 0.0f);
  EdgeWriter writer(parts_.rows, parts_.links);
  Walks walks(parts_, scorer, kWalkEf, 1, GraphWalk::Stop::kVisited, last - first);
  const std::vector<std::vector<std::uint32_t>> together = near_each_other(first, last);
  std::vector<float> memory;
  std::size_t next = first;
  const auto claim = [&]() -> std::optional<std::size_t> { return next < last ? std::optional(next++) : std::nullopt; };
  const auto begin = [&](std::size_t i, GraphWalk& walk) { walk.start(x_ + i * parts_.rows.config().dim); };
  take_walks(walks, claim, begin, [&](std::size_t i, GraphWalk& walk) {
    std::vector<std::uint32_t> rows = together[i - first];
    walk.for_met([&](std::uint32_t row) {
      if (parts_.ids.named(row)) rows.push_back(row);
    });
    std::sort(rows.begin(), rows.end());
    rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
    link(i, rows, writer, memory);
  });
}

// Of the new rows [first, last) the nearest of all that come with them, by one product.
std::vector<std::vector<std::uint32_t>> GraphInsert::near_each_other(std::size_t first, std::size_t last) const {
  const std::size_t count = last - first, k = std::min(kTogetherNear + 1, n_);
  std::vector<Candidate> best(count * k, Candidate{-std::numeric_limits<float>::infinity(), -1});
  AlignedBuffer scratch(kernels_.exact_topk_scratch(count, n_, padded_, k));
  kernels_.exact_topk({values_.data() + first * padded_, count, values_.data(), ScalarType::kF32, n_, padded_,
                       Metric::kL2, 0, nullptr, k, best.data(), scratch.data(), nullptr});
  std::vector<std::vector<std::uint32_t>> rows(count);
  for (std::size_t i = 0; i < count * k; ++i) {
    const std::int64_t other = best[i].row;
    if (other < 0 || static_cast<std::size_t>(other) == first + i / k) continue;
    rows[i / k].push_back(static_cast<std::uint32_t>(base_ + static_cast<std::size_t>(other)));
  }
  return rows;
}

// The record of new row i, whose neighbours are chosen among `rows`.
void GraphInsert::link(std::size_t i, const std::vector<std::uint32_t>& rows, EdgeWriter& writer,
                       std::vector<float>& memory) {
  const float* own = values_.data() + i * padded_;
  const auto values = [&](std::uint32_t row, float* out) { values_of(row, out); };
  std::vector<Neighbour> chosen = neighbours_of(own, rows, values, distances_, padded_, memory);
  const auto vertex = static_cast<std::uint32_t>(base_ + i);
  const std::size_t wanted = prune(distances_, vertex, chosen, parts_.links.degree());
  std::uint8_t* record = records_.data() + i * parts_.links.record_bytes();
  parts_.links.clear(record);
  for (std::size_t lane = 0; lane < chosen.size(); ++lane) {
    writer.write(record, lane, chosen[lane].row, own, chosen[lane].values);
    if (lane < wanted) wanted_[i].push_back(chosen[lane].row);
  }
}

// The record of a row that new ones link to: they get the lanes that are free or, where there are too few, what a new
// choice among all of them leaves them.
void GraphInsert::link_back(Back& back, EdgeWriter& writer) const {
  const std::size_t bytes = parts_.links.record_bytes();
  const std::uint8_t* from =
      back.row < base_ ? parts_.links.record(back.row) : records_.data() + (back.row - base_) * bytes;
  back.record.assign(from, from + bytes);
  const auto lanes = parts_.links.in(back.record.data());
  std::vector<std::uint32_t> rows(back.by);
  for (const std::uint32_t row : lanes) {
    // a file's links may lead anywhere
    if (row < base_ ? parts_.ids.named(row) : row < base_ + n_) rows.push_back(row);
  }
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  std::vector<float> own(padded_), values;
  values_of(back.row, own.data());
  std::vector<Neighbour> candidates = neighbours_of(
      own.data(), rows, [&](std::uint32_t row, float* out) { values_of(row, out); }, distances_, padded_, values);
  if (candidates.size() > parts_.links.degree()) prune(distances_, back.row, candidates, parts_.links.degree());
  writer.replace(back.record.data(), own.data(), candidates);
}

void GraphInsert::publish(GraphParts& parts) const {
  parts.rows.resize(base_ + n_);
  parts.links.resize(base_ + n_);
  const std::size_t bytes = parts.links.record_bytes();
  for (std::size_t i = 0; i < n_; ++i) {
    parts.rows.store(encoded_, i, base_ + i);
    std::memcpy(parts.links.record(base_ + i), records_.data() + i * bytes, bytes);
  }
  for (const Back& back : backs_) std::memcpy(parts.links.record(back.row), back.record.data(), bytes);
}

}  // namespace tessella
