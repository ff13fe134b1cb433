#include "index/graph.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "common/parallel.h"
#include "common/sums.h"
#include "index/graph_build.h"
#include "tessella/errors.h"

namespace tessella {

namespace {

constexpr std::size_t kFewestEntries = 64, kMostEntries = 4096;
constexpr std::size_t kMostDegree = 256;
constexpr std::size_t kMostGraphRows = (std::size_t{1} << 31) - 1;  // a walk keeps a row and a mark in 32 bits

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorKind::kInvalidArgument, what); }

bool has_b1(const RowConfig& config) { return config.codecs.front().kind == Codec::Kind::kB1; }

// Vertices keep the finer codecs; 1-bit codes are of edges and lie in the records.
RowConfig without_b1(RowConfig config) {
  if (has_b1(config)) config.codecs.erase(config.codecs.begin());
  if (config.codecs.empty() || config.codecs.front().kind == Codec::Kind::kPq) {
    refuse("index: expected a graph with codes of its vertices, such as B1+U8, U8 or F32");
  }
  return config;
}

}  // namespace

GraphParts::GraphParts(const GraphConfig& config, KernelsFn kernels)
    : rows(without_b1(config.rows), kernels), links(config.degree, padded_dim(config.rows.dim), has_b1(config.rows)) {}

void GraphParts::refresh_entries() {
  const std::size_t n = ids.size(), padded = rows.padded();
  const auto root = static_cast<std::size_t>(std::sqrt(static_cast<double>(n)) / 2.0);
  const std::size_t wanted = std::min(n, std::clamp(root, kFewestEntries, kMostEntries));
  const bool l2 = rows.config().metric == Metric::kL2;
  const std::size_t block_bytes = rabitq_block_bytes(padded, l2);
  entries.chosen_from = n;
  entries.rows.resize(wanted);
  entries.blocks.assign((wanted + kBlockRows - 1) / kBlockRows * block_bytes, 0);
  std::vector<float> residual(padded), row(rows.config().dim);
  std::vector<std::uint8_t> bits(padded / 8);
  double longest2 = 0.0;
  for (std::size_t i = 0; i < wanted; ++i) {
    entries.rows[i] = static_cast<std::uint32_t>(n * i / wanted);
    RabitqFactors factors;
    rows.decode(entries.rows[i], row.data());
    longest2 = std::max(longest2, dot(row.data(), row.data(), row.size()));
    rows.rotate(row.data(), 1, residual.data());
    rows.kernels().rabitq_encode(residual.data(), padded, bits.data(), &factors);
    put_b1(entries.blocks.data() + i / kBlockRows * block_bytes, i % kBlockRows, padded, bits.data(), factors.scale,
           factors.error, l2 ? std::optional(factors.norm2) : std::nullopt);
  }
  entries.longest2 = static_cast<float>(longest2);
}

void GraphParts::refresh_outgrown_entries() {
  if (ids.size() <= kFewestEntries || ids.size() > entries.chosen_from + entries.chosen_from / 8) refresh_entries();
}

GraphIndex::GraphIndex(GraphConfig config, KernelsFn kernels)
    : config_(std::move(config)), kernels_(kernels), parts_(config_, kernels) {
  if (config_.degree == 0 || config_.degree % kBlockRows != 0 || config_.degree > kMostDegree) {
    refuse("index: expected a graph of degree 32, 64, ..., 256; got " + std::to_string(config_.degree));
  }
}

std::size_t GraphIndex::size() const {
  const auto reading = lock_.read();
  return parts_.size();
}

std::size_t GraphIndex::nbytes() const {
  const auto reading = lock_.read();
  return parts_.ids.nbytes() + parts_.rows.nbytes() + parts_.links.nbytes() +
         parts_.entries.rows.size() * sizeof(std::uint32_t) + parts_.entries.blocks.size();
}

bool GraphIndex::trained() const {
  const auto reading = lock_.read();
  return trained_;
}

bool GraphIndex::contains(std::int64_t id) const {
  const auto reading = lock_.read();
  return parts_.ids.find(id) >= 0;
}

std::vector<std::int64_t> GraphIndex::find(std::span<const std::int64_t> ids) const {
  const auto reading = lock_.read();
  return parts_.ids.find(ids);
}

std::vector<std::int64_t> GraphIndex::removed_rows() const {
  const auto reading = lock_.read();
  std::vector<std::int64_t> rows;
  if (parts_.ids.nameless() == 0) return rows;
  for (std::size_t row = 0; row < parts_.ids.size(); ++row) {
    if (!parts_.ids.named(row)) rows.push_back(static_cast<std::int64_t>(row));
  }
  return rows;
}

std::vector<std::int64_t> GraphIndex::ids() const {
  const auto reading = lock_.read();
  std::vector<std::int64_t> out;
  for (std::size_t row = 0; row < parts_.ids.size(); ++row) {
    if (parts_.ids.named(row)) out.push_back(parts_.ids.id(row));
  }
  return out;
}

void GraphIndex::train(const float* x, std::size_t n) {
  const std::lock_guard writing(writer_);
  if (n == 0) refuse("train: expected at least one row; got 0");
  if (parts_.ids.nameless() == parts_.ids.size()) sweep(1);
  require_empty(parts_.ids, "train");
  std::vector<float> mean = parts_.rows.mean(x, n);
  const auto publishing = lock_.write();
  parts_.rows.set_centre(std::move(mean));
  trained_ = true;
}

void GraphIndex::check_new_ids(std::span<const std::int64_t> ids) {
  const std::lock_guard writing(writer_);
  parts_.ids.check_new(ids, "add");
}

void GraphIndex::add(const float* x, std::size_t n, std::span<const std::int64_t> ids, std::size_t threads,
                     const GraphProgress& progress) {
  const std::lock_guard writing(writer_);
  if (n > kMostGraphRows - parts_.ids.size()) {
    refuse("add: a graph holds at most " + std::to_string(kMostGraphRows) + " rows");
  }
  if (!ids.empty()) parts_.ids.check_new(ids, "add");
  if (n == 0) return;
  if (parts_.size() == 0) sweep(threads);
  const Prepared rows = parts_.rows.prepared(x, n);
  if (parts_.size() != 0) return insert(rows.data(), n, ids, {}, threads);
  build(rows.data(), n, ids, trained_ ? parts_.rows.centre() : parts_.rows.mean(x, n), threads, progress);
}

// A whole graph beside the empty one there is, which it then replaces.
void GraphIndex::build(const float* x, std::size_t n, std::span<const std::int64_t> ids, std::vector<float> centre,
                       std::size_t threads, const GraphProgress& progress) {
  GraphParts fresh(config_, kernels_);
  fresh.rows.set_centre(std::move(centre));
  fresh.ids = parts_.ids;
  const EncodedRows encoded = fresh.rows.encode_prepared(x, n, threads);
  fresh.rows.resize(n);
  for (std::size_t i = 0; i < n; ++i) fresh.rows.store(encoded, i, i);
  ids.empty() ? fresh.ids.append_next(n) : fresh.ids.append(ids);
  fresh.refresh_entries();
  GraphBuild(fresh, kernels_, x, threads, progress).run();
  const auto publishing = lock_.write();
  parts_ = std::move(fresh);
  trained_ = true;
}

void GraphIndex::reconstruct(std::span<const std::int64_t> ids, float* out) const {
  const auto reading = lock_.read();
  const std::vector<std::size_t> rows = rows_of(parts_.ids, ids, "reconstruct");
  for (std::size_t i = 0; i < rows.size(); ++i) parts_.rows.decode(rows[i], out + i * config().dim);
}

// ---- files ---------------------------------------------------------------------------------------------------------

std::map<std::string, std::size_t> GraphIndex::column_layout() const {
  auto layout = parts_.rows.layout();
  layout["links"] = parts_.links.column().block_bytes();
  return layout;
}

GraphSnapshot GraphIndex::snapshot() {
  const std::lock_guard writing(writer_);
  if (parts_.ids.nameless() != 0) sweep(num_threads());
  const auto reading = lock_.read();
  GraphSnapshot snapshot{parts_.ids.size(),    parts_.ids.next_id(), trained_, {},
                         parts_.rows.centre(), parts_.rows.columns()};
  snapshot.columns.emplace("links", parts_.links.column());
  if (const std::int64_t* ids = parts_.ids.data()) snapshot.ids.emplace(ids, ids + parts_.ids.size());
  return snapshot;
}

// Links are not looked through: a walk leaves out those that lead nowhere.
void GraphIndex::restore(GraphSnapshot snapshot) {
  const auto refuse_file = [](const std::string& what) { throw Error(ErrorKind::kFormat, "load: " + what); };
  if (snapshot.rows > kMostGraphRows) refuse_file("the file claims more rows than a graph can hold");
  if (snapshot.centre.size() != config().dim) refuse_file("the centre does not have the index's dimension");
  if (snapshot.ids && snapshot.ids->size() != snapshot.rows) refuse_file("there are not as many ids as rows");
  if (snapshot.rows > 0 && !snapshot.trained) refuse_file("there are rows, but no centre");
  auto links = snapshot.columns.extract("links");
  if (links.empty()) refuse_file("column 'links' is missing");
  GraphParts fresh(config_, kernels_);
  fresh.rows.check_columns(snapshot.columns, snapshot.rows);
  if (links.mapped().block_bytes() != fresh.links.column().block_bytes() ||
      links.mapped().blocks() != (snapshot.rows + kBlockRows - 1) / kBlockRows) {
    refuse_file("column 'links' does not have the size its rows need");
  }
  fresh.ids = restored_ids(snapshot.ids, snapshot.rows, snapshot.next_id);
  fresh.rows.replace_columns(std::move(snapshot.columns));
  fresh.rows.set_centre(std::move(snapshot.centre));
  fresh.links.replace_column(std::move(links.mapped()));
  fresh.refresh_entries();
  const std::lock_guard writing(writer_);
  const auto publishing = lock_.write();
  parts_ = std::move(fresh);
  trained_ = snapshot.trained;
}

}  // namespace tessella
