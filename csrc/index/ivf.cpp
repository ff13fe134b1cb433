#include "index/ivf.h"

#include <algorithm>
#include <limits>
#include <string>

#include "common/convert.h"
#include "common/parallel.h"
#include "common/sums.h"
#include "tessella/errors.h"

namespace tessella {

namespace {

constexpr float kSoar = 2.0f;                 // weight of the part of a second residual that lies along the first
constexpr std::size_t kSpillCandidates = 24;  // lists among which the second home is looked for

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorKind::kInvalidArgument, what); }

// Codes of the codec that scans lie in the lists.
RowConfig without_b1(RowConfig config) {
  std::erase_if(config.codecs, [](const Codec& codec) { return codec.kind == Codec::Kind::kB1; });
  config.scan_elsewhere = true;
  return config;
}

std::size_t block_bytes_of(const RowConfig& config) {
  const Codec& scan = config.codecs.front();
  if (scan.kind == Codec::Kind::kB1) return rabitq_block_bytes(padded_dim(config.dim), true);
  return scan.kind == Codec::Kind::kPq ? PqShape(scan, config.dim, config.metric).block_bytes() : 0;
}

RowConfig centroid_rows(const RowConfig& config) {
  return {config.dim, config.metric, false, parse_codecs({"B1", "U8"}), config.seed};
}

}  // namespace

IvfIndex::IvfIndex(IvfConfig config, KernelsFn kernels)
    : config_(std::move(config)),
      kernels_(kernels),
      rows_(without_b1(config_.rows), kernels),
      centroids_(centroid_rows(config_.rows), kernels),
      lists_(block_bytes_of(config_.rows)) {
  if (config_.lists > UINT32_MAX / 2) refuse("index: expected fewer lists; got " + std::to_string(config_.lists));
}

std::size_t IvfIndex::size() const {
  const auto reading = lock_.read();
  return ids_.size();
}

std::size_t IvfIndex::nbytes() const {
  const auto reading = lock_.read();
  return ids_.nbytes() + rows_.nbytes() + centroids_.nbytes() + lists_.nbytes() + nearest_bytes_ +
         (homes_[0].capacity() + homes_[1].capacity()) * sizeof(std::uint32_t);
}

bool IvfIndex::trained() const {
  const auto reading = lock_.read();
  return trained_ && (!rows_.has(Codec::Kind::kPq) || rows_.pq() != nullptr);
}

std::size_t IvfIndex::lists() const {
  const auto reading = lock_.read();
  return lists_.count();
}

bool IvfIndex::contains(std::int64_t id) const {
  const auto reading = lock_.read();
  return ids_.find(id) >= 0;
}

std::vector<std::int64_t> IvfIndex::find(std::span<const std::int64_t> ids) const {
  const auto reading = lock_.read();
  return ids_.find(ids);
}

std::vector<std::int64_t> IvfIndex::removed_rows() const { return {}; }

std::vector<std::int64_t> IvfIndex::ids() const {
  const auto reading = lock_.read();
  std::vector<std::int64_t> out(ids_.size());
  for (std::size_t row = 0; row < out.size(); ++row) out[row] = ids_.id(row);
  return out;
}

std::vector<std::size_t> IvfIndex::list_sizes() const {
  const auto reading = lock_.read();
  std::vector<std::size_t> sizes(lists_.count());
  for (std::size_t l = 0; l < sizes.size(); ++l) sizes[l] = lists_[l].size;
  return sizes;
}

void IvfIndex::centroids(float* out) const {
  const auto reading = lock_.read();
  const std::vector<float> centroids = all_centroids();
  std::copy(centroids.begin(), centroids.end(), out);
}

// ---- adding --------------------------------------------------------------------------------------------------------

// A flat index over the centroids' codes.
std::unique_ptr<FlatIndex> IvfIndex::flat_centroids() const {
  auto flat = std::make_unique<FlatIndex>(centroids_.config(), kernels_);
  const std::size_t count = lists_.count();
  flat->restore({count, static_cast<std::int64_t>(count), true, {}, centroids_.centre(), centroids_.columns(), {}});
  return flat;
}

// Made when it is first wanted after the centroids were.
const NearestCentroids& IvfIndex::nearest_centroids(std::size_t threads) const {
  if (nearest_ == nullptr) {
    nearest_ = std::make_unique<NearestCentroids>(flat_centroids(), kernels_, threads);
    nearest_bytes_ = nearest_->nbytes();
  }
  return *nearest_;
}

std::vector<float> IvfIndex::all_centroids() const {
  std::vector<float> centroids(lists_.count() * config().dim);
  for (std::size_t l = 0; l < lists_.count(); ++l) centroids_.decode(l, centroids.data() + l * config().dim);
  return centroids;
}

// The nearest list of each row and, where lists spill, the one of its kSpillCandidates nearest whose residual r' costs
// least by SOAR's measure |r'|^2 + lambda <r', r>^2 / |r|^2, r being the residual from the nearest (Sun et al., 2024).
IvfIndex::Homes IvfIndex::nearest_lists(const float* x, std::size_t n, std::size_t threads) const {
  const std::size_t d = config().dim, count = lists_.count(), homes = this->homes();
  const std::size_t wanted = homes == 1 ? 1 : std::min(kSpillCandidates, count);
  std::vector<float> scores(n * wanted);
  std::vector<std::int64_t> nearest(n * wanted);
  nearest_centroids(threads).find(x, n, wanted, threads, scores.data(), nearest.data());
  // A damaged file's centroids may score as no number with everything; then there are fewer, and list 0 takes what no
  // list wants.
  Homes out{std::vector<std::uint32_t>(n * homes, kNone)};
  const auto candidates_of = [&](std::size_t i) {
    const std::span all = std::span(nearest).subspan(i * wanted, wanted);
    return all.first(static_cast<std::size_t>(std::find(all.begin(), all.end(), -1) - all.begin()));
  };
  for (std::size_t i = 0; i < n; ++i) {
    const auto candidates = candidates_of(i);
    out.lists[i * homes] = candidates.empty() ? 0 : static_cast<std::uint32_t>(candidates[0]);
  }
  if (wanted == 1) return out;
  const std::vector<float> centroids = all_centroids();
  parallel_for((n + kTileRows - 1) / kTileRows, threads, [&](std::size_t tile) {
    for (std::size_t i = tile * kTileRows; i < std::min(n, (tile + 1) * kTileRows); ++i) {
      const auto candidates = candidates_of(i);
      if (candidates.size() > 1) out.lists[i * homes + 1] = second_home(x + i * d, centroids.data(), candidates);
    }
  });
  return out;
}

// Of the candidates, the first one being the home, the one that SOAR's measure likes best.
std::uint32_t IvfIndex::second_home(const float* row, const float* centroids,
                                    std::span<const std::int64_t> candidates) const {
  const std::size_t d = config().dim, count = candidates.size();
  const float* home = centroids + static_cast<std::size_t>(candidates[0]) * d;
  std::vector<float> residual(d);
  for (std::size_t j = 0; j < d; ++j) residual[j] = row[j] - home[j];
  std::array<std::uint32_t, kSpillCandidates> which;
  std::array<float, kSpillCandidates> along, distance;
  for (std::size_t i = 0; i < count; ++i) which[i] = static_cast<std::uint32_t>(candidates[i]);
  const auto score = [&](const float* query, Metric metric, const void* rows, const std::uint32_t* numbers,
                         std::size_t wanted, float* to) {
    rows_.kernels().exact_score({query, rows, ScalarType::kF32, d, metric, numbers, wanted, to, nullptr});
  };
  score(residual.data(), Metric::kInnerProduct, centroids, which.data(), count, along.data());
  score(row, Metric::kL2, centroids, which.data(), count, distance.data());
  float on_row, length2;
  score(residual.data(), Metric::kInnerProduct, row, nullptr, 1, &on_row);
  score(residual.data(), Metric::kInnerProduct, residual.data(), nullptr, 1, &length2);
  std::size_t best = 1;
  float least = std::numeric_limits<float>::infinity();
  for (std::size_t i = 1; i < count; ++i) {
    const float shared = on_row - along[i];  // <r, x - c>
    const float cost = -distance[i] + (length2 > 0.0f ? kSoar * shared * shared / length2 : 0.0f);
    if (cost >= least) continue;
    least = cost;
    best = i;
  }
  return which[best];
}

// Estimates are taken about the list's anchor a: <q, r> = <q - a, r> + <a, r>, and the first term's error grows with
// |q - a|, which is short in a list that is near the query. The query's tables hold <s, q>; what is missing is the
// row's own: scale <s, a> - <a, r>, its term. (L2 adds |r|^2, and counts the rest twice.)
IvfIndex::Entries IvfIndex::encode_entries(const float* rows, const std::uint32_t* homes, std::size_t n) const {
  if (rows_.pq_shape() != nullptr) return {{}, {}, rows_.encode_pq(rows, n)};
  std::vector<float> residuals(n * rows_.padded());
  rows_.rotate(rows, n, residuals.data());
  const std::size_t padded = rows_.padded(), columns = padded / 8, each = this->homes();
  const bool l2 = config().metric == Metric::kL2;
  Entries out{std::vector<std::uint8_t>(n * each * columns), std::vector<Entries::Factors>(n * each), {}};
  std::vector<float> centroid(padded), residual(padded);
  for (std::size_t i = 0; i < n * each; ++i) {
    if (homes[i] == kNone) continue;
    centre_of(homes[i], centroid.data());
    const float* row = residuals.data() + i / each * padded;
    for (std::size_t j = 0; j < padded; ++j) residual[j] = row[j] - centroid[j];
    RabitqFactors factors;
    rows_.kernels().rabitq_encode(residual.data(), padded, out.bits.data() + i * columns, &factors);
    const auto anchor = [&](std::size_t j) { return double{centroid[j]} + rotated_centre_[j]; };
    const double along = sum_of(padded, [&](std::size_t j) { return anchor(j) * residual[j]; });
    const double signed_sum =
        sum_of(padded, [&](std::size_t j) { return residual[j] >= 0.0f ? anchor(j) : -anchor(j); });
    const double off = double{factors.scale} * signed_sum;
    const double term = l2 ? factors.norm2 + 2.0 * off : off - along;
    out.factors[i] = {factors.scale, factors.error, static_cast<float>(term)};
  }
  return out;
}

void IvfIndex::append_row(const Entries& entries, std::size_t i, const std::uint32_t* homes, std::uint32_t row) {
  const std::size_t each = this->homes(), columns = rows_.padded() / 8;
  for (std::size_t h = 0; h < each; ++h) {
    if (homes[h] == kNone) continue;
    const auto [block, lane] = lists_.append(homes[h], row);
    if (block == nullptr) continue;
    if (const PqShape* pq = rows_.pq_shape()) {
      pq->put(block, lane, entries.pq, i);
      continue;
    }
    const Entries::Factors& factors = entries.factors[i * each + h];
    put_b1(block, lane, rows_.padded(), entries.bits.data() + (i * each + h) * columns, factors.scale, factors.error,
           factors.term);
  }
}

void IvfIndex::set_pq(PqModel model) {
  const std::lock_guard writing(writer_);
  require_empty(ids_, "train");
  const auto publishing = lock_.write();
  rows_.set_pq(std::move(model), ErrorKind::kInvalidArgument);
}

void IvfIndex::check_new_ids(std::span<const std::int64_t> ids) {
  const std::lock_guard writing(writer_);
  ids_.check_new(ids, "add");
}

void IvfIndex::add(const float* x, std::size_t n, std::span<const std::int64_t> ids, std::size_t threads) {
  const std::lock_guard writing(writer_);
  const std::size_t before = ids_.size(), d = config().dim, each = homes();
  if (n > kMaxRows - before) refuse("add: an index holds at most " + std::to_string(kMaxRows) + " rows");
  if (!ids.empty()) ids_.check_new(ids, "add");
  if (n == 0) return;
  if (!trained_) train_locked(x, n, threads, {});
  require_pq(rows_, "add");

  for (std::size_t first = 0; first < n; first += kPublishRows * 16) {
    const std::size_t count = std::min(kPublishRows * 16, n - first);
    const Prepared rows = rows_.prepared(x + first * d, count);
    const Homes found = nearest_lists(rows.data(), count, threads);
    const EncodedRows stored = rows_.encode_prepared(rows.data(), count, threads);
    const std::size_t tiles = (count + kTileRows - 1) / kTileRows;
    std::vector<Entries> entries(scans_codes() ? tiles : 0);
    parallel_for(entries.size(), threads, [&](std::size_t tile) {
      const std::size_t from = tile * kTileRows, rows_here = std::min(kTileRows, count - from);
      entries[tile] = encode_entries(rows.data() + from * d, found.lists.data() + from * each, rows_here);
    });
    const auto publishing = lock_.write();
    const std::size_t base = before + first;
    if (count * 4 > lists_.entries()) {  // so many that everything is laid out anew
      std::vector<std::uint32_t> more(lists_.count(), 0);
      for (const std::uint32_t list : found.lists) {
        if (list != kNone) ++more[list];
      }
      lists_.reserve(more);
    }
    rows_.resize(base + count);
    for (std::size_t h = 0; h < each; ++h) homes_[h].resize(base + count);
    for (std::size_t i = 0; i < count; ++i) {
      rows_.store(stored, i, base + i);
      for (std::size_t h = 0; h < each; ++h) homes_[h][base + i] = found.lists[i * each + h];
      append_row(scans_codes() ? entries[i / kTileRows] : Entries{}, i % kTileRows, found.lists.data() + i * each,
                 static_cast<std::uint32_t>(base + i));
    }
    ids.empty() ? ids_.append_next(count) : ids_.append(ids.subspan(first, count));
    lists_.tidy();
  }
}

// ---- changing ------------------------------------------------------------------------------------------------------

void IvfIndex::drop_entries(std::uint32_t row) {
  const PqShape* pq = rows_.pq_shape();
  const auto move = [&](const std::uint8_t* from, std::size_t out, std::uint8_t* to, std::size_t in) {
    pq != nullptr ? pq->move(from, out, to, in) : move_b1(from, out, to, in, rows_.padded(), true);
  };
  for (std::size_t h = 0; h < homes(); ++h) {
    if (homes_[h][row] != kNone) lists_.remove(homes_[h][row], lists_.find(homes_[h][row], row), move);
  }
}

void IvfIndex::renumber_row(std::uint32_t from, std::uint32_t to) {
  rows_.move(from, to);
  for (std::size_t h = 0; h < homes(); ++h) {
    homes_[h][to] = homes_[h][from];
    if (homes_[h][to] != kNone) lists_.renumber(homes_[h][to], from, to);
  }
}

void IvfIndex::remove(std::span<const std::int64_t> ids) {
  const std::lock_guard writing(writer_);
  check_unique(ids, "remove");
  rows_of(ids_, ids, "remove");
  const auto publishing = lock_.write();
  for (const std::int64_t id : ids) {
    const auto row = static_cast<std::uint32_t>(ids_.find(id));
    const auto last = static_cast<std::uint32_t>(ids_.size() - 1);
    drop_entries(row);
    if (row != last) renumber_row(last, row);
    ids_.remove(row);
  }
  rows_.resize(ids_.size());
  for (std::size_t h = 0; h < homes(); ++h) homes_[h].resize(ids_.size());
  lists_.tidy();
}

void IvfIndex::update(std::span<const std::int64_t> ids, const float* x, std::size_t threads) {
  const std::lock_guard writing(writer_);
  check_unique(ids, "update");
  const std::vector<std::size_t> rows = rows_of(ids_, ids, "update");
  if (ids.empty()) return;
  const std::size_t n = ids.size(), each = homes();
  const Prepared values = rows_.prepared(x, n);
  const Homes found = nearest_lists(values.data(), n, threads);
  const EncodedRows stored = rows_.encode(x, n, threads);
  Entries entries;
  if (scans_codes()) entries = encode_entries(values.data(), found.lists.data(), n);
  const auto publishing = lock_.write();
  for (std::size_t i = 0; i < n; ++i) {
    const auto row = static_cast<std::uint32_t>(rows[i]);
    drop_entries(row);
    rows_.store(stored, i, row);
    for (std::size_t h = 0; h < each; ++h) homes_[h][row] = found.lists[i * each + h];
    append_row(entries, i, found.lists.data() + i * each, row);
  }
  lists_.tidy();
}

// From the finest codec or, where there is a scan codec alone, from the row's code in one of its lists, the same in
// every copy.
void IvfIndex::decode(std::size_t row, float* out) const {
  const std::vector<Codec>& codecs = rows_.config().codecs;
  if (!codecs.empty() && codecs.back().kind != Codec::Kind::kPq) return rows_.decode(row, out);
  const std::uint32_t list = homes() == 2 ? std::min(homes_[0][row], homes_[1][row]) : homes_[0][row];
  const std::size_t at = lists_.find(list, static_cast<std::uint32_t>(row)), lane = at % kBlockRows;
  const std::size_t padded = rows_.padded();
  const std::uint8_t* block = lists_[list].blocks + at / kBlockRows * lists_.block_bytes();
  if (!codecs.empty()) return rows_.decode_pq(block, lane, out);
  const float scale = f16_to_f32(reinterpret_cast<const std::uint16_t*>(block + padded / 8 * kBlockRows)[lane]);
  std::vector<float> residual(padded), scratch(padded);
  centre_of(list, residual.data());
  for (std::size_t j = 0; j < padded; ++j) {
    residual[j] += (block[j / 8 * kBlockRows + lane] >> (j % 8)) & 1 ? scale : -scale;
  }
  rows_.kernels().rotate_inverse(
      {rows_.signs().data(), residual.data(), 1, config().dim, rows_.centre().data(), out, scratch.data()});
}

void IvfIndex::reconstruct(std::span<const std::int64_t> ids, float* out) const {
  const auto reading = lock_.read();
  const std::vector<std::size_t> rows = rows_of(ids_, ids, "reconstruct");
  for (std::size_t i = 0; i < rows.size(); ++i) decode(rows[i], out + i * config().dim);
}

}  // namespace tessella
