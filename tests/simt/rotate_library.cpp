// The emulated rotate family behind plain C functions, for ctypes.
#include "cuda/rotate.h"
#include "library.h"

extern "C" {

int simt_rotate_forward(const std::uint64_t* signs, const float* in, std::size_t n, std::size_t d, const float* centre,
                        float* out, char* error) {
  return simt::guarded(error,
                       [&] { tessella::cuda::rotate_forward({signs, in, n, d, centre, out, nullptr}, nullptr); });
}

}  // extern "C"
