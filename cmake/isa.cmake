# One object library per level: the same *.isa.cpp sources, that level's flags, that level's namespace.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(TESSELLA_LEVELS scalar avx2 avx512)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  set(TESSELLA_LEVELS scalar neon)
else()
  set(TESSELLA_LEVELS scalar)
endif()

set(TESSELLA_FLAGS_scalar "")
set(TESSELLA_FLAGS_avx2 -mavx2 -mfma -mf16c -mpopcnt -mbmi2)
set(TESSELLA_FLAGS_avx512
    ${TESSELLA_FLAGS_avx2}
    -mavx512f
    -mavx512bw
    -mavx512dq
    -mavx512vl
    -mavx512vbmi
    -mavx512vnni
    -mavx512vpopcntdq
    -mprefer-vector-width=512
)
set(TESSELLA_FLAGS_neon "")

function(tessella_add_level level)
  set(target tessella_cpu_${level})
  add_library(${target} OBJECT ${ARGN})
  string(TOUPPER ${level} upper)
  target_compile_definitions(${target} PRIVATE TSL_LEVEL=${level} TSL_LEVEL_${upper})
  # No link-time optimisation and no fast-math: a level's code must not be merged into, or reordered like, another's.
  target_compile_options(${target} PRIVATE ${TESSELLA_FLAGS_${level}} -fno-lto -fno-math-errno -fno-trapping-math)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/csrc ${PROJECT_SOURCE_DIR}/csrc/include)
  target_link_libraries(${target} PRIVATE tessella_warnings)
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden)
  target_compile_definitions(tessella_flags INTERFACE TESSELLA_HAS_${upper})
endfunction()
