// MaxSim of every level against the scalar one, bit for bit, on buffers without spare room.
#include <cstring>
#include <string>
#include <vector>

#include "check.h"
#include "data.h"

using namespace tessella;
using data::Tight;

namespace {

const std::size_t kLengths[] = {3, 0, 1, 15, 32};  // tokens of documents
constexpr std::size_t kDocuments = sizeof(kLengths) / sizeof(kLengths[0]);
constexpr TokenType kTypes[] = {TokenType::kF32, TokenType::kF16, TokenType::kBF16, TokenType::kI8, TokenType::kN4};

std::size_t all_tokens() {
  std::size_t total = 0;
  for (const std::size_t length : kLengths) total += length;
  return total;
}

// Tokens of any type are drawn bytes; 16-bit floats lose the bit that could make them infinite.
Tight<std::uint8_t> drawn_tokens(TokenType type, std::size_t d) {
  const std::size_t total = all_tokens();
  if (type == TokenType::kF32) {
    const auto values = data::normal(total * d, 5);
    Tight<std::uint8_t> bytes(total * d * 4);
    std::memcpy(bytes.get(), values.get(), bytes.size());
    return bytes;
  }
  Tight<std::uint8_t> bytes = data::bytes(total * token_bytes(type, d), 6);
  if (!is_whole(type)) {
    for (std::size_t i = 1; i < bytes.size(); i += 2) bytes[i] &= 0xbf;
  }
  return bytes;
}

std::vector<float> scored(const Kernels& kernels, TokenType type, std::size_t d, std::size_t query_tokens) {
  const auto queries = data::normal(query_tokens * d, 7), scales = data::normal(all_tokens(), 8);
  const auto bytes = data::bytes(query_tokens * d, 9), tokens = drawn_tokens(type, d);
  Tight<std::int64_t> begins(kDocuments), ends(kDocuments), offsets(2);
  for (std::size_t i = 0, at = 0; i < kDocuments; ++i, at = static_cast<std::size_t>(ends[i - 1])) {
    begins[i] = static_cast<std::int64_t>(at);
    ends[i] = static_cast<std::int64_t>(at + kLengths[i]);
  }
  offsets[1] = static_cast<std::int64_t>(query_tokens);
  AlignedBuffer scratch(kernels.maxsim_scratch(query_tokens, d, type));
  std::vector<float> out(kDocuments);
  Maxsim job{};
  job.queries = is_whole(type) ? static_cast<const void*>(bytes.get()) : queries.get();
  job.query_offsets = offsets.get();
  job.nq = 1;
  job.tokens = tokens.get();
  job.type = type;
  job.scales = is_whole(type) ? scales.get() : nullptr;
  job.begins = begins.get();
  job.ends = ends.get();
  job.d = d;
  job.count = kDocuments;
  job.scores = out.data();
  job.scratch = scratch.data();
  kernels.maxsim_score(job);
  return out;
}

}  // namespace

TEST(maxsim_agrees_with_scalar) {
  const std::string before = cpu::active_kernels().level;
  for (const std::string& name : cpu::available_levels()) {
    for (const TokenType type : kTypes) {
      for (std::size_t d : {1u, 31u, 64u, 128u}) {
        if (type == TokenType::kN4 && d % 64 != 0) continue;
        for (std::size_t query_tokens : {0u, 1u, 7u, 33u}) {
          const auto a = scored(data::level(name), type, d, query_tokens);
          const auto b = scored(data::level("scalar"), type, d, query_tokens);
          for (std::size_t i = 0; i < kDocuments; ++i) CHECK(a[i] == b[i] || (a[i] != a[i] && b[i] != b[i]));
        }
      }
    }
  }
  cpu::pin_level(before);
}
