// Work division: a thread counts a few successive pixels, a run of equal pairs at a time, in hash
// tables of fixed size: two give each map's labels a number, the third counts pairs of numbers.
// One thread a slot then lists the pairs that occur (in any order), and one thread a pair finds its
// row by counting the pairs before it. Integer sums: no order reaches the result, and nothing
// waits.
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <limits>

#include "overlap.h"

namespace deeplab2_d2 {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kPixelsPerThread = 16;
constexpr int64_t kNoSlot = -1;
// Marks a free slot. A label of this value has a slot of its own behind the others.
constexpr int64_t kFree = std::numeric_limits<int64_t>::min();

struct Labels {
  const void* data;
  bool is_wide;  // int64, else int32

  __device__ int64_t at(int64_t index) const {
    return is_wide ? static_cast<const int64_t*>(data)[index]
                   : static_cast<const int32_t*>(data)[index];
  }
};

// Three tables of num_slots + 1 (a power of two, and one); the sums of the pairs; what went wrong.
struct Tables {
  int64_t num_slots;
  int64_t *first, *second, *pairs, *counts;
  int32_t* is_full;

  __device__ int64_t pair_key(int64_t first_slot, int64_t second_slot) const {
    return first_slot * (num_slots + 1) + second_slot;
  }
};

// The slot of a key, taken if it is not there yet; kNoSlot if all are taken by others.
__device__ int64_t find_slot(int64_t* table, int64_t num_slots, int64_t key) {
  if (key == kFree) {
    return num_slots;
  }
  const uint64_t mixed = static_cast<uint64_t>(key) * 0x9E3779B97F4A7C15ull;
  int64_t slot = static_cast<int64_t>((mixed ^ (mixed >> 32)) & (num_slots - 1));
  for (int64_t tried = 0; tried < num_slots; ++tried) {
    int64_t found = *static_cast<volatile int64_t*>(&table[slot]);
    if (found == kFree) {
      found = static_cast<int64_t>(atomicCAS(reinterpret_cast<unsigned long long*>(&table[slot]),
                                             static_cast<unsigned long long>(kFree),
                                             static_cast<unsigned long long>(key)));
    }
    if (found == kFree || found == key) {
      return slot;
    }
    slot = (slot + 1) & (num_slots - 1);
  }
  return kNoSlot;
}

__device__ void add_run(const Tables& tables, int64_t first, int64_t second, int64_t pixels) {
  const int64_t first_slot = find_slot(tables.first, tables.num_slots, first);
  const int64_t second_slot = find_slot(tables.second, tables.num_slots, second);
  int64_t slot = kNoSlot;
  if (first_slot != kNoSlot && second_slot != kNoSlot) {
    slot = find_slot(tables.pairs, tables.num_slots, tables.pair_key(first_slot, second_slot));
  }
  if (slot == kNoSlot) {
    atomicExch(tables.is_full, 1);
  } else {
    atomicAdd(reinterpret_cast<unsigned long long*>(&tables.counts[slot]),
              static_cast<unsigned long long>(pixels));
  }
}

__global__ void count_kernel(Labels first, Labels second, int64_t num_pixels, Tables tables) {
  const int64_t begin =
      (blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x) * kPixelsPerThread;
  const int64_t end = min(begin + kPixelsPerThread, num_pixels);
  for (int64_t start = begin; start < end;) {
    const int64_t first_label = first.at(start), second_label = second.at(start);
    int64_t last = start + 1;
    while (last < end && first.at(last) == first_label && second.at(last) == second_label) {
      ++last;
    }
    // With full tables the search is long, and its result no longer matters.
    if (*static_cast<volatile int32_t*>(tables.is_full)) {
      return;
    }
    add_run(tables, first_label, second_label, last - start);
    start = last;
  }
}

__device__ __forceinline__ int64_t label_of(const int64_t* table, int64_t num_slots, int64_t slot) {
  return slot == num_slots ? kFree : table[slot];
}

// listed: (max_pairs, 3) first label, second label, pixels.
__global__ void list_kernel(Tables tables, int64_t max_pairs, int64_t* listed,
                            int32_t* num_listed) {
  const int64_t slot = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (slot >= tables.num_slots || tables.pairs[slot] == kFree) {
    return;
  }
  const int32_t place = atomicAdd(num_listed, 1);
  if (place >= max_pairs) {
    atomicExch(tables.is_full, 1);
    return;
  }
  const int64_t key = tables.pairs[slot];
  int64_t* entry = listed + 3 * static_cast<int64_t>(place);
  entry[0] = label_of(tables.first, tables.num_slots, key / (tables.num_slots + 1));
  entry[1] = label_of(tables.second, tables.num_slots, key % (tables.num_slots + 1));
  entry[2] = tables.counts[slot];
}

__global__ void sort_kernel(const int64_t* listed, const int32_t* num_listed,
                            const int32_t* is_full, int64_t max_pairs, int64_t* pairs,
                            int64_t* counts) {
  const int64_t own = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (own >= max_pairs) {
    return;
  }
  if (*is_full) {
    counts[own] = kTooManyPairs;
    return;
  }
  if (own >= *num_listed) {
    return;
  }
  const int64_t first = listed[3 * own], second = listed[3 * own + 1];
  int64_t row = 0;
  for (int64_t i = 0; i < *num_listed; ++i) {
    row += listed[3 * i] < first || (listed[3 * i] == first && listed[3 * i + 1] < second);
  }
  pairs[2 * row] = first;
  pairs[2 * row + 1] = second;
  counts[row] = listed[3 * own + 2];
}

// As a kernel reads it: contiguous int64 or int32.
at::Tensor readable(const at::Tensor& labels) {
  const bool is_wide = labels.scalar_type() == at::kLong;
  return (is_wide ? labels : labels.to(at::kInt)).contiguous();
}

Labels labels_of(const at::Tensor& labels) {
  return {labels.const_data_ptr(), labels.scalar_type() == at::kLong};
}

std::tuple<at::Tensor, at::Tensor> label_overlap_cuda(const at::Tensor& first,
                                                      const at::Tensor& second, int64_t max_pairs) {
  check_label_overlap(first, second, max_pairs);
  TORCH_CHECK(max_pairs >= 1 && max_pairs < (int64_t(1) << 29),
              "label_overlap: on a GPU max_pairs must be in [1, 2**29), got ", max_pairs);
  const c10::cuda::CUDAGuard guard(first.device());
  const auto options = first.options().dtype(at::kLong);
  at::Tensor pairs = at::zeros({max_pairs, 2}, options);
  at::Tensor counts = at::zeros({max_pairs}, options);
  if (first.numel() == 0) {
    return {pairs, counts};
  }
  const at::Tensor first_map = readable(first), second_map = readable(second);
  // At most half of the slots are taken, or there are too many pairs anyway.
  int64_t num_slots = 64;
  while (num_slots < 2 * max_pairs) {
    num_slots *= 2;
  }
  at::Tensor keys = at::full({3, num_slots + 1}, kFree, options);
  at::Tensor pixels = at::zeros({num_slots + 1}, options);
  at::Tensor listed = at::empty({max_pairs, 3}, options);
  at::Tensor flags = at::zeros({2}, options.dtype(at::kInt));
  int64_t* key_data = keys.mutable_data_ptr<int64_t>();
  int32_t* is_full = flags.mutable_data_ptr<int32_t>();
  const Tables tables{num_slots,
                      key_data,
                      key_data + num_slots + 1,
                      key_data + 2 * (num_slots + 1),
                      pixels.mutable_data_ptr<int64_t>(),
                      is_full};
  const auto stream = c10::cuda::getCurrentCUDAStream();
  const int64_t parts = (first.numel() + kPixelsPerThread - 1) / kPixelsPerThread;
  count_kernel<<<(parts + kThreads - 1) / kThreads, kThreads, 0, stream>>>(
      labels_of(first_map), labels_of(second_map), first.numel(), tables);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  list_kernel<<<(num_slots + kThreads - 1) / kThreads, kThreads, 0, stream>>>(
      tables, max_pairs, listed.mutable_data_ptr<int64_t>(), is_full + 1);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  sort_kernel<<<(max_pairs + kThreads - 1) / kThreads, kThreads, 0, stream>>>(
      listed.const_data_ptr<int64_t>(), is_full + 1, is_full, max_pairs,
      pairs.mutable_data_ptr<int64_t>(), counts.mutable_data_ptr<int64_t>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {pairs, counts};
}

}  // namespace

TORCH_LIBRARY_IMPL(deeplab2_d2, CUDA, m) { m.impl("label_overlap", &label_overlap_cuda); }

}  // namespace deeplab2_d2
