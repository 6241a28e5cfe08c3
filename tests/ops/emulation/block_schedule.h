// Runs a kernel's threads on the CPU, in an order that can be chosen.
//
// A block's threads are fibers of one system thread; blocks run one after the other. Which thread
// goes on where several can is said by the environment's CUDA_ON_CPU_SCHEDULE: without it the one
// that could first; "reversed", the same with threads and blocks counted from the last; a number,
// any, by random numbers from that seed, and then threads also stop before some of their loads and
// stores.
// Wrong waiting ends a launch with a std::runtime_error: threads that wait at different places, for
// threads that have ended, or for others that never come.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// Set before a fiber goes on.
inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace cuda_on_cpu {

constexpr unsigned kWarp = 32;
constexpr unsigned kMaxThreads = 1024;

// A line of a kernel's source.
struct Site {
  const char* file;
  int line;

  static constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
};

void run_grid(const char* kernel, dim3 grid, dim3 threads, size_t shared_bytes,
              const std::function<void()>& body);

// The rest is for a kernel's thread.

void wait_for_block(Site site);
// mask: must name all lanes of the warp that have not ended; parts of a warp cannot wait.
void wait_for_warp(unsigned mask, bool orders_memory, Site site);

// What a thread shows to others before a wait.
void show(uint64_t bits);
// What a lane of the thread's warp shows; poison if it has ended.
uint64_t shown_by(unsigned lane);
// How many threads of the block, or which lanes of the warp, show something else than 0.
unsigned count_of_block();
unsigned lanes_of_warp();
unsigned lane();

// Filled with poison before a block's first thread uses it.
void* dynamic_shared(const char* name);
void declare_shared(const char* name, void* address, size_t bytes);

}  // namespace cuda_on_cpu
