// The emulated maxsim family behind plain C functions, for ctypes.
#include "cuda/maxsim.h"
#include "library.h"

extern "C" {

int simt_maxsim_score(const void* queries, const float* query_scales, const std::int64_t* query_offsets, std::size_t nq,
                      const void* tokens, std::size_t type, const float* scales, const std::int64_t* begins,
                      const std::int64_t* ends, std::size_t d, const std::int64_t* which, std::size_t count,
                      float* scores, char* error) {
  return simt::guarded(error, [&] {
    const auto kind = static_cast<tessella::TokenType>(type);
    simt::Scratch scratch(tessella::cuda::maxsim_scratch(0, d, kind));
    tessella::cuda::maxsim_score({queries, query_scales, query_offsets, nq, tokens, kind, scales, begins, ends, d,
                                  which, count, scores, scratch.data(), nullptr});
  });
}

}  // extern "C"
