#include "index/codec.h"

#include <optional>
#include <regex>

#include "tessella/errors.h"

namespace tessella {

namespace {

constexpr std::size_t kMostLevels = 16;

// PQ<pieces>, PQ<pieces>x4, the same as OPQ or APQ, and PRQ<pieces>x<levels>x<bits>, the same as OPRQ.
std::optional<Codec> parse_pq(const std::string& name) {
  static const std::regex kSpelling("(O|A)?PQ([1-9][0-9]{0,4})(x4|x8)?");
  static const std::regex kResidual("(O)?PRQ([1-9][0-9]{0,4})x([1-9][0-9]?)x(4|8)");
  std::smatch parts;
  const bool residual = std::regex_match(name, parts, kResidual);
  if (!residual && !std::regex_match(name, parts, kSpelling)) return {};
  const std::size_t levels = residual ? std::stoul(parts[3]) : 1;
  if (levels > kMostLevels) return {};
  const bool four = residual ? parts[4] == "4" : parts[3] == "x4";
  return Codec{.kind = Codec::Kind::kPq,
               .bits = four ? 4 : 8,
               .pieces = std::stoul(parts[2]),
               .levels = levels,
               .rotated = parts[1] == "O",
               .anisotropic = parts[1] == "A",
               .name = name};
}

}  // namespace

Codec Codec::parse(const std::string& name) {
  using enum Kind;
  if (name == "F32") return {.kind = kRaw, .type = ScalarType::kF32, .name = name};
  if (name == "F16") return {.kind = kRaw, .type = ScalarType::kF16, .name = name};
  if (name == "BF16") return {.kind = kRaw, .type = ScalarType::kBF16, .name = name};
  if (name == "UINT8") return {.kind = kRaw, .type = ScalarType::kU8, .name = name};
  if (name == "B1") return {.kind = kB1, .name = name};
  if (name == "U8") return {.kind = kScalar, .bits = 8, .name = name};
  if (name == "N4") return {.kind = kScalar, .bits = 4, .grid = kN4Grid, .name = name};
  if (name.size() == 2 && name[0] == 'R' && name[1] >= '2' && name[1] <= '8') {
    return {.kind = kScalar, .bits = name[1] - '0', .name = name};
  }
  if (const auto pq = parse_pq(name)) return *pq;
  throw Error(ErrorKind::kInvalidArgument,
              "spec: expected a codec F32, F16, BF16, UINT8, B1, U8, N4, R2..R8, or PQ48, PQ96x4 (4 bits), OPQ48, "
              "APQ48, PRQ48x2x8 (2 levels) and the like; got '" +
                  name + "'");
}

std::vector<Codec> parse_codecs(const std::vector<std::string>& names) {
  using enum Codec::Kind;
  std::vector<Codec> codecs;
  std::string spelled;
  for (const std::string& name : names) {
    codecs.push_back(Codec::parse(name));
    spelled += (spelled.empty() ? "" : "+") + name;
  }
  bool orderly = !codecs.empty() && codecs.size() <= 3;
  for (std::size_t i = 1; i < codecs.size() && orderly; ++i) {
    const bool sharper = codecs[i - 1].kind != kRaw && codecs[i].kind != kB1 && codecs[i].kind != kPq;
    const bool repeats = codecs[i].kind == kScalar && codecs[i - 1].kind == kScalar;
    orderly = sharper && !repeats;
  }
  if (orderly) return codecs;
  throw Error(ErrorKind::kInvalidArgument,
              "spec: expected B1 or PQ first, then one of U8, N4 or R2..R8, then one of F32, F16, BF16 or UINT8, each "
              "optional but one; got '" +
                  spelled + "'");
}

}  // namespace tessella
