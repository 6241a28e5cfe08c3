// Runs CUDA kernels on the CPU, thread by thread: their logic is tested where there is no GPU.
//
// A block's threads are fibers of one system thread. They run one after the other, each until it
// waits for its warp or its block; in the reversed order too, if the environment says
// CUDA_ON_CPU_REVERSED=1, so that a result that depends on the schedule shows. A wait that not all
// threads reach ends the program. What this cannot show: memory races between two waits, wrong
// addresses on the device, speed. Included by the stand-ins for c10/cuda in this folder.
#pragma once

#include <math.h>
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <type_traits>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __forceinline__ inline
#define __grid_constant__
#define __restrict__
#define __launch_bounds__(...)

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// Set before a fiber goes on.
inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace cuda_on_cpu {

constexpr int kWarp = 32;
constexpr size_t kStackBytes = 64 * 1024;

enum class State { kRuns, kWaitsForWarp, kWaitsForBlock, kDone };

struct Fiber {
  std::vector<char> stack = std::vector<char>(kStackBytes);
  jmp_buf place;  // where it waits
  bool is_started = false;
  State state = State::kDone;
  uint64_t value = 0;  // what it shows to others at a wait
};

struct Block {
  std::deque<Fiber> fibers;  // kept from block to block
  jmp_buf scheduler;
  unsigned current = 0, size = 0;
  std::function<void()> body;
  std::vector<char> dynamic_shared;
};

inline Block block;

inline void* dynamic_shared() { return block.dynamic_shared.data(); }

inline void wait(State state) {
  Fiber& own = block.fibers[block.current];
  own.state = state;
  if (_setjmp(own.place) == 0) {
    _longjmp(block.scheduler, 1);
  }
}

// Never returns: after one block's thread it waits to be one of the next block.
inline void run_fiber() {
  while (true) {
    block.body();
    wait(State::kDone);
  }
}

inline void start(Fiber& fiber) {
  fiber.is_started = true;
  ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = fiber.stack.data();
  context.uc_stack.ss_size = kStackBytes;
  context.uc_link = nullptr;
  makecontext(&context, run_fiber, 0);
  setcontext(&context);
}

inline void resume(unsigned i) {
  block.current = i;
  threadIdx = dim3(i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y));
  Fiber& fiber = block.fibers[i];
  // Jumps between stacks: unlike swapcontext they need no system call.
  if (_setjmp(block.scheduler) == 0) {
    if (fiber.is_started) {
      _longjmp(fiber.place, 1);
    }
    start(fiber);
  }
}

// Lets the threads first .. last - 1 go on if all that are left wait alike.
inline bool release(unsigned first, unsigned last, State waiting) {
  bool any = false;
  for (unsigned i = first; i < last; ++i) {
    const State state = block.fibers[i].state;
    if (state != waiting && state != State::kDone) {
      return false;
    }
    any |= state == waiting;
  }
  for (unsigned i = first; i < last; ++i) {
    Fiber& fiber = block.fibers[i];
    fiber.state = fiber.state == waiting ? State::kRuns : fiber.state;
  }
  return any;
}

inline bool is_reversed() {
  const char* text = std::getenv("CUDA_ON_CPU_REVERSED");
  return text != nullptr && std::strcmp(text, "1") == 0;
}

inline void run_block(const std::function<void()>& body) {
  block.size = blockDim.x * blockDim.y * blockDim.z;
  block.body = body;
  while (block.fibers.size() < block.size) {
    block.fibers.emplace_back();
  }
  for (unsigned i = 0; i < block.size; ++i) {
    block.fibers[i].state = State::kRuns;
  }
  const bool reversed = is_reversed();
  for (bool goes_on = true; goes_on;) {
    for (unsigned n = 0; n < block.size; ++n) {
      const unsigned i = reversed ? block.size - 1 - n : n;
      if (block.fibers[i].state == State::kRuns) {
        resume(i);
      }
    }
    goes_on = release(0, block.size, State::kWaitsForBlock);
    for (unsigned first = 0; first < block.size; first += kWarp) {
      const unsigned last = std::min(first + kWarp, block.size);
      goes_on |= release(first, last, State::kWaitsForWarp);
    }
  }
  for (unsigned i = 0; i < block.size; ++i) {
    if (block.fibers[i].state != State::kDone) {
      std::fprintf(stderr, "cuda_on_cpu: thread %u waits for threads that do not come\n", i);
      std::abort();
    }
  }
}

// What `kernel<<<grid, threads, shared, stream>>>` is rewritten to; then called with arguments.
template <typename Kernel>
auto launch(Kernel kernel, dim3 grid, dim3 threads, size_t shared_bytes = 0, int = 0) {
  return [=](auto... arguments) {
    gridDim = grid;
    blockDim = threads;
    block.dynamic_shared.assign(shared_bytes, 0x5A);
    const uint64_t num_blocks = uint64_t(grid.x) * grid.y * grid.z;
    for (uint64_t n = 0; n < num_blocks; ++n) {
      const uint64_t i = is_reversed() ? num_blocks - 1 - n : n;
      blockIdx = dim3(i % grid.x, i / grid.x % grid.y, i / (uint64_t(grid.x) * grid.y));
      run_block([&] { kernel(arguments...); });
    }
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
T exchange(T value, unsigned lane) {
  const unsigned own = block.current;
  block.fibers[own].value = to_bits(value);
  wait(State::kWaitsForWarp);
  const unsigned other = own / kWarp * kWarp + lane;
  const uint64_t bits = other < block.size ? block.fibers[other].value : to_bits(value);
  wait(State::kWaitsForWarp);
  return copy_bits<T>(bits);
}

inline unsigned lane() { return block.current % kWarp; }

// How many threads of the block say yes.
inline unsigned count_block(bool value) {
  block.fibers[block.current].value = value;
  wait(State::kWaitsForBlock);
  unsigned count = 0;
  for (unsigned i = 0; i < block.size; ++i) {
    count += block.fibers[i].state != State::kDone && block.fibers[i].value != 0;
  }
  wait(State::kWaitsForBlock);
  return count;
}

inline unsigned count_alive() {
  unsigned count = 0;
  for (unsigned i = 0; i < block.size; ++i) {
    count += block.fibers[i].state != State::kDone;
  }
  return count;
}

}  // namespace cuda_on_cpu

inline void __syncthreads() { cuda_on_cpu::wait(cuda_on_cpu::State::kWaitsForBlock); }
inline void __syncwarp(unsigned = 0) { cuda_on_cpu::wait(cuda_on_cpu::State::kWaitsForWarp); }
inline int __syncthreads_or(int value) { return cuda_on_cpu::count_block(value) > 0; }
inline int __syncthreads_and(int value) { return cuda_on_cpu::count_block(!value) == 0; }
inline int __syncthreads_count(int value) { return cuda_on_cpu::count_block(value); }
inline void __threadfence() {}
inline void __threadfence_block() {}

inline unsigned __ballot_sync(unsigned, int value) {
  using namespace cuda_on_cpu;
  const unsigned own = block.current, first = own / kWarp * kWarp;
  block.fibers[own].value = value != 0;
  wait(State::kWaitsForWarp);
  unsigned bits = 0;
  for (unsigned i = first; i < std::min(first + kWarp, block.size); ++i) {
    const bool says_yes = block.fibers[i].state != State::kDone && block.fibers[i].value != 0;
    bits |= unsigned(says_yes) << (i - first);
  }
  wait(State::kWaitsForWarp);
  return bits;
}
inline int __any_sync(unsigned mask, int value) { return __ballot_sync(mask, value) != 0; }
inline int __all_sync(unsigned mask, int value) { return __ballot_sync(mask, !value) == 0; }

template <typename T>
T __shfl_sync(unsigned, T value, int lane, int = 32) {
  return cuda_on_cpu::exchange(value, lane % cuda_on_cpu::kWarp);
}
template <typename T>
T __shfl_xor_sync(unsigned, T value, int distance, int = 32) {
  return cuda_on_cpu::exchange(value, cuda_on_cpu::lane() ^ distance);
}
template <typename T>
T __shfl_up_sync(unsigned, T value, unsigned distance, int = 32) {
  const unsigned lane = cuda_on_cpu::lane();
  return cuda_on_cpu::exchange(value, lane < distance ? lane : lane - distance);
}
template <typename T>
T __shfl_down_sync(unsigned, T value, unsigned distance, int = 32) {
  const unsigned lane = cuda_on_cpu::lane() + distance;
  return cuda_on_cpu::exchange(value, lane < 32 ? lane : cuda_on_cpu::lane());
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

// One system thread runs all fibers: nothing comes between reading and writing.
template <typename T, typename V>
T atomicExch(T* address, V value) {
  const T old = *address;
  *address = static_cast<T>(value);
  return old;
}
template <typename T, typename V>
T atomicAdd(T* address, V value) {
  return atomicExch(address, *address + static_cast<T>(value));
}
template <typename T, typename V>
T atomicMin(T* address, V value) {
  return atomicExch(address, min(*address, static_cast<T>(value)));
}
template <typename T, typename V>
T atomicMax(T* address, V value) {
  return atomicExch(address, max(*address, static_cast<T>(value)));
}
template <typename T, typename V>
T atomicOr(T* address, V value) {
  return atomicExch(address, *address | static_cast<T>(value));
}
template <typename T, typename C, typename V>
T atomicCAS(T* address, C expected, V value) {
  const T old = *address;
  *address = old == static_cast<T>(expected) ? static_cast<T>(value) : old;
  return old;
}
