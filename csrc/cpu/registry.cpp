#include "cpu/registry.h"

#include <atomic>
#include <cstdlib>

#include "cpu/features.h"
#include "tessella/errors.h"

namespace tessella {

// Each level fills its table in table.isa.cpp.
#define TSL_DECLARE_LEVEL(level) \
  namespace level {              \
  Kernels kernel_table();        \
  }
TSL_DECLARE_LEVEL(scalar)
TSL_DECLARE_LEVEL(avx2)
TSL_DECLARE_LEVEL(avx512)
TSL_DECLARE_LEVEL(neon)
#undef TSL_DECLARE_LEVEL

namespace cpu {
namespace {

std::vector<Kernels> list_tables() {
  std::vector<Kernels> tables;
#if defined(TESSELLA_HAS_AVX512)
  if (has_avx512()) tables.push_back(avx512::kernel_table());
#endif
#if defined(TESSELLA_HAS_AVX2)
  if (has_avx2()) tables.push_back(avx2::kernel_table());
#endif
#if defined(TESSELLA_HAS_NEON)
  tables.push_back(neon::kernel_table());
#endif
  tables.push_back(scalar::kernel_table());
  return tables;
}

const std::vector<Kernels>& tables() {
  static const std::vector<Kernels> kTables = list_tables();
  return kTables;
}

const Kernels& find_level(const std::string& level) {
  std::string names;
  for (const Kernels& table : tables()) {
    if (level == table.level) return table;
    names += (names.empty() ? "" : ", ") + std::string(table.level);
  }
  throw Error(ErrorKind::kInvalidArgument,
              "isa: expected a level this build and CPU offer (" + names + "); got '" + level + "'");
}

std::atomic<const Kernels*> active{nullptr};

}  // namespace

std::vector<std::string> available_levels() {
  std::vector<std::string> names;
  for (const Kernels& table : tables()) names.emplace_back(table.level);
  return names;
}

void pin_level(const std::string& level) { active.store(&find_level(level), std::memory_order_release); }

const Kernels& active_kernels() {
  const Kernels* table = active.load(std::memory_order_acquire);
  if (table == nullptr) {
    const char* wanted = std::getenv("TESSELLA_ISA");
    table = wanted != nullptr && *wanted != '\0' ? &find_level(wanted) : &tables().front();
    active.store(table, std::memory_order_release);
  }
  return *table;
}

}  // namespace cpu
}  // namespace tessella
