// Run-time choice of the instruction set for loops over pixels.
#pragma once

// A function marked with it is compiled for several instruction sets; the processor's best one is
// chosen when the library is loaded. Only for plain functions over raw pointers: what they call and
// does not inline is not cloned.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__)
#define DEEPLAB2_D2_CLONES \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define DEEPLAB2_D2_CLONES
#endif
