// What the compiler calls before each load and store under -fsanitize=thread. These functions stand
// for the sanitizer's library, which is not linked.
#include <cstddef>
#include <cstdint>

#include "memory_shadow.h"

#define BEFORE(bytes, use) \
  cuda_on_cpu::before_use(address, bytes, cuda_on_cpu::Use::use, __builtin_return_address(0))

#define USES_OF_SIZE(bytes)                                                               \
  void __tsan_read##bytes(const void* address) { BEFORE(bytes, kLoad); }                  \
  void __tsan_write##bytes(const void* address) { BEFORE(bytes, kStore); }                \
  void __tsan_unaligned_read##bytes(const void* address) { BEFORE(bytes, kLoad); }        \
  void __tsan_unaligned_write##bytes(const void* address) { BEFORE(bytes, kStore); }      \
  void __tsan_volatile_read##bytes(const void* address) { BEFORE(bytes, kVolatileLoad); } \
  void __tsan_volatile_write##bytes(const void* address) { BEFORE(bytes, kAtomic); }      \
  void __tsan_unaligned_volatile_read##bytes(const void* address) {                       \
    BEFORE(bytes, kVolatileLoad);                                                         \
  }                                                                                       \
  void __tsan_unaligned_volatile_write##bytes(const void* address) { BEFORE(bytes, kAtomic); }

// Atomics of the C++ library, in host code: what they do, with the strictest order.
#define ATOMICS_OF_SIZE(bits)                                                                      \
  using a##bits = uint##bits##_t;                                                                  \
  a##bits __tsan_atomic##bits##_load(const volatile a##bits* a, int) {                             \
    return __atomic_load_n(a, __ATOMIC_SEQ_CST);                                                   \
  }                                                                                                \
  void __tsan_atomic##bits##_store(volatile a##bits* a, a##bits v, int) {                          \
    __atomic_store_n(a, v, __ATOMIC_SEQ_CST);                                                      \
  }                                                                                                \
  a##bits __tsan_atomic##bits##_exchange(volatile a##bits* a, a##bits v, int) {                    \
    return __atomic_exchange_n(a, v, __ATOMIC_SEQ_CST);                                            \
  }                                                                                                \
  a##bits __tsan_atomic##bits##_fetch_add(volatile a##bits* a, a##bits v, int) {                   \
    return __atomic_fetch_add(a, v, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  a##bits __tsan_atomic##bits##_fetch_sub(volatile a##bits* a, a##bits v, int) {                   \
    return __atomic_fetch_sub(a, v, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  a##bits __tsan_atomic##bits##_fetch_and(volatile a##bits* a, a##bits v, int) {                   \
    return __atomic_fetch_and(a, v, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  a##bits __tsan_atomic##bits##_fetch_or(volatile a##bits* a, a##bits v, int) {                    \
    return __atomic_fetch_or(a, v, __ATOMIC_SEQ_CST);                                              \
  }                                                                                                \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile a##bits* a, a##bits* e, a##bits v,    \
                                                    int, int) {                                    \
    return __atomic_compare_exchange_n(a, e, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);        \
  }                                                                                                \
  int __tsan_atomic##bits##_compare_exchange_weak(volatile a##bits* a, a##bits* e, a##bits v, int, \
                                                  int) {                                           \
    return __atomic_compare_exchange_n(a, e, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);        \
  }

extern "C" {

USES_OF_SIZE(1)
USES_OF_SIZE(2)
USES_OF_SIZE(4)
USES_OF_SIZE(8)
USES_OF_SIZE(16)

void __tsan_read_range(const void* address, size_t bytes) { BEFORE(bytes, kLoad); }
void __tsan_write_range(const void* address, size_t bytes) { BEFORE(bytes, kStore); }

ATOMICS_OF_SIZE(8)
ATOMICS_OF_SIZE(16)
ATOMICS_OF_SIZE(32)
ATOMICS_OF_SIZE(64)

void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_init() {}
void __tsan_vptr_read(void**) {}
void __tsan_vptr_update(void**, void*) {}

}  // extern "C"
