// CUDA's words for a C++ compiler: kernels run on the CPU, thread by thread, so that their logic is
// tested where there is no GPU.
//
// block_schedule.h says in which order threads run and which waits are wrong, memory_shadow.h which
// races are found. What this cannot show: wrong addresses on the device, speed. Included by the
// stand-ins for c10/cuda in this folder; tests/emulated_cuda.py rewrites what is not C++: launches
// and __shared__.
#pragma once

#include <math.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

#include "block_schedule.h"
#include "memory_shadow.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __grid_constant__
#define __restrict__
#define __launch_bounds__(...)

namespace cuda_on_cpu {

// What `kernel<<<grid, threads, shared, stream>>>` is rewritten to; then called with arguments.
template <typename Kernel>
auto launch(const char* name, Kernel kernel, dim3 grid, dim3 threads, size_t shared_bytes = 0,
            int = 0) {
  return [=](auto... arguments) {
    run_grid(name, grid, threads, shared_bytes, [&] { kernel(arguments...); });
  };
}

template <typename T>
uint64_t to_bits(T value) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}

template <typename To, typename From>
To copy_bits(From from) {
  To to{};
  std::memcpy(&to, &from, std::min(sizeof(To), sizeof(From)));
  return to;
}

// The value of another lane.
template <typename T>
T exchange(unsigned mask, T value, unsigned lane, Site site) {
  show(to_bits(value));
  wait_for_warp(mask, false, site);
  const uint64_t bits = shown_by(lane);
  wait_for_warp(mask, false, site);
  return copy_bits<T>(bits);
}

// How many threads of the block say yes.
inline unsigned count_block(bool value, Site site) {
  show(value);
  wait_for_block(site);
  const unsigned count = count_of_block();
  wait_for_block(site);
  return count;
}

// Reading and writing with nothing in between.
template <typename T, typename Next>
__attribute__((noinline, no_sanitize_thread)) T update(T* address, const Next& next) {
  const T old = *address;
  *address = next(old);
  return old;
}

// Inlined, so that the code that a report names is the kernel's.
template <typename T, typename Next>
__attribute__((always_inline)) inline T update_atomically(T* address, const Next& next) {
  before_atomic(address, sizeof(T));
  return update(address, next);
}

}  // namespace cuda_on_cpu

inline void __syncthreads(cuda_on_cpu::Site site = cuda_on_cpu::Site::here()) {
  cuda_on_cpu::wait_for_block(site);
}
inline int __syncthreads_or(int value, cuda_on_cpu::Site site = cuda_on_cpu::Site::here()) {
  return cuda_on_cpu::count_block(value, site) > 0;
}
inline int __syncthreads_and(int value, cuda_on_cpu::Site site = cuda_on_cpu::Site::here()) {
  return cuda_on_cpu::count_block(!value, site) == 0;
}
inline int __syncthreads_count(int value, cuda_on_cpu::Site site = cuda_on_cpu::Site::here()) {
  return cuda_on_cpu::count_block(value, site);
}
inline void __syncwarp(unsigned mask = 0xFFFFFFFFu,
                       cuda_on_cpu::Site site = cuda_on_cpu::Site::here()) {
  cuda_on_cpu::wait_for_warp(mask, true, site);
}
inline void __threadfence() {}
inline void __threadfence_block() {}

inline unsigned __ballot_sync(unsigned mask, int value,
                              cuda_on_cpu::Site site = cuda_on_cpu::Site::here()) {
  cuda_on_cpu::show(value != 0);
  cuda_on_cpu::wait_for_warp(mask, false, site);
  const unsigned lanes = cuda_on_cpu::lanes_of_warp();
  cuda_on_cpu::wait_for_warp(mask, false, site);
  return lanes;
}
inline int __any_sync(unsigned mask, int value,
                      cuda_on_cpu::Site site = cuda_on_cpu::Site::here()) {
  return __ballot_sync(mask, value, site) != 0;
}
inline int __all_sync(unsigned mask, int value,
                      cuda_on_cpu::Site site = cuda_on_cpu::Site::here()) {
  return __ballot_sync(mask, !value, site) == 0;
}

// Always over the whole warp.
template <typename T>
T __shfl_sync(unsigned mask, T value, int lane,
              cuda_on_cpu::Site site = cuda_on_cpu::Site::here()) {
  return cuda_on_cpu::exchange(mask, value, lane % cuda_on_cpu::kWarp, site);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int distance,
                  cuda_on_cpu::Site site = cuda_on_cpu::Site::here()) {
  return cuda_on_cpu::exchange(mask, value, cuda_on_cpu::lane() ^ distance, site);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance,
                 cuda_on_cpu::Site site = cuda_on_cpu::Site::here()) {
  const unsigned lane = cuda_on_cpu::lane();
  return cuda_on_cpu::exchange(mask, value, lane < distance ? lane : lane - distance, site);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance,
                   cuda_on_cpu::Site site = cuda_on_cpu::Site::here()) {
  const unsigned lane = cuda_on_cpu::lane() + distance;
  return cuda_on_cpu::exchange(mask, value, lane < 32 ? lane : cuda_on_cpu::lane(), site);
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __popcll(unsigned long long bits) { return __builtin_popcountll(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return bits == 0 ? 32 : __builtin_clz(bits); }
inline int __float_as_int(float value) { return cuda_on_cpu::copy_bits<int>(value); }
inline unsigned __float_as_uint(float value) { return cuda_on_cpu::copy_bits<unsigned>(value); }
inline float __int_as_float(int value) { return cuda_on_cpu::copy_bits<float>(value); }
inline float __uint_as_float(unsigned value) { return cuda_on_cpu::copy_bits<float>(value); }
inline long long __double_as_longlong(double v) { return cuda_on_cpu::copy_bits<long long>(v); }
inline double __longlong_as_double(long long v) { return cuda_on_cpu::copy_bits<double>(v); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
// Right where a double holds the sum.
inline float __fadd_ru(float a, float b) {
  const double sum = static_cast<double>(a) + static_cast<double>(b);
  const float nearest = static_cast<float>(sum);
  return nearest < sum ? nextafterf(nearest, INFINITY) : nearest;
}

template <typename T>
T __ldg(const T* address) {
  return *address;
}

template <typename A, typename B>
std::common_type_t<A, B> min(A a, B b) {
  using T = std::common_type_t<A, B>;
  return static_cast<T>(b) < static_cast<T>(a) ? static_cast<T>(b) : static_cast<T>(a);
}
template <typename A, typename B>
std::common_type_t<A, B> max(A a, B b) {
  using T = std::common_type_t<A, B>;
  return static_cast<T>(a) < static_cast<T>(b) ? static_cast<T>(b) : static_cast<T>(a);
}

template <typename T, typename V>
__attribute__((always_inline)) inline T atomicExch(T* address, V value) {
  return cuda_on_cpu::update_atomically(address, [=](T) { return static_cast<T>(value); });
}
template <typename T, typename V>
__attribute__((always_inline)) inline T atomicAdd(T* address, V value) {
  return cuda_on_cpu::update_atomically(address,
                                        [=](T old) { return old + static_cast<T>(value); });
}
template <typename T, typename V>
__attribute__((always_inline)) inline T atomicMin(T* address, V value) {
  return cuda_on_cpu::update_atomically(address,
                                        [=](T old) { return min(old, static_cast<T>(value)); });
}
template <typename T, typename V>
__attribute__((always_inline)) inline T atomicMax(T* address, V value) {
  return cuda_on_cpu::update_atomically(address,
                                        [=](T old) { return max(old, static_cast<T>(value)); });
}
template <typename T, typename V>
__attribute__((always_inline)) inline T atomicOr(T* address, V value) {
  return cuda_on_cpu::update_atomically(address,
                                        [=](T old) { return old | static_cast<T>(value); });
}
template <typename T, typename C, typename V>
__attribute__((always_inline)) inline T atomicCAS(T* address, C expected, V value) {
  return cuda_on_cpu::update_atomically(address, [=](T old) {
    return old == static_cast<T>(expected) ? static_cast<T>(value) : old;
  });
}
