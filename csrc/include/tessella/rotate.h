// Fast Hadamard–Kac rotation: a random orthonormal map in O(d log d), padded to 64 and not to a power of two.
//
// Four rounds; round i flips signs, applies a normalised Walsh–Hadamard transform of size h = 2^floor(log2 D) to
// the first (even i) or last (odd i) h coordinates, then turns the two halves by 45 degrees where h < D.
#pragma once

#include "tessella/types.h"

namespace tessella {

constexpr std::size_t kRotateRounds = 4;

// Words of sign bits a rotation of D = padded_dim(d) dimensions needs: (kRotateRounds, D/64), bit 1 means -1.
constexpr std::size_t rotate_sign_words(std::size_t padded) { return kRotateRounds * padded / 64; }

struct Rotate {
  const std::uint64_t* signs;  // rotate_sign_words(D)
  const float* in;             // forward: (n, d); inverse: (n, D)
  std::size_t n;
  std::size_t d;
  const float* centre;  // (d) or nullptr: subtracted before the forward, added after the inverse
  float* out;           // forward: (n, D); inverse: (n, d); must not overlap `in`
  float* scratch;       // D floats (inverse only)
};

using RotateFn = void (*)(const Rotate&);

}  // namespace tessella
