// Matrix instructions of a warp (sm_80 on): 16x8 += 16x16 * 16x8 in f32, from f16 or bf16.
// The emulator has the same words in tests/simt/shadow.
//
// Where an element lives, with g = lane / 4 and p = lane % 4:
//   a[0] (row g, columns 2p, 2p+1)  a[1] (row g+8, same)  a[2] (row g, columns 2p+8, 2p+9)  a[3] (row g+8, same)
//   b[0] (column g, rows 2p, 2p+1)  b[1] (column g, rows 2p+8, 2p+9)
//   c[0], c[1] (row g, columns 2p, 2p+1)  c[2], c[3] (row g+8, same)
#pragma once

#include "cuda/device/convert.h"

namespace tessella::cuda {

// Four 8x8 matrices of 16-bit elements from shared memory. Lane 8m + i gives the address of row i of matrix m (16
// bytes, divisible by 16); out[m] gets columns 2p, 2p+1 of row g.
__device__ inline void load_matrices(std::uint32_t (&out)[4], const void* row) {
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address)
               : "memory");
}

template <typename T>
__device__ void multiply_add(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]);

template <>
__device__ inline void multiply_add<Half>(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <>
__device__ inline void multiply_add<BFloat>(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

}  // namespace tessella::cuda
