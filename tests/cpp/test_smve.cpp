// Sparse anchors of every level against the scalar one, bit for bit, on buffers without spare room.
#include <algorithm>
#include <string>
#include <vector>

#include "check.h"
#include "data.h"

using namespace tessella;
using data::Tight;

namespace {

constexpr std::int64_t kOffsets[] = {2, 5, 5, 6, 20};  // of four documents, after two tokens of another call's
constexpr std::size_t kDocuments = 4, kTokens = 18;

struct Encoded {
  std::vector<std::int64_t> counts;
  std::vector<std::uint32_t> anchors;
  std::vector<float> weights;
};

Encoded encoded(const Kernels& kernels, std::size_t d, std::size_t rotations, std::size_t kept, bool queries) {
  const std::size_t words = rotations * rotate_sign_words(padded_dim(d)), all = smve_anchors(rotations, d);
  const auto tokens = data::normal(kTokens * d, 3);
  const auto drawn = data::bytes(8 * words, 4);
  Tight<std::uint64_t> signs(words);
  std::copy_n(drawn.get(), 8 * words, reinterpret_cast<std::uint8_t*>(signs.get()));
  std::size_t room = 0;
  for (std::size_t i = 0; i < kDocuments; ++i) {
    room += std::min(static_cast<std::size_t>(kOffsets[i + 1] - kOffsets[i]) * kept, all);
  }
  Tight<std::uint32_t> anchors(room);
  Tight<float> weights(room);
  Encoded out{std::vector<std::int64_t>(kDocuments), {}, {}};
  SmveEncode job{};
  job.tokens = tokens.get();
  job.offsets = kOffsets;
  job.n = kDocuments;
  job.d = d;
  job.rotations = rotations;
  job.signs = signs.get();
  job.kept = kept;
  job.queries = queries;
  job.counts = out.counts.data();
  job.anchors = anchors.get();
  job.weights = weights.get();
  AlignedBuffer scratch(kernels.smve_encode_scratch(job));
  job.scratch = scratch.data();
  kernels.smve_encode(job);
  std::size_t written = 0;
  for (const std::int64_t count : out.counts) written += static_cast<std::size_t>(count);
  CHECK(written <= room);
  out.anchors.assign(anchors.get(), anchors.get() + written);
  out.weights.assign(weights.get(), weights.get() + written);
  return out;
}

}  // namespace

TEST(smve_encodings_agree_with_scalar) {
  const std::string before = cpu::active_kernels().level;
  for (const std::string& name : cpu::available_levels()) {
    for (const std::size_t d : {1u, 31u, 64u, 128u}) {
      for (const std::size_t rotations : {1u, 3u}) {
        for (const std::size_t kept : {std::size_t{1}, std::size_t{20}, rotations * padded_dim(d)}) {
          for (const bool queries : {false, true}) {
            const Encoded a = encoded(data::level(name), d, rotations, kept, queries);
            const Encoded b = encoded(data::level("scalar"), d, rotations, kept, queries);
            CHECK(a.counts == b.counts && a.anchors == b.anchors && a.weights == b.weights);
          }
        }
      }
    }
  }
  cpu::pin_level(before);
}

TEST(smve_scores_add_up) {
  const std::string before = cpu::active_kernels().level;
  Tight<std::int64_t> starts(4);
  Tight<std::uint16_t> rows(5);
  Tight<std::uint8_t> weights(5);
  const std::int64_t begin[] = {0, 2, 2, 5};
  const std::uint16_t row[] = {0, 2, 0, 1, 2};
  const std::uint8_t weight[] = {7, 255, 1, 2, 3};
  std::copy_n(begin, 4, starts.get());
  std::copy_n(row, 5, rows.get());
  std::copy_n(weight, 5, weights.get());
  const std::uint32_t anchors[] = {0, 1, 2}, query[] = {16'000'000, 5, 10};
  for (const std::string& name : cpu::available_levels()) {
    Tight<std::uint32_t> scores(3);
    data::level(name).smve_score({starts.get(), rows.get(), weights.get(), 3, anchors, query, 3, scores.get()});
    CHECK(scores[0] == 112'000'010 && scores[1] == 20 && scores[2] == 4'080'000'030u);
  }
  cpu::pin_level(before);
}
