#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <unordered_map>
#include <utility>
#include <vector>

#include "overlap.h"

namespace deeplab2_d2 {
namespace {

using Pair = std::pair<int64_t, int64_t>;

struct PairHash {
  size_t operator()(const Pair& pair) const {
    // Fibonacci hashing: labels are often small or multiples of the label divisor.
    const uint64_t mixed = (static_cast<uint64_t>(pair.first) * 0x9E3779B97F4A7C15ull) ^
                           (static_cast<uint64_t>(pair.second) * 0xC2B2AE3D27D4EB4Full);
    return static_cast<size_t>(mixed ^ (mixed >> 29));
  }
};

using PairCounts = std::unordered_map<Pair, int64_t, PairHash>;

// Adds the pixels begin .. end - 1, a run of equal pairs at a time.
template <typename first_t, typename second_t>
void count_pairs(const first_t* first, const second_t* second, int64_t begin, int64_t end,
                 PairCounts& counts) {
  while (begin < end) {
    int64_t last = begin + 1;
    while (last < end && first[last] == first[begin] && second[last] == second[begin]) {
      ++last;
    }
    counts[{static_cast<int64_t>(first[begin]), static_cast<int64_t>(second[begin])}] +=
        last - begin;
    begin = last;
  }
}

std::tuple<at::Tensor, at::Tensor> label_overlap_cpu(const at::Tensor& first,
                                                     const at::Tensor& second, int64_t max_pairs) {
  check_label_overlap(first, second, max_pairs);
  const at::Tensor first_map = first.contiguous(), second_map = second.contiguous();
  std::vector<PairCounts> counts(at::get_num_threads());
  AT_DISPATCH_INTEGRAL_TYPES(first.scalar_type(), "label_overlap", [&] {
    using first_t = scalar_t;
    const first_t* first_labels = first_map.const_data_ptr<first_t>();
    AT_DISPATCH_INTEGRAL_TYPES(second.scalar_type(), "label_overlap", [&] {
      const scalar_t* second_labels = second_map.const_data_ptr<scalar_t>();
      at::parallel_for(0, first.numel(), 1 << 16, [&](int64_t begin, int64_t end) {
        count_pairs(first_labels, second_labels, begin, end, counts[at::get_thread_num()]);
      });
    });
  });
  for (size_t thread = 1; thread < counts.size(); ++thread) {
    for (const auto& [pair, count] : counts[thread]) {
      counts[0][pair] += count;
    }
  }
  std::vector<std::pair<Pair, int64_t>> sorted(counts[0].begin(), counts[0].end());
  std::sort(sorted.begin(), sorted.end());
  const int64_t found = sorted.size(), num_rows = max_pairs > 0 ? max_pairs : found;
  const int64_t num_pairs = found > num_rows ? 0 : found;
  at::Tensor pairs = at::zeros({num_rows, 2}, first.options().dtype(at::kLong));
  at::Tensor pixels = at::full({num_rows}, found > num_rows ? kTooManyPairs : 0, pairs.options());
  for (int64_t i = 0; i < num_pairs; ++i) {
    pairs.mutable_data_ptr<int64_t>()[2 * i] = sorted[i].first.first;
    pairs.mutable_data_ptr<int64_t>()[2 * i + 1] = sorted[i].first.second;
    pixels.mutable_data_ptr<int64_t>()[i] = sorted[i].second;
  }
  return {pairs, pixels};
}

}  // namespace

TORCH_LIBRARY_IMPL(deeplab2_d2, CPU, m) { m.impl("label_overlap", &label_overlap_cpu); }

}  // namespace deeplab2_d2
