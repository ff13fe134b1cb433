// Sparse anchors for Python: encoding, the blocks of an inverted file, and its search.
#pragma once

#include <pybind11/stl.h>

#include <utility>
#include <vector>

#include "bind/rotate.h"

namespace tessella::bind {

using Places = Array<std::int64_t>;
using Anchors = Array<std::uint32_t>;
using BlockRows = Array<std::uint16_t>;

constexpr std::size_t kSmveTaskTokens = 512;

// `offsets` rise from 0 to `last`.
inline std::size_t check_rising(const Places& offsets, std::size_t last, const char* operation, const char* name) {
  require(offsets.ndim() == 1 && rows_of(offsets) > 0, operation, std::string(name) + " of shape (n + 1,)",
          shape_of(offsets));
  const std::int64_t* at = offsets.data();
  const std::size_t n = rows_of(offsets) - 1;
  bool rises = at[0] == 0 && at[n] == static_cast<std::int64_t>(last);
  for (std::size_t i = 0; i < n; ++i) rises = rises && at[i] <= at[i + 1];
  require(rises, operation, std::string(name) + " that rise from 0 to " + std::to_string(last), shape_of(offsets));
  return n;
}

inline void check_anchors(const Anchors& anchors, std::size_t below, const char* operation) {
  for (std::size_t i = 0; i < rows_of(anchors); ++i) {
    if (anchors.data()[i] >= below) {
      require(false, operation, "anchors below " + std::to_string(below), std::to_string(anchors.data()[i]));
    }
  }
}

template <typename T>
Array<T> joined(const std::vector<std::vector<T>>& parts) {
  std::size_t count = 0;
  for (const auto& part : parts) count += part.size();
  Array<T> whole(static_cast<py::ssize_t>(count));
  T* to = whole.mutable_data();
  for (const auto& part : parts) to = std::copy(part.begin(), part.end(), to);
  return whole;
}

// (offsets, anchors, weights) of documents or queries, tokens (T, d).
inline py::tuple smve_encode(const Floats& tokens, const Places& offsets, const Signs& signs, std::size_t kept,
                             bool queries, std::size_t threads) {
  require(tokens.ndim() == 2 && tokens.shape(1) > 0, "smve", "tokens of shape (T, d)", shape_of(tokens));
  const auto d = static_cast<std::size_t>(tokens.shape(1));
  const std::size_t n = check_rising(offsets, rows_of(tokens), "smve", "offsets");
  const bool fits = signs.ndim() == 3 && signs.shape(0) > 0 &&
                    static_cast<std::size_t>(signs.size()) == rows_of(signs) * rotate_sign_words(padded_dim(d));
  require(fits, "smve", "signs of shape (rotations, 4, D / 64)", shape_of(signs));
  SmveEncode whole{};
  whole.n = n;
  whole.d = d;
  whole.rotations = rows_of(signs);
  whole.signs = signs.data();
  whole.kept = kept;
  whole.queries = queries;
  const std::size_t all = smve_anchors(whole.rotations, d);
  require(all <= kSmveMostAnchors, "smve", "at most 2**24 anchors", std::to_string(all));
  require(kept >= 1 && kept <= all / 2, "smve", "kept in 1.." + std::to_string(all / 2), std::to_string(kept));

  std::vector<std::size_t> begins{0};
  for (std::size_t i = 1; i <= n; ++i) {
    const bool full = offsets.data()[i] - offsets.data()[begins.back()] >= std::int64_t{kSmveTaskTokens};
    if (full || i == n) begins.push_back(i);
  }
  const std::size_t tasks = begins.size() - 1;
  std::vector<std::vector<std::uint32_t>> anchors(tasks);
  std::vector<std::vector<float>> weights(tasks);
  Places ends(static_cast<py::ssize_t>(n + 1));
  std::int64_t* counts = ends.mutable_data();
  counts[0] = 0;
  {
    const py::gil_scoped_release unlocked;
    const Kernels& kernels = cpu::active_kernels();
    parallel_for(tasks, threads, [&](std::size_t task) {
      SmveEncode job = whole;
      job.n = begins[task + 1] - begins[task];
      job.offsets = offsets.data() + begins[task];
      job.tokens = tokens.data() + static_cast<std::size_t>(job.offsets[0]) * d;
      std::size_t room = 0;
      for (std::size_t i = 0; i < job.n; ++i) {
        room += std::min(static_cast<std::size_t>(job.offsets[i + 1] - job.offsets[i]) * kept, all);
      }
      anchors[task].resize(room);
      weights[task].resize(room);
      job.anchors = anchors[task].data();
      job.weights = weights[task].data();
      job.counts = counts + 1 + begins[task];
      AlignedBuffer scratch(kernels.smve_encode_scratch(job));
      job.scratch = scratch.data();
      kernels.smve_encode(job);
      std::size_t written = 0;
      for (std::size_t i = 0; i < job.n; ++i) written += static_cast<std::size_t>(job.counts[i]);
      anchors[task].resize(written);
      weights[task].resize(written);
    });
    for (std::size_t i = 0; i < n; ++i) counts[i + 1] += counts[i];
  }
  return py::make_tuple(ends, joined(anchors), joined(weights));
}

// ---- the inverted file

// A block of it, checked once: where the postings of each anchor begin, their rows, their weights.
class SmveBlock {
 public:
  SmveBlock(const Places& starts, const BlockRows& rows, const Bytes& weights, std::size_t count)
      : starts_(starts), rows_(rows), weights_(weights), count_(count) {
    require(rows.ndim() == 1 && weights.ndim() == 1 && rows_of(weights) == rows_of(rows), "smve",
            "as many weights as rows", shape_of(weights));
    check_rising(starts, rows_of(rows), "smve", "starts");
    require(count <= kSmveBlockRows, "smve", "at most 8192 rows a block", std::to_string(count));
    bool inside = true;
    for (std::size_t i = 0; i < rows_of(rows); ++i) inside = inside && rows.data()[i] < count;
    require(inside, "smve", "rows below " + std::to_string(count), "some that are not");
  }

  std::size_t anchors() const { return rows_of(starts_) - 1; }
  std::size_t count() const { return count_; }
  const Places& starts() const { return starts_; }
  const BlockRows& rows() const { return rows_; }
  const Bytes& weights() const { return weights_; }

  // The postings of `more`, sparse vectors of as many rows, behind those there are.
  SmveBlock extended(const Places& offsets, const Anchors& more, const Bytes& weights) const {
    const std::size_t n = check_rising(offsets, rows_of(more), "smve", "offsets"), all = anchors();
    require(rows_of(weights) == rows_of(more), "smve", "as many weights as anchors", shape_of(weights));
    require(count_ + n <= kSmveBlockRows, "smve", "at most 8192 rows a block", std::to_string(count_ + n));
    check_anchors(more, all, "smve");
    const auto postings = static_cast<py::ssize_t>(rows_of(rows_) + rows_of(more));
    SmveBlock made(Places(static_cast<py::ssize_t>(all + 1)), BlockRows(postings), Bytes(postings), count_ + n, {});
    const py::gil_scoped_release unlocked;
    made.merge(*this, offsets.data(), more.data(), weights.data(), n);
    return made;
  }

 private:
  struct Unchecked {};
  SmveBlock(Places starts, BlockRows rows, Bytes weights, std::size_t count, Unchecked)
      : starts_(std::move(starts)), rows_(std::move(rows)), weights_(std::move(weights)), count_(count) {}

  void merge(const SmveBlock& old, const std::int64_t* offsets, const std::uint32_t* more, const std::uint8_t* weights,
             std::size_t n) {
    std::int64_t* begin = starts_.mutable_data();
    std::uint16_t* to = rows_.mutable_data();
    std::uint8_t* weight = weights_.mutable_data();
    const std::int64_t* before = old.starts_.data();
    std::vector<std::int64_t> next(anchors(), 0);  // how many come to each, then where the next one goes
    for (std::int64_t i = 0; i < offsets[n]; ++i) ++next[more[i]];
    std::int64_t at = 0;
    for (std::size_t a = 0; a < next.size(); ++a) {
      const std::int64_t there = before[a + 1] - before[a], coming = next[a];
      begin[a] = at;
      std::copy_n(old.rows_.data() + before[a], there, to + at);
      std::copy_n(old.weights_.data() + before[a], there, weight + at);
      next[a] = at + there;
      at += there + coming;
    }
    begin[next.size()] = at;
    for (std::size_t row = 0; row < n; ++row) {
      for (std::int64_t i = offsets[row]; i < offsets[row + 1]; ++i) {
        const std::int64_t place = next[more[i]]++;
        to[place] = static_cast<std::uint16_t>(old.count_ + row);
        weight[place] = weights[i];
      }
    }
  }

  Places starts_;      // (anchors + 1)
  BlockRows rows_;     // (postings)
  Bytes weights_;      // (postings)
  std::size_t count_;  // rows of the block
};

// Scores (nq, n) of the rows of all blocks, one block behind the other: whole sums times the scale of each row.
inline Floats smve_score(const std::vector<const SmveBlock*>& blocks, const Floats& scales, const Places& offsets,
                         const Anchors& query_anchors, const Anchors& query_weights, std::size_t threads) {
  std::vector<std::size_t> begins{0};
  for (const SmveBlock* block : blocks) {
    check_anchors(query_anchors, block->anchors(), "smve");
    begins.push_back(begins.back() + block->count());
  }
  const std::size_t n = begins.back(), nq = check_rising(offsets, rows_of(query_anchors), "smve", "offsets");
  require(scales.ndim() == 1 && rows_of(scales) == n, "smve", "scales of shape (" + std::to_string(n) + ",)",
          shape_of(scales));
  require(rows_of(query_weights) == rows_of(query_anchors), "smve", "as many weights as anchors",
          shape_of(query_weights));
  Floats scores({nq, n});
  float* out = scores.mutable_data();
  const py::gil_scoped_release unlocked;
  const Kernels& kernels = cpu::active_kernels();
  parallel_for(nq * blocks.size(), threads, [&](std::size_t task) {
    const std::size_t q = task / blocks.size(), b = task % blocks.size();
    const SmveBlock& block = *blocks[b];
    const std::int64_t* at = offsets.data() + q;
    std::uint32_t sums[kSmveBlockRows];
    kernels.smve_score({block.starts().data(), block.rows().data(), block.weights().data(), block.count(),
                        query_anchors.data() + at[0], query_weights.data() + at[0],
                        static_cast<std::size_t>(at[1] - at[0]), sums});
    const float* scale = scales.data() + begins[b];
    float* to = out + q * n + begins[b];
    for (std::size_t i = 0; i < block.count(); ++i) to[i] = static_cast<float>(sums[i]) * scale[i];
  });
  return scores;
}

inline void register_smve(py::module_& m) {
  m.def("smve_encode", &smve_encode, py::arg("tokens").noconvert(), py::arg("offsets").noconvert(),
        py::arg("signs").noconvert(), py::kw_only(), py::arg("kept"), py::arg("queries"), py::arg("threads"),
        "Sparse vectors (offsets, anchors, weights) of queries or documents, tokens (T, d).");
  py::class_<SmveBlock>(m, "SmveBlock", "Rows of an inverted file: their postings, anchor after anchor.")
      .def(py::init<const Places&, const BlockRows&, const Bytes&, std::size_t>(), py::arg("starts").noconvert(),
           py::arg("rows").noconvert(), py::arg("weights").noconvert(), py::arg("count"))
      .def("extended", &SmveBlock::extended, py::arg("offsets").noconvert(), py::arg("anchors").noconvert(),
           py::arg("weights").noconvert(), "A block with more rows: sparse vectors whose weights are bytes.")
      .def_property_readonly("starts", &SmveBlock::starts, "Where the postings of each anchor begin (anchors + 1).")
      .def_property_readonly("rows", &SmveBlock::rows, "Rows of the postings.")
      .def_property_readonly("weights", &SmveBlock::weights, "Weights of the postings.")
      .def_property_readonly("count", &SmveBlock::count, "Rows of the block.");
  m.def("smve_score", &smve_score, py::arg("blocks"), py::arg("scales").noconvert(), py::arg("offsets").noconvert(),
        py::arg("query_anchors").noconvert(), py::arg("query_weights").noconvert(), py::kw_only(), py::arg("threads"),
        "Scores (nq, n) of the rows of all blocks.");
}

}  // namespace tessella::bind
