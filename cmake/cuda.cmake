# The CUDA column: the module _cuda where a CUDA compiler is found, and the emulator that runs the same sources on the
# CPU in the tests. TESSELLA_CUDA=AUTO takes what is there, ON insists, OFF does not look.

# Looks for a compiler new enough; sets TESSELLA_CUDA_FOUND, and says in one line what the build will have.
macro(tessella_find_cuda)
  set(TESSELLA_CUDA_FOUND OFF)
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    # sm_80 and sm_90 as machine code, and PTX for what comes after.
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 90-virtual)
    endif()
    enable_language(CUDA)
    find_package(CUDAToolkit QUIET)
    if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12.0 AND TARGET CUDA::cudart_static)
      set(TESSELLA_CUDA_FOUND ON)
    endif()
  endif()
  if(TESSELLA_CUDA_FOUND)
    message(STATUS "CUDA: nvcc ${CMAKE_CUDA_COMPILER_VERSION} for ${CMAKE_CUDA_ARCHITECTURES}")
  elseif(TESSELLA_CUDA STREQUAL "ON")
    message(FATAL_ERROR "TESSELLA_CUDA=ON: expected nvcc 12 or newer with a static runtime; found none")
  else()
    message(STATUS "CUDA: no nvcc 12 or newer; only the CPU module is built")
  endif()
endmacro()

function(tessella_add_cuda_module)
  file(GLOB kernels CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/csrc/cuda/*.cu ${PROJECT_SOURCE_DIR}/csrc/cuda/*/*.cu)
  add_library(tessella_cuda STATIC ${kernels})
  target_include_directories(tessella_cuda PUBLIC ${PROJECT_SOURCE_DIR}/csrc ${PROJECT_SOURCE_DIR}/csrc/include)
  # CMake 3.25 does not know how nvcc spells C++20, so the standard is an option here and no property.
  set_property(TARGET tessella_cuda PROPERTY CXX_STANDARD)
  target_compile_options(
    tessella_cuda PRIVATE -std=c++20 --Werror=all-warnings
                          -Xcompiler=-Wall,-Wextra,-Werror,-Wshadow,-Wconversion,-Wno-sign-conversion
  )
  target_link_libraries(tessella_cuda PUBLIC CUDA::cudart_static)
  set_target_properties(
    tessella_cuda
    PROPERTIES POSITION_INDEPENDENT_CODE ON
               CXX_VISIBILITY_PRESET hidden
               CUDA_VISIBILITY_PRESET hidden
               CUDA_RUNTIME_LIBRARY Static
  )

  pybind11_add_module(_cuda NO_EXTRAS ${PROJECT_SOURCE_DIR}/csrc/bind/cuda_module.cpp)
  target_link_libraries(_cuda PRIVATE tessella_cuda tessella_warnings)
  target_compile_definitions(_cuda PRIVATE TESSELLA_VERSION="${TESSELLA_VERSION}")
  set_target_properties(_cuda PROPERTIES CUDA_RUNTIME_LIBRARY Static)
  install(TARGETS _cuda LIBRARY DESTINATION tessella)
endfunction()

if(TESSELLA_PYTHON AND NOT TESSELLA_CUDA STREQUAL "OFF")
  tessella_find_cuda()
  if(TESSELLA_CUDA_FOUND)
    tessella_add_cuda_module()
  endif()
endif()

# The emulator switches stacks, which the thread sanitizer cannot follow, and is not worth a cross build.
if(TESSELLA_BUILD_TESTS
   AND NOT CMAKE_CROSSCOMPILING
   AND NOT TESSELLA_SANITIZE STREQUAL "thread"
)
  enable_testing()
  add_subdirectory(${PROJECT_SOURCE_DIR}/tests/simt tests/simt)
endif()
