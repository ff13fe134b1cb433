// The emulated fde family behind plain C functions, for ctypes.
#include "cuda/fde.h"
#include "library.h"

extern "C" {

int simt_fde_encode(const void* tokens, std::size_t type, std::size_t count, const std::int64_t* offsets, std::size_t n,
                    std::size_t d, std::size_t repetitions, std::size_t k_sim, std::size_t p, const float* hyperplanes,
                    const float* matrix, const std::uint32_t* index, const float* signs, std::size_t queries,
                    std::size_t fill, std::size_t out_type, void* out, char* error) {
  return simt::guarded(error, [&] {
    tessella::FdeEncode job{};
    job.tokens = tokens;
    job.type = static_cast<tessella::ScalarType>(type);
    job.offsets = offsets;
    job.n = n;
    job.d = d;
    job.repetitions = repetitions;
    job.k_sim = k_sim;
    job.hyperplanes = hyperplanes;
    job.projection = {p, matrix, index, signs};
    job.queries = queries != 0;
    job.fill = static_cast<tessella::FdeFill>(fill);
    job.out_type = static_cast<tessella::ScalarType>(out_type);
    job.out = out;
    simt::Scratch scratch(tessella::cuda::fde_encode_scratch(job, count));
    job.scratch = scratch.data();
    tessella::cuda::fde_encode(job, count, nullptr);
  });
}

}  // extern "C"
