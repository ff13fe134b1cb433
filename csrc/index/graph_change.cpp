// Adding to a graph, taking rows away, and giving up what was taken away.
#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "common/parallel.h"
#include "index/graph_build.h"
#include "index/graph_insert.h"

namespace tessella {

namespace {

constexpr std::size_t kMostTogether = 1024;  // new rows that are linked together
constexpr std::size_t kFewestRemoved = 64;   // rows that wait to be given up, at least
constexpr std::size_t kRemovedShare = 16;    // …: one in so many
constexpr std::size_t kRebuildShare = 4;     // where one in so many is to be given up, a new graph costs no more
constexpr std::size_t kVia = 16;             // neighbours of a removed row that take its place among the candidates
constexpr std::size_t kTaskRows = 64;

// A row's candidates once removed rows no longer lead anywhere: its neighbours and, in the place of those that were
// removed, theirs. Nothing where none was removed.
std::optional<std::vector<std::uint32_t>> around(const GraphParts& parts, std::size_t row) {
  const auto lives = [&](std::uint32_t other) {
    return other < parts.ids.size() && other != row && parts.ids.named(other);
  };
  std::vector<std::uint32_t> rows;
  bool whole = true;
  for (const std::uint32_t neighbour : parts.links.of(row)) {
    if (neighbour >= parts.ids.size()) continue;
    if (lives(neighbour)) {
      rows.push_back(neighbour);
      continue;
    }
    whole = false;
    std::size_t via = 0;
    for (const std::uint32_t next : parts.links.of(neighbour)) {
      if (lives(next) && via++ < kVia) rows.push_back(next);
    }
  }
  if (whole) return {};
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  return rows;
}

// Those who linked to removed rows choose anew. Reads `from`, writes `to`.
void relink(const GraphParts& from, GraphParts& to, std::size_t threads) {
  const std::size_t n = from.ids.size(), padded = from.rows.padded();
  const ValueDistances distances(from.rows.kernels(), padded);
  to.links.own();
  parallel_for((n + kTaskRows - 1) / kTaskRows, threads, [&](std::size_t task) {
    EdgeWriter writer(from.rows, from.links);
    std::vector<float> own(padded), values;
    for (std::size_t i = task * kTaskRows; i < std::min(n, (task + 1) * kTaskRows); ++i) {
      if (!from.ids.named(i)) continue;
      const auto rows = around(from, i);
      if (!rows) continue;
      from.rows.decode_residual(i, own.data());
      const auto values_of = [&](std::uint32_t row, float* out) { from.rows.decode_residual(row, out); };
      std::vector<Neighbour> chosen = neighbours_of(own.data(), *rows, values_of, distances, padded, values);
      prune(distances, static_cast<std::uint32_t>(i), chosen, from.links.degree());
      writer.replace(to.links.record(i), own.data(), chosen);
    }
  });
}

// Rows without an id make way for the last ones; links follow.
void close_gaps(GraphParts& parts) {
  std::vector<std::uint32_t> now(parts.ids.size());
  for (std::size_t i = 0; i < now.size(); ++i) now[i] = static_cast<std::uint32_t>(i);
  const std::size_t bytes = parts.links.record_bytes();
  for (std::size_t gap = 0;; ++gap) {
    while (parts.ids.size() != 0 && !parts.ids.named(parts.ids.size() - 1)) parts.ids.remove(parts.ids.size() - 1);
    while (gap < parts.ids.size() && parts.ids.named(gap)) ++gap;
    if (gap >= parts.ids.size()) break;
    const std::size_t last = parts.ids.size() - 1;
    parts.rows.move(last, gap);
    std::uint8_t* to = parts.links.record(gap);
    std::memcpy(to, std::as_const(parts.links).record(last), bytes);
    now[last] = static_cast<std::uint32_t>(gap);
    parts.ids.remove(gap);
  }
  parts.rows.resize(parts.ids.size());
  parts.links.resize(parts.ids.size());
  for (std::size_t i = 0; i < parts.ids.size(); ++i) {
    for (std::uint32_t& row : parts.links.in(parts.links.record(i))) {
      if (row < now.size()) row = now[row];
    }
  }
}

}  // namespace

void GraphIndex::insert(const float* x, std::size_t n, std::span<const std::int64_t> ids,
                        std::span<const std::size_t> replaced, std::size_t threads) {
  for (std::size_t first = 0; first < n; first += kMostTogether) {
    const std::size_t count = std::min(kMostTogether, n - first);
    const GraphInsert found(parts_, x + first * config().dim, count, threads);
    const auto publishing = lock_.write();
    found.publish(parts_);
    if (!replaced.empty()) {
      for (const std::size_t row : replaced.subspan(first, count)) parts_.ids.forget(row);
    }
    ids.empty() ? parts_.ids.append_next(count) : parts_.ids.append(ids.subspan(first, count));
    parts_.refresh_outgrown_entries();
  }
}

void GraphIndex::remove(std::span<const std::int64_t> ids) {
  const std::lock_guard writing(writer_);
  check_unique(ids, "remove");
  const std::vector<std::size_t> rows = rows_of(parts_.ids, ids, "remove");
  {
    const auto publishing = lock_.write();
    for (const std::size_t row : rows) parts_.ids.forget(row);
  }
  tidy(num_threads());
}

void GraphIndex::update(std::span<const std::int64_t> ids, const float* x, std::size_t threads) {
  const std::lock_guard writing(writer_);
  check_unique(ids, "update");
  const std::vector<std::size_t> rows = rows_of(parts_.ids, ids, "update");
  insert(parts_.rows.prepared(x, ids.size()).data(), ids.size(), ids, rows, threads);
  tidy(threads);
}

void GraphIndex::tidy(std::size_t threads) {
  if (parts_.ids.nameless() > std::max(kFewestRemoved, parts_.ids.size() / kRemovedShare)) sweep(threads);
}

void GraphIndex::compact(std::size_t threads) {
  const std::lock_guard writing(writer_);
  sweep(threads);
}

// On a copy, which shares what stays as it is; searches go on meanwhile.
void GraphIndex::sweep(std::size_t threads) {
  if (parts_.ids.nameless() == 0) return;
  GraphParts fresh = parts_;
  const std::size_t left = fresh.size(), dim = config().dim;
  const bool anew = fresh.ids.nameless() * kRebuildShare > fresh.ids.size();
  if (!anew) relink(parts_, fresh, threads);
  close_gaps(fresh);
  fresh.refresh_entries();
  if (anew && left != 0) {
    std::vector<float> x(left * dim);
    for (std::size_t i = 0; i < left; ++i) fresh.rows.decode(i, x.data() + i * dim);
    GraphBuild(fresh, kernels_, x.data(), threads).run();
  }
  const auto publishing = lock_.write();
  parts_ = std::move(fresh);
}

}  // namespace tessella
