// Work division: one thread a detection pixel writes the upsampled candidates; one thread a pixel
// then finds the largest of its window's row, where its block reaches a candidate; one thread a
// pixel looks at those of its window's column and says in one bit whether it survives; one block an
// image finds the score of the `top_k`-th best survivor and writes the chosen ones, each warp those
// of its part of the image, in raster order. So a thread never looks at a whole window, which has
// the square of its side. Memory: eight bytes and a bit for each detection pixel.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "../resampling/resampling_device.cuh"
#include "../warp.cuh"
#include "centers.h"

namespace deeplab2_d2 {
namespace {

constexpr int kThreads = 256;
constexpr int kSelectThreads = 1024;
constexpr int kWarps = kSelectThreads / kWarp;

__global__ void candidates_kernel(const float* heatmap, int32_t map_height, int32_t map_width,
                                  int32_t height, int32_t width, float scale_y, float scale_x,
                                  bool is_identity, float threshold, float* candidates) {
  const int64_t pixel = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (pixel >= static_cast<int64_t>(height) * width) {
    return;
  }
  const int64_t image = blockIdx.y;
  const float value = sample_or_copy(
      heatmap + image * map_height * map_width, map_width,
      position_of(static_cast<int32_t>(pixel / width), scale_y, map_height),
      position_of(static_cast<int32_t>(pixel % width), scale_x, map_width), 1.0f, is_identity);
  candidates[image * height * width + pixel] = value > threshold ? value : 0.0f;
}

// The pixels from `position - before` to `position + after` of an axis.
struct WindowEnds {
  __device__ WindowEnds(int32_t position, int32_t nms_kernel, int32_t length)
      : first(max(position - (nms_kernel - 1) / 2, 0)),
        last(min(position, length - 1 - nms_kernel / 2) + nms_kernel / 2) {}

  const int32_t first, last;
};

// The largest of a row's window around each pixel.
__global__ void row_maxima_kernel(const float* candidates, int32_t height, int32_t width,
                                  int32_t nms_kernel, float* row_maxima) {
  const int64_t area = static_cast<int64_t>(height) * width;
  const float* values = candidates + blockIdx.y * area;
  const int64_t block_start = blockIdx.x * static_cast<int64_t>(blockDim.x);
  const int64_t pixel = block_start + threadIdx.x;
  // All windows of the block lie in what is read here; most have no candidate.
  const int64_t begin = max(block_start - (nms_kernel - 1) / 2, static_cast<int64_t>(0));
  const int64_t end = min(block_start + blockDim.x + nms_kernel / 2, area);
  bool has_candidate = false;
  for (int64_t i = begin + threadIdx.x; i < end && !has_candidate; i += blockDim.x) {
    has_candidate = values[i] > 0.0f;
  }
  has_candidate = __syncthreads_or(has_candidate);
  if (pixel >= area) {
    return;
  }
  float largest = 0.0f;
  if (has_candidate) {
    const int64_t row_start = pixel / width * width;
    const WindowEnds window(static_cast<int32_t>(pixel - row_start), nms_kernel, width);
    for (int32_t u = window.first; u <= window.last; ++u) {
      const float value = values[row_start + u];
      largest = value > largest ? value : largest;
    }
  }
  row_maxima[blockIdx.y * area + pixel] = largest;
}

// One bit a pixel, the lowest of a word first: whether it is the largest of its window.
__global__ void survivors_kernel(const float* candidates, const float* all_row_maxima,
                                 int32_t height, int32_t width, int32_t nms_kernel,
                                 int64_t num_words, uint32_t* survivors, int32_t* num_survivors) {
  const int64_t pixel = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  const int64_t area = static_cast<int64_t>(height) * width, image = blockIdx.y;
  bool survives = false;
  if (pixel < area) {
    const float* row_maxima = all_row_maxima + image * area;
    const float value = candidates[image * area + pixel];
    const int32_t y = static_cast<int32_t>(pixel / width), x = static_cast<int32_t>(pixel % width);
    const WindowEnds window(y, nms_kernel, height);
    survives = value > 0.0f && row_maxima[pixel] <= value;
    for (int32_t v = window.first; survives && v <= window.last; ++v) {
      survives = row_maxima[static_cast<int64_t>(v) * width + x] <= value;
    }
  }
  const uint32_t word = __ballot_sync(kAllLanes, survives);
  if (pixel % 32 == 0 && pixel < area) {
    survivors[image * num_words + pixel / 32] = word;
    if (word != 0) {
      atomicAdd(&num_survivors[image], __popc(word));
    }
  }
}

// The survivors of one image, divided among the warps of a block in raster order.
struct Survivors {
  const float* values;    // (H * W)
  const uint32_t* words;  // (num_words)
  int64_t num_words;

  __device__ int64_t words_per_warp() const {
    const int64_t per_warp = (num_words + kWarps - 1) / kWarps;
    return (per_warp + 31) / 32 * 32;  // all lanes of a warp stay together
  }
  __device__ int64_t first_word() const { return threadIdx.x / kWarp * words_per_warp(); }
  __device__ int64_t last_word() const { return first_word() + words_per_warp(); }
  __device__ uint32_t word(int64_t index) const { return index < num_words ? words[index] : 0; }
  // Scores are positive, so that their bits are in order.
  __device__ uint32_t score_bits(int64_t index, int32_t bit) const {
    return __float_as_uint(values[index * 32 + bit]);
  }
};

// What the best `top_k` of an image are: all scores above a limit, and the first so many equal to
// it.
struct Selection {
  uint32_t limit;  // bits of a score
  int32_t num_at_limit;
};

// Finds the score of the `wanted`-th best survivor, eight bits at a time.
__device__ Selection select_best(const Survivors& survivors, int32_t wanted) {
  __shared__ int32_t histogram[256];
  __shared__ Selection result;
  uint32_t prefix = 0;
  for (int32_t shift = 24; shift >= 0; shift -= 8) {
    if (threadIdx.x < 256) {
      histogram[threadIdx.x] = 0;
    }
    __syncthreads();
    const uint32_t known = shift == 24 ? 0u : 0xFFFFFFFFu << (shift + 8);
    for (int64_t i = survivors.first_word() + lane_of_thread(); i < survivors.last_word();
         i += 32) {
      for (uint32_t rest = survivors.word(i); rest != 0; rest &= rest - 1) {
        const uint32_t bits = survivors.score_bits(i, __ffs(static_cast<int>(rest)) - 1);
        if ((bits & known) == prefix) {
          atomicAdd(&histogram[(bits >> shift) & 255], 1);
        }
      }
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      int32_t digit = 255;
      for (; digit > 0 && histogram[digit] < wanted; --digit) {
        wanted -= histogram[digit];
      }
      result.limit = prefix | (static_cast<uint32_t>(digit) << shift);
      result.num_at_limit = wanted;
    }
    __syncthreads();
    prefix = result.limit;
    wanted = result.num_at_limit;
  }
  return result;
}

// How many of a word's survivors are above the limit, and how many at it.
struct WordCounts {
  int32_t above, at_limit;
};

__device__ WordCounts count_word(const Survivors& survivors, int64_t index, uint32_t limit) {
  WordCounts counts{0, 0};
  for (uint32_t rest = survivors.word(index); rest != 0; rest &= rest - 1) {
    const uint32_t bits = survivors.score_bits(index, __ffs(static_cast<int>(rest)) - 1);
    counts.above += bits > limit;
    counts.at_limit += bits == limit;
  }
  return counts;
}

// The survivors before the first word of this thread's warp.
__device__ WordCounts count_before_warp(const Survivors& survivors, uint32_t limit) {
  __shared__ WordCounts of_warp[kWarps];
  WordCounts own{0, 0};
  for (int64_t i = survivors.first_word() + lane_of_thread(); i < survivors.last_word(); i += 32) {
    const WordCounts counts = count_word(survivors, i, limit);
    own.above += counts.above;
    own.at_limit += counts.at_limit;
  }
  WordCounts total;
  sum_of_lanes_before(own.above, total.above);
  sum_of_lanes_before(own.at_limit, total.at_limit);
  if (lane_of_thread() == 0) {
    of_warp[threadIdx.x / kWarp] = total;
  }
  __syncthreads();
  WordCounts before{0, 0};
  for (uint32_t warp = 0; warp < threadIdx.x / kWarp; ++warp) {
    before.above += of_warp[warp].above;
    before.at_limit += of_warp[warp].at_limit;
  }
  return before;
}

__global__ void select_kernel(const float* candidates, int64_t area, int32_t width,
                              const uint32_t* all_survivors, int64_t num_words,
                              const int32_t* num_survivors, int32_t top_k, int32_t* centers,
                              float* scores, int32_t* counts) {
  const int64_t image = blockIdx.x;
  const Survivors survivors{candidates + image * area, all_survivors + image * num_words,
                            num_words};
  const int32_t found = num_survivors[image];
  Selection selection{0, 0};
  if (found > top_k) {
    selection = select_best(survivors, top_k);
  }
  WordCounts before = count_before_warp(survivors, selection.limit);
  for (int64_t i = survivors.first_word() + lane_of_thread(); i < survivors.last_word(); i += 32) {
    const WordCounts counts_of_word = count_word(survivors, i, selection.limit);
    WordCounts total;
    int32_t above = before.above + sum_of_lanes_before(counts_of_word.above, total.above);
    int32_t at_limit =
        before.at_limit + sum_of_lanes_before(counts_of_word.at_limit, total.at_limit);
    for (uint32_t rest = survivors.word(i); rest != 0; rest &= rest - 1) {
      const int32_t bit = __ffs(static_cast<int>(rest)) - 1;
      const uint32_t bits = survivors.score_bits(i, bit);
      const int64_t row = image * top_k + above + min(at_limit, selection.num_at_limit);
      if (bits > selection.limit ||
          (bits == selection.limit && at_limit < selection.num_at_limit)) {
        const int64_t position = i * 32 + bit;
        centers[2 * row] = static_cast<int32_t>(position / width);
        centers[2 * row + 1] = static_cast<int32_t>(position % width);
        scores[row] = __uint_as_float(bits);
      }
      above += bits > selection.limit;
      at_limit += bits == selection.limit;
    }
    before.above += total.above;
    before.at_limit += total.at_limit;
  }
  if (threadIdx.x == 0) {
    counts[image] = min(found, top_k);
  }
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> find_centers_cuda(
    const at::Tensor& heatmap, at::IntArrayRef size, at::ArrayRef<double> scale, double threshold,
    int64_t nms_kernel, int64_t top_k) {
  check_find_centers(heatmap, size, scale, nms_kernel);
  const c10::cuda::CUDAGuard guard(heatmap.device());
  const int64_t num_images = heatmap.size(0), area = size[0] * size[1];
  constexpr int64_t kTooMany = int64_t(1) << 31;
  TORCH_CHECK(num_images < 65536, "find_centers: at most 65535 images, got ", num_images);
  TORCH_CHECK(heatmap.size(1) < kTooMany && heatmap.size(2) < kTooMany && nms_kernel < kTooMany &&
                  top_k < kTooMany,
              "find_centers: on a GPU the heatmap's height and width, nms_kernel and top_k must be "
              "less than 2**31, got ",
              heatmap.sizes(), ", ", nms_kernel, " and ", top_k);
  const at::Tensor map = heatmap.to(at::kFloat).contiguous();
  const auto integers = map.options().dtype(at::kInt);
  at::Tensor candidates = at::empty({num_images, size[0], size[1]}, map.options());
  at::Tensor row_maxima = at::empty_like(candidates);
  const int64_t num_words = (area + 31) / 32;
  at::Tensor survivors = at::empty({num_images, num_words}, integers);
  at::Tensor num_survivors = at::zeros({num_images}, integers);
  uint32_t* words = reinterpret_cast<uint32_t*>(survivors.mutable_data_ptr<int32_t>());
  const auto stream = c10::cuda::getCurrentCUDAStream();
  const dim3 blocks((area + kThreads - 1) / kThreads, num_images);
  if (num_images > 0) {
    candidates_kernel<<<blocks, kThreads, 0, stream>>>(
        map.const_data_ptr<float>(), map.size(1), map.size(2), size[0], size[1],
        static_cast<float>(scale[0]), static_cast<float>(scale[1]),
        is_identity(map.size(1), map.size(2), size.data(), scale.data()),
        static_cast<float>(std::max(threshold, 0.0)), candidates.mutable_data_ptr<float>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    row_maxima_kernel<<<blocks, kThreads, 0, stream>>>(candidates.const_data_ptr<float>(), size[0],
                                                       size[1], nms_kernel,
                                                       row_maxima.mutable_data_ptr<float>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    survivors_kernel<<<blocks, kThreads, 0, stream>>>(
        candidates.const_data_ptr<float>(), row_maxima.const_data_ptr<float>(), size[0], size[1],
        nms_kernel, num_words, words, num_survivors.mutable_data_ptr<int32_t>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
  if (top_k <= 0) {
    // Keeping all needs the largest count on the host: the one place that waits, as documented.
    top_k = num_images > 0 ? std::max<int64_t>(num_survivors.max().item<int32_t>(), 1) : 1;
  }
  at::Tensor centers = at::zeros({num_images, top_k, 2}, integers);
  at::Tensor scores = at::zeros({num_images, top_k}, map.options());
  at::Tensor counts = at::zeros({num_images}, integers);
  if (num_images > 0) {
    select_kernel<<<num_images, kSelectThreads, 0, stream>>>(
        candidates.const_data_ptr<float>(), area, size[1], words, num_words,
        num_survivors.const_data_ptr<int32_t>(), top_k, centers.mutable_data_ptr<int32_t>(),
        scores.mutable_data_ptr<float>(), counts.mutable_data_ptr<int32_t>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
  return {centers, scores, counts};
}

}  // namespace

TORCH_LIBRARY_IMPL(deeplab2_d2, CUDA, m) { m.impl("find_centers", &find_centers_cuda); }

}  // namespace deeplab2_d2
