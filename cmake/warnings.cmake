# Warnings are errors, in every target of ours.
add_library(tessella_warnings INTERFACE)
target_compile_options(
  tessella_warnings
  INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wall
            -Wextra
            -Werror
            -Wshadow
            -Wconversion
            -Wno-sign-conversion
            # GCC's own AVX-512 headers leave operands undefined on purpose (PR 105593).
            $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized
            -Wno-uninitialized>>
)

# TESSELLA_SANITIZE=address (with undefined) or thread instruments every object of ours.
if(TESSELLA_SANITIZE STREQUAL "address")
  set(TESSELLA_SANITIZE_FLAGS -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
elseif(TESSELLA_SANITIZE STREQUAL "thread")
  set(TESSELLA_SANITIZE_FLAGS -fsanitize=thread -fno-omit-frame-pointer)
elseif(TESSELLA_SANITIZE)
  message(FATAL_ERROR "TESSELLA_SANITIZE is address, thread or empty; got ${TESSELLA_SANITIZE}")
endif()
if(TESSELLA_SANITIZE_FLAGS)
  add_compile_options(${TESSELLA_SANITIZE_FLAGS})
  add_link_options(${TESSELLA_SANITIZE_FLAGS})
endif()
