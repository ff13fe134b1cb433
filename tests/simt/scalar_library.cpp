// The emulated scalar family behind plain C functions, for ctypes.
#include "cuda/scalar.h"
#include "library.h"

extern "C" {

int simt_scalar_encode(const float* residuals, std::size_t n, std::size_t padded, std::size_t bits, std::size_t lloyd,
                       std::uint8_t* codes, float* scales, float* norms2, char* error) {
  const auto grid = lloyd != 0 ? tessella::ScalarGrid::kLloyd : tessella::ScalarGrid::kUniform;
  return simt::guarded(error, [&] {
    tessella::cuda::scalar_encode({residuals, n, padded, static_cast<int>(bits), grid, codes, scales, norms2}, nullptr);
  });
}

}  // extern "C"
