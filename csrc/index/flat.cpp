#include "index/flat.h"

#include <algorithm>
#include <string>

#include "tessella/errors.h"

namespace tessella {

namespace {

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorKind::kInvalidArgument, what); }

}  // namespace

FlatIndex::FlatIndex(RowConfig config, KernelsFn kernels)
    : rows_(std::move(config), kernels), trained_(!rows_.rotates()) {}

std::size_t FlatIndex::size() const {
  const auto reading = lock_.read();
  return ids_.size();
}

std::size_t FlatIndex::nbytes() const {
  const auto reading = lock_.read();
  return ids_.nbytes() + rows_.nbytes();
}

bool FlatIndex::trained() const {
  const auto reading = lock_.read();
  return trained_ && (!rows_.has(Codec::Kind::kPq) || rows_.pq() != nullptr);
}

bool FlatIndex::contains(std::int64_t id) const {
  const auto reading = lock_.read();
  return ids_.find(id) >= 0;
}

std::vector<std::int64_t> FlatIndex::find(std::span<const std::int64_t> ids) const {
  const auto reading = lock_.read();
  return ids_.find(ids);
}

std::vector<std::int64_t> FlatIndex::removed_rows() const { return {}; }

std::vector<std::int64_t> FlatIndex::ids() const {
  const auto reading = lock_.read();
  std::vector<std::int64_t> out(ids_.size());
  for (std::size_t row = 0; row < out.size(); ++row) out[row] = ids_.id(row);
  return out;
}

void FlatIndex::train(const float* x, std::size_t n) {
  const std::lock_guard writing(writer_);
  if (n == 0) refuse("train: expected at least one row; got 0");
  require_empty(ids_, "train");
  train_locked(x, n);
}

void FlatIndex::train_locked(const float* x, std::size_t n) {
  std::vector<float> mean = rows_.mean(x, n);
  const auto publishing = lock_.write();
  rows_.set_centre(std::move(mean));
  trained_ = true;
}

void FlatIndex::set_pq(PqModel model) {
  const std::lock_guard writing(writer_);
  require_empty(ids_, "train");
  const auto publishing = lock_.write();
  rows_.set_pq(std::move(model), ErrorKind::kInvalidArgument);
}

void FlatIndex::check_new_ids(std::span<const std::int64_t> ids) {
  const std::lock_guard writing(writer_);
  ids_.check_new(ids, "add");
}

void FlatIndex::add(const float* x, std::size_t n, std::span<const std::int64_t> ids, std::size_t threads) {
  const std::lock_guard writing(writer_);
  const std::size_t before = ids_.size();
  if (n > kMaxRows - before) refuse("add: an index holds at most " + std::to_string(kMaxRows) + " rows");
  if (!ids.empty()) ids_.check_new(ids, "add");
  if (n == 0) return;
  if (!trained_) train_locked(x, std::min(n, kTrainRows));
  require_pq(rows_, "add");
  for (std::size_t first = 0; first < n; first += kPublishRows) {
    const std::size_t count = std::min(kPublishRows, n - first);
    const EncodedRows rows = rows_.encode(x + first * config().dim, count, threads);
    const auto publishing = lock_.write();  // rows behind the last id are stored but not yet seen by a search
    rows_.resize(before + first + count);
    for (std::size_t i = 0; i < count; ++i) rows_.store(rows, i, before + first + i);
  }
  const auto publishing = lock_.write();
  ids.empty() ? ids_.append_next(n) : ids_.append(ids);
}

void FlatIndex::remove(std::span<const std::int64_t> ids) {
  const std::lock_guard writing(writer_);
  check_unique(ids, "remove");
  rows_of(ids_, ids, "remove");
  const auto publishing = lock_.write();
  for (const std::int64_t id : ids) {
    const auto row = static_cast<std::size_t>(ids_.find(id));
    const std::size_t last = ids_.size() - 1;
    if (row != last) rows_.move(last, row);
    ids_.remove(row);
  }
  rows_.resize(ids_.size());
}

void FlatIndex::update(std::span<const std::int64_t> ids, const float* x, std::size_t threads) {
  const std::lock_guard writing(writer_);
  check_unique(ids, "update");
  const std::vector<std::size_t> rows = rows_of(ids_, ids, "update");
  const EncodedRows encoded = rows_.encode(x, ids.size(), threads);
  const auto publishing = lock_.write();
  for (std::size_t i = 0; i < rows.size(); ++i) rows_.store(encoded, i, rows[i]);
}

void FlatIndex::reconstruct(std::span<const std::int64_t> ids, float* out) const {
  const auto reading = lock_.read();
  const std::vector<std::size_t> rows = rows_of(ids_, ids, "reconstruct");
  for (std::size_t i = 0; i < rows.size(); ++i) rows_.decode(rows[i], out + i * config().dim);
}

FlatSnapshot FlatIndex::snapshot() const {
  const auto reading = lock_.read();
  FlatSnapshot snapshot{ids_.size(), ids_.next_id(), trained_, {}, rows_.centre(), rows_.columns(), {}};
  if (rows_.pq() != nullptr) snapshot.pq = *rows_.pq();
  if (const std::int64_t* ids = ids_.data()) snapshot.ids.emplace(ids, ids + ids_.size());
  return snapshot;
}

void FlatIndex::restore(FlatSnapshot snapshot) {
  const auto refuse_file = [](const std::string& what) { throw Error(ErrorKind::kFormat, "load: " + what); };
  if (snapshot.rows > kMaxRows) refuse_file("the file claims more rows than an index can hold");
  if (snapshot.centre.size() != config().dim) refuse_file("the centre does not have the index's dimension");
  if (snapshot.ids && snapshot.ids->size() != snapshot.rows) refuse_file("there are not as many ids as rows");
  if (snapshot.rows > 0 && !snapshot.trained && rows_.rotates()) refuse_file("there are codes, but no centre");
  rows_.check_columns(snapshot.columns, snapshot.rows);
  if (rows_.has(Codec::Kind::kPq) && snapshot.rows > 0 && !snapshot.pq) refuse_file("the codebooks are missing");
  IdMap ids = restored_ids(snapshot.ids, snapshot.rows, snapshot.next_id);
  const std::lock_guard writing(writer_);
  const auto publishing = lock_.write();
  if (snapshot.pq) rows_.set_pq(std::move(*snapshot.pq), ErrorKind::kFormat);
  ids_ = std::move(ids);
  rows_.replace_columns(std::move(snapshot.columns));
  rows_.set_centre(std::move(snapshot.centre));
  trained_ = snapshot.trained || !rows_.rotates();
}

}  // namespace tessella
