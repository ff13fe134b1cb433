#include "index/codec.h"

#include "tessella/errors.h"

namespace tessella {

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
  throw Error(ErrorKind::kInvalidArgument,
              "spec: expected a codec F32, F16, BF16, UINT8, B1, U8, N4 or R2..R8; got '" + name + "'");
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
    const bool sharper = codecs[i - 1].kind != kRaw && codecs[i].kind != kB1;
    const bool repeats = codecs[i].kind == kScalar && codecs[i - 1].kind == kScalar;
    orderly = sharper && !repeats;
  }
  if (orderly) return codecs;
  throw Error(ErrorKind::kInvalidArgument,
              "spec: expected B1 first, then one of U8, N4 or R2..R8, then one of F32, F16, BF16 or UINT8, each "
              "optional but one; got '" +
                  spelled + "'");
}

}  // namespace tessella
