// Kernels with one fault each, and what mends it: the emulation must report the first, and only it.
#include <stdexcept>
#include <string>

#include "cuda_on_cpu.h"

namespace {

constexpr int kThreads = 64;

// A neighbour's number is read while it may not be there yet.
__global__ void shift_kernel(bool is_mended, int* numbers) {
  __shared__ int shared[kThreads];
  shared[threadIdx.x] = numbers[threadIdx.x];
  if (is_mended) {
    __syncthreads();
  }
  numbers[threadIdx.x] = shared[(threadIdx.x + 1) % kThreads];
}

// Half words: neighbours are not in each other's way, all threads of a place are.
__global__ void halves_kernel(bool is_mended, int* numbers) {
  __shared__ short halves[kThreads];
  halves[is_mended ? threadIdx.x : threadIdx.x / 2] = static_cast<short>(threadIdx.x);
  __syncthreads();
  numbers[threadIdx.x] = halves[threadIdx.x / 2];
}

// A shuffle orders no memory, __syncwarp does: within the warp.
__global__ void warp_kernel(bool is_mended, int* numbers) {
  __shared__ int shared[kThreads];
  shared[threadIdx.x] = numbers[threadIdx.x];
  const unsigned other = __shfl_xor_sync(0xFFFFFFFFu, threadIdx.x, 1);
  if (is_mended) {
    __syncwarp();
  }
  numbers[threadIdx.x] = shared[other];
}

// What warps do in one interval is ordered only by the whole block.
__global__ void warps_kernel(bool is_mended, int* numbers) {
  __shared__ int shared[kThreads];
  shared[threadIdx.x] = numbers[threadIdx.x];
  __syncwarp();
  if (is_mended) {
    __syncthreads();
  }
  numbers[threadIdx.x] = shared[kThreads - 1 - threadIdx.x];
}

// One thread replaces a number of the table that the others search.
__global__ void rewrite_kernel(bool is_mended, int* numbers) {
  const unsigned own = threadIdx.x;
  int sum = 0;
  for (unsigned i = 0; i < kThreads; ++i) {
    sum += numbers[i];
  }
  if (is_mended) {
    __syncthreads();
  }
  numbers[own] = sum;
}

// Blocks that add to one number.
__global__ void total_kernel(bool is_mended, int* numbers) {
  if (threadIdx.x != 0) {
    return;
  }
  if (is_mended) {
    atomicAdd(&numbers[0], 1);
  } else {
    numbers[0] += 1;
  }
}

// A look at a number that others change atomically.
__global__ void look_kernel(bool is_mended, int* numbers) {
  int now = 0;
  if (is_mended) {
    now = *static_cast<volatile int*>(numbers);
  } else {
    now = numbers[0];
  }
  if (now < static_cast<int>(threadIdx.x)) {
    atomicMax(numbers, static_cast<int>(threadIdx.x));
  }
}

// Equal numbers, stored by many.
__global__ void flag_kernel(bool is_mended, int* numbers) {
  if (is_mended) {
    atomicExch(&numbers[0], 1);
  } else {
    numbers[0] = 1;
  }
}

// A part of the table that no thread has filled.
__global__ void empty_kernel(bool is_mended, int* numbers) {
  __shared__ int shared[kThreads + 1];
  shared[threadIdx.x] = 1;
  if (is_mended && threadIdx.x == 0) {
    shared[kThreads] = 1;
  }
  __syncthreads();
  numbers[threadIdx.x] = shared[threadIdx.x + 1];
}

__global__ void dynamic_kernel(bool is_mended, int* numbers) {
  extern __shared__ int dynamic[];
  if (is_mended || threadIdx.x > 0) {
    dynamic[threadIdx.x] = 1;
  }
  __syncthreads();
  numbers[threadIdx.x] = dynamic[kThreads - 1 - threadIdx.x];
}

// A barrier that half of the block never reaches.
__global__ void ended_kernel(bool is_mended, int* numbers) {
  if (threadIdx.x >= kThreads / 2 && !is_mended) {
    return;
  }
  __syncthreads();
  numbers[threadIdx.x] = 1;
}

// Two barriers, each for a part of the block.
__global__ void branches_kernel(bool is_mended, int* numbers) {
  if (is_mended || threadIdx.x < kThreads / 2) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  numbers[threadIdx.x] = 1;
}

// One warp waits for the block, lanes of the other for each other.
__global__ void mixed_kernel(bool is_mended, int* numbers) {
  if (is_mended || threadIdx.x % 2 == 0) {
    __syncthreads();
  } else {
    __syncwarp();
  }
  numbers[threadIdx.x] = 1;
}

// A mask without half of the lanes that call.
__global__ void part_kernel(bool is_mended, int* numbers) {
  numbers[threadIdx.x] = __shfl_sync(is_mended ? 0xFFFFFFFFu : 0x0000FFFFu, 1, 0);
}

const struct {
  const char* name;
  void (*run)(bool is_mended, int* numbers);
} kKernels[] = {
    {"shift_kernel",
     [](bool is_mended, int* numbers) { shift_kernel<<<1, kThreads, 0, 0>>>(is_mended, numbers); }},
    {"halves_kernel",
     [](bool is_mended, int* numbers) {
       halves_kernel<<<1, kThreads, 0, 0>>>(is_mended, numbers);
     }},
    {"warp_kernel",
     [](bool is_mended, int* numbers) { warp_kernel<<<1, kThreads, 0, 0>>>(is_mended, numbers); }},
    {"warps_kernel",
     [](bool is_mended, int* numbers) { warps_kernel<<<1, kThreads, 0, 0>>>(is_mended, numbers); }},
    {"rewrite_kernel",
     [](bool is_mended, int* numbers) {
       rewrite_kernel<<<1, kThreads, 0, 0>>>(is_mended, numbers);
     }},
    {"total_kernel",
     [](bool is_mended, int* numbers) { total_kernel<<<2, kThreads, 0, 0>>>(is_mended, numbers); }},
    {"look_kernel",
     [](bool is_mended, int* numbers) { look_kernel<<<1, kThreads, 0, 0>>>(is_mended, numbers); }},
    {"flag_kernel",
     [](bool is_mended, int* numbers) { flag_kernel<<<1, kThreads, 0, 0>>>(is_mended, numbers); }},
    {"empty_kernel",
     [](bool is_mended, int* numbers) { empty_kernel<<<1, kThreads, 0, 0>>>(is_mended, numbers); }},
    {"dynamic_kernel",
     [](bool is_mended, int* numbers) {
       dynamic_kernel<<<1, kThreads, kThreads * sizeof(int), 0>>>(is_mended, numbers);
     }},
    {"ended_kernel",
     [](bool is_mended, int* numbers) { ended_kernel<<<1, kThreads, 0, 0>>>(is_mended, numbers); }},
    {"branches_kernel",
     [](bool is_mended, int* numbers) {
       branches_kernel<<<1, kThreads, 0, 0>>>(is_mended, numbers);
     }},
    {"mixed_kernel",
     [](bool is_mended, int* numbers) { mixed_kernel<<<1, kThreads, 0, 0>>>(is_mended, numbers); }},
    {"part_kernel",
     [](bool is_mended, int* numbers) { part_kernel<<<1, kThreads, 0, 0>>>(is_mended, numbers); }},
};

}  // namespace

// Runs a kernel on kThreads numbers. What is wrong with its waits, or "".
extern "C" __attribute__((visibility("default"))) const char* run_fault(const char* name,
                                                                        bool is_mended,
                                                                        int* numbers) {
  static std::string error;
  error = "no such kernel";
  for (const auto& kernel : kKernels) {
    if (std::string(kernel.name) == name) {
      error.clear();
      try {
        kernel.run(is_mended, numbers);
      } catch (const std::runtime_error& found) {
        error = found.what();
      }
    }
  }
  return error.c_str();
}
